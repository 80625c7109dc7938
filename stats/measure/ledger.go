package measure

import (
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/stats/pace"
)

// depths is how many parts of a model's depth are told apart.
const depths = 4

// A ledger foresees what is left of a run. How much more or less than expected
// samples take is learnt from the groups that are finished: from those of the
// same kind and depth, where there are few from those of the same kind, and
// where there are none from all.
type ledger struct {
	groups  []itemGroup
	cores   float64
	full    bool // all takes what is expected
	kinds   []*kindWork
	classOf []*classWork // by group
	done    []bool       // by group
	count   int          // of groups that are not done
	failed  []bool       // by group
	running map[int]work // what they took so far

	before uint64 // weights that an earlier run measured
	spent  work

	step, told float64 // seconds of work from one report to the next, and when the last was made
}

// A kindWork is the work on tensors of a kind: see kindOf.
type kindWork struct{ depths [depths]classWork }

// A classWork is the part of it in some depth.
type classWork struct {
	todo work // expected, of groups that are not begun
	finished
}

// finished says what groups took that this run finished, in seconds.
type finished struct {
	expected, took float64
	groups         float64
	sum, squares   float64 // of took over expected, and of its square
}

func finishedGroup(expected, took float64) finished {
	x := 1.0
	if expected > 0 {
		x = took / expected
	}
	return finished{expected, took, 1, x, float64(x * x)}
}

func (f finished) plus(x finished) finished {
	return finished{f.expected + x.expected, f.took + x.took, f.groups + x.groups, f.sum + x.sum, f.squares + x.squares}
}

// ratio is how much longer than expected groups take, where others take some
// ratio and that counts as some groups.
func (f finished) ratio(others, weight float64) float64 {
	if f.groups == 0 {
		return others
	}
	own := float64(f.expected / f.groups * weight)
	return (f.took + float64(own*others)) / (f.expected + own)
}

// How much kinds differ from each other, and depths of a kind: relative standard
// deviations of what is taken over what is expected.
const kindsDiffer, depthsDiffer = 0.6, 0.3

// variance returns the relative variance between the groups of a kind and depth.
func (k *kindWork) variance() float64 {
	// As if three were known that differ by a fifth.
	squares, free := 3*0.2*0.2, 3.0
	for d := range k.depths {
		if f := &k.depths[d].finished; f.groups > 1 && f.sum > 0 {
			mean := f.sum / f.groups
			squares += max(0, f.squares-float64(f.sum*mean)) / (mean * mean)
			free += f.groups - 1
		}
	}
	return squares / free
}

// newLedger begins with what an earlier run had done.
func newLedger(m *measurement, done []bool) *ledger {
	l := &ledger{groups: m.groups, cores: float64(Cores(m.options.Workers)), full: m.options.Full, running: map[int]work{},
		classOf: make([]*classWork, len(m.groups)), done: make([]bool, len(m.groups)), failed: make([]bool, len(m.groups))}
	all := 0.0
	kinds, count, seen := map[string]*kindWork{}, map[string]int{}, map[string]int{}
	for _, g := range m.groups {
		count[kindOf(m.items[g.first].tensor)]++
	}
	for i, g := range m.groups {
		name := kindOf(m.items[g.first].tensor)
		if kinds[name] == nil {
			kinds[name] = &kindWork{}
			l.kinds = append(l.kinds, kinds[name])
		}
		class := &kinds[name].depths[seen[name]*depths/count[name]]
		seen[name]++
		l.classOf[i] = class
		if !slices.Contains(done[g.first:][:g.count], false) {
			l.done[i] = true
			l.before += g.expected.weights
			continue
		}
		class.todo = class.todo.plus(g.expected)
		l.count++
		all += g.expected.seconds()
	}
	// A report goes over all groups: a tenth of a second, and where all is soon
	// done a thousandth of it, are enough between two.
	l.step = min(l.cores/10, all/1000)
	return l
}

