package review

// Options are what a document may show beside the plan.
type Options struct {
	Gates    []Gate
	Frontier *Chart // with its lines and file types; the plan is marked in it
}

// A Gate is a condition on a plan and what became of it.
type Gate struct {
	Name, Wanted, Got string
	Passed            bool
}

// Result says "pass" or "fail".
func (g Gate) Result() string {
	if g.Passed {
		return "pass"
	}
	return "fail"
}

// Missed counts the gates that are not passed.
func Missed(gates []Gate) int {
	n := 0
	for _, g := range gates {
		if !g.Passed {
			n++
		}
	}
	return n
}
