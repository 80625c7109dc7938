package read

import (
	"fmt"
	"math"

	"github.com/ggufplan/ggufplan/stats"
)

// layerEntries are the expert entries of one layer.
type layerEntries struct {
	file    *imatrixFile
	index   int
	entries []*entry
	stacks  [down + 1]stack // by projection
}

// A stack is one projection of a layer, its experts in order.
type stack struct {
	present bool
	counts  []float64 // rows per expert, or calls in the legacy format; nil where one count stands for all
	slices  []slice   // nil where the number of experts is unknown
	fused   bool
	means   bool // every entry has column sums
}

// expertProjections is the order in which projections are looked at.
var expertProjections = []projection{up, gate, gateUp, down}

// stack sorts the entries by projection and expert, and reports whether the
// layer has experts. experts is their number in a file with a tensor each.
func (g *layerEntries) stack(experts int) bool {
	found := false
	for _, e := range g.entries {
		if !e.projection.isExpert() {
			continue
		}
		found = true
		st := &g.stacks[e.projection]
		st.means = e.meanOffset > 0 && (st.means || !st.present)
		st.present = true
		if e.expert < 0 {
			st.fused = true
			if len(e.slices) > 1 {
				st.slices = e.slices
			}
			if len(e.counts) > 1 {
				st.counts = e.counts
			}
			continue
		}
		if st.fused {
			continue // the fused tensor says it all
		}
		if st.counts == nil {
			st.counts = make([]float64, experts)
			st.slices = make([]slice, experts)
		}
		st.counts[e.expert] = e.counts[0]
		st.slices[e.expert] = e.slices[0]
	}
	return found
}

// addTo adds the layer to ev: its raw counts as Weights, for finishKinds to
// decide on.
func (g *layerEntries) addTo(ev *stats.Evidence) error {
	l := stats.Layer{Index: g.index, Kind: stats.LayerRouted}
	for _, e := range g.entries {
		if e.projection == router && !g.file.perCall && e.counts[0] > 0 {
			tokens := uint64(e.counts[0] + stats.WholeTolerance)
			l.Tokens = &tokens
		}
	}
	var counts []float64
	var from projection
	for _, p := range expertProjections {
		st := &g.stacks[p]
		if st.counts == nil {
			continue
		}
		if counts == nil {
			counts, from = st.counts, p
			continue
		}
		if err := g.sameCounts(from, counts, p, st.counts); err != nil {
			return err
		}
	}
	unseen := g.fillerExperts()
	if g.file.perCall {
		l.UnseenKnown = unseen
		g.file.legacy = append(g.file.legacy, g.legacyTraffic(counts, unseen))
	} else if counts == nil {
		// Converted from the legacy format, whose calls are not tokens.
		l.UnseenKnown, l.Tokens = unseen, nil
	} else {
		if len(unseen) > 0 {
			return fmt.Errorf("blk.%d: every sum of squares of expert %d equals its count, which is how a legacy imatrix marks an expert that it never saw: the file was merged with a legacy one, and its counts cannot be restored",
				g.index, unseen[0])
		}
		l.Weights = append([]float64(nil), counts...)
		g.addEnergies(ev, &l)
	}
	ev.Layers = append(ev.Layers, l)
	return nil
}

func (g *layerEntries) sameCounts(pa projection, a []float64, pb projection, b []float64) error {
	if len(a) != len(b) {
		return fmt.Errorf("blk.%d: %s has %d experts, %s %d", g.index, pa, len(a), pb, len(b))
	}
	for e := range a {
		if a[e] != b[e] {
			return fmt.Errorf("blk.%d: expert %d has count %g in %s and %g in %s, which the same tokens go through: the file is damaged or wrongly merged",
				g.index, e, a[e], pa, b[e], pb)
		}
	}
	return nil
}