// todo lists the groups that are not finished, in the order of the file.
func (l *ledger) todo() (numbers []int) {
	for i, done := range l.done {
		if !done {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// spend adds what a group took.
func (l *ledger) spend(group int, x work) {
	so, running := l.running[group]
	if !running {
		l.classOf[group].todo = l.classOf[group].todo.minus(l.groups[group].expected)
	}
	l.running[group] = so.plus(x)
	l.spent = l.spent.plus(x)
}

// finish closes a group.
func (l *ledger) finish(group int) {
	l.spend(group, work{}) // should it have had no rows
	c := l.classOf[group]
	c.finished = c.finished.plus(finishedGroup(l.groups[group].expected.seconds(), l.running[group].seconds()))
	l.done[group] = true
	l.count--
	delete(l.running, group)
}

// giveUp takes a group back that failed.
func (l *ledger) giveUp(group int) {
	l.failed[group] = true
	if _, running := l.running[group]; running {
		l.classOf[group].todo = l.classOf[group].todo.plus(l.groups[group].expected)
		delete(l.running, group)
	}
}

// ratios returns how much longer than expected the groups of each class take.
func (l *ledger) ratios() map[*classWork]float64 {
	known := map[*classWork]finished{}
	for g, so := range l.running {
		// One that has taken more than expected already tells as much.
		if e, t := l.groups[g].expected.seconds(), so.seconds(); t > e {
			known[l.classOf[g]] = known[l.classOf[g]].plus(finishedGroup(e, t))
		}
	}
	ofKind := make([]finished, len(l.kinds))
	logs, n := 0.0, 1.0 // the geometric mean over kinds, with one that is as expected
	for i, k := range l.kinds {
		for d := range k.depths {
			c := &k.depths[d]
			known[c] = known[c].plus(c.finished)
			ofKind[i] = ofKind[i].plus(known[c])
		}
		if f := ofKind[i]; f.took > 0 && f.expected > 0 {
			logs += math.Log(f.took / f.expected)
			n++
		}
	}
	ratios := map[*classWork]float64{}
	for i, k := range l.kinds {
		variance := k.variance()
		ratio := ofKind[i].ratio(math.Exp(logs/n), variance/(kindsDiffer*kindsDiffer))
		for d := range k.depths {
			c := &k.depths[d]
			ratios[c] = known[c].ratio(ratio, variance/(depthsDiffer*depthsDiffer))
		}
	}
	return ratios
}

// progress says how far the run is.
func (l *ledger) progress() pace.Progress {
	ratios := l.ratios()
	left, weights := 0.0, 0.0
	for _, k := range l.kinds {
		for d := range k.depths {
			c := &k.depths[d]
			left += float64(ratios[c] * c.todo.seconds())
			weights += float64(ratios[c] * float64(c.todo.weights))
		}
	}
	var rests []float64 // of the groups that run
	for g, so := range l.running {
		e := l.groups[g].expected
		rest := max(0, float64(ratios[l.classOf[g]]*e.seconds())-so.seconds())
		if !l.full {
			rest = max(rest, so.seconds()/4) // a sample that has grown so far may grow on
		}
		left += rest
		rests = append(rests, rest)
		if all := e.seconds(); all > 0 {
			weights += float64(rest / all * float64(e.weights))
		}
	}
	p := pace.Progress{Done: l.before + l.spent.weights}
	p.Total = p.Done + uint64(weights)
	p.Spent[pace.Encoding] = l.spent.seconds() / l.cores
	p.Left[pace.Encoding] = left / l.cores
	if l.count-len(l.running) < fewPerCore*int(l.cores) {
		p.Left[pace.Encoding] = l.lastSeconds(rests, ratios)
	}
	return p
}

// fewPerCore is how many groups are so few that some core is without one for
// part of the time that is left.
const fewPerCore = 8

// lastSeconds is how long the groups that run and the few others take, each of
// which goes to the first core that is free.
func (l *ledger) lastSeconds(rests []float64, ratios map[*classWork]float64) float64 {
	free := make([]float64, int(l.cores))
	add := func(seconds float64) {
		slices.Sort(free)
		free[0] += seconds
	}
	for _, rest := range rests {
		add(rest)
	}
	for i, done := range l.done {
		if _, running := l.running[i]; !done && !running {
			add(float64(ratios[l.classOf[i]] * l.groups[i].expected.seconds()))
		}
	}
	return slices.Max(free)
}

// report tells how far the run is, at the beginning, at the end and after every
// step.
func (l *ledger) report(to func(pace.Progress)) {
	if now := l.spent.seconds(); to != nil && (now == 0 || l.count == 0 || now-l.told >= l.step) {
		l.told = now
		to(l.progress())
	}
}
