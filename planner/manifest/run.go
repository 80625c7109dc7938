package manifest

import "math/bits"

// A Run is a run of the planned model in llama.cpp, and what it may take.
type Run struct {
	ContextTokens   uint64  `json:"context_tokens"` // of all sequences together
	Sequences       uint64  `json:"sequences"`
	BatchTokens     uint64  `json:"batch_tokens"` // evaluated at once
	KeyType         string  `json:"key_type"`     // of the cache
	ValueType       string  `json:"value_type"`
	GPULayers       uint64  `json:"gpu_layers"`        // -ngl: blocks on the card, counted from the last, and the output
	CPUExpertLayers uint64  `json:"cpu_expert_layers"` // --n-cpu-moe: blocks, from the first, whose experts stay in RAM
	ComputeMargin   float64 `json:"compute_margin"`    // of estimates of compute buffers
	GPULimitBytes   *uint64 `json:"gpu_limit_bytes"`   // null: no limit
	CPULimitBytes   *uint64 `json:"cpu_limit_bytes"`
}

// RunTotals is what a run takes.
type RunTotals struct {
	CacheUnknown  *string       `json:"cache_unknown"` // why caches, states and compute buffers are not known
	Source        RunMemory     `json:"source"`
	Planned       RunMemory     `json:"planned"` // of the fused plan
	GPUSavedBytes int64         `json:"gpu_saved_bytes"`
	CPUSavedBytes int64         `json:"cpu_saved_bytes"`
	FileTypes     []FileTypeRun `json:"file_types"` // the whole model as each, smallest first
}

// RunMemory is what a run takes on each device. MappedBytes is what llama.cpp
// maps in place of CPU.WeightsBytes with mmap.
type RunMemory struct {
	GPU         RunBuffers `json:"gpu"`
	CPU         RunBuffers `json:"cpu"`
	MappedBytes uint64     `json:"mapped_bytes"`
}

// RunBuffers are what a run holds on a device. ComputeBytes is an upper
// estimate. TotalBytes sums up what is known.
type RunBuffers struct {
	WeightsBytes uint64  `json:"weights_bytes"`
	CacheBytes   *uint64 `json:"cache_bytes"`
	StateBytes   *uint64 `json:"state_bytes"`
	ComputeBytes *uint64 `json:"compute_bytes"`
	TotalBytes   uint64  `json:"total_bytes"`
}

// A FileTypeRun is what a run of the whole model as a file type takes.
type FileTypeRun struct {
	Name        string     `json:"name"`
	GPU         RunBuffers `json:"gpu"`
	CPU         RunBuffers `json:"cpu"`
	MappedBytes uint64     `json:"mapped_bytes"`
}

// run checks that a run and its memory agree.
func (c *checker) run(m *Manifest) {
	r, t := m.Policy.Run, m.Totals.Run
	if r == nil || t == nil {
		if (r == nil) != (t == nil) {
			c.failf("totals.run", "is there without policy.run, or not there with it")
		}
		return
	}
	switch {
	case r.ContextTokens == 0 || r.Sequences == 0 || r.BatchTokens == 0:
		c.failf("policy.run", "has no context, sequences or batch")
	case !(r.ComputeMargin > 0):
		c.failf("policy.run.compute_margin", "%v is not above 0", r.ComputeMargin)
	case r.KeyType == "" || r.ValueType == "":
		c.failf("policy.run.key_type", "is empty, or the value's")
	}
	known := t.CacheUnknown == nil
	memory := func(path string, gpu, cpu *RunBuffers) {
		c.buffers(path+".gpu", gpu, known)
		c.buffers(path+".cpu", cpu, known)
	}
	memory("totals.run.source", &t.Source.GPU, &t.Source.CPU)
	memory("totals.run.planned", &t.Planned.GPU, &t.Planned.CPU)
	for i := range t.FileTypes {
		path := c.at("totals.run.file_types", i)
		memory(path, &t.FileTypes[i].GPU, &t.FileTypes[i].CPU)
		if t.FileTypes[i].Name == "" {
			c.failf(path+".name", "is empty")
		}
	}
	c.saved("totals.run.gpu_saved_bytes", t.GPUSavedBytes, t.Source.GPU.TotalBytes, t.Planned.GPU.TotalBytes, "source - planned")
	c.saved("totals.run.cpu_saved_bytes", t.CPUSavedBytes, t.Source.CPU.TotalBytes, t.Planned.CPU.TotalBytes, "source - planned")
	for _, limit := range []struct {
		path  string
		most  *uint64
		total uint64
	}{{"gpu", r.GPULimitBytes, t.Planned.GPU.TotalBytes}, {"cpu", r.CPULimitBytes, t.Planned.CPU.TotalBytes}} {
		if limit.most != nil && limit.total > *limit.most {
			c.failf("totals.run.planned."+limit.path+".total_bytes", "%d is above the limit of %d", limit.total, *limit.most)
		}
	}
}

// buffers checks that a device's buffers add up.
func (c *checker) buffers(path string, b *RunBuffers, known bool) {
	sum, over := b.WeightsBytes, false
	for _, n := range []*uint64{b.CacheBytes, b.StateBytes, b.ComputeBytes} {
		if (n != nil) != known {
			c.failf(path, "caches, states and compute buffers are known or not, as cache_unknown says")
			return
		}
		if n != nil {
			var carry uint64
			sum, carry = bits.Add64(sum, *n, 0)
			over = over || carry != 0
		}
	}
	if over || sum>>63 != 0 {
		c.failf(path+".total_bytes", "more than 2^63-1")
		return
	}
	c.equal(path+".total_bytes", b.TotalBytes, sum, "the buffers add up to")
}
