package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/memory"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
)

// runFlags describe a run of a model in llama.cpp.
type runFlags struct {
	flags         *pflag.FlagSet
	context       string
	parallel      int
	batch         int
	kvType        string
	gpuLayers     int
	expertsOnCPU  bool
	computeMargin float64
	vram, ram     string // of plans that fit a machine
}

// addRunFlags adds the flags of a run; with limits also those of the machine
// that a plan is to fit.
func addRunFlags(flags *pflag.FlagSet, limits bool) *runFlags {
	r := &runFlags{flags: flags}
	flags.StringVar(&r.context, "ctx", "", "what a run takes with `N` tokens of context, such as 32768 or 32k: weights, cache and compute buffers per device")
	flags.IntVar(&r.parallel, "parallel", 1, "`N` sequences share the context of --ctx")
	flags.IntVar(&r.batch, "ubatch", memory.DefaultBatchTokens, "`N` tokens are evaluated at once, llama.cpp's -ub")
	flags.StringVar(&r.kvType, "kv-type", "f16", "`TYPE` of the cache: "+review.Or(cacheTypeNames())+"; two with a comma for keys and values")
	flags.IntVar(&r.gpuLayers, "gpu-layers", 0, "`N` layers on the graphics card, llama.cpp's -ngl; -1 for all")
	flags.BoolVar(&r.expertsOnCPU, "experts-on-cpu", false, "all layers on the graphics card, but routed experts on the CPU")
	flags.Float64Var(&r.computeMargin, "compute-margin", 1, "multiply the estimate of compute buffers by `X`")
	oneOf(flags, "kv-type", cacheTypeNames()...)
	if limits {
		flags.StringVar(&r.vram, "fit-vram", "", "choose types and placement for the least damage in a run that takes at most `SIZE` of the graphics card, such as 24GiB; with --ctx, implies --policy budget")
		flags.StringVar(&r.ram, "fit-ram", "", "the same within `SIZE` of RAM; alone for a machine without a card")
	}
	return r
}

// placed are the flags that say where a model lies.
var placed = []string{"gpu-layers", "experts-on-cpu"}

// cacheTypeNames lists the types of a cache as llama.cpp spells them.
func cacheTypeNames() []string {
	var names []string
	for _, t := range memory.CacheTypes() {
		names = append(names, strings.ToLower(t.String()))
	}
	return names
}

// fits reports whether limits were given.
func (r *runFlags) fits() bool { return r.flags.Changed("fit-vram") || r.flags.Changed("fit-ram") }

// given returns a flag of a run that was given, --ctx apart; "" for none.
func (r *runFlags) given() string {
	for _, flag := range append([]string{"fit-vram", "fit-ram", "parallel", "ubatch", "kv-type", "compute-margin"}, placed...) {
		if r.flags.Changed(flag) {
			return flag
		}
	}
	return ""
}

// request turns the flags into a run; nil if none is asked about.
func (r *runFlags) request(command string) (*planner.RunRequest, error) {
	if !r.flags.Changed("ctx") {
		if flag := r.given(); flag != "" {
			return nil, hinted(fmt.Errorf("--%s is of a run, which needs --ctx", flag), command+" --ctx 32768")
		}
		return nil, nil
	}
	out := &planner.RunRequest{}
	o := &out.Options
	var err error
	if o.ContextTokens, err = parseTokens(r.context); err != nil {
		return nil, flagError("ctx", err)
	}
	for _, f := range []struct {
		flag  string
		value int
		most  int
		dst   *uint64
	}{{"parallel", r.parallel, memory.MaxSequences, &o.Sequences}, {"ubatch", r.batch, memory.MaxContextTokens, &o.BatchTokens}} {
		if f.value < 1 || f.value > f.most {
			return nil, flagError(f.flag, hinted(fmt.Errorf("%d is not from 1 to %d", f.value, f.most), "--"+f.flag+" "+r.flags.Lookup(f.flag).DefValue))
		}
		*f.dst = uint64(f.value)
	}
	keys, values, two := strings.Cut(r.kvType, ",")
	if !two {
		values = keys
	}
	if o.KeyType, err = cacheType(keys); err != nil {
		return nil, flagError("kv-type", err)
	}
	if o.ValueType, err = cacheType(values); err != nil {
		return nil, flagError("kv-type", err)
	}
	if !(r.computeMargin > 0 && r.computeMargin <= 100) {
		return nil, flagError("compute-margin", hinted(fmt.Errorf("%v is not above 0 and at most 100", r.computeMargin), "--compute-margin 1.5"))
	}
	if o.ComputeMargin = r.computeMargin; o.ComputeMargin == 1 {
		o.ComputeMargin = 0
	}
	if err := r.place(o); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		flag, text string
		dst        **uint64
	}{{"fit-vram", r.vram, &out.GPULimitBytes}, {"fit-ram", r.ram, &out.CPULimitBytes}} {
		if r.flags.Changed(f.flag) {
			n, err := parseSize(f.text)
			if err != nil {
				return nil, flagError(f.flag, err)
			}
			*f.dst = &n
		}
	}
	return out, nil
}

