package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/review"
)

func inspectCommand() *command {
	return &command{
		name:     "inspect",
		operands: "MODEL",
		short:    "layers, experts, expert tensors, sizes and shards of a model",
		long: `
Shows what a GGUF model holds: its layers and experts, the tensors that hold
the experts, what every kind of tensor takes, and what the model would take as
each of llama-quantize's file types. Only headers are read. Any shard of a set
stands for the whole set.

Example:

  $ ggufplan inspect model-f16.gguf
  model         bytemoe-2x8
  architecture  qwen3moe
  weights       3,676,160 in 27 tensors, 7.0 MiB, 16.02 bits per weight
  blocks        2, 2 with experts
  experts       8 per layer, 2 used per token
  expert data   6.0 MiB, 85.4 % of all tensors
  ...
  layers  expert tensor         type  shape          experts  per expert  per layer
  0-1     ffn_gate_exps.weight  F16   256 x 256 x 8        8   128.0 KiB    1.0 MiB
          ffn_up_exps.weight    F16   256 x 256 x 8        8   128.0 KiB    1.0 MiB
          ffn_down_exps.weight  F16   256 x 256 x 8        8   128.0 KiB    1.0 MiB
  ...
  file type       size  bits per weight  of this file's
  ...
  Q4_K_M       2.2 MiB             5.05          31.5 %
  ...

With --fit and --ctx it shows what a run in llama.cpp takes instead, on the
graphics card and in RAM: of the file, and of every file type. Weights and cache
are exact, compute buffers an upper estimate. Without --gpu-layers or
--experts-on-cpu there is no card.

  $ ggufplan inspect model-f16.gguf --fit --ctx 8192 --experts-on-cpu
  run         8,192 tokens of context, cache F16, batches of 512
  placement   all blocks on the GPU, all experts on the CPU
  ...

Sizes for a person are rounded; --json has every size in bytes.`,
		min: 1, max: 1,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			asJSON := flags.Bool("json", false, "print the same facts as JSON")
			all := flags.Bool("tensors", false, "list every tensor, with its place in its file")
			fit := flags.Bool("fit", false, "show what a run takes, with --ctx")
			run := addRunFlags(flags, false)
			return func(c *call, operands []string) error {
				if *fit && run.context == "" {
					return hinted(fmt.Errorf("--fit is about a run, which needs --ctx"), "ggufplan inspect "+shellQuote(operands[0])+" --fit --ctx 32768")
				}
				request, err := run.request("ggufplan inspect " + shellQuote(operands[0]) + " --fit")
				if err != nil {
					return err
				}
				m, err := ggufio.Open(operands[0])
				if errors.Is(err, ggufio.ErrImatrix) {
					return hinted(err, "ggufplan "+shellQuote("stats", operands[0]))
				}
				if err != nil {
					return err
				}
				report, err := inspect(m, *all)
				if err != nil {
					return err
				}
				if request != nil {
					if report.Run, err = inspectRun(m, request); err != nil {
						return fmt.Errorf("%s: %w", m.Files[0].Name, err)
					}
				}
				if *asJSON {
					return writeJSON(c.stdout, report)
				}
				if report.Run != nil {
					report.writeRun(c.page())
					return nil
				}
				report.write(c.page())
				return nil
			}
		},
	}
}

// An inspection is what inspect shows, as JSON has it.
type inspection struct {
	Name              string             `json:"name"`
	Architecture      string             `json:"architecture"`
	Files             []inspectedFile    `json:"files"`
	TensorCount       int                `json:"tensor_count"`
	Parameters        uint64             `json:"parameters"`
	TensorBytes       uint64             `json:"tensor_bytes"`
	FileBytes         uint64             `json:"file_bytes"`
	BlockCount        int                `json:"block_count"`
	MoELayerCount     int                `json:"moe_layer_count"`
	DenseLayers       []int              `json:"dense_layers"`
	MTPLayers         []int              `json:"mtp_layers"`
	ExpertCount       int                `json:"expert_count"`      // the largest over layers
	ExpertUsedCount   *int               `json:"expert_used_count"` // the largest over layers; null where the metadata does not say
	SharedExpertCount int                `json:"shared_expert_count"`
	RoutedExpertBytes uint64             `json:"routed_expert_bytes"`
	Requires          *string            `json:"requires"` // what it takes to run a tier file; null for other models
	Types             []inspectedGroup   `json:"types"`
	Roles             []inspectedGroup   `json:"roles"`
	FileTypes         []inspectedMix     `json:"file_types"`
	Layers            []inspectedLayer   `json:"layers"`
	Run               *inspectedRun      `json:"run,omitempty"` // what was asked for with --ctx
	Tensors           *[]inspectedTensor `json:"tensors,omitempty"`
}

