package review

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// Comparable reports whether two plans are of one model: its name,
// architecture and tensors.
func Comparable(before, after *manifest.Manifest) bool {
	a, b := &before.Model, &after.Model
	if a.Name != b.Name || a.Architecture != b.Architecture || a.Parameters != b.Parameters || len(before.Tensors) != len(after.Tensors) {
		return false
	}
	shapes := map[string][]uint64{}
	for i := range before.Tensors {
		shapes[before.Tensors[i].Name] = before.Tensors[i].Shape
	}
	for i := range after.Tensors {
		shape, ok := shapes[after.Tensors[i].Name]
		if !ok || !slices.Equal(shape, after.Tensors[i].Shape) {
			return false
		}
	}
	return true
}

// newDifference reviews what changed between two plans of one model: the
// headline old to new, the new plan's verdict, and changes in groups.
func newDifference(before, after *manifest.Manifest, d *manifest.Difference) *review {
	r := &review{title: "Changes to the plan for " + after.Model.Name, verdict: Verdict(after)}
	r.add(headlineSection(before, after),
		fieldSection("Inputs", d.Inputs), fieldSection("Policy", d.Policy),
		tensorMoves(d.Tensors), expertMoves(before, after, d.Experts),
		findingChanges("Findings gone", d.Removed), findingChanges("New findings", d.Added))
	return r
}

// WriteDifference prints what changed between two plans.
func WriteDifference(w io.Writer, before, after *manifest.Manifest, d *manifest.Difference) {
	if d.Empty() {
		fmt.Fprintln(w, "no difference")
		return
	}
	r := newDifference(before, after, d)
	for _, f := range r.verdict {
		fmt.Fprintf(w, "%-12s%s\n", f[0], Printable(f[1]))
	}
	for _, s := range r.sections {
		fmt.Fprintf(w, "\n%s\n", strings.ToLower(s.title))
		for _, row := range s.table.rows {
			for i := range row {
				row[i] = Printable(row[i])
			}
		}
		s.table.Write(w, "  ")
	}
}

// MarkdownDifference writes the same for a comment on a pull request: the
// headline open, the rest folded, with as many rows of each table as fit.
func MarkdownDifference(w io.Writer, before, after *manifest.Manifest, d *manifest.Difference) error {
	if d.Empty() {
		_, err := fmt.Fprintf(w, "# The plan for %s is unchanged\n", escapeMarkdown(after.Model.Name))
		return err
	}
	return newDifference(before, after, d).comment(w, nil)
}

// headlineSection puts old beside new.
func headlineSection(before, after *manifest.Manifest) section {
	t := NewTable("", ">old", ">new", ">change")
	o, n := &before.Totals, &after.Totals
	add := func(name, old, now, change string) {
		if old != now || change != "" {
			t.Add(name, old, now, change)
		}
	}
	sizes := func(name string, old, now uint64) {
		if old != now {
			add(name, Size(old), Size(now), relative(float64(old), float64(now)))
		}
	}
	sizes("tensors", o.PlannedBytes, n.PlannedBytes)
	if o.PlannedFileBytes != nil && n.PlannedFileBytes != nil && *o.PlannedFileBytes != *n.PlannedFileBytes {
		add("file, bytes", Count(*o.PlannedFileBytes), Count(*n.PlannedFileBytes), relative(float64(*o.PlannedFileBytes), float64(*n.PlannedFileBytes)))
	}
	add("bits per weight", decimals(o.PlannedBitsPerWeight, 3), decimals(n.PlannedBitsPerWeight, 3), "")
	damages := func(name string, old, now *float64) {
		change := ""
		switch {
		case old == nil || now == nil || *old == *now:
		case predictedFrom(before) != predictedFrom(after):
			change = "other evidence"
		default:
			change = relative(*old, *now)
		}
		add(name, optionalDamage(old), optionalDamage(now), change)
	}
	damages("predicted damage", o.Damage, n.Damage)
	add("predicted KL divergence", PredictedKLD(o.PredictedKLD), PredictedKLD(n.PredictedKLD), "")
	add("measured KL divergence", measuredKLD(before.Measured), measuredKLD(after.Measured), "")
	sizes("split plan", o.SplitPlannedBytes, n.SplitPlannedBytes)
	damages("split plan's damage", o.SplitDamage, n.SplitDamage)
	if len(t.rows) == 0 {
		t.Add("size", Size(o.PlannedBytes), Size(n.PlannedBytes), "none")
	}
	return section{title: "Old and new", open: true, table: t}
}

