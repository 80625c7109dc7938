package stats

import (
	"fmt"
	"slices"
)

// mapLayers returns the model's block for each of the source's layers.
func (f *fitter) mapLayers() ([]int, error) {
	layers := f.ev.Layers
	target := make([]int, len(layers))
	if f.opt.LayerOffset != nil {
		for i, l := range layers {
			target[i] = l.Index + *f.opt.LayerOffset
			if target[i] < 0 || !f.inModel(target[i]) {
				return nil, fmt.Errorf("%s: with a layer offset of %d it is block %d, the model has %d", l.Name(f.ev.LayerAxis), *f.opt.LayerOffset, target[i], f.model.Architecture.BlockCount)
			}
		}
		return target, nil
	}
	if f.ev.LayerAxis == AxisBlocks {
		for i, l := range layers {
			if target[i] = l.Index; !f.inModel(l.Index) {
				f.differs("it has layer %d, the model has %d blocks", l.Index, f.model.Architecture.BlockCount)
			}
		}
		return target, f.mismatch()
	}
	rows, err := f.rowBlocks()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		target[i] = rows[l.Index]
	}
	return target, nil
}

func (f *fitter) inModel(block int) bool {
	n := f.model.Architecture.BlockCount
	return n == 0 || block < n
}

// rowBlocks returns the block of each row of a source whose rows say nothing
// but their number. They may be all blocks, all blocks of the trunk, the
// blocks with experts, or those of the trunk; two readings that fit and differ
// are refused.
func (f *fitter) rowBlocks() ([]int, error) {
	rows := f.ev.Rows
	all := make([]int, f.model.Architecture.BlockCount)
	for i := range all {
		all[i] = i
	}
	trunk := all[:max(0, len(all)-f.model.Architecture.NextNBlocks)]
	var moe, moeTrunk []int
	for _, b := range f.blocks {
		moe = append(moe, b.index)
		if b.kind != LayerNextN {
			moeTrunk = append(moeTrunk, b.index)
		}
	}
	type reading struct {
		what   string
		blocks []int
	}
	var fits []reading
	for _, r := range []reading{
		{"all blocks", all},
		{"the blocks of the trunk", trunk},
		{"the blocks with experts", moe},
		{"the trunk's blocks with experts", moeTrunk},
	} {
		if len(r.blocks) != rows {
			continue
		}
		same := false
		for _, other := range fits {
			same = same || slices.Equal(other.blocks, r.blocks)
		}
		if !same {
			fits = append(fits, r)
		}
	}
	if len(fits) > 1 {
		var likely []reading
		for _, must := range []bool{true, false} {
			for _, r := range fits {
				if f.rowsSuit(r.blocks, must) {
					likely = append(likely, r)
				}
			}
			if len(likely) > 0 {
				fits = likely
				break
			}
		}
	}
	switch len(fits) {
	case 1:
		return fits[0].blocks, nil
	case 0:
		return nil, Curable(PlaceRows, "has %d rows; the model has %d blocks, %d in its trunk, %d with experts, %d of these in its trunk", rows, len(all), len(trunk), len(moe), len(moeTrunk))
	}
	return nil, Curable(PlaceRows, "its %d rows may be %s or %s", rows, fits[0].what, fits[1].what)
}

// rowsSuit reports whether every row with traffic is a block with experts and,
// with all set, every such block of the trunk has traffic.
func (f *fitter) rowsSuit(blocks []int, all bool) bool {
	experts := map[int]bool{}
	busy := map[int]bool{}
	for _, b := range f.blocks {
		experts[b.index] = b.kind != LayerNextN
	}
	for _, l := range f.ev.Layers {
		block := blocks[l.Index]
		if l.Empty() {
			continue
		}
		if _, ok := experts[block]; !ok {
			return false
		}
		busy[block] = true
	}
	for block, trunk := range experts {
		if all && trunk && slices.Contains(blocks, block) && !busy[block] {
			return false
		}
	}
	return true
}

// Place returns the evidence with row r of its layer axis taken for block
// r + offset, without a model that could say whether there is one.
func (ev *Evidence) Place(offset int) (*Evidence, error) {
	out := *ev
	out.LayerAxis, out.Rows = AxisBlocks, 0
	out.Layers = slices.Clone(ev.Layers)
	for i := range out.Layers {
		l := &out.Layers[i]
		if l.Index += offset; l.Index < 0 {
			return nil, fmt.Errorf("%s: %s: with a layer offset of %d it is before the first block", ev.name(), ev.Layers[i].Name(ev.LayerAxis), offset)
		}
	}
	return &out, nil
}