type inspectedFile struct {
	Name            string `json:"name"`
	SizeBytes       uint64 `json:"size_bytes"`
	DataOffsetBytes uint64 `json:"data_offset_bytes"`
	AlignmentBytes  uint64 `json:"alignment_bytes"`
	TensorCount     int    `json:"tensor_count"`
	HeaderSHA256    string `json:"header_sha256"`
}

// An inspectedGroup sums up the tensors of one type or role.
type inspectedGroup struct {
	Name       string   `json:"name"`
	Tensors    int      `json:"tensor_count"`
	Parameters uint64   `json:"parameters"`
	SizeBytes  uint64   `json:"size_bytes"`
	Types      []string `json:"types,omitempty"` // of a role
}

// An inspectedLayer is a layer with routed experts.
type inspectedLayer struct {
	Layer           int               `json:"layer"`
	MTP             bool              `json:"mtp"`
	ExpertCount     int               `json:"expert_count"`
	ExpertUsedCount *int              `json:"expert_used_count"` // null where the metadata does not say
	SizeBytes       uint64            `json:"size_bytes"`
	Tensors         []inspectedTensor `json:"tensors"`
	Tiers           []inspectedTiers  `json:"tiers"` // of a tier file
}

// An inspectedTiers is where the experts of one projection are, and as what.
type inspectedTiers struct {
	Tensor      string   `json:"tensor"` // that its tiers stand for
	Shape       []uint64 `json:"shape"`
	ExpertTypes []string `json:"expert_types"`
	Tiers       []int    `json:"tiers"`   // of each expert
	Indices     []int    `json:"indices"` // of each expert in its tier
}

type inspectedTensor struct {
	Name        string   `json:"name"`
	Role        string   `json:"role"`
	Layer       *int     `json:"layer"`  // null outside blocks
	Expert      *int     `json:"expert"` // null where the tensor does not hold one expert
	Type        string   `json:"type"`
	Shape       []uint64 `json:"shape"`
	Parameters  uint64   `json:"parameters"`
	SizeBytes   uint64   `json:"size_bytes"`
	ExpertBytes *uint64  `json:"expert_bytes"` // null where the tensor holds no routed expert
	File        string   `json:"file"`
	OffsetBytes uint64   `json:"offset_bytes"`
}

func inspect(m *ggufio.Model, allTensors bool) (*inspection, error) {
	a := &m.Architecture
	layers := m.MoELayers()
	r := &inspection{
		Name: m.Name, Architecture: a.Name,
		TensorCount: len(m.Tensors), Parameters: m.Parameters(), TensorBytes: m.TensorBytes(), FileBytes: m.FileBytes(),
		BlockCount: a.BlockCount, MoELayerCount: len(layers), ExpertCount: m.MostExperts(), SharedExpertCount: a.ExpertSharedCount,
		DenseLayers: []int{}, MTPLayers: []int{}, Layers: []inspectedLayer{},
	}
	for i := range m.Files {
		f := &m.Files[i]
		r.Files = append(r.Files, inspectedFile{f.Name, f.SizeBytes, f.DataOffsetBytes, f.AlignmentBytes, f.TensorCount, f.HeaderSHA256})
	}
	for layer := range a.BlockCount {
		if _, isMoE := slices.BinarySearch(layers, layer); !isMoE {
			r.DenseLayers = append(r.DenseLayers, layer)
		}
		if m.IsMTP(layer) {
			r.MTPLayers = append(r.MTPLayers, layer)
		}
	}
	for _, layer := range layers {
		l := inspectedLayer{Layer: layer, MTP: m.IsMTP(layer), ExpertCount: m.ExpertCount(layer), Tiers: []inspectedTiers{}}
		if layer < len(a.ExpertUsedCount) {
			l.ExpertUsedCount = &a.ExpertUsedCount[layer]
			if r.ExpertUsedCount == nil || *r.ExpertUsedCount < *l.ExpertUsedCount {
				r.ExpertUsedCount = l.ExpertUsedCount
			}
		}
		for _, t := range m.ExpertTensors(layer) {
			l.SizeBytes += t.SizeBytes
			l.Tensors = append(l.Tensors, inspectTensor(m, t))
		}
		r.RoutedExpertBytes += l.SizeBytes
		r.Layers = append(r.Layers, l)
	}
	r.FileTypes = []inspectedMix{}
	if m.IsTierFile() {
		r.Requires = new(ggufio.TierRequires)
		if err := r.addTiers(m); err != nil {
			return nil, err
		}
	} else {
		r.FileTypes = inspectMixes(m)
	}
	r.Types = groupTensors(m, func(t *ggufio.Tensor) string { return t.Type.String() })
	r.Roles = groupTensors(m, func(t *ggufio.Tensor) string { return string(t.Role) })
	for i := range r.Types {
		r.Types[i].Types = nil
	}
	if allTensors {
		r.Tensors = &[]inspectedTensor{}
		for i := range m.Tensors {
			*r.Tensors = append(*r.Tensors, inspectTensor(m, &m.Tensors[i]))
		}
	}
	return r, nil
}