// predictedFrom says what a plan's damage was predicted from: damages of two
// sources do not compare.
func predictedFrom(m *manifest.Manifest) string {
	var errors manifest.ErrorSource
	var sensitivity manifest.Sensitivity
	objective := objective(m)
	if b := m.Policy.Budget; b != nil {
		if errors = b.Errors; b.Sensitivity != nil {
			sensitivity = *b.Sensitivity
		}
	} else if x := m.Policy.Prediction; x != nil {
		errors, sensitivity = x.Errors, x.Sensitivity
	}
	return strings.Join([]string{objective, errors.Kind, ValueOr(errors.SHA256, ""), sensitivity.Kind, ValueOr(sensitivity.SHA256, "")}, " ")
}

// relative writes a change in percent of the old value.
func relative(old, now float64) string {
	if old == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100*(now-old)/old)
}

// fieldSection lists fields that changed, what has the same name in several
// entries of a list once.
func fieldSection(title string, fields []manifest.FieldChange) section {
	t := NewTable("field", "old", "new")
	for _, f := range fields {
		if strings.HasPrefix(f.Field, "policy.budget.") && !strings.HasPrefix(f.Field, "policy.budget.target") {
			switch strings.TrimPrefix(f.Field, "policy.budget.") {
			case "damage", "bound", "gap", "split_damage", "split_bound", "split_gap", "price_per_byte":
				continue // the headline has them
			}
		}
		t.Add(f.Field, fieldValue(f.Old), fieldValue(f.New))
	}
	return section{title: title, table: t}
}

// fieldValue writes a value for a person: no quotes, six digits, a few words
// of an object.
func fieldValue(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		if len(v) == 64 && strings.Trim(v, "0123456789abcdef") == "" {
			return v[:12] + "…" // a digest
		}
		return shorten(v, 60)
	case float64:
		if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
			return Count(n)
		}
		return strconv.FormatFloat(v, 'g', 6, 64)
	case map[string]any:
		for _, key := range []string{"name", "pattern"} {
			if name, ok := v[key].(string); ok {
				return shorten(name, 60)
			}
		}
		if value, ok := v["target_value"].(float64); ok { // a budget
			return fmt.Sprintf("%v %s", v["target"], strconv.FormatFloat(value, 'f', -1, 64))
		}
		if source, ok := v["errors"].(map[string]any); ok { // a prediction
			return fmt.Sprintf("%v errors", source["kind"])
		}
		return fmt.Sprintf("an object of %d fields", len(v))
	case []any:
		if len(v) == 0 {
			return "none"
		}
	}
	return shorten(string(raw), 60)
}

// A moveGroup is a set of moves that read the same.
type moveGroup struct {
	cells   []string
	members []string
}

// moves collects members under what moved, in order of first appearance.
type moves struct{ groups []*moveGroup }

func (m *moves) add(member string, cells ...string) {
	i := slices.IndexFunc(m.groups, func(g *moveGroup) bool { return slices.Equal(g.cells, cells) })
	if i < 0 {
		i = len(m.groups)
		m.groups = append(m.groups, &moveGroup{cells: cells})
	}
	m.groups[i].members = append(m.groups[i].members, member)
}

