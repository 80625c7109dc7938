package stats

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
)

// FitOptions says what neither the statistics nor the model can.
type FitOptions struct {
	// TopK is the number of experts per token while the statistics were
	// collected, where that differs from the model's; 0: the model's.
	TopK int
	// LayerOffset, if set, maps row r of the source to block r + LayerOffset.
	LayerOffset *int
}

// Fit maps the evidence onto a model: the result's layers are those of the
// model's blocks that have routed experts, their kinds and experts per token
// set. Layers that the source lacks are absent from the result.
//
// Statistics that cannot be the model's are refused with what differs: block
// numbers, expert counts, row lengths, names, experts per token. That they
// were collected from another model of the same shapes cannot be seen.
func (ev *Evidence) Fit(m *ggufio.Model, opt FitOptions) (*Evidence, error) {
	f := &fitter{ev: ev, model: m, opt: opt, used: m.Architecture.ExpertUsedCount}
	f.blocks = f.moeBlocks()
	name := "statistics"
	if len(ev.Inputs) > 0 {
		name = ev.Inputs[0].Name
	}
	if len(f.blocks) == 0 {
		return nil, fmt.Errorf("%s: the model %s has no routed experts to map statistics onto", name, m.Files[0].Name)
	}
	out, err := f.fit()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

// A fitter fits one evidence onto one model.
type fitter struct {
	ev     *Evidence
	model  *ggufio.Model
	opt    FitOptions
	used   []int
	blocks []moeBlock // ascending

	differences []string
	short       []Finding // entries that llama-quantize refuses
}

// A moeBlock is a block with routed experts.
type moeBlock struct {
	index, experts int
	kind           LayerKind
}

// moeBlocks derives the blocks with routed experts from the tensors, and
// counts their experts.
func (f *fitter) moeBlocks() []moeBlock {
	var blocks []moeBlock
	for _, layer := range f.model.MoELayers() {
		b := moeBlock{index: layer, experts: f.model.ExpertCount(layer), kind: LayerRouted}
		if _, ok := f.model.TensorByName(fmt.Sprintf("blk.%d.ffn_gate_tid2eid.weight", layer)); ok {
			b.kind = LayerHash
		}
		if f.model.IsMTP(layer) {
			b.kind = LayerNextN
		}
		blocks = append(blocks, b)
	}
	return blocks
}

func (f *fitter) block(index int) *moeBlock {
	i, ok := slices.BinarySearchFunc(f.blocks, index, func(b moeBlock, index int) int { return b.index - index })
	if !ok {
		return nil
	}
	return &f.blocks[i]
}

// differs notes something that sets the source apart from the model.
func (f *fitter) differs(format string, args ...any) {
	f.differences = append(f.differences, fmt.Sprintf(format, args...))
}

// mismatch is the error of the differences noted, nil without any.
func (f *fitter) mismatch() error {
	const shown = 3
	if len(f.differences) == 0 {
		return nil
	}
	list := strings.Join(f.differences[:min(shown, len(f.differences))], "; ")
	if more := len(f.differences) - shown; more > 0 {
		list += fmt.Sprintf("; and %d more differences", more)
	}
	name := f.model.Files[0].Name
	return &HintError{Err: fmt.Errorf("does not belong to %s: %s", name, list), Cure: CollectAgain, Text: name}
}

func (f *fitter) fit() (*Evidence, error) {
	f.checkFacts()
	match := f.checkEntries()
	if err := f.mismatch(); err != nil {
		return nil, err
	}
	target, err := f.mapLayers()
	if err != nil {
		return nil, err
	}
	out := *f.ev
	out.Layers, out.Match = nil, match
	out.Findings = slices.Concat(f.ev.Findings, f.short)
	out.LayerAxis, out.Rows = AxisBlocks, 0
	out.Architecture = f.model.Architecture.Name
	out.BlockCount = f.model.Architecture.BlockCount
	out.ExpertCount = f.model.Architecture.ExpertCount
	nextN := f.model.Architecture.NextNBlocks
	out.NextN = &nextN
	blind := f.scaledInput()
	if blind {
		out.Kind = KindNone
		out.Find(CodeNoTraffic, "", "%s scales the input of its experts by the router's weights, so a legacy imatrix tells nothing of their traffic", out.Architecture)
	}
	for i, l := range f.ev.Layers {
		if blind {
			l.Weights, l.GateUpEnergy, l.DownEnergy = nil, nil, nil
		}
		b := f.block(target[i])
		if b == nil {
			if !l.Empty() {
				f.differs("%s has activations, where block %d of the model has no experts", l.Name(f.ev.LayerAxis), target[i])
			}
			continue
		}
		if b.kind != LayerRouted {
			l.Kind = b.kind
		}
		l.Index = b.index
		if err := f.fitExperts(&l, b); err != nil {
			f.differs("%v", err)
			continue
		}
		if err := f.fitTopK(&out, &l); err != nil {
			return nil, err
		}
		l.Blocks = l.Blocks.fit(l.TopK, l.Experts())
		out.Layers = append(out.Layers, l)
	}
	if err := f.mismatch(); err != nil {
		return nil, err
	}
	if len(out.Layers) == 0 {
		f.differs("it has statistics of none of the model's %d layers with experts", len(f.blocks))
		return nil, f.mismatch()
	}
	slices.SortStableFunc(out.Layers, func(a, b Layer) int { return a.Index - b.Index })
	if k := out.Layers[0].TopK; k > 0 {
		out.TopK = k
	}
	MarkSuperExperts(out.Layers)
	return &out, nil
}

// scaledInput reports whether shares were estimated from sums of squares in
// which the model's router weights are a factor.
func (f *fitter) scaledInput() bool {
	return f.ev.Kind == KindRelative && f.model.Architecture.Name == "llama4" &&
		len(f.ev.Inputs) == 1 && f.ev.Inputs[0].Format == FormatImatrixDat
}

// Empty reports whether the layer has no activations.
func (l *Layer) Empty() bool {
	for _, n := range l.Counts {
		if n > 0 {
			return false
		}
	}
	for _, w := range l.Weights {
		if w > 0 {
			return false
		}
	}
	return true
}

// checkFacts compares what the source states of its model.
func (f *fitter) checkFacts() {
	a := f.model.Architecture
	if f.ev.Architecture != "" && a.Name != "" && f.ev.Architecture != a.Name {
		f.differs("it states architecture %s, the model's is %s", f.ev.Architecture, a.Name)
	}
	if f.ev.BlockCount > 0 && a.BlockCount > 0 && f.ev.BlockCount != a.BlockCount {
		f.differs("it states %d blocks, the model has %d", f.ev.BlockCount, a.BlockCount)
	}
	if n := f.ev.NextN; n != nil && *n != a.NextNBlocks {
		f.differs("it states %d blocks of multi-token prediction, the model has %d", *n, a.NextNBlocks)
	}
}

// checkEntries compares the entries of an imatrix with the model's tensors.
func (f *fitter) checkEntries() *Match {
	if f.ev.Entries == nil {
		return nil
	}
	names := make([]string, 0, len(f.ev.Entries))
	for name := range f.ev.Entries {
		names = append(names, name)
	}
	slices.SortFunc(names, compareTensorNames)
	match := &Match{Entries: len(names)}
	for _, name := range names {
		s := f.ev.Entries[name]
		layer, role, _ := ggufio.ParseTensorName(name)
		if n := f.model.Architecture.BlockCount; n > 0 && layer >= n {
			f.differs("it has %s, the model has %d blocks", name, n)
			continue
		}
		t, ok := f.model.TensorByName(name)
		switch {
		case ok:
			columns, matrices := t.Shape[0], uint64(1)
			for _, n := range t.Shape[min(2, len(t.Shape)):] {
				matrices *= n
			}
			if f.checkShape(name, s, role, columns, matrices) {
				match.Named++
			}
		case role.IsExpert():
			f.checkAlias(name, s, layer, role)
		}
	}
	return match
}

// checkShape compares an entry with the tensor of its name.
func (f *fitter) checkShape(name string, s EntrySize, role ggufio.Role, columns, matrices uint64) bool {
	if role.IsExpert() && s.Counts > 1 && s.Counts != matrices {
		f.differs("%s has %d experts, the model %d", name, s.Counts, matrices)
		return false
	}
	if s.Values%columns == 0 && s.Values/columns == matrices {
		return true
	}
	if s.Values == columns && !role.IsExpert() {
		// Legacy files have one set of columns for all heads of attention.
		f.short = append(f.short, Finding{CodeImatrixSize, name,
			fmt.Sprintf("has %d values, llama-quantize wants %d for %d matrices of %d columns and stops", s.Values, columns*matrices, matrices, columns)})
		return false
	}
	if s.Counts > 1 && s.Values%s.Counts == 0 {
		f.differs("%s has rows of %d, the model of %d", name, s.Values/s.Counts, columns)
	} else {
		f.differs("%s has %d columns in all, the model %d matrices of %d", name, s.Values, matrices, columns)
	}
	return false
}

// checkAlias compares an expert entry under a name that the model lacks with
// what the block has instead: gate and up in one tensor or in two, experts in
// one tensor or in one each.
func (f *fitter) checkAlias(name string, s EntrySize, layer int, role ggufio.Role) {
	b := f.block(layer)
	if b == nil {
		f.differs("it has %s, block %d of the model has no experts", name, layer)
		return
	}
	for _, t := range f.model.ExpertTensors(layer) {
		isDown := t.Role == ggufio.RoleExpertDown
		if isDown != (role == ggufio.RoleExpertDown) {
			continue
		}
		if s.Counts > 1 && s.Counts != uint64(b.experts) {
			f.differs("%s has %d experts, the model %d", name, s.Counts, b.experts)
			return
		}
		if n := t.Shape[0]; s.Values != n && (s.Values%n != 0 || s.Values/n != uint64(b.experts)) {
			f.differs("%s has %d columns in all, the model %d matrices of %d", name, s.Values, b.experts, n)
		}
		return
	}
	f.differs("it has %s, which the model lacks", name)
}

// compareTensorNames orders names with block numbers as numbers.
func compareTensorNames(a, b string) int {
	la, _, _ := ggufio.ParseTensorName(a)
	lb, _, _ := ggufio.ParseTensorName(b)
	if la != lb {
		return la - lb
	}
	return strings.Compare(a, b)
}

// fitExperts compares the number of experts.
func (f *fitter) fitExperts(l *Layer, b *moeBlock) error {
	n := l.Experts()
	if n == 0 || n == b.experts {
		return nil
	}
	if (f.separate() || f.ev.OpenExperts) && n < b.experts {
		l.extend(b.experts) // the last experts were never seen: no entries
		return nil
	}
	if f.ev.OpenExperts && l.trim(b.experts) {
		return nil
	}
	hint := ""
	if n > b.experts {
		hint = ": physical experts of a load balancer need its map to logical ones"
	}
	return fmt.Errorf("it has %d experts in %s, the model %d%s", n, l.Name(AxisBlocks), b.experts, hint)
}

// separate reports whether the source has an entry per expert.
func (f *fitter) separate() bool {
	for name := range f.ev.Entries {
		if _, role, expert := ggufio.ParseTensorName(name); role.IsExpert() && expert >= 0 {
			return true
		}
	}
	return false
}

// trim takes away the experts beyond a number, if none of them was used.
func (l *Layer) trim(experts int) bool {
	if l.Counts == nil || len(l.Counts) < experts || slices.ContainsFunc(l.Counts[experts:], func(n uint64) bool { return n > 0 }) {
		return false
	}
	l.Counts = l.Counts[:experts:experts]
	for _, s := range l.Signals() {
		if *s.Values != nil {
			*s.Values = (*s.Values)[:experts:experts]
		}
	}
	return true
}

// extend gives the layer experts that its source never saw.
func (l *Layer) extend(experts int) {
	if l.Counts != nil {
		l.Counts = append(slices.Clone(l.Counts), make([]uint64, experts-len(l.Counts))...)
	}
	for _, s := range l.Signals() {
		if *s.Values != nil {
			*s.Values = append(slices.Clone(*s.Values), make([]float64, experts-len(*s.Values))...)
		}
	}
}

// fitTopK checks the experts per token against the model's, or against what
// the caller states they were.
func (f *fitter) fitTopK(out *Evidence, l *Layer) error {
	k := 0
	if l.Index < len(f.used) {
		k = f.used[l.Index]
	}
	model := k
	if f.opt.TopK > 0 {
		k = f.opt.TopK
	}
	if k == 0 || l.Empty() || out.Kind != KindExact {
		if l.TopK == 0 {
			l.TopK = k
		}
		return nil
	}
	if e := l.Experts(); f.opt.TopK == 0 && e > 0 && k > e {
		return fmt.Errorf("%s: the model's metadata states %d experts per token, its tensors hold %d experts", l.Name(AxisBlocks), k, e)
	}
	stated, proved := l.TopK, l.Tokens != nil // by the source
	if stated == 0 {
		stated = f.ev.TopK
	}
	if err := l.SetTopK(k, f.ev.Kind, f.ev.Chunks); err != nil {
		if wrong, ok := err.(*topKError); ok {
			err = fmt.Errorf("%s: %w", l.Name(AxisBlocks), err)
			if f.opt.TopK == 0 {
				err = fmt.Errorf("%w: it was collected with another number of experts per token, or merged with a legacy imatrix, which spoils its counts", err)
				return &HintError{Err: err, Cure: StateTopK, TopK: wrong.observed}
			}
		}
		return err
	}
	if stated > 0 && stated != k && !proved {
		err := fmt.Errorf("%s: it states %d experts per token, the model has %d", l.Name(AxisBlocks), stated, k)
		return &HintError{Err: err, Cure: StateTopK, TopK: stated}
	}
	if model > 0 && k != model {
		out.Find(CodeKMismatch, l.Name(AxisBlocks), "collected with %d experts per token, the model uses %d", k, model)
	}
	return nil
}
