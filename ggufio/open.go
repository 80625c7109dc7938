package ggufio

import (
	"cmp"
	"errors"
	"strings"
)

// Open reads the headers of a model: one file, or the set of shards that any
// of its members stands for.
//
// Beyond what [OpenAny] checks, the metadata must name an architecture, and
// the expert tensors of each layer must agree about their number. An imatrix
// file is refused with [ErrImatrix].
func Open(path string) (*Model, error) {
	m, headers, err := open(path)
	if err != nil {
		return nil, err
	}
	if m.isImatrix() {
		return nil, fileError(path, ErrImatrix)
	}
	if m.Architecture, err = headers[0].architecture(m.Tensors); err != nil {
		return nil, err
	}
	if err := m.findTiers(); err != nil {
		return nil, err
	}
	if err := m.checkExperts(); err != nil {
		return nil, err
	}
	return m, nil
}

// OpenAny reads the headers of any GGUF file or set of shards, such as an
// imatrix. The model's Architecture is left empty.
//
// Each file's header is scanned strictly first, and what llama.cpp would
// refuse is refused; then gguf-parser-go reads the set, and the two must agree
// on every tensor's name, type, shape and place. Files with types that only
// ik_llama.cpp has, which the parser does not know, are read by the scan alone.
func OpenAny(path string) (*Model, error) {
	m, _, err := open(path)
	return m, err
}

func open(path string) (*Model, []*header, error) {
	headers, err := scanSet(path)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSet(headers); err != nil {
		return nil, nil, err
	}
	agree := make(chan error, 1)
	go func() { agree <- crossCheck(headers) }()
	m, err := assemble(path, headers)
	if err := cmp.Or(<-agree, err); err != nil {
		return nil, nil, err
	}
	return m, headers, nil
}

// assemble makes a model of its files' headers.
func assemble(path string, headers []*header) (*Model, error) {
	m := &Model{Metadata: &Metadata{index: headers[0].index}}
	parameters := uint64(0)
	for i, h := range headers {
		m.Files = append(m.Files, h.file)
		for _, p := range h.pairs {
			p.File = i
			m.Metadata.Pairs = append(m.Metadata.Pairs, p)
		}
		for _, t := range h.tensors {
			t.File = i
			t.Layer, t.Role, t.Expert = ParseTensorName(t.Name)
			if t.Role.IsExpert() {
				t.Shape = expertShape(t.Shape, t.Expert >= 0)
			}
			m.Tensors = append(m.Tensors, t)
			if parameters += t.Parameters; parameters >= maxTotal {
				return nil, fileError(path, errors.New("the model holds 2^62 weights or more"))
			}
		}
	}
	m.byName = make(map[string]int, len(m.Tensors))
	for i := range m.Tensors {
		m.byName[m.Tensors[i].Name] = i
	}
	m.Name = m.Files[0].Name
	if name, ok, err := m.Metadata.String("general.name"); err == nil && ok && name != "" {
		m.Name = name
	}
	return m, nil
}

// expertShape leaves out what GGML does not tell apart: dimensions of 1 behind
// the experts', or behind the rows of a single one.
func expertShape(shape []uint64, single bool) []uint64 {
	dims := 3
	if single {
		dims = 2
	}
	for len(shape) > dims && shape[len(shape)-1] == 1 {
		shape = shape[:len(shape)-1]
	}
	return shape
}

// isImatrix tells activation statistics from a model: by what the file says it
// is, or, as llama-quantize does, by its tensors.
func (m *Model) isImatrix() bool {
	if _, ok := m.Metadata.Lookup("general.architecture"); ok {
		return false // llama.cpp takes it for a model, whatever it says it is
	}
	if kind, _, _ := m.Metadata.String("general.type"); kind == "imatrix" {
		return true
	}
	for i := range m.Tensors {
		if strings.HasSuffix(m.Tensors[i].Name, ".in_sum2") {
			return true
		}
	}
	return false
}
