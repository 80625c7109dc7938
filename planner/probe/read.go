package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/stats/measure"
)

// noEffect is the largest divergence of a token that rounding logits to 16 bits
// makes of two equal files.
const noEffect = 0.001

// A NamedLog is the output of one run, and its file's name.
type NamedLog struct {
	Name string
	Run  string
	Data []byte
}

// ControlRun names the run in which nothing changes.
const ControlRun = control

// Read takes the outputs of runs that were run elsewhere, one of each of the
// probe's runs and one of the control.
func (s *Setup) Read(logs []NamedLog) (*measure.Probe, error) {
	p := s.Record
	p.Runs = nil
	found := map[string]*Log{}
	names := []string{control}
	for _, r := range s.Runs() {
		names = append(names, r.Name)
	}
	chunks := uint64(0)
	for _, l := range logs {
		if !slices.Contains(names, l.Run) {
			return nil, fmt.Errorf("%s: there is no run %q: the runs are %s", l.Name, l.Run, list(names))
		}
		if found[l.Run] != nil {
			return nil, fmt.Errorf("%s: is a second output of run %s", l.Name, l.Run)
		}
		log, err := ReadLog(l.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		if log.Chunks == 0 {
			return nil, fmt.Errorf("%s: has no rows of chunks: the whole output is needed", l.Name)
		}
		if chunks == 0 {
			chunks = log.Chunks
		}
		if log.Chunks != chunks || chunks > s.Record.Chunks {
			return nil, fmt.Errorf("%s: is of %d chunks, want %d as in %s", l.Name, log.Chunks, min(chunks, s.Record.Chunks), logs[0].Name)
		}
		if l.Run != control && log.Mean == 0 && log.Maximum <= noEffect && s.Record.Bands != measure.BandsTensor {
			return nil, fmt.Errorf("%s: shows no difference from the base at all: was its file used?", l.Name)
		}
		found[l.Run] = log
	}
	var missing []string
	for _, name := range names {
		if found[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no output of %s: a run's output is a file of its name, such as %s.log", list(missing), missing[0])
	}
	for _, r := range s.Runs() {
		l := found[r.Name]
		p.Runs = append(p.Runs, measure.ProbeRun{Name: r.Name, Kind: r.Kind, KLD: l.Mean, StandardError: l.StandardError,
			ScoredTokens: ScoredTokens(s.Record.ContextTokens, chunks), Control: found[control].Mean})
	}
	return &p, finish(&p)
}

func list(names []string) string {
	const most = 12
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
