package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// How numbers, lists and names are written for a person, and reports for a
// program.

// formatSize writes a number of bytes for a person.
func formatSize(n uint64) string {
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

// signedSize writes a difference of sizes.
func signedSize(n int64) string {
	if n < 0 {
		return "-" + formatSize(uint64(-n))
	}
	return formatSize(uint64(n))
}

// formatCount writes a number with its thousands apart.
func formatCount(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func optionalCount(v *uint64) string {
	if v == nil {
		return "-"
	}
	return formatCount(*v)
}

// bitsPerWeight writes what a weight takes on average.
func bitsPerWeight(bytes, weights uint64) string {
	if weights == 0 {
		return "0"
	}
	return strconv.FormatFloat(8*float64(bytes)/float64(weights), 'f', 2, 64)
}

// percent writes a part of a whole.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "0.0 %"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

func signedPercent(part int64, whole uint64) string {
	if part < 0 {
		return "-" + percent(uint64(-part), whole)
	}
	return percent(uint64(part), whole)
}

// optionalPercent writes a fraction, - where it is unknown.
func optionalPercent(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(100**v, 'f', 2, 64) + " %"
}

// formatShape writes a shape as the file has it, the contiguous axis first.
func formatShape(shape []uint64) string {
	parts := make([]string, len(shape))
	for i, n := range shape {
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts, " x ")
}

// formatRanges writes rising numbers, runs of them as FIRST-LAST.
func formatRanges(numbers []int) string {
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

// words lists words as a sentence does.
func words(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// valueOr writes a value, or what stands for none.
func valueOr[T any](v *T, none string) string {
	if v == nil {
		return none
	}
	return fmt.Sprint(*v)
}

// printable replaces what could steer a terminal: names come from strangers.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// writeJSON prints a report as the manifest is printed: two spaces, final
// newline, nothing escaped for HTML.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
