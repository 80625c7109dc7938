package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/pace"
)

type applyFlags struct {
	stats         []string
	evidence      *evidenceFlags
	out           string
	resume        bool
	dryRun        bool
	shards, shard int
	keepSplit     bool
	split         bool
	sha256        bool
	record        bool
	noCheck       bool
	workers       int
	quiet         bool
}

func applyCommand() *command {
	return &command{
		name: "apply", operands: "PLAN MODEL", short: "the planned model itself, as llama-quantize would write it", groups: []flagGroup{
			{"common flags", []string{"imatrix", "output", "dry-run", "resume", "quiet"}},
			{"files", []string{"split", "shards", "shard", "keep-split", "sha256", "record", "no-check", "threads"}},
			statisticsGroup,
		},
		min: 2, max: 2,
		long: `Writes the fused plan's model: the file that llama-quantize would write for the
command that export prints, its header the same to the byte. MODEL is the
plan's source; --imatrix are the files that the plan was made with, known by
their digests.

The output is read back before it takes its name. An interrupted or killed run
leaves OUT.partial, which the same command with --resume ends with the same
bytes. With --shards, OUT names the set: STEM-00001-of-0000N.gguf.

With --split each expert gets its own type: where the experts of a tensor have
several, those of one type form a tier, BASE.tier0.weight and so on, and the table
BASE.tiers says where each expert is. Stock llama.cpp refuses such a file;
patch-llamacpp has the lines that run it.

Memory is some 40 MB and 5 MB a thread, whatever the model. A source whose
tensors are quantized is decoded and encoded again where their type changes.
A source whose general.alignment is not 32, which llama-quantize breaks, is
padded as it says.

Example:
  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -q -o plan.json
  $ ggufplan apply plan.json model-f16.gguf --imatrix mix.imatrix.gguf -o planned.gguf
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			o := &applyFlags{}
			flags.StringVarP(&o.out, "output", "o", "", "write the model to `OUT`")
			flags.StringArrayVar(&o.stats, "imatrix", nil, "the importance matrix that the plan was made with, `FILE`; again for several")
			flags.BoolVar(&o.resume, "resume", false, "go on with an interrupted run")
			flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be written, and write nothing")
			flags.IntVar(&o.shards, "shards", 1, "write `N` files of nearly equal size")
			flags.IntVar(&o.shard, "shard", 0, "write only file `I` of the shards, counted from 1")
			flags.BoolVar(&o.keepSplit, "keep-split", false, "write as many files as MODEL has, tensors staying in theirs")
			flags.BoolVar(&o.split, "split", false, "write the split plan: a tier file, for a llama.cpp that patch-llamacpp has changed")
			flags.BoolVar(&o.sha256, "sha256", false, "print the sha256 of each file written")
			flags.BoolVar(&o.record, "record", false, "record the plan's sha256 in the file, as ggufplan.plan_sha256")
			flags.BoolVar(&o.noCheck, "no-check", false, "do not read the output back")
			flags.IntVar(&o.workers, "threads", 0, "number of threads, `N`; one per processor if 0. The result is the same")
			flags.BoolVarP(&o.quiet, "quiet", "q", false, "no summary on stderr")
			o.evidence = addEvidenceFlags(flags)
			return func(c *call, operands []string) error { return c.apply(o, operands[0], operands[1]) }
		},
	}
}

func (o *applyFlags) validate() error {
	switch {
	case o.out == "" && !o.dryRun:
		return hinted(fmt.Errorf("apply needs -o OUT"), "ggufplan apply plan.json model.gguf --imatrix imatrix.gguf -o planned.gguf")
	case o.out == "-":
		return hinted(fmt.Errorf("-o: the output is read back, so it must be a file"), "-o planned.gguf")
	case o.workers < 0:
		return fmt.Errorf("--threads: %d is below 0", o.workers)
	case o.shards < 1 || o.shards > 65535:
		return fmt.Errorf("--shards: %d: want 1 to 65535", o.shards)
	case o.keepSplit && o.shards > 1:
		return fmt.Errorf("--keep-split and --shards exclude each other")
	case o.shard < 0:
		return fmt.Errorf("--shard: %d: want 1 or more", o.shard)
	}
	return nil
}

func (c *call) apply(o *applyFlags, planPath, modelPath string) error {
	if err := o.validate(); err != nil {
		return err
	}
	plan, err := c.readPlan(planPath)
	if err != nil {
		return err
	}
	model, err := ggufio.Open(modelPath)
	if err != nil {
		return err
	}
	if err := verify.Source(plan, model); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(modelPath), err)
	}
	evidence, err := c.planEvidence(o, plan, model)
	if err != nil {
		return err
	}
	out := o.out
	if out == "" {
		out = "planned.gguf"
	}
	files := o.shards
	if o.keepSplit {
		files = len(model.Files)
	}
	if o.shard > files {
		return hinted(fmt.Errorf("--shard: there is no file %d of %d", o.shard, files), "--shards "+strconv.Itoa(o.shard))
	}
	options := apply.Options{Names: copyNames(out, files), KeepSplit: o.keepSplit, Split: o.split, Imatrix: imatrixRecord(plan, evidence)}
	if evidence != nil {
		options.Columns = evidence.Columns
		defer evidence.Close()
	}
	inputs := append([]string{planPath}, o.stats...)
	for _, f := range model.Files {
		inputs = append(inputs, f.Path)
	}
	if o.record {
		data, err := manifest.Encode(plan)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		options.Plan = hex.EncodeToString(sum[:])
	}
	layout, err := apply.Fused(plan, model, options)
	if errors.Is(err, apply.ErrNothingSplit) {
		return hinted(err, "leave --split out: every llama.cpp runs that file")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(modelPath), err)
	}
	chosen := o.chosen(files)
	for _, i := range chosen {
		target := layout.Files[i].Name
		if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
			return hinted(fmt.Errorf("-o: %s is not a regular file: the output is read back", target), "-o planned.gguf")
		}
		for _, path := range []string{target, target + ".partial"} {
			if err := refuseOverwrite(path, inputs...); err != nil {
				return err
			}
		}
	}
	if o.dryRun {
		return c.describeLayout(o, plan, layout, chosen)
	}
	if err := checkSpace(layout, chosen); err != nil {
		return err
	}
	return c.writeLayout(o, plan, layout, chosen)
}

// writeOptions are those of each of some files.
func (o *applyFlags) writeOptions(files int, from []string) apply.WriteOptions {
	return apply.WriteOptions{Resume: o.resume, KeepState: files > 1, Inputs: from, Workers: o.workers, NoCheck: o.noCheck, SHA256: o.sha256}
}

// chosen returns which files to write.
func (o *applyFlags) chosen(files int) (list []int) {
	for i := range files {
		if o.shard == 0 || o.shard == i+1 {
			list = append(list, i)
		}
	}
	return list
}

func (c *call) writeLayout(o *applyFlags, plan *manifest.Manifest, layout *apply.Layout, chosen []int) error {
	var from []string
	if plan.Statistics != nil {
		for _, in := range plan.Statistics.Inputs {
			from = append(from, in.SHA256)
		}
	}
	digests := make([]string, len(layout.Files))
	writing, err := c.newLayoutWriting(layout, chosen, o.writeOptions(len(chosen), from))
	if err != nil {
		return err
	}
	for _, i := range chosen {
		partial := layout.Files[i].Name + ".partial"
		digest, err := writing.write(c.ctx, i, partial)
		if err != nil {
			return c.explainApply(partial, err)
		}
		digests[i] = digest
	}
	for _, i := range chosen {
		name := layout.Files[i].Name
		if err := layout.Finish(i, name+".partial"); err != nil {
			return err
		}
		if info, err := os.Stat(name); err == nil {
			if err := os.Chmod(name+".partial", info.Mode().Perm()); err != nil {
				return err
			}
		}
		if err := os.Rename(name+".partial", name); err != nil {
			return err
		}
	}
	for _, i := range chosen {
		if o.sha256 {
			fmt.Fprintf(c.stdout, "%s  %s\n", digests[i], review.Printable(layout.Files[i].Name)) // not wrapped: sha256sum -c reads it
		}
	}
	if !o.quiet {
		changed, copied, size := countTensors(layout, chosen)
		fmt.Fprintf(c.wrapped(c.stderr), "%s: %s, %d tensors encoded, %d copied\n", filepath.Base(layout.Files[chosen[0]].Name), review.Size(size), changed, copied)
	}
	return nil
}

// A layoutWriting writes files of a layout and shows how far it is with all of
// them.
type layoutWriting struct {
	layout      *apply.Layout
	options     apply.WriteOptions
	bar         *progress
	spent, left pace.Work // on files that are written, and on those that are to be
}

func (c *call) newLayoutWriting(layout *apply.Layout, files []int, o apply.WriteOptions) (*layoutWriting, error) {
	w := &layoutWriting{layout: layout, options: o, bar: c.newProgress("", review.Size)}
	if !w.bar.seen() {
		return w, nil
	}
	if err := layout.TimeTypes(); err != nil {
		return nil, err
	}
	for _, i := range files {
		w.left = w.left.Plus(layout.Work(i, o))
	}
	return w, nil
}

// write writes the next of the files.
func (w *layoutWriting) write(ctx context.Context, file int, path string) (digest string, err error) {
	defer w.bar.done()
	o, spent := w.options, w.spent
	o.Path = path
	if !w.bar.seen() {
		return w.layout.Write(ctx, file, o)
	}
	name := filepath.Base(w.layout.Files[file].Name)
	w.left = w.left.Minus(w.layout.Work(file, o))
	o.Progress = func(doing string, p pace.Progress) {
		w.spent = spent.Plus(p.Spent)
		p.Spent, p.Left = w.spent, p.Left.Plus(w.left)
		w.bar.phase(doing + " " + name)
		w.bar.update(p)
	}
	return w.layout.Write(ctx, file, o)
}

// explainApply adds what to do about a run that did not end. State that no
// further run could use is removed.
func (c *call) explainApply(partial string, err error) error {
	switch {
	case errors.Is(err, apply.ErrPartialExists):
		return hinted(err, fmt.Sprintf("add --resume to go on, or remove %s to start anew", review.ShellWord(partial)))
	case errors.Is(err, apply.ErrOtherRun):
		return hinted(err, fmt.Sprintf("remove %s to start anew", review.ShellWord(partial)))
	case errors.Is(err, quant.ErrNotFinite) || errors.Is(err, quant.ErrScaleOverflow):
		return errors.Join(err, os.Remove(partial))
	}
	if info, there := os.Lstat(partial); there == nil && info.Mode().IsRegular() {
		return hinted(err, fmt.Sprintf("what is done is kept in %s: run the same command with --resume", review.ShellWord(partial)))
	}
	return err
}

func countTensors(layout *apply.Layout, chosen []int) (changed, copied int, size uint64) {
	for _, i := range chosen {
		size += layout.Files[i].SizeBytes
		for k := range layout.Files[i].Tensors {
			if layout.Files[i].Tensors[k].Changed() {
				changed++
			} else {
				copied++
			}
		}
	}
	return changed, copied, size
}

// checkSpace refuses output that does not fit beside what an earlier run left.
func checkSpace(layout *apply.Layout, chosen []int) error {
	var need uint64
	for _, i := range chosen {
		size := layout.PartialBytes(i)
		size -= min(size, allocatedBytes(layout.Files[i].Name+".partial"))
		need += size
	}
	dir := filepath.Dir(layout.Files[chosen[0]].Name)
	if free, ok := freeBytes(dir); ok && need > free {
		return fmt.Errorf("%s: needs %s, and %s are free there", layout.Files[chosen[0]].Name, review.Size(need), review.Size(free))
	}
	return nil
}

func (c *call) describeLayout(o *applyFlags, plan *manifest.Manifest, layout *apply.Layout, chosen []int) error {
	changed, copied, size := countTensors(layout, chosen)
	for _, i := range chosen {
		fmt.Fprintf(c.page(), "%s: %d bytes, %d tensors\n", layout.Files[i].Name, layout.Files[i].SizeBytes, len(layout.Files[i].Tensors))
	}
	type move struct{ from, to quant.Type }
	weights, tensors := map[move]uint64{}, map[move]int{}
	var moves []move
	var read uint64
	for _, i := range chosen {
		for k := range layout.Files[i].Tensors {
			t := &layout.Files[i].Tensors[k]
			if t.Source == nil {
				continue // a table of tiers
			}
			m := move{t.Source.Type, t.Type}
			if tensors[m] == 0 {
				moves = append(moves, m)
			}
			tensors[m]++
			n, size := t.Source.Parameters, t.Source.SizeBytes
			if t.Experts != nil {
				all := uint64(t.Source.Experts())
				n, size = n/all*uint64(len(t.Experts)), size/all*uint64(len(t.Experts))
			}
			weights[m] += n
			read += size
		}
	}
	for _, m := range moves {
		what := "copied"
		if m.from != m.to {
			what = "to " + m.to.String()
		}
		fmt.Fprintf(c.page(), "  %v %s: %d %s, %.1f Mweights\n", m.from, what, tensors[m], review.Plural(tensors[m], "tensor", "tensors"), float64(weights[m])/1e6)
	}
	fmt.Fprintf(c.page(), "%d tensors encoded, %d copied; reads %s, writes %s\n", changed, copied, review.Size(read), review.Size(size))
	if free, ok := freeBytes(filepath.Dir(layout.Files[chosen[0]].Name)); ok {
		enough := ""
		if checkSpace(layout, chosen) != nil {
			enough = ": too little"
		}
		fmt.Fprintf(c.page(), "%s free there%s\n", review.Size(free), enough)
	}
	if changed > 0 {
		return c.describeTime(o, layout, chosen)
	}
	return nil
}

// describeTime says how long writing takes, where files are read and written in
// memory: a disk may be slower.
func (c *call) describeTime(o *applyFlags, layout *apply.Layout, chosen []int) error {
	if err := layout.TimeTypes(); err != nil {
		return err
	}
	var work pace.Work
	for _, i := range chosen {
		work = work.Plus(layout.Work(i, o.writeOptions(len(chosen), nil)))
	}
	takes := work.Seconds()
	least, most := seconds(takes/1.5), seconds(takes*1.5)
	if least == most {
		fmt.Fprintf(c.page(), "takes about %s\n", most)
	} else {
		fmt.Fprintf(c.page(), "takes about %s to %s\n", least, most)
	}
	return nil
}

func seconds(s float64) time.Duration {
	return max(time.Second, time.Duration(s*float64(time.Second)).Round(time.Second))
}

// planEvidence reads the importance matrices of the plan: those that it was
// made with, in its order; nil where it has none.
func (c *call) planEvidence(o *applyFlags, plan *manifest.Manifest, model *ggufio.Model) (*stats.Evidence, error) {
	var wanted []stats.FileID
	all := planner.PlannedFrom(plan.Statistics)
	for i := range all {
		if llamaquantize.IsImatrix(plan.Statistics.Inputs[i].Format) {
			wanted = append(wanted, all[i])
		}
	}
	if len(o.stats) == 0 {
		if len(wanted) > 0 {
			return nil, hinted(fmt.Errorf("the plan was made with %s (sha256 %s), which is not given", wanted[0].Name, wanted[0].SHA256), "--imatrix "+review.ShellWord(wanted[0].Name))
		}
		return nil, nil
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--imatrix: the plan was made without statistics")
	}
	paths := o.stats
	for {
		evidence, err := o.evidence.read(c, paths, model)
		if err != nil {
			return nil, err
		}
		if err := checkPlanned(all, wanted, evidence, "--imatrix "); err != nil {
			return nil, err
		}
		ordered := inPlanOrder(paths, evidence.Inputs, all)
		if slices.Equal(ordered, paths) {
			return evidence, nil
		}
		evidence.Close()
		paths = ordered
	}
}

// inPlanOrder returns the paths of files in the order in which the plan has
// them.
func inPlanOrder(paths []string, got []stats.Input, planned []stats.FileID) []string {
	if len(paths) != len(got) || slices.Contains(paths, "-") {
		return paths
	}
	var out []string
	used := make([]bool, len(got))
	for _, want := range planned {
		for i := range got {
			if !used[i] && got[i].SHA256 == want.SHA256 {
				used[i] = true
				out = append(out, paths[i])
				break
			}
		}
	}
	if len(out) != len(paths) {
		return paths
	}
	return out
}

// imatrixRecord returns what llama-quantize records of the plan's importance
// matrix, nil where it takes none.
func imatrixRecord(plan *manifest.Manifest, ev *stats.Evidence) *llamaquantize.ImatrixRecord {
	if plan.Statistics == nil || ev == nil {
		return nil
	}
	r := llamaquantize.RecordOf(ev)
	if r != nil {
		r.File, _ = llamaquantize.Imatrix(plan.Statistics.Inputs)
	}
	return r
}
