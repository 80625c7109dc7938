package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// evidenceFlags say how to read activation statistics, and what they cannot
// say of themselves.
type evidenceFlags struct {
	flags                 *pflag.FlagSet
	format                string
	topK, layers, experts int
	layerOffset           int
	countColumn           string
}

func addEvidenceFlags(flags *pflag.FlagSet) *evidenceFlags {
	e := &evidenceFlags{flags: flags}
	flags.StringVar(&e.format, "stats-format", "", "read statistics as `FORMAT` instead of telling it by the content: "+strings.Join(read.Formats(), ", "))
	oneOf(flags, "stats-format", read.Formats()...)
	flags.StringVar(&e.countColumn, "count-column", "", "column or key `NAME` of a table says how often an expert was used, where names leave that open; none: each row is one activation")
	flags.IntVar(&e.topK, "top-k", 0, "`K` experts were used per token while the statistics were collected")
	flags.IntVar(&e.layers, "layers", 0, "the statistics have `N` layers, where their format does not say")
	flags.IntVar(&e.experts, "experts", 0, "the statistics have `N` experts per layer, where their format does not say")
	flags.IntVar(&e.layerOffset, "layer-offset", 0, "row 0 of the statistics is block `N`, where their format counts rows")
	return e
}

// validate checks the numbers.
func (e *evidenceFlags) validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{{"top-k", e.topK}, {"layers", e.layers}, {"experts", e.experts}} {
		if e.flags.Changed(f.name) && f.value < 1 {
			return hinted(fmt.Errorf("--%s: %d: want 1 or more", f.name, f.value), "--"+f.name+" 8")
		}
	}
	return nil
}

// read reads statistics, "-" for standard input, and fits them onto the model;
// nil leaves them as they are.
func (e *evidenceFlags) read(c *call, paths []string, m *ggufio.Model) (*stats.Evidence, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	opt := read.Options{Format: e.format, CountColumn: e.countColumn, Layers: e.layers, Experts: e.experts, TopK: e.topK, Model: m}
	fit := stats.FitOptions{TopK: e.topK}
	if e.flags.Changed("layer-offset") {
		fit.LayerOffset = &e.layerOffset
	}
	var inputs []*stats.Evidence
	for _, path := range paths {
		reading := c.newProgress("reading "+path, review.Size)
		opt.Progress = func(doneBytes, totalBytes int64) { reading.count(uint64(doneBytes), uint64(totalBytes)) }
		var ev *stats.Evidence
		var err error
		if info, errStat := os.Stat(path); path == "-" || errStat == nil && !info.Mode().IsRegular() && !info.IsDir() {
			var in io.ReadCloser
			if in, err = c.openInput(path); err == nil {
				ev, err = read.Reader(c.ctx, in, inputName(path), opt)
				in.Close()
			}
		} else {
			ev, err = read.File(c.ctx, path, opt)
		}
		reading.done()
		if err == nil && m != nil {
			ev, err = ev.Fit(m, fit)
		} else if err == nil && fit.LayerOffset != nil {
			ev, err = ev.Place(*fit.LayerOffset)
		}
		if err != nil {
			return nil, withHint(err)
		}
		inputs = append(inputs, ev)
	}
	ev, err := stats.Merge(inputs)
	return ev, withHint(err)
}

// checkPlanned tells whether evidence comes from files that a plan was made
// with, each as often, and from all those of them that are wanted.
func checkPlanned(planned, wanted []stats.FileID, ev *stats.Evidence, flag string) error {
	given := stats.FileIDs(ev.Inputs)
	_, extra := stats.CompareFiles(planned, given)
	missing, _ := stats.CompareFiles(wanted, given)
	switch {
	case extra != nil && slices.ContainsFunc(planned, func(f stats.FileID) bool { return f.SHA256 == extra.SHA256 }):
		return fmt.Errorf("%s: is given more often than the plan was made with it", extra.Name)
	case extra != nil && len(planned) == 1:
		return fmt.Errorf("%s: sha256 %s is not of the plan's statistics: %s has %s", extra.Name, extra.SHA256, planned[0].Name, planned[0].SHA256)
	case extra != nil:
		return fmt.Errorf("%s: sha256 %s is not of the plan's statistics", extra.Name, extra.SHA256)
	case missing != nil:
		return hinted(fmt.Errorf("the plan was also made with %s (sha256 %s), which is not given", missing.Name, missing.SHA256), flag+review.ShellWord(missing.Name))
	}
	return nil
}

// withHint gives an error from a package the hint that goes with it.
func withHint(err error) error {
	var column *read.ColumnError
	if errors.As(err, &column) {
		if column.Adds {
			return hinted(err, "--count-column NAME, with the name of the counts, says that such rows add up; ggufplan stats --help lists the known names")
		}
		return hinted(err, "--count-column "+review.ShellWord(column.Names[0])+" says that it counts, --count-column none that each row is one activation; ggufplan stats --help lists the known names")
	}
	var h *stats.HintError
	if errors.As(err, &h) {
		return hinted(err, cure(h))
	}
	return err
}

// cure spells what would cure an error with the flags of the command line.
func cure(h *stats.HintError) string {
	switch h.Cure {
	case stats.NameModel:
		return "name the model: --model MODEL"
	case stats.NameFormat:
		return "collect statistics with llama-imatrix -o imatrix.gguf, or name the format: --stats-format FORMAT"
	case stats.PlaceRows:
		return "say which block the first row is: --layer-offset N"
	case stats.StateShape:
		return "add --layers 48 --top-k 8 with the model's numbers, or --model MODEL"
	case stats.MendShape:
		return "state the model's numbers: --layers counts dense layers too, --top-k is the experts per token"
	case stats.CollectAgain:
		return "collect statistics from this model: llama-imatrix -m " + review.ShellWord(h.Text) + " -f TEXT -o imatrix.gguf"
	case stats.StateTopK:
		if h.TopK == 0 {
			return "state it with --top-k 8"
		}
		return fmt.Sprintf("if it was collected with %d experts per token, say so: --top-k %d", h.TopK, h.TopK)
	}
	return h.Text
}
