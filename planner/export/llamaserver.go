package export

import (
	"errors"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// ErrNoRun is a plan that was not asked about a run.
var ErrNoRun = errors.New("the plan says nothing of a run")

// LlamaServer returns the command line that runs the planned model with
// llama-server of llama.cpp v0.5.0 as the plan's memory was computed: its
// placement and cache, no mmap, no fitting of its own, and no caches of prompts
// beside the context's.
func LlamaServer(m *manifest.Manifest, paths Paths) (string, error) {
	r := m.Policy.Run
	if r == nil {
		return "", ErrNoRun
	}
	_, out, err := sourceAndOutput(m, paths.Out)
	if err != nil {
		return "", err
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	words := []string{"llama-server", "-m", out, "-c", number(r.ContextTokens), "-np", number(r.Sequences), "-ngl", number(r.GPULayers)}
	switch {
	case r.GPULayers == 0:
		words = append(words, "-dev", "none")
	case r.CPUExpertLayers > 0:
		words = append(words, "--n-cpu-moe", number(r.CPUExpertLayers))
	}
	if r.BatchTokens != 512 {
		words = append(words, "-b", number(max(2048, r.BatchTokens)), "-ub", number(r.BatchTokens))
	}
	if r.KeyType != "F16" || r.ValueType != "F16" {
		words = append(words, "-ctk", strings.ToLower(r.KeyType), "-ctv", strings.ToLower(r.ValueType))
	}
	words = append(words, "--load-mode", "none", "--fit", "off", "--cache-ram", "0", "--ctx-checkpoints", "0")
	return review.CommandLine(words...), nil
}
