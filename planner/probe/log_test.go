package probe

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReadLog(t *testing.T) {
	control, run := recorded(t, "control.log"), recorded(t, "run.log")
	for name, tt := range map[string]struct {
		text string
		want Log
	}{
		"control, a mean below 0": {control, Log{0, 0, 0.00006, 64}},
		"with standard error":     {run, Log{0.006444, 0.000311, 1.813379, 144}},
		"line ends of Windows":    {strings.ReplaceAll(run, "\n", "\r\n"), Log{0.006444, 0.000311, 1.813379, 144}},
		"in colour, with times": {strings.ReplaceAll(run, "\nMean    KLD", "\n\x1b[32m0.00.021.763 I \x1b[0mMean    KLD"),
			Log{0.006444, 0.000311, 1.813379, 144}},
		"the statistics alone": {run[strings.Index(run, statisticsTitle):], Log{0.006444, 0.000311, 1.813379, 0}},
	} {
		got, err := ReadLog([]byte(tt.text))
		if err != nil || *got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tt.want)
		}
	}
}

func TestReadLogRefuses(t *testing.T) {
	run := recorded(t, "run.log")
	replace := func(old, new string) string {
		if !strings.Contains(run, old) {
			t.Fatalf("no %q in the recorded output", old)
		}
		return strings.Replace(run, old, new, 1)
	}
	const mean = "Mean    KLD:   0.006444 ±   0.000311"
	for _, tt := range []struct {
		name, text, want string
		cutShort         bool
	}{
		{"nothing", " \n", "is empty", false},
		{"something else", "hello\n", "is not the output of llama-perplexity --kl-divergence", false},
		{"no statistics", run[:strings.Index(run, "====== Perp")], "ends after 144 chunks, without KL divergence statistics", true},
		{"no mean", replace(mean+"\n", ""), "have no line of the mean", true},
		{"no maximum", replace("Maximum KLD:   1.813379\n", ""), "have no line of the maximum", true},
		{"two runs", run + run, "a second block of KL divergence statistics: the output of more than one run", false},
		{"two runs, the first cut short", run[:strings.Index(run, "====== Perp")] + run, "chunk 1 follows chunk 144", false},
		{"two blocks", run + run[strings.Index(run, statisticsTitle):], "a second block", false},
		{"two means", replace(mean, mean+"\n"+mean), "a second mean", false},
		{"a chunk is missing", replace("\n  77 ", "\n  78 "), "chunk 78 follows chunk 76", false},
		{"nan", replace(mean, "Mean    KLD:        nan ±        nan"), `mean KL divergence: "nan" is not a number`, false},
		{"infinite", replace(mean, "Mean    KLD:        inf ±   0.000311"), "+Inf is out of range", false},
		{"negative", replace(mean, "Mean    KLD:  -0.006444 ±   0.000311"), "-0.006444 is out of range", false},
		{"no number", replace(mean, "Mean    KLD:   0.0o6444 ±   0.000311"), "is not a number", false},
		{"an error of nan", replace(mean, "Mean    KLD:   0.006444 ±        nan"), `standard error: "nan" is not a number`, false},
	} {
		_, err := ReadLog([]byte(tt.text))
		var fault *LogError
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		} else if errors.As(err, &fault); fault.CutShort != tt.cutShort {
			t.Errorf("%s: cut short is %v", tt.name, fault.CutShort)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(recorded(f, "run.log")))
	f.Add([]byte(recorded(f, "control.log")))
	f.Add([]byte(statisticsTitle + "\nMean    KLD:   1 ±   0\nMaximum KLD: 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		log, err := ReadLog(data)
		if err != nil {
			return
		}
		if !(log.Mean >= 0 && log.Mean <= maxKLDNats && log.StandardError >= 0 && log.Maximum >= 0) {
			t.Errorf("%+v", log)
		}
	})
}