// place says where the model lies.
func (r *runFlags) place(o *memory.Options) error {
	layers, experts := r.flags.Changed("gpu-layers"), r.expertsOnCPU
	switch {
	case layers && experts:
		return hinted(fmt.Errorf("--gpu-layers and --experts-on-cpu exclude each other"), "--experts-on-cpu has all layers on the card")
	case r.fits() && (layers || experts):
		return hinted(fmt.Errorf("--fit-vram and --fit-ram choose the placement: --%s says another", placed[map[bool]int{true: 0, false: 1}[layers]]), "leave it out")
	case layers && r.gpuLayers < -1:
		return flagError("gpu-layers", hinted(fmt.Errorf("%d is below -1", r.gpuLayers), "--gpu-layers -1 for all"))
	case experts:
		o.Placement = memory.Placement{GPULayers: memory.AllLayers, CPUExpertLayers: memory.AllLayers}
	case layers && r.gpuLayers < 0:
		o.Placement.GPULayers = memory.AllLayers
	case layers:
		o.Placement.GPULayers = r.gpuLayers
	}
	return nil
}

// parseTokens reads a number of tokens such as 32768 or 32k, of 1024.
func parseTokens(s string) (uint64, error) {
	text, unit := strings.ToLower(strings.TrimSpace(s)), uint64(1)
	if digits, ok := strings.CutSuffix(text, "k"); ok {
		text, unit = digits, 1024
	}
	var n uint64
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil || fmt.Sprint(n) != text || n == 0 || n > memory.MaxContextTokens/unit {
		return 0, hinted(fmt.Errorf("%q is not a number of tokens up to %d", s, memory.MaxContextTokens), "--ctx 32768, or 32k")
	}
	return n * unit, nil
}

// cacheType reads the type of a cache.
func cacheType(name string) (quant.Type, error) {
	names := cacheTypeNames()
	if same, ok := sameName(name, names); ok {
		for _, t := range memory.CacheTypes() {
			if strings.EqualFold(t.String(), same) {
				return t, nil
			}
		}
	}
	return 0, didYouMean(fmt.Errorf("%q is not a type of llama.cpp's cache", name), name, names, "--kv-type ", "use one of "+strings.Join(names, ", "))
}

// An inspectedRun is what a run of the model takes, as JSON has it.
type inspectedRun struct {
	manifest.Run
	CacheUnknown *string                `json:"cache_unknown"`
	Source       manifest.RunMemory     `json:"source"`
	Repacked     []inspectedRepack      `json:"repacked"`
	FileTypes    []manifest.FileTypeRun `json:"file_types"`
}

// An inspectedRepack is what a run without a card takes where llama.cpp lays
// weights out anew for a processor.
type inspectedRepack struct {
	Processor     memory.Repack `json:"processor"`
	WeightsBytes  uint64        `json:"weights_bytes"` // as they are, without mmap
	MappedBytes   uint64        `json:"mapped_bytes"`  // as they are, with mmap
	RepackedBytes uint64        `json:"repacked_bytes"`
}

