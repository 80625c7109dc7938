package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
)

// A gate and the up beside it may have to have one type ([Budget.TieGateUp]):
// then they are one group of the knapsack, or follow the one that is pinned.

// A tie is cells that share a choice: gate and up of a layer and expert where
// they are tied, else a single cell.
type tie struct {
	members []int
	picks   [][]int // by type that all members can have, then member: candidate
}

// tie lists the ties, in the order of the cells.
func (w *weighing) tie() {
	type place struct{ layer, expert int }
	ups := map[place]int{}
	for c := range w.cells {
		if t := w.cells[c].slot.tensor; w.budget.TieGateUp && t.Role == ggufio.RoleExpertUp {
			ups[place{t.Layer, t.Expert}] = c
		}
	}
	w.ties = nil
	partner := map[int]bool{}
	for c := range w.cells {
		if partner[c] {
			continue
		}
		members := []int{c}
		if t := w.cells[c].slot.tensor; t.Role == ggufio.RoleExpertGate {
			if up, ok := ups[place{t.Layer, t.Expert}]; ok {
				members = append(members, up)
				partner[up] = true
			}
		}
		w.ties = append(w.ties, tie{members, w.common(members)})
	}
}

// common lists the types that all members can have, as candidates of each. A
// source's own type that stays is the same type only where it has the same
// name.
func (w *weighing) common(members []int) [][]int {
	var out [][]int
	for i, first := range w.cells[members[0]].candidates {
		picks := []int{i}
		for _, c := range members[1:] {
			j := slices.IndexFunc(w.cells[c].candidates, func(x candidate) bool { return x.Type == first.Type })
			if j >= 0 {
				picks = append(picks, j)
			}
		}
		if len(picks) == len(members) {
			out = append(out, picks)
		}
	}
	return out
}

// checkTies reports a gate and an up that are to have the same type and cannot.
func (w *weighing) checkTies() error {
	for i := range w.ties {
		if t := &w.ties[i]; len(t.picks) == 0 {
			return fmt.Errorf("%s and %s have no type in common", w.cells[t.members[0]].slot.tensor.Name, w.cells[t.members[1]].slot.tensor.Name)
		}
	}
	return nil
}

// tieToPin notes the type of an open gate or up that is tied to a pinned one.
func (w *weighing) tieToPin(i int) bool {
	if p := w.pinnedPartner(i); p != nil {
		w.tiedTo[i] = p.settled
		return true
	}
	return false
}

// pinnedPartner returns the pinned tensor that a gate or up is tied to, or nil.
func (w *weighing) pinnedPartner(i int) *slot {
	s := &w.frame.slots[i]
	partner := map[ggufio.Role]ggufio.Role{ggufio.RoleExpertGate: ggufio.RoleExpertUp, ggufio.RoleExpertUp: ggufio.RoleExpertGate}[s.tensor.Role]
	if !w.budget.TieGateUp || partner == "" || s.layer < 0 {
		return nil
	}
	for _, j := range w.frame.layers[s.layer].slots {
		p := &w.frame.slots[j]
		if p.tensor.Role == partner && p.tensor.Expert == s.tensor.Expert && p.state == slotPinned {
			return p
		}
	}
	return nil
}

// checkPinnedTies refuses pins that leave a gate and an up that are tied with
// two types.
func (w *weighing) checkPinnedTies() error {
	for i := range w.frame.slots {
		s, p := &w.frame.slots[i], w.pinnedPartner(i)
		if p == nil {
			continue
		}
		pinned, err := p.resolve(p.settled, true)
		if err != nil {
			return err
		}
		own := s.settled
		if s.state == slotOpen {
			own = p.settled
		}
		tied, err := s.resolve(own, s.state == slotPinned)
		if err != nil {
			return err
		}
		if tied.Type != pinned.Type {
			return &TieError{[2]string{s.tensor.Name, p.tensor.Name}, [2]string{tied.Type.Name, pinned.Type.Name}}
		}
	}
	return nil
}

// A TieError reports a gate and an up that are to have one type, where pins
// leave them with two.
type TieError struct{ Tensors, Types [2]string }

func (e *TieError) Error() string {
	return fmt.Sprintf("gate and up are tied, but pins make %s %s and %s %s", e.Tensors[0], e.Types[0], e.Tensors[1], e.Types[1])
}