// list names the first few members.
func (g *moveGroup) list() string {
	const shown = 4
	list := strings.Join(g.members[:min(shown, len(g.members))], ", ")
	if more := len(g.members) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// tensorMoves groups tensors by role and direction.
func tensorMoves(changes []manifest.TensorChange) section {
	var g moves
	for _, t := range changes {
		move, direction := "only experts of the split plan", "-"
		switch {
		case t.OldType == nil:
			move, direction = "added as "+*t.NewType, "larger"
		case t.NewType == nil:
			move, direction = "removed, was "+*t.OldType, "smaller"
		case *t.OldType != *t.NewType:
			move, direction = *t.OldType+" -> "+*t.NewType, "as large"
			if t.OldBytes != nil && t.NewBytes != nil {
				direction = [...]string{"smaller", "as large", "larger"}[cmp.Compare(*t.NewBytes, *t.OldBytes)+1]
			}
		}
		g.add(t.Name, t.Role, direction, move)
	}
	slices.SortStableFunc(g.groups, func(a, b *moveGroup) int {
		return cmp.Or(cmp.Compare(slices.Index(manifest.Roles, a.cells[0]), slices.Index(manifest.Roles, b.cells[0])), cmp.Compare(a.cells[1], b.cells[1]))
	})
	s := section{title: "Tensors", table: NewTable("role", "now", "type", ">tensors", "which")}
	for _, x := range g.groups {
		s.table.Add(x.cells[0], x.cells[1], x.cells[2], strconv.Itoa(len(x.members)), x.list())
	}
	return s
}

// expertMoves groups experts that moved tier or type.
func expertMoves(before, after *manifest.Manifest, changes []manifest.ExpertChange) section {
	var g moves
	var old, now mixes
	if len(changes) > 0 {
		old, now = newMixes(before), newMixes(after)
	}
	for _, e := range changes {
		move := ValueOr(e.OldTier, "none") + " -> " + ValueOr(e.NewTier, "none")
		if e.OldTier == nil && e.NewTier == nil || e.OldTier != nil && e.NewTier != nil && *e.OldTier == *e.NewTier {
			move = old.of(e.OldType, e.Layer, e.Expert) + " -> " + now.of(e.NewType, e.Layer, e.Expert)
		}
		g.add(fmt.Sprintf("blk.%d expert %d", e.Layer, e.Expert), move)
	}
	s := section{title: "Experts", table: NewTable("move", ">experts", "which")}
	for _, x := range g.groups {
		s.table.Add(x.cells[0], strconv.Itoa(len(x.members)), x.list())
	}
	return s
}

// mixes are the types of experts whose projections differ, by layer.
type mixes map[int][]*manifest.Tensor

func newMixes(m *manifest.Manifest) mixes {
	x := mixes{}
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.Layer != nil && t.ExpertTypes != nil {
			x[*t.Layer] = append(x[*t.Layer], t)
		}
	}
	return x
}

// of writes an expert's type: one, or one per projection.
func (x mixes) of(one *string, layer, expert int) string {
	if one != nil {
		return *one
	}
	var parts []string
	for _, t := range x[layer] {
		name := ""
		switch {
		case t.Expert != nil && *t.Expert == expert:
			name = t.PlannedType
		case t.Expert == nil && expert >= 0 && expert < len(t.ExpertTypes):
			name = t.ExpertTypes[expert]
		default:
			continue
		}
		parts = append(parts, strings.TrimPrefix(t.Role, "expert_")+" "+name)
	}
	if len(parts) == 0 {
		return "none"
	}
	return "mixed (" + strings.Join(parts, ", ") + ")"
}

// findingChanges lists findings, those that say the same once.
func findingChanges(title string, findings []manifest.Finding) section {
	var g moves
	for _, f := range findings {
		g.add(f.Subject, f.Code, f.Message)
	}
	s := section{title: title, table: NewTable("code", "where", "what")}
	for _, x := range g.groups {
		s.table.Add(x.cells[0], x.list(), x.cells[1])
	}
	return s
}
