package llamaquantize

import (
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

// mergedImatrix is what several importance matrices are merged into.
const mergedImatrix = "merged.imatrix.gguf"

// IsImatrix reports whether a file of statistics is an importance matrix that
// llama-quantize takes: of either format.
func IsImatrix(format string) bool {
	return slices.Contains([]string{stats.FormatImatrixGGUF, stats.FormatImatrixDat}, format)
}

// Imatrix returns the importance matrix that carrying out a plan takes, as the
// command line of llama-quantize spells it; "" where no input is one. Several
// inputs must first be merged by llama-imatrix, in the order of merge. Names
// are those of the inputs, unpacked where they end as compressed files do.
//
// The spelling counts: llama-quantize writes it into the file, so the planned
// size depends on it.
func Imatrix(inputs []manifest.Input) (path string, merge []string) {
	for _, in := range inputs {
		if IsImatrix(in.Format) {
			merge = append(merge, Unpacked(in.Name))
		}
	}
	switch len(merge) {
	case 0:
		return "", nil
	case 1:
		return merge[0], nil
	}
	return mergedImatrix, merge
}

// Unpacked returns a file's name without the ending of a compressed one.
func Unpacked(name string) string {
	for _, ending := range []string{".gz", ".zst"} {
		if bare := strings.TrimSuffix(name, ending); bare != "" && bare != name {
			return bare
		}
	}
	return name
}
