package review

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// How numbers, lists and names are written for a person.

// Size writes a number of bytes for a person.
func Size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 1023.95 && unit < 4 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", v, []string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// SignedSize writes a difference of sizes.
func SignedSize(n int64) string {
	if n < 0 {
		return "-" + Size(uint64(-n))
	}
	return Size(uint64(n))
}

// SignedCount writes a difference with its sign and its thousands apart.
func SignedCount(n int64) string {
	if n < 0 {
		return "-" + Count(uint64(-n))
	}
	return "+" + Count(uint64(n))
}

// Count writes a number with its thousands apart.
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func OptionalCount(v *uint64) string {
	if v == nil {
		return "-"
	}
	return Count(*v)
}

// BitsPerWeight writes what a weight takes on average.
func BitsPerWeight(bytes, weights uint64) string {
	if weights == 0 {
		return "0"
	}
	return strconv.FormatFloat(8*float64(bytes)/float64(weights), 'f', 2, 64)
}

// Percent writes a part of a whole.
func Percent(part, whole uint64) string {
	if whole == 0 {
		return "0.0 %"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

func SignedPercent(part int64, whole uint64) string {
	if part < 0 {
		return "-" + Percent(uint64(-part), whole)
	}
	return Percent(uint64(part), whole)
}

// OptionalPercent writes a fraction, - where it is unknown.
func OptionalPercent(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(100**v, 'f', 2, 64) + " %"
}

// Shape writes a shape as the file has it, the contiguous axis first.
func Shape(shape []uint64) string {
	parts := make([]string, len(shape))
	for i, n := range shape {
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts, " x ")
}

// Ranges writes rising numbers, runs of them as FIRST-LAST.
func Ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// A Limit says how many lines of a list are written, 0 for all, and how to see
// the others.
type Limit struct {
	Lines int
	All   string
}

// WriteFirst writes the first lines of a list, and how many more there are.
func WriteFirst(w io.Writer, lines []string, limit Limit) {
	cut := lines
	if limit.Lines > 0 && len(lines) > limit.Lines {
		cut = lines[:limit.Lines]
	}
	for _, line := range cut {
		fmt.Fprintln(w, line)
	}
	if more := len(lines) - len(cut); more > 0 {
		fmt.Fprintf(w, "and %d more; %s\n", more, limit.All)
	}
}

// Or lists words as a sentence does.
func Or(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

func Plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// ValueOr writes a value, or what stands for none.
func ValueOr[T any](v *T, none string) string {
	if v == nil {
		return none
	}
	return fmt.Sprint(*v)
}

// Printable replaces what could steer a terminal: names come from strangers.
func Printable(s string) string { return manifest.Printable(s) }

// CommandLine quotes words as a POSIX shell reads them.
func CommandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = ShellWord(w)
	}
	return strings.Join(quoted, " ")
}

// ShellWord quotes a word as a POSIX shell reads it, where it must be.
func ShellWord(w string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./:+,@%", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
