package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/memory"
	"github.com/ggufplan/ggufplan/stats"
)

// A RunRequest is a run of the planned model whose memory is asked for. With
// [TargetMemory] its placement and the types are chosen to keep the limits.
type RunRequest struct {
	memory.Options
	GPULimitBytes, CPULimitBytes *uint64 // nil: no limit
}

// RunMemory is what a run takes.
type RunMemory struct {
	Request   RunRequest // with the placement that was chosen
	Source    memory.Run
	Planned   memory.Run // of the fused plan
	FileTypes []FileTypeRun
}

// A FileTypeRun is what a run of the whole model as a file type takes.
type FileTypeRun struct {
	FileType llamaquantize.FileType
	memory.Run
}

// FileTypeRuns returns what a run takes of the whole model as every file type
// that llama-quantize makes of it, with the importance matrix of the
// statistics if they are one; smallest first.
func FileTypeRuns(m *ggufio.Model, ev *stats.Evidence, s *memory.Shape, o memory.Options) ([]FileTypeRun, error) {
	runs := []FileTypeRun{}
	sizes := make([]uint64, len(m.Tensors))
	for _, ft := range llamaquantize.FileTypes() {
		types, err := llamaquantize.MixWith(m, ft, llamaquantize.HasImatrix(ev))
		if err != nil {
			continue // llama-quantize refuses it for this model
		}
		for i, t := range types {
			if sizes[i], err = llamaquantize.TensorBytes(&m.Tensors[i], t); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", m.Tensors[i].Name, err)
			}
		}
		r, err := s.Estimate(m, memory.QuantizedWeights(m, types, sizes), o)
		if err != nil {
			return nil, err
		}
		runs = append(runs, FileTypeRun{ft, *r})
	}
	slices.SortStableFunc(runs, func(a, b FileTypeRun) int {
		return cmp.Compare(a.GPU.Weights+a.CPU.Weights, b.GPU.Weights+b.CPU.Weights)
	})
	return runs, nil
}

// weights are the plan's tensors as llama-quantize writes them.
func (p *Plan) weights() []memory.Weight {
	types, sizes := make([]quant.Type, len(p.Tensors)), make([]uint64, len(p.Tensors))
	for i := range p.Tensors {
		types[i], sizes[i] = p.Tensors[i].Type.GGML, p.Tensors[i].SizeBytes
	}
	return memory.QuantizedWeights(p.Problem.Model, types, sizes)
}

// estimateRun computes the memory of the run that was asked about, with the
// placement that a decision chose.
func (p *Plan) estimateRun(d *decision) error {
	if p.Problem.Run == nil {
		return nil
	}
	m := p.Problem.Model
	r := &RunMemory{Request: *p.Problem.Run}
	if d.placement != nil {
		r.Request.Placement = *d.placement
	}
	s, err := memory.NewShape(m)
	if err != nil {
		return err
	}
	source, err := s.Estimate(m, memory.SourceWeights(m), r.Request.Options)
	if err != nil {
		return err
	}
	planned, err := s.Estimate(m, p.weights(), r.Request.Options)
	if err != nil {
		return err
	}
	r.Source, r.Planned = *source, *planned
	r.FileTypes, err = FileTypeRuns(m, p.Problem.Evidence, s, r.Request.Options)
	p.Run = r
	return err
}

// recordRun is the request as the manifest has it.
func (p *Plan) recordRun() *manifest.Run {
	if p.Run == nil {
		return nil
	}
	o := &p.Run.Request.Options
	blocks := p.Problem.Model.Architecture.BlockCount
	return &manifest.Run{
		ContextTokens: o.ContextTokens, Sequences: max(1, o.Sequences), BatchTokens: cmp.Or(o.BatchTokens, memory.DefaultBatchTokens),
		KeyType: o.KeyType.String(), ValueType: o.ValueType.String(),
		GPULayers: uint64(min(o.Placement.GPULayers, blocks+1)), CPUExpertLayers: uint64(min(o.Placement.CPUExpertLayers, blocks)),
		ComputeMargin: cmp.Or(o.ComputeMargin, 1), GPULimitBytes: p.Run.Request.GPULimitBytes, CPULimitBytes: p.Run.Request.CPULimitBytes,
	}
}

func (p *Plan) recordRunTotals() *manifest.RunTotals {
	if p.Run == nil {
		return nil
	}
	r := p.Run
	rec := &manifest.RunTotals{Source: recordMemory(&r.Source), Planned: recordMemory(&r.Planned), FileTypes: []manifest.FileTypeRun{}}
	if u := r.Planned.CacheUnknown; u != nil {
		rec.CacheUnknown = new(manifest.Printable(u.Reason))
	}
	rec.GPUSavedBytes = saved(rec.Source.GPU.TotalBytes, rec.Planned.GPU.TotalBytes)
	rec.CPUSavedBytes = saved(rec.Source.CPU.TotalBytes, rec.Planned.CPU.TotalBytes)
	for i := range r.FileTypes {
		x := recordMemory(&r.FileTypes[i].Run)
		rec.FileTypes = append(rec.FileTypes, manifest.FileTypeRun{Name: r.FileTypes[i].FileType.Name, GPU: x.GPU, CPU: x.CPU, MappedBytes: x.MappedBytes})
	}
	return rec
}

// recordMemory is a run's memory as the manifest has it.
func recordMemory(r *memory.Run) manifest.RunMemory {
	buffers := func(b *memory.Buffers) manifest.RunBuffers {
		out := manifest.RunBuffers{WeightsBytes: b.Weights, TotalBytes: b.Total()}
		if r.CacheUnknown == nil {
			out.CacheBytes, out.StateBytes, out.ComputeBytes = new(b.Cache), new(b.State), new(b.Compute)
		}
		return out
	}
	return manifest.RunMemory{GPU: buffers(&r.GPU), CPU: buffers(&r.CPU), MappedBytes: r.MappedBytes}
}

// RunsOfManifest returns what another run of a plan takes. model is the
// planned one, which the caller has seen to.
func RunsOfManifest(m *manifest.Manifest, model *ggufio.Model, request *RunRequest) (*manifest.Run, *manifest.RunTotals, error) {
	types, sizes := make([]quant.Type, len(m.Tensors)), make([]uint64, len(m.Tensors))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if f, ok := quant.ByName(t.PlannedType); ok {
			types[i] = f.Type
		}
		sizes[i] = t.PlannedBytes
	}
	return runsOf(model, memory.QuantizedWeights(model, types, sizes), request)
}

// RunsOf returns what a run takes of a model as it is and of it as every file
// type; the totals' plan is the source.
func RunsOf(m *ggufio.Model, request *RunRequest) (*manifest.Run, *manifest.RunTotals, error) {
	return runsOf(m, memory.SourceWeights(m), request)
}

func runsOf(m *ggufio.Model, planned []memory.Weight, request *RunRequest) (*manifest.Run, *manifest.RunTotals, error) {
	s, err := memory.NewShape(m)
	if err != nil {
		return nil, nil, err
	}
	p := &Plan{Problem: &Problem{Model: m}, Run: &RunMemory{Request: *request}}
	for _, x := range []struct {
		weights []memory.Weight
		run     *memory.Run
	}{{memory.SourceWeights(m), &p.Run.Source}, {planned, &p.Run.Planned}} {
		r, err := s.Estimate(m, x.weights, request.Options)
		if err != nil {
			return nil, nil, err
		}
		*x.run = *r
	}
	if p.Run.FileTypes, err = FileTypeRuns(m, nil, s, request.Options); err != nil {
		return nil, nil, err
	}
	return p.recordRun(), p.recordRunTotals(), nil
}
