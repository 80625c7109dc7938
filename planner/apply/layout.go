package apply

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/verify"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// maxRowWeights bounds a row that is encoded, for the sake of memory.
const maxRowWeights = 1 << 20

// A Tensor is one tensor of the output.
type Tensor struct {
	Name  string
	Type  quant.Type
	Shape []uint64

	// Source is where the weights come from, and Experts which of its experts,
	// in order; nil for the whole of it. A nil Source stands for Data.
	Source  *ggufio.Tensor
	Experts []int
	Data    []byte

	// Rounded are types that the weights are put through before they are stored
	// in Type, one for each expert; nil for none. F32 and the source's type leave
	// weights as they are.
	Rounded []quant.Type

	SizeBytes uint64 // without padding
	offset    uint64 // in its file

	kept bool // not a tensor: bytes of the source's file, from offset on
	file int
}

// A File is one file of the output.
type File struct {
	Name      string // what it becomes
	SizeBytes uint64
	Tensors   []Tensor

	header []byte
}

// A Layout is an output that is to be written.
type Layout struct {
	Files []File

	model   *ggufio.Model
	columns stats.Columns
	costs   pace.Costs
}

// Options say how a fused plan is laid out.
type Options struct {
	Names []string // of the output's files; more than one makes shards

	// KeepSplit puts tensors where the source's shards have them; otherwise
	// shards have nearly equal sizes.
	KeepSplit bool

	// Part says which of the files a source tensor goes to, where that follows
	// neither the source nor sizes; any of them may stay without tensors.
	Part func(t *ggufio.Tensor) int

	// Tiers groups a tensor's experts, for [Typed]; nil for a tensor that stays
	// one.
	Tiers func(t *ggufio.Tensor) []Tier

	// Split lays out the split plan as a tier file: see tensorsOf.
	Split bool

	Columns stats.Columns                // the plan's column weights; nil for none
	Imatrix *llamaquantize.ImatrixRecord // nil for none
	Plan    string                       // recorded as ggufplan.plan_sha256 where not ""
}

// Fused lays out the fused plan's output, or with Options.Split the split
// plan's. It refuses a plan for another model and types that cannot be written.
func Fused(plan *manifest.Manifest, model *ggufio.Model, o Options) (*Layout, error) {
	if err := verify.Source(plan, model); err != nil {
		return nil, err
	}
	tensors := make([]Tensor, 0, len(model.Tensors))
	order := llamaquantize.LoaderOrder(model)
	if o.KeepSplit {
		slices.SortStableFunc(order, func(a, b int) int {
			x, y := &model.Tensors[a], &model.Tensors[b]
			return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.OffsetBytes, y.OffsetBytes))
		})
	}
	for _, i := range order {
		t := &model.Tensors[i]
		list, err := tensorsOf(&plan.Tensors[i], t, o.Split)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		tensors = append(tensors, list...)
	}
	if o.Split && len(tensors) == len(model.Tensors) {
		return nil, ErrNothingSplit
	}
	ft, ok := llamaquantize.FileTypeByName(llamaquantize.Carrier(plan))
	if !ok {
		return nil, fmt.Errorf("%s is not a file type", llamaquantize.Carrier(plan))
	}
	first, err := os.Open(model.Files[0].Path)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	metadata, keys, err := llamaquantize.Metadata(model, first, llamaquantize.Record{FileType: ft.Number, Imatrix: o.Imatrix})
	if err != nil {
		return nil, err
	}
	if o.Split {
		metadata = appendTierKeys(metadata)
		keys += 2
	}
	if o.Plan != "" {
		metadata = llamaquantize.AppendString(metadata, "ggufplan.plan_sha256")
		metadata = binary.LittleEndian.AppendUint32(metadata, uint32(ggufio.ValueString))
		metadata = llamaquantize.AppendString(metadata, o.Plan)
		keys++
	}
	l := &Layout{model: model, columns: o.Columns}
	return l, l.place(tensors, metadata, keys, o)
}

// Typed lays out the model with each tensor in the type that types gives it.
// Where Options.Part says which tensors share a file, a file of the set depends
// on the types of its own tensors alone: to change some, write theirs anew.
func Typed(model *ggufio.Model, types func(t *ggufio.Tensor) quant.Type, o Options) (*Layout, error) {
	if model.IsTierFile() {
		return nil, ggufio.ErrTierFile
	}
	var tensors []Tensor
	for _, i := range llamaquantize.LoaderOrder(model) {
		t := &model.Tensors[i]
		var tiers []Tier
		if o.Tiers != nil {
			tiers = o.Tiers(t)
		}
		if tiers == nil {
			tensors = append(tensors, Tensor{Name: t.Name, Type: types(t), Shape: t.Shape, Source: t})
			continue
		}
		list, err := Tiers(t, tiers)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		tensors = append(tensors, list...)
	}
	first, err := os.Open(model.Files[0].Path)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	fileType, _, err := model.Metadata.Uint64("general.file_type")
	if err != nil {
		return nil, err
	}
	metadata, keys, err := llamaquantize.Metadata(model, first, llamaquantize.Record{FileType: uint32(fileType), Imatrix: o.Imatrix})
	if err != nil {
		return nil, err
	}
	if o.Tiers != nil {
		metadata = appendTierKeys(metadata)
		keys += 2
	}
	l := &Layout{model: model, columns: o.Columns}
	return l, l.place(tensors, metadata, keys, o)
}

