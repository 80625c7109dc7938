package review

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A tensorMap is the fused plan as a table, a row per layer and a column per
// group of tensors.
type tensorMap struct {
	Legend  []legendEntry
	Columns []string
	Parts   []mapPart // side by side where there is room
	Others  string
}

type mapPart struct {
	Label string
	Rows  []mapRow
}

type mapRow struct {
	Layer int
	Cells []mapCell
}

type mapCell struct{ Class, Text, Title string }

// bitClasses are the steps of the scale of bits, each below its limit.
var bitClasses = []struct {
	below float64
	text  string
}{{2.2, "under 2.2 bits"}, {2.9, "2.2 to 2.9"}, {3.9, "2.9 to 3.9"}, {4.9, "3.9 to 4.9"}, {5.9, "4.9 to 5.9"}, {7, "5.9 to 7"}, {12, "7 to 12"}, {math.Inf(1), "12 and more"}}

func bitClass(bits float64) string {
	for i, c := range bitClasses {
		if bits < c.below {
			return "b" + strconv.Itoa(i)
		}
	}
	return "b7"
}

// mapColumns are the groups of tensors that a quantization decides about, by
// their roles, in the order of the columns.
var mapColumns = []struct{ role, title string }{
	{"expert_gate_up", "gate+up"}, {"expert_gate", "gate"}, {"expert_up", "up"}, {"expert_down", "down"},
	{"shared_expert", "shared"}, {"attention", "attn"}, {"dense_ffn", "dense"}, {"other", "other"},
}

func newTensorMap(m *manifest.Manifest) *tensorMap {
	cells := map[[2]int][]*manifest.Tensor{} // by layer and column
	used := make([]bool, len(mapColumns))
	var layers []int
	seen := map[int]bool{}
	var others []string
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.Layer == nil {
			if t.Role != "norm" && t.Role != "other" {
				others = append(others, fmt.Sprintf("%s %s", t.Name, t.PlannedType))
			}
			continue
		}
		column := slices.IndexFunc(mapColumns, func(c struct{ role, title string }) bool { return c.role == t.Role })
		if column < 0 || len(t.Shape) < 2 {
			continue
		}
		if !seen[*t.Layer] {
			seen[*t.Layer] = true
			layers = append(layers, *t.Layer)
		}
		used[column] = true
		at := [2]int{*t.Layer, column}
		cells[at] = append(cells[at], t)
	}
	if len(layers) == 0 {
		return nil
	}
	slices.Sort(layers)
	tm := &tensorMap{Others: htmlText(strings.Join(others[:min(len(others), 8)], ", "))}
	for i, c := range bitClasses {
		tm.Legend = append(tm.Legend, legendEntry{"b" + strconv.Itoa(i), c.text})
	}
	for i, c := range mapColumns {
		if used[i] {
			tm.Columns = append(tm.Columns, c.title)
		}
	}
	parts := 1
	if len(layers) > 24 {
		parts = 2
	}
	per := (len(layers) + parts - 1) / parts
	for group := range slices.Chunk(layers, per) {
		part := mapPart{Label: fmt.Sprintf("%d to %d", group[0], group[len(group)-1])}
		for _, layer := range group {
			row := mapRow{Layer: layer}
			for i := range mapColumns {
				if used[i] {
					row.Cells = append(row.Cells, newMapCell(layer, mapColumns[i].title, cells[[2]int{layer, i}]))
				}
			}
			part.Rows = append(part.Rows, row)
		}
		tm.Parts = append(tm.Parts, part)
	}
	return tm
}