// fillerExperts lists the experts whose gate, up and down columns all equal
// the count. Legacy files store that for an expert that was never seen.
func (g *layerEntries) fillerExperts() []int {
	gated := &g.stacks[gateUp]
	if !gated.present {
		gated = &g.stacks[gate]
	}
	upper := &g.stacks[up]
	if !upper.present {
		upper = &g.stacks[gateUp]
	}
	if !gated.present && upper.present {
		gated = upper // experts without a gate, or collected with gate and up in one
	}
	n := min(len(gated.slices), len(upper.slices), len(g.stacks[down].slices))
	var list []int
	for e := range n {
		if gated.slices[e].filler && upper.slices[e].filler && g.stacks[down].slices[e].filler {
			list = append(list, e)
		}
	}
	return list
}

// energies returns the energy of every expert, and the part of it that the
// column means make, nil where the file lacks column sums.
func (st *stack) energies() (energy, mean []float64) {
	energy = make([]float64, len(st.slices))
	if st.means {
		mean = make([]float64, len(st.slices))
	}
	for e, s := range st.slices {
		energy[e] = s.energy
		if st.means {
			mean[e] = s.meanEnergy
		}
	}
	return energy, mean
}

// energyTolerance is how far the energies of gate and up, which are sums over
// the same numbers, may lie apart.
const energyTolerance = 1e-3

// addEnergies sets the layer's energies.
func (g *layerEntries) addEnergies(ev *stats.Evidence, l *stats.Layer) {
	for _, p := range []projection{up, gate, gateUp} {
		if st := &g.stacks[p]; st.slices != nil {
			l.GateUpEnergy, l.GateUpMeanEnergy = st.energies()
			break
		}
	}
	if st := &g.stacks[down]; st.slices != nil {
		l.DownEnergy, l.DownMeanEnergy = st.energies()
	}
	a, b := &g.stacks[gate], &g.stacks[up]
	for e := range min(len(a.slices), len(b.slices)) {
		if x, y := a.slices[e].energy, b.slices[e].energy; math.Abs(x-y) > energyTolerance*max(x, y) {
			ev.Find(stats.CodeEnergyMismatch, l.Name(stats.AxisBlocks), "gate and up of expert %d saw the same input, yet their energies are %.6g and %.6g", e, x, y)
			break
		}
	}
}

func (p projection) String() string {
	switch p {
	case gate:
		return "gate"
	case up:
		return "up"
	case gateUp:
		return "gate_up"
	case down:
		return "down"
	}
	return "other"
}

// finishKinds turns raw counts, which the layers hold as Weights, into counts
// if all of them are whole numbers, and checks these against the tokens.
func finishKinds(ev *stats.Evidence) error {
	if len(ev.Layers) == 0 {
		return errNoLayers
	}
	if ev.Kind == stats.KindRelative {
		return nil
	}
	for i := range ev.Layers {
		for e, w := range ev.Layers[i].Weights {
			if math.Abs(w-math.RoundToEven(w)) > stats.WholeTolerance {
				ev.Kind = stats.KindRelative
				ev.Find(stats.CodeRelativeCounts, ev.Layers[i].Name(ev.LayerAxis), "the count of expert %d is %g: taken for weights, as counts are whole", e, w)
				return nil
			}
		}
	}
	for i := range ev.Layers {
		l := &ev.Layers[i]
		if l.Weights == nil {
			continue
		}
		ev.Kind = stats.KindExact
		l.Counts = make([]uint64, len(l.Weights))
		for e, w := range l.Weights {
			l.Counts[e] = uint64(math.RoundToEven(w))
		}
		l.Weights = nil
		if err := l.CheckCounts(ev.Chunks); err != nil {
			return fmt.Errorf("%s: %w", l.Name(ev.LayerAxis), err)
		}
		for _, n := range l.Counts {
			if n > stats.Float32Whole {
				ev.Find(stats.CodeRoundedCounts, l.Name(ev.LayerAxis), "counts above 2^24 = 16777216 were rounded when they were stored as float32")
				break
			}
		}
	}
	return nil
}