// place checks the tensors and gives each its file and offset.
func (l *Layout) place(tensors []Tensor, metadata []byte, keys uint64, o Options) error {
	align := l.model.Files[0].AlignmentBytes
	var total uint64
	for i := range tensors {
		if err := l.check(&tensors[i]); err != nil {
			return fmt.Errorf("tensor %s: %w", tensors[i].Name, err)
		}
		tensors[i].Shape = tensors[i].Shape[:quant.Dimensions(tensors[i].Shape)]
		total += ggufio.Padded(tensors[i].SizeBytes, align)
	}
	parts := make([][]Tensor, len(o.Names))
	var done uint64
	last := 0
	for i, t := range tensors {
		size := ggufio.Padded(t.SizeBytes, align)
		part := 0
		switch {
		case len(parts) == 1:
		case t.Source == nil && (o.Part != nil || o.KeepSplit):
			part = last // a table lies where its tiers do
		case o.Part != nil:
			part = o.Part(t.Source)
		case o.KeepSplit:
			part = t.Source.File
		default:
			// by where the tensor's middle falls; total > 0 as there is one
			part = int(float64(done+size/2) / float64(total) * float64(len(parts)))
			// no part goes empty where there are tensors enough
			part = max(min(part, len(parts)-1), len(parts)-(len(tensors)-i))
			if last := lastFilled(parts); part > last+1 {
				part = last + 1
			}
		}
		if part < 0 || part >= len(parts) {
			return fmt.Errorf("tensor %s: there is no file %d of %d", t.Name, part, len(parts))
		}
		parts[part] = append(parts[part], t)
		last = part
		done += size
	}
	for i, name := range o.Names {
		if len(parts[i]) == 0 && !o.KeepSplit && o.Part == nil {
			return fmt.Errorf("%d shards for %d tensors", len(parts), len(tensors))
		}
		var pairs []byte
		var n uint64
		if i == 0 {
			pairs, n = metadata, keys
		}
		if len(parts) > 1 {
			pairs = appendSplitKeys(pairs[:len(pairs):len(pairs)], i, len(parts), len(tensors), o.KeepSplit)
			n += 3
		}
		if i > 0 {
			align = llamaquantize.OutputAlignment // without the key
		}
		l.Files = append(l.Files, newFile(name, parts[i], pairs, n, align))
	}
	return nil
}

func lastFilled(parts [][]Tensor) int {
	last := -1
	for i := range parts {
		if len(parts[i]) > 0 {
			last = i
		}
	}
	return last
}

