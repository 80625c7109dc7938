package review

import (
	"fmt"
	"io"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A RunRow is what a run of one thing takes: of the source, the plan or a file
// type.
type RunRow struct {
	Name string
	manifest.RunMemory
}

// WritePlanRun prints what a run of the planned model takes; nothing where none
// was asked about.
func WritePlanRun(w io.Writer, m *manifest.Manifest) {
	t := m.Totals.Run
	if m.Policy.Run == nil || t == nil {
		return
	}
	WriteRun(w, m.Policy.Run, m.Model.BlockCount, t.CacheUnknown, planRuns(t))
}

// planRuns lists what runs take: the plan's first.
func planRuns(t *manifest.RunTotals) []RunRow {
	rows := []RunRow{{"fused plan", t.Planned}, {"source", t.Source}}
	for _, f := range t.FileTypes {
		rows = append(rows, RunRow{f.Name, manifest.RunMemory{GPU: f.GPU, CPU: f.CPU, MappedBytes: f.MappedBytes}})
	}
	return rows
}

// runSection lists what a run takes in total, where one was asked about.
func runSection(m *manifest.Manifest) section {
	s := section{title: "Memory of a run", table: NewTable()}
	if r, t := m.Policy.Run, m.Totals.Run; r != nil && t != nil {
		s.note = capital(runInWords(r)) + "; " + placementInWords(r, m.Model.BlockCount) + "."
		s.table = runTotals(r, planRuns(t))
	}
	return s
}

// runTotals puts the totals of runs beside one another.
func runTotals(r *manifest.Run, rows []RunRow) *Table {
	headings := []string{"in total"}
	if r.GPULayers > 0 {
		headings = append(headings, ">GPU")
	}
	t := NewTable(append(headings, ">CPU", ">mapped")...)
	for _, row := range rows {
		cells := []string{Printable(row.Name)}
		if r.GPULayers > 0 {
			cells = append(cells, Size(row.GPU.TotalBytes))
		}
		t.Add(append(cells, Size(row.CPU.TotalBytes), Size(row.MappedBytes))...)
	}
	return t
}

// WriteRun prints what a run takes: the buffers of the first row, and the
// totals of all.
func WriteRun(w io.Writer, r *manifest.Run, blocks uint64, unknown *string, rows []RunRow) {
	fmt.Fprintf(w, "run         %s\n", runInWords(r))
	fmt.Fprintf(w, "placement   %s\n", placementInWords(r, blocks))
	if unknown != nil {
		fmt.Fprintf(w, "not known   cache and compute buffers: %s\n", Printable(*unknown))
	}
	fmt.Fprintln(w)
	gpu := r.GPULayers > 0
	headings := []string{rows[0].Name}
	if gpu {
		headings = append(headings, ">GPU")
	}
	t := NewTable(append(headings, ">CPU", "")...)
	line := func(name string, of func(b *manifest.RunBuffers) *uint64, note string) {
		cells := []string{name}
		if gpu {
			cells = append(cells, sizeOrNone(of(&rows[0].GPU)))
		}
		t.Add(append(cells, sizeOrNone(of(&rows[0].CPU)), note)...)
	}
	line("weights", func(b *manifest.RunBuffers) *uint64 { return &b.WeightsBytes }, Size(rows[0].MappedBytes)+" of the file mapped with mmap")
	if unknown == nil {
		line("cache", func(b *manifest.RunBuffers) *uint64 { return b.CacheBytes }, "")
		if n := rows[0].GPU.StateBytes; n != nil && *n+*rows[0].CPU.StateBytes > 0 {
			line("state", func(b *manifest.RunBuffers) *uint64 { return b.StateBytes }, "")
		}
		line("compute", func(b *manifest.RunBuffers) *uint64 { return b.ComputeBytes }, "at most, estimated")
	}
	line("total", func(b *manifest.RunBuffers) *uint64 { return &b.TotalBytes }, "")
	if r.GPULimitBytes != nil || r.CPULimitBytes != nil {
		limit := func(b *manifest.RunBuffers) *uint64 {
			if b == &rows[0].GPU {
				return r.GPULimitBytes
			}
			return r.CPULimitBytes
		}
		line("limit", limit, "")
	}
	t.Write(w, "")
	if len(rows) == 1 {
		return
	}
	fmt.Fprintln(w)
	runTotals(r, rows).Write(w, "")
}

func sizeOrNone(n *uint64) string {
	if n == nil {
		return "-"
	}
	return Size(*n)
}

func runInWords(r *manifest.Run) string {
	text := Count(r.ContextTokens) + " tokens of context"
	if r.ContextTokens == 1 {
		text = "1 token of context"
	}
	if r.Sequences > 1 {
		text += fmt.Sprintf(" for %d sequences", r.Sequences)
	}
	cache := r.KeyType
	if r.ValueType != r.KeyType {
		cache += " and " + r.ValueType
	}
	return Printable(fmt.Sprintf("%s, cache %s, batches of %s", text, cache, Count(r.BatchTokens)))
}

// placementInWords says where the parts of a model of so many blocks lie.
func placementInWords(r *manifest.Run, blocks uint64) string {
	var text string
	switch {
	case r.GPULayers == 0:
		return "everything on the CPU"
	case r.GPULayers > blocks:
		text = "all blocks on the GPU"
	case r.GPULayers == 1:
		text = "the output on the GPU"
	default:
		text = fmt.Sprintf("the last %d of %d blocks on the GPU", r.GPULayers-1, blocks)
	}
	switch {
	case r.CPUExpertLayers == 0:
	case r.CPUExpertLayers >= blocks:
		text += ", all experts on the CPU"
	case r.CPUExpertLayers == 1:
		text += ", the experts of block 0 on the CPU"
	default:
		text += fmt.Sprintf(", the experts of blocks 0-%d on the CPU", r.CPUExpertLayers-1)
	}
	return text
}

// RunFact says in one line what a run of the plan takes; "" where none was
// asked about.
func RunFact(m *manifest.Manifest) string {
	r, t := m.Policy.Run, m.Totals.Run
	if r == nil || t == nil {
		return ""
	}
	text := Size(t.Planned.CPU.TotalBytes) + " of RAM"
	if r.GPULayers > 0 {
		text = Size(t.Planned.GPU.TotalBytes) + " on the GPU and " + text
	}
	if t.CacheUnknown != nil {
		text += " for weights alone"
	}
	return fmt.Sprintf("%s at %s tokens, %s", text, Count(r.ContextTokens), placementInWords(r, m.Model.BlockCount))
}