// inspectRun computes what a run takes.
func inspectRun(m *ggufio.Model, request *planner.RunRequest) (*inspectedRun, error) {
	run, totals, err := planner.RunsOf(m, request)
	if err != nil {
		return nil, err
	}
	out := &inspectedRun{Run: *run, CacheUnknown: totals.CacheUnknown, Source: totals.Source, FileTypes: totals.FileTypes, Repacked: []inspectedRepack{}}
	if run.GPULayers > 0 {
		return out, nil
	}
	s, err := memory.NewShape(m)
	if err != nil {
		return nil, err
	}
	for _, r := range []memory.Repack{memory.RepackAVX2, memory.RepackAVX512, memory.RepackDotProd, memory.RepackI8MM} {
		w, err := s.Repacked(m, memory.SourceWeights(m), r)
		if err != nil {
			return nil, err
		}
		if w.Repacked > 0 {
			out.Repacked = append(out.Repacked, inspectedRepack{r, w.CPU, w.Mapped, w.Repacked})
		}
	}
	return out, nil
}

// writeRun prints what a run takes.
func (r *inspection) writeRun(w io.Writer) {
	rows := []review.RunRow{{Name: "this file", RunMemory: r.Run.Source}}
	for _, f := range r.Run.FileTypes {
		rows = append(rows, review.RunRow{Name: f.Name, RunMemory: manifest.RunMemory{GPU: f.GPU, CPU: f.CPU, MappedBytes: f.MappedBytes}})
	}
	review.WriteRun(w, &r.Run.Run, uint64(r.BlockCount), r.Run.CacheUnknown, rows)
	if len(r.Run.Repacked) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := review.NewTable("on a CPU with", ">as it is", ">mapped", ">laid out anew (CPU_REPACK)")
	for _, x := range r.Run.Repacked {
		t.Add(string(x.Processor), review.Size(x.WeightsBytes), review.Size(x.MappedBytes), review.Size(x.RepackedBytes))
	}
	t.Write(w, "")
}

// showRun shows what a run of a plan takes: the plan's own, or with --model
// another.
func (s *showFlags) showRun(c *call, path string, m *manifest.Manifest) error {
	command := "ggufplan show " + shellQuote(path) + " --fit"
	for _, flag := range []string{"layer", "expert", "tensor", "errors"} {
		if s.flags.Changed(flag) {
			return hinted(fmt.Errorf("--%s and --fit exclude each other", flag), command)
		}
	}
	request, err := s.machine.request(command + " --model model.gguf")
	switch {
	case err != nil:
		return err
	case request != nil && s.model == "":
		return hinted(fmt.Errorf("another run than the plan's is computed from the model, which --model names"), command+" --model "+shellQuote(m.Model.Files[0].Name)+" --ctx "+s.machine.context)
	case request == nil && s.model != "":
		return hinted(fmt.Errorf("--model is for another run than the plan's, which needs --ctx"), command+" --model "+shellQuote(s.model)+" --ctx 32768")
	case request != nil:
		if err := s.replaceRun(m, request); err != nil {
			return err
		}
	case m.Policy.Run == nil:
		return hinted(fmt.Errorf("%s: the plan says nothing of a run", path), command+" --model "+shellQuote(m.Model.Files[0].Name)+" --ctx 32768")
	}
	if s.json {
		return writeJSON(c.stdout, struct {
			Run    *manifest.Run       `json:"run"`
			Totals *manifest.RunTotals `json:"totals"`
		}{m.Policy.Run, m.Totals.Run})
	}
	review.WritePlanRun(c.page(), m)
	return nil
}

// replaceRun computes another run of the planned model.
func (s *showFlags) replaceRun(m *manifest.Manifest, request *planner.RunRequest) error {
	model, err := openModel(s.model)
	if err != nil {
		return err
	}
	if err := verify.Source(m, model); err != nil {
		return fmt.Errorf("%s: %w", s.model, err)
	}
	m.Policy.Run, m.Totals.Run, err = planner.RunsOfManifest(m, model, request)
	return err
}