// addTiers reads the tables of a tier file.
func (r *inspection) addTiers(m *ggufio.Model) error {
	data, err := m.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	for i := range m.TierSets {
		s := &m.TierSets[i]
		places, err := data.ReadTiers(s)
		if err != nil {
			return err
		}
		x := inspectedTiers{Tensor: s.Name, Shape: s.Shape}
		for _, p := range places {
			x.ExpertTypes = append(x.ExpertTypes, m.Tensors[s.Tiers[p.Tier]].Type.String())
			x.Tiers, x.Indices = append(x.Tiers, p.Tier), append(x.Indices, p.Index)
		}
		at := slices.IndexFunc(r.Layers, func(l inspectedLayer) bool { return l.Layer == s.Layer })
		r.Layers[at].Tiers = append(r.Layers[at].Tiers, x)
	}
	return nil
}

func inspectTensor(m *ggufio.Model, t *ggufio.Tensor) inspectedTensor {
	out := inspectedTensor{
		Name: t.Name, Role: string(t.Role), Type: t.Type.String(), Shape: t.Shape,
		Parameters: t.Parameters, SizeBytes: t.SizeBytes, File: m.Files[t.File].Name, OffsetBytes: t.OffsetBytes,
	}
	if t.Layer >= 0 {
		out.Layer = &t.Layer
	}
	if t.Expert >= 0 {
		out.Expert = &t.Expert
	}
	if t.Role.IsExpert() {
		n := t.ExpertBytes()
		out.ExpertBytes = &n
	}
	return out
}

// groupTensors sums up tensors by a name, the largest group first.
func groupTensors(m *ggufio.Model, name func(*ggufio.Tensor) string) []inspectedGroup {
	groups := []inspectedGroup{}
	index := map[string]int{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		key := name(t)
		k, ok := index[key]
		if !ok {
			k = len(groups)
			index[key] = k
			groups = append(groups, inspectedGroup{Name: key})
		}
		g := &groups[k]
		g.Tensors++
		g.Parameters += t.Parameters
		g.SizeBytes += t.SizeBytes
		if typ := t.Type.String(); !slices.Contains(g.Types, typ) {
			g.Types = append(g.Types, typ)
		}
	}
	slices.SortFunc(groups, func(a, b inspectedGroup) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), cmp.Compare(a.Name, b.Name))
	})
	return groups
}

// write prints the inspection for a person.
func (r *inspection) write(w io.Writer) {
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s%s\n", name, fmt.Sprintf(format, args...))
	}
	fact("model", "%s", review.Printable(r.Name))
	fact("architecture", "%s", review.Printable(r.Architecture))
	fact("weights", "%s in %d tensors, %s, %s bits per weight", review.Count(r.Parameters), r.TensorCount, review.Size(r.TensorBytes), review.BitsPerWeight(r.TensorBytes, r.Parameters))
	fact("blocks", "%s", r.blocksInWords())
	if r.MoELayerCount > 0 {
		fact("experts", "%s", r.expertsInWords())
		fact("expert data", "%s, %s of all tensors", review.Size(r.RoutedExpertBytes), review.Percent(r.RoutedExpertBytes, r.TensorBytes))
	}

	if r.Requires != nil {
		fact("needs", "%s: ggufplan patch-llamacpp", *r.Requires)
	}

	fmt.Fprintln(w)
	files := review.NewTable("file", ">size", ">tensors", ">data at byte", "header sha256")
	for _, f := range r.Files {
		files.Add(review.Printable(f.Name), review.Size(f.SizeBytes), strconv.Itoa(f.TensorCount), strconv.FormatUint(f.DataOffsetBytes, 10), f.HeaderSHA256[:16])
	}
	if len(r.Files) > 1 {
		files.Add("all files", review.Size(r.FileBytes), strconv.Itoa(r.TensorCount))
	}
	files.Write(w, "")

	fmt.Fprintln(w)
	roles := review.NewTable("role", ">tensors", ">weights", ">size", ">share", "types")
	for _, g := range r.Roles {
		roles.Add(g.Name, strconv.Itoa(g.Tensors), review.Count(g.Parameters), review.Size(g.SizeBytes), review.Percent(g.SizeBytes, r.TensorBytes), strings.Join(g.Types, " "))
	}
	roles.Write(w, "")

	fmt.Fprintln(w)
	types := review.NewTable("type", ">tensors", ">weights", ">size", ">share")
	for _, g := range r.Types {
		types.Add(g.Name, strconv.Itoa(g.Tensors), review.Count(g.Parameters), review.Size(g.SizeBytes), review.Percent(g.SizeBytes, r.TensorBytes))
	}
	types.Write(w, "")

	if r.MoELayerCount > 0 {
		fmt.Fprintln(w)
		r.writeLayers(w)
	}
	if len(r.FileTypes) > 0 {
		fmt.Fprintln(w)
		r.writeMixes(w)
	}
	if r.Tensors != nil {
		fmt.Fprintln(w)
		r.writeTensors(w)
	}
}