// appendSplitKeys appends what says that a file is a shard: in the order of
// llama-quantize --keep-split, or that of llama-gguf-split.
func appendSplitKeys(b []byte, i, count, tensors int, keepSplit bool) []byte {
	u16 := func(key string, v int) {
		b = llamaquantize.AppendString(b, key)
		b = binary.LittleEndian.AppendUint32(b, uint32(ggufio.ValueUint16))
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	u16("split.no", i)
	if keepSplit {
		u16("split.count", count)
	}
	b = llamaquantize.AppendString(b, "split.tensors.count")
	b = binary.LittleEndian.AppendUint32(b, uint32(ggufio.ValueInt32))
	b = binary.LittleEndian.AppendUint32(b, uint32(tensors))
	if !keepSplit {
		u16("split.count", count)
	}
	return b
}

func newFile(name string, tensors []Tensor, pairs []byte, keys, align uint64) File {
	h := append([]byte("GGUF"), 3, 0, 0, 0)
	h = binary.LittleEndian.AppendUint64(h, uint64(len(tensors)))
	h = binary.LittleEndian.AppendUint64(h, keys)
	return describe(name, append(h, pairs...), tensors, align)
}

// describe returns the file that begins with h, up to where tensors are
// described: it gives them their places.
func describe(name string, h []byte, tensors []Tensor, align uint64) File {
	var data uint64
	for i := range tensors {
		t := &tensors[i]
		h = llamaquantize.AppendString(h, t.Name)
		h = binary.LittleEndian.AppendUint32(h, uint32(len(t.Shape)))
		for _, n := range t.Shape {
			h = binary.LittleEndian.AppendUint64(h, n)
		}
		h = binary.LittleEndian.AppendUint32(h, uint32(t.Type))
		h = binary.LittleEndian.AppendUint64(h, data)
		t.offset = data
		data += ggufio.Padded(t.SizeBytes, align)
	}
	h = append(h, make([]byte, ggufio.Padded(uint64(len(h)), align)-uint64(len(h)))...)
	for i := range tensors {
		tensors[i].offset += uint64(len(h))
	}
	return File{Name: name, SizeBytes: uint64(len(h)) + data, Tensors: tensors, header: h}
}

// check checks that a tensor can be written, and computes its size.
func (l *Layout) check(t *Tensor) error {
	f, ok := quant.Lookup(t.Type)
	if !ok || len(t.Shape) == 0 || t.Shape[0] == 0 {
		return fmt.Errorf("%v of shape %v cannot be written", t.Type, t.Shape)
	}
	rows := uint64(1)
	for _, n := range t.Shape[1:] {
		rows *= n
	}
	var err error
	if t.SizeBytes, err = f.Layout.EncodedBytes(rows, t.Shape[0]); err != nil {
		return err
	}
	if t.Source == nil {
		if uint64(len(t.Data)) != t.SizeBytes {
			return fmt.Errorf("has %d bytes of data for %d", len(t.Data), t.SizeBytes)
		}
		return nil
	}
	if t.Experts == nil && !slices.Equal(t.Shape, t.Source.Shape) {
		return fmt.Errorf("%v is not of its source's shape, %v", t.Shape, t.Source.Shape)
	}
	if t.Experts != nil {
		if got := uint64(len(t.Experts)) * t.Source.ExpertRows(); got != rows || t.Source.Shape[0] != t.Shape[0] {
			return fmt.Errorf("%d experts of %v do not make %v", len(t.Experts), t.Source.Shape, t.Shape)
		}
		for _, e := range t.Experts {
			if e < 0 || e >= max(1, t.Source.Experts()) {
				return fmt.Errorf("there is no expert %d of %d", e, max(1, t.Source.Experts()))
			}
		}
	}
	if !t.Changed() {
		return nil
	}
	if !quant.CanDecode(t.Source.Type) {
		return fmt.Errorf("its source is %v, which cannot be decoded", t.Source.Type)
	}
	if t.Shape[0] > maxRowWeights {
		return fmt.Errorf("rows of %d weights are over the limit of %d", t.Shape[0], maxRowWeights)
	}
	if t.Rounded != nil && len(t.Rounded) != t.slices() {
		return fmt.Errorf("%d types for %d experts", len(t.Rounded), t.slices())
	}
	for slice := range t.Rounded {
		if typ := t.rounding(slice); typ != quant.F32 {
			if err := l.checkEncoding(t, typ); err != nil {
				return err
			}
		}
	}
	return l.checkEncoding(t, t.Type)
}

// checkEncoding checks that a tensor's weights can be put into a type.
func (l *Layout) checkEncoding(t *Tensor, typ quant.Type) error {
	f, ok := quant.Lookup(typ)
	switch {
	case !ok || !quant.CanEncode(typ):
		return fmt.Errorf("%v cannot be encoded", typ)
	case quant.EncodeNeedsWeights(typ) && !measure.Covers(l.columns, t.Source):
		return fmt.Errorf("%v needs column weights: give an imatrix that has them for every column", typ)
	}
	_, err := f.Layout.EncodedBytes(1, t.Shape[0])
	return err
}

// called names the tensor, or what it stands for, to people.
func (t *Tensor) called() string {
	if t.kept {
		return fmt.Sprintf("byte %d, or one of the %d after it,", t.offset, t.SizeBytes-1)
	}
	return "tensor " + t.Name
}

// rounding returns the type that the weights of a slice are put through, F32
// for none.
func (t *Tensor) rounding(slice int) quant.Type {
	if t.Rounded == nil || t.Rounded[slice] == t.Type || t.Rounded[slice] == t.Source.Type {
		return quant.F32
	}
	return t.Rounded[slice]
}

// Changed reports whether the tensor's weights are encoded anew.
func (t *Tensor) Changed() bool {
	if t.Source == nil || t.Type != t.Source.Type {
		return t.Source != nil
	}
	for slice := range t.Rounded {
		if t.rounding(slice) != quant.F32 {
			return true
		}
	}
	return false
}

// slices returns how many runs of rows the tensor is made of.
func (t *Tensor) slices() int {
	switch {
	case t.Source == nil:
		return 1
	case t.Experts != nil:
		return len(t.Experts)
	}
	return max(1, t.Source.Experts())
}

// expert returns the source's expert of a slice.
func (t *Tensor) expert(slice int) int {
	if t.Experts != nil {
		return t.Experts[slice]
	}
	return slice
}