func newMapCell(layer int, column string, tensors []*manifest.Tensor) mapCell {
	if len(tensors) == 0 {
		return mapCell{}
	}
	bytes, weights := uint64(0), uint64(0)
	byType := map[string]uint64{}
	var types []string // the first that occurs first
	for _, t := range tensors {
		bytes += t.PlannedBytes
		weights += t.Parameters
		if _, ok := byType[t.PlannedType]; !ok {
			types = append(types, t.PlannedType)
		}
		byType[t.PlannedType] += t.PlannedBytes
	}
	main := slices.MaxFunc(types, func(a, b string) int { return cmp.Compare(byType[a], byType[b]) })
	c := mapCell{Class: bitClass(8 * float64(bytes) / float64(max(1, weights))), Text: htmlText(main)}
	if len(types) > 1 {
		c.Text += "+"
	}
	title := fmt.Sprintf("layer %d, %s: %s, %s bits per weight", layer, column, Size(bytes), BitsPerWeight(bytes, weights))
	for i, t := range tensors {
		if i == 12 {
			title += fmt.Sprintf(" and %d more", len(tensors)-i)
			break
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
		sep := ", "
		if i == 0 {
			sep = "; "
		}
		title += sep + strings.TrimSuffix(name, ".weight") + " " + t.PlannedType
	}
	c.Title = htmlText(title)
	return c
}

// A heatMap is layers by experts, each layer's in the order of its traffic.
type heatMap struct {
	Note, Alt          string
	Legend, TypeLegend []legendEntry
	Ticks              []tick
	Width, Height      int
	Traffic, Types     template.HTML // Types is empty where nothing is known
	Data               heatData
}

type tick struct {
	Top  int
	Text string
}

// heatData is what the page's script shows of single experts.
type heatData struct {
	Types  []string    `json:"types"`
	Layers []heatLayer `json:"layers"`
}

type heatLayer struct {
	Layer  int       `json:"l"`
	Expert []int     `json:"e"`
	Count  []uint64  `json:"n,omitempty"`
	Sum    uint64    `json:"sum,omitempty"`
	Share  []float64 `json:"s,omitempty"`
	Type   []int     `json:"t,omitempty"`
}

// Traffic is coloured by its multiple of what each expert of the layer would
// get if all got the same: a step is a factor of 2.
var heatSteps = []string{"under 1/8 of an even share", "1/8 to 1/4", "1/4 to 1/2", "1/2 to 1", "1 to 2", "2 to 4", "4 to 8", "8 times and more"}

func heatLevel(multiple float64) int {
	level := 0
	for limit := 0.125; level < 7 && multiple >= limit; limit *= 2 {
		level++
	}
	return level
}

func newHeatMap(m *manifest.Manifest) *heatMap {
	experts := 0
	for i := range m.Layers {
		experts = max(experts, len(m.Layers[i].Experts))
	}
	if experts == 0 {
		return nil
	}
	row := 10
	if len(m.Layers) <= 16 {
		row = 22
	}
	unit := max(1, (960+experts-1)/experts)
	h := &heatMap{Width: unit * experts, Height: row * len(m.Layers), Note: "Colour steps by factors of 2, from the share that each expert would have if all were used alike."}
	types := splitTypes(m)
	index := map[string]int{}
	bits := []float64{}
	var traffic, split strings.Builder
	levels := make([]bool, 10)
	for y := range m.Layers {
		l := &m.Layers[y]
		order := trafficOrder(l)
		d := newHeatLayer(l, order)
		if y%max(1, 12/row+1) == 0 && (row > 12 || y%4 == 0) {
			h.Ticks = append(h.Ticks, tick{y*row + max(0, (row-12)/2), "blk." + strconv.Itoa(l.Layer)})
		}
		writeTrafficRow(&traffic, l, order, y*row, row, unit, levels)
		if names := types[l.Layer]; len(names) == len(l.Experts) {
			for _, e := range order {
				name := names[e].name
				if _, ok := index[name]; !ok {
					index[name] = len(h.Data.Types)
					h.Data.Types = append(h.Data.Types, htmlText(name))
					bits = append(bits, names[e].bits)
				}
				d.Type = append(d.Type, index[name])
			}
		}
		h.Data.Layers = append(h.Data.Layers, d)
	}
	writeTypeRows(&split, h.Data.Layers, bits, row, unit)
	h.Traffic, h.Types = template.HTML(traffic.String()), template.HTML(split.String())
	for i, text := range heatSteps {
		h.Legend = append(h.Legend, legendEntry{"h" + strconv.Itoa(i), text})
	}
	if levels[8] {
		h.Legend = append(h.Legend, legendEntry{"hu", "never used"})
	}
	if levels[9] {
		h.Legend = append(h.Legend, legendEntry{"hn", "no statistics"})
	}
	h.TypeLegend = typeLegend(h.Data.Types, bits)
	h.Alt = fmt.Sprintf("traffic of %d layers of up to %d experts; the table of layers below holds the numbers", len(m.Layers), experts)
	return h
}

// typeLegend names the types of each step of the scale of bits.
func typeLegend(types []string, bits []float64) []legendEntry {
	var list []legendEntry
	for i := range bitClasses {
		class := "b" + strconv.Itoa(i)
		var names []string
		for k, t := range types {
			if bitClass(bits[k]) == class {
				names = append(names, t)
			}
		}
		slices.Sort(names)
		if len(names) > 0 {
			text := strings.Join(names[:min(4, len(names))], "; ")
			if len(names) > 4 {
				text += fmt.Sprintf(" and %d more", len(names)-4)
			}
			list = append(list, legendEntry{class, text})
		}
	}
	return list
}

// trafficOrder lists a layer's experts from the most used.
func trafficOrder(l *manifest.Layer) []int {
	order := make([]int, len(l.Experts))
	for i := range order {
		order[i] = i
	}
	weight := func(e *manifest.Expert) float64 {
		switch {
		case e.Share != nil:
			return *e.Share
		case e.Relative != nil:
			return *e.Relative
		}
		return -1
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight(&l.Experts[b]), weight(&l.Experts[a])) })
	return order
}