func (r *inspection) blocksInWords() string {
	s := fmt.Sprintf("%d, %d with experts", r.BlockCount, r.MoELayerCount)
	if n := len(r.DenseLayers); n > 0 && r.MoELayerCount > 0 {
		s += fmt.Sprintf(", %d without (%s)", n, review.Ranges(r.DenseLayers))
	}
	if n := len(r.MTPLayers); n > 0 {
		s += fmt.Sprintf(", %d for multi-token prediction (%s)", n, review.Ranges(r.MTPLayers))
	}
	return s
}

func (r *inspection) expertsInWords() string {
	s := fmt.Sprintf("%d per layer", r.ExpertCount)
	if slices.ContainsFunc(r.Layers, func(l inspectedLayer) bool { return l.ExpertCount != r.ExpertCount }) {
		s = fmt.Sprintf("up to %d per layer", r.ExpertCount)
	}
	if r.ExpertUsedCount != nil {
		s += fmt.Sprintf(", %d used per token", *r.ExpertUsedCount)
	}
	if r.SharedExpertCount > 0 {
		s += fmt.Sprintf(", %d shared", r.SharedExpertCount)
	}
	return s
}

// writeLayers prints the expert tensors, layers that are alike in one line.
func (r *inspection) writeLayers(w io.Writer) {
	type row struct {
		projection, typ, shape string
		tensors, experts       int
		expertBytes, sizeBytes uint64
	}
	t := review.NewTable("layers", "expert tensor", "type", "shape", ">experts", ">per expert", ">per layer")
	summary := func(l inspectedLayer) []row {
		var rows []row
		for _, x := range l.Tensors {
			name := strings.TrimPrefix(x.Name, fmt.Sprintf("blk.%d.", l.Layer))
			experts := int(x.SizeBytes / *x.ExpertBytes)
			if x.Expert != nil {
				name, experts = strings.Replace(name, "."+strconv.Itoa(*x.Expert)+".", ".E.", 1), 1
			}
			n := row{name, x.Type, review.Shape(x.Shape), 1, experts, *x.ExpertBytes, x.SizeBytes}
			same := func(o row) bool {
				return o.projection == n.projection && o.typ == n.typ && o.expertBytes == n.expertBytes
			}
			if i := slices.IndexFunc(rows, same); i >= 0 {
				rows[i].tensors++
				rows[i].experts += n.experts
				rows[i].sizeBytes += n.sizeBytes
			} else {
				rows = append(rows, n)
			}
		}
		return rows
	}
	for i := 0; i < len(r.Layers); {
		rows := summary(r.Layers[i])
		alike := []int{r.Layers[i].Layer}
		for i++; i < len(r.Layers) && slices.Equal(summary(r.Layers[i]), rows); i++ {
			alike = append(alike, r.Layers[i].Layer)
		}
		where := review.Ranges(alike)
		for _, x := range rows {
			t.Add(where, review.Printable(x.projection), x.typ, x.shape, strconv.Itoa(x.experts), review.Size(x.expertBytes), review.Size(x.sizeBytes))
			where = ""
		}
	}
	t.Write(w, "")
}

func (r *inspection) writeTensors(w io.Writer) {
	t := review.NewTable("tensor", "role", "type", "shape", ">bytes", ">at byte", "file")
	for _, x := range *r.Tensors {
		t.Add(review.Printable(x.Name), x.Role, x.Type, review.Shape(x.Shape), strconv.FormatUint(x.SizeBytes, 10), strconv.FormatUint(x.OffsetBytes, 10), review.Printable(x.File))
	}
	t.Write(w, "")
}
