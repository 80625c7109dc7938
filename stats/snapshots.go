package stats

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// joinSnapshots replaces each set of snapshots of one llama-imatrix run, named
// OUT.at_N beside the final OUT, by the most complete of them, which then has
// block records: what was counted between one snapshot and the next.
func joinSnapshots(inputs []*Evidence) ([]*Evidence, error) {
	type snapshot struct {
		ev    *Evidence
		chunk int // of a snapshot; the final file is after them all
	}
	runs := map[string][]snapshot{}
	for _, ev := range inputs {
		if len(ev.Inputs) != 1 || ev.Kind != KindExact {
			continue
		}
		if stem, chunk, ok := snapshotName(ev.Inputs[0].Name); ok {
			runs[stem] = append(runs[stem], snapshot{ev, chunk})
		}
	}
	const final = math.MaxInt
	replaced := map[*Evidence]*Evidence{}
	for _, ev := range inputs {
		if len(ev.Inputs) == 1 && ev.Kind == KindExact {
			if list := runs[ev.Inputs[0].Name]; len(list) > 0 {
				runs[ev.Inputs[0].Name] = append(list, snapshot{ev, final})
			}
		}
	}
	for _, stem := range slices.Sorted(maps.Keys(runs)) {
		list := runs[stem]
		if len(list) < 2 {
			continue
		}
		slices.SortStableFunc(list, func(a, b snapshot) int { return cmp.Compare(a.chunk, b.chunk) })
		evs := make([]*Evidence, len(list))
		for i, s := range list {
			evs[i] = s.ev
		}
		joined, err := fromSnapshots(evs)
		if err != nil {
			return nil, err
		}
		for _, ev := range evs {
			replaced[ev] = nil
		}
		replaced[evs[len(evs)-1]] = joined
	}
	if len(replaced) == 0 {
		return inputs, nil
	}
	var out []*Evidence
	for _, ev := range inputs {
		joined, ok := replaced[ev]
		if !ok {
			joined = ev
		}
		if joined != nil {
			out = append(out, joined)
		}
	}
	return out, nil
}

// snapshotName splits the name that llama-imatrix gives a snapshot.
func snapshotName(name string) (stem string, chunk int, ok bool) {
	i := strings.LastIndex(name, ".at_")
	if i < 1 {
		return "", 0, false
	}
	chunk, err := strconv.Atoi(name[i+len(".at_"):])
	return name[:i], chunk, err == nil && chunk >= 0
}

// fromSnapshots returns the last of a run's snapshots, which are in order,
// with the difference between each and the next as block records.
func fromSnapshots(snapshots []*Evidence) (*Evidence, error) {
	if err := sameLayers(snapshots); err != nil {
		return nil, err
	}
	last := *snapshots[len(snapshots)-1]
	last.Layers = slices.Clone(last.Layers)
	for i := range last.Layers {
		l := &last.Layers[i]
		var blocks BlockMoments
		before := make([]uint64, len(l.Counts))
		for j, ev := range snapshots {
			s := &ev.Layers[i]
			if s.Counts == nil {
				blocks = BlockMoments{}
				break
			}
			block := make([]float64, len(s.Counts))
			for e, n := range s.Counts {
				if n < before[e] {
					return nil, fmt.Errorf("%s: %s: expert %d has count %d, which was %d in the earlier snapshot %s: they are not of one run",
						ev.name(), s.Name(ev.LayerAxis), e, n, before[e], snapshots[j-1].name())
				}
				block[e] = float64(n - before[e])
			}
			blocks.Add(block)
			before = s.Counts
		}
		if b := blocks.Summary(l.TopK, len(l.Counts)); b != nil {
			l.Blocks = b
		}
	}
	return &last, nil
}