func newHeatLayer(l *manifest.Layer, order []int) heatLayer {
	d := heatLayer{Layer: l.Layer}
	counts, shares := true, true
	for i := range l.Experts {
		counts = counts && l.Experts[i].Count != nil
		shares = shares && l.Experts[i].Share != nil
	}
	for _, i := range order {
		e := &l.Experts[i]
		d.Expert = append(d.Expert, e.Expert)
		switch {
		case counts:
			d.Count = append(d.Count, *e.Count)
			d.Sum += *e.Count
		case shares:
			d.Share = append(d.Share, *e.Share)
		}
	}
	return d
}

// writeTrafficRow draws runs of one level as one box, which says on hovering
// what it holds, without script too. Levels 8 and 9 are "unseen" and "unknown".
func writeTrafficRow(b *strings.Builder, l *manifest.Layer, order []int, y, height, unit int, levels []bool) {
	level := func(i int) int {
		e := &l.Experts[i]
		switch {
		case e.Share == nil:
			return 9
		case e.Flag != nil && *e.Flag == "unseen" || *e.Share == 0:
			return 8
		}
		return heatLevel(*e.Share * float64(len(l.Experts)))
	}
	for from := 0; from < len(order); {
		k, to := level(order[from]), from+1
		for to < len(order) && level(order[to]) == k {
			to++
		}
		levels[k] = true
		fill := fmt.Sprintf(`class="h%d"`, k)
		text := "no statistics"
		switch k {
		case 8:
			fill, text = `fill="url(#hatch)"`, "never used"
		case 9:
			fill = `class="hn"`
		default:
			text = fmt.Sprintf("%s to %s of the layer", OptionalPercent(l.Experts[order[from]].Share), OptionalPercent(l.Experts[order[to-1]].Share))
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" %s><title>layer %d, %d %s: %s</title></rect>`,
			from*unit, y, (to-from)*unit, height-1, fill, l.Layer, to-from, Plural(to-from, "expert", "experts"), text)
		from = to
	}
	b.WriteByte('\n')
}

// writeTypeRows draws the types of the split plan, one path per step of the
// scale.
func writeTypeRows(b *strings.Builder, layers []heatLayer, bits []float64, height, unit int) {
	paths := map[string]*strings.Builder{}
	for y, l := range layers {
		for from := 0; from < len(l.Type); {
			class, to := bitClass(bits[l.Type[from]]), from+1
			for to < len(l.Type) && bitClass(bits[l.Type[to]]) == class {
				to++
			}
			if paths[class] == nil {
				paths[class] = &strings.Builder{}
			}
			fmt.Fprintf(paths[class], "M%d %dh%dv%dh-%dz", from*unit, y*height, (to-from)*unit, height-1, (to-from)*unit)
			from = to
		}
	}
	for i := range bitClasses {
		class := "b" + strconv.Itoa(i)
		if p := paths[class]; p != nil {
			fmt.Fprintf(b, "<path class=\"%s\" d=\"%s\"/>\n", class, p.String())
		}
	}
}

// A splitType is what the tensors of one expert get in the split plan.
type splitType struct {
	name string
	bits float64 // of a weight, on average
}

// splitTypes finds the types of each layer's experts.
func splitTypes(m *manifest.Manifest) map[int][]splitType {
	type sum struct {
		names []string
		bits  float64
	}
	sums := map[int][]sum{}
	experts := map[int]int{}
	for i := range m.Layers {
		experts[m.Layers[i].Layer] = len(m.Layers[i].Experts)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.Layer == nil || t.ExpertTypes == nil {
			continue
		}
		for j, name := range t.ExpertTypes {
			expert := j
			if t.Expert != nil {
				expert = *t.Expert
			}
			if expert >= experts[*t.Layer] {
				continue
			}
			for len(sums[*t.Layer]) <= expert {
				sums[*t.Layer] = append(sums[*t.Layer], sum{})
			}
			s := &sums[*t.Layer][expert]
			s.names = append(s.names, name)
			s.bits += typeBits(m, name)
		}
	}
	list := map[int][]splitType{}
	for layer, experts := range sums {
		for _, s := range experts {
			if len(s.names) == 0 {
				list[layer] = append(list[layer], splitType{"unknown", 0})
				continue
			}
			name := s.names[0]
			if slices.ContainsFunc(s.names, func(n string) bool { return n != name }) {
				name = strings.Join(s.names, "/")
			}
			list[layer] = append(list[layer], splitType{name, s.bits / float64(len(s.names))})
		}
	}
	return list
}

// typeBits is what a weight takes in a type, GGML's or the plan's own.
func typeBits(m *manifest.Manifest, name string) float64 {
	for _, d := range m.Policy.DefinedTypes {
		if d.Name == name {
			return 8 * float64(d.BytesPerBlock) / float64(max(1, d.WeightsPerBlock))
		}
	}
	f, ok := quant.ByName(name)
	if !ok {
		return 0
	}
	return f.Layout.BitsPerWeight()
}
