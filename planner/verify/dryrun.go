package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// maxLineBytes bounds a log's line: a tensor's line is under 200 bytes.
const maxLineBytes = 1 << 20

const bytesPerMiB = 1 << 20

// A tensor's line of a dry run: "[   9/ 163] NAME - [ne0, ne1, ne2, ne3], type
// = f32, size = 1.00 MiB -> 0.21 MiB (q6_K)", or, unchanged, "size = 0.001
// MiB". The tool may put a time before it.
var (
	tensorLine = regexp.MustCompile(`\[\s*(\d+)/\s*(\d+)\]\s+(\S.*?)\s+- \[\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\s*\], type =\s*(\S+), size =\s*([0-9.]+) MiB(?:\s*->\s*([0-9.]+) MiB \((\S+)\))?`)
	totalLine  = regexp.MustCompile(`quant size\s*=\s*([0-9.]+) MiB`)
)

// ErrNoLog reports text without a line of a tensor.
var ErrNoLog = errors.New("no tensor's line: not a log of llama-quantize --dry-run")

// DryRunLog compares what llama-quantize --dry-run printed with the plan. The
// log rounds sizes: a tensor's to 0.01 MiB (unchanged ones to 0.001), the
// total to 0.01 MiB. name is the log's name in errors.
func DryRunLog(plan *manifest.Manifest, name string, log io.Reader) (*Report, error) {
	tensors := make(map[string]found)
	listed, total := "", ""
	scanner := bufio.NewScanner(log)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	line := 0
	for scanner.Scan() {
		line++
		if m := totalLine.FindStringSubmatch(scanner.Text()); m != nil {
			if total != "" && total != m[1] {
				return nil, fmt.Errorf("%s:%d: a second total, %s MiB after %s MiB: is this the log of several runs?", name, line, m[1], total)
			}
			total = m[1]
			continue
		}
		m := tensorLine.FindStringSubmatch(scanner.Text())
		if m == nil {
			continue
		}
		if _, ok := tensors[m[3]]; ok {
			return nil, fmt.Errorf("%s:%d: tensor %s a second time: is this the log of several runs?", name, line, m[3])
		}
		t, err := logTensor(m)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: tensor %s: %w", name, line, m[3], err)
		}
		listed = m[2]
		tensors[m[3]] = t
	}
	if err := scanner.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("%s:%d: line over %d bytes: not a log of llama-quantize --dry-run", name, line+1, maxLineBytes)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(tensors) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNoLog)
	}
	if total == "" {
		return nil, fmt.Errorf("%s: ends before the quant size: %d of %s tensors are listed", name, len(tensors), listed)
	}
	report, err := compare(plan, tensors, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !agrees(total, plan.Totals.PlannedBytes) {
		report.add(KindTotal, "total", fmt.Sprintf("%.2f MiB", float64(plan.Totals.PlannedBytes)/bytesPerMiB), total+" MiB")
	}
	return report, nil
}

func logTensor(m []string) (found, error) {
	shape := make([]uint64, 4)
	for i := range shape {
		n, err := strconv.ParseUint(m[4+i], 10, 62)
		if err != nil {
			return found{}, fmt.Errorf("shape: %q is not a size", m[4+i])
		}
		shape[i] = n
	}
	typ, size := m[8], m[9]
	if m[11] != "" {
		typ, size = m[11], m[10]
	}
	if _, err := strconv.ParseFloat(size, 64); err != nil {
		return found{}, fmt.Errorf("size: %q is not a number", size)
	}
	return found{shape: shape, typ: strings.ToUpper(typ), size: func(planned uint64) (string, bool) {
		return size + " MiB", agrees(size, planned)
	}}, nil
}

// agrees reports whether a printed number of MiB is what n bytes round to.
func agrees(printed string, n uint64) bool {
	v, err := strconv.ParseFloat(printed, 64)
	if err != nil {
		return false
	}
	unit := 1.0
	if dot := strings.IndexByte(printed, '.'); dot >= 0 {
		unit = math.Pow10(dot + 1 - len(printed))
	}
	// Half a unit of rounding; a tie may go either way.
	return math.Abs(v-float64(float64(n)/bytesPerMiB)) <= float64(unit*0.5001)+float64(1e-9*v)
}
