package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
)

// reportFlags ask for a result in the forms that pipelines show.
type reportFlags struct {
	flags              *pflag.FlagSet
	annotations, junit string
}

func addReportFlags(flags *pflag.FlagSet) *reportFlags {
	r := &reportFlags{flags: flags}
	flags.StringVar(&r.annotations, "annotations", "", "also print what was found as annotations of `SERVICE`: github")
	oneOf(flags, "annotations", "github")
	flags.StringVar(&r.junit, "junit", "", "also write the result as JUnit XML to `FILE`, before exit 1")
	return r
}

func (r *reportFlags) validate() error {
	if r.flags.Changed("annotations") && r.annotations != "github" {
		return hinted(fmt.Errorf("--annotations: %q is not github", r.annotations), "--annotations github")
	}
	return namesFile(r.flags, "junit", r.junit)
}

// namesFile refuses what is not a file: standard output has what was found.
func namesFile(flags *pflag.FlagSet, flag, path string) error {
	if flags.Changed(flag) && (path == "" || path == "-") {
		ending := map[string]string{"junit": ".xml", "markdown": ".md", "html": ".html"}[flag]
		return hinted(fmt.Errorf("--%s: %q is not a file", flag, path), "--"+flag+" report"+ending)
	}
	return nil
}

// differentFiles refuses two outputs that are one file.
func differentFiles(paths ...string) error {
	for i, a := range paths {
		for _, b := range paths[:i] {
			if a != "" && a != "-" && filepath.Clean(a) == filepath.Clean(b) {
				return fmt.Errorf("%s: two outputs would go to this file", a)
			}
		}
	}
	return nil
}

// A testCase is one line of a JUnit report; Failure is "" where it passed.
type testCase struct{ name, failure string }

func gateCases(gates []review.Gate, missed []string) []testCase {
	if len(gates) == 0 {
		return []testCase{{name: "planned"}}
	}
	cases := make([]testCase, len(gates))
	for i, g := range gates {
		cases[i].name = g.Name
		if !g.Passed {
			cases[i].failure, missed = missed[0], missed[1:]
		}
	}
	return cases
}

func differenceCases(report *verify.Report) []testCase {
	var cases []testCase
	for _, d := range report.Differences {
		cases = append(cases, testCase{d.Subject + " (" + d.Kind + ")", d.String()})
	}
	if report.Matching > 0 || len(cases) == 0 {
		cases = append(cases, testCase{name: fmt.Sprintf("%d of %d tensors as planned", report.Matching, report.Tensors)})
	}
	return cases
}

type junitSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Suite    junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes the report if it was asked for.
func (r *reportFlags) writeJUnit(files *outputs, suite string, cases []testCase) error {
	if r.junit == "" {
		return nil
	}
	s := junitSuite{Name: suite, Tests: len(cases)}
	for _, c := range cases {
		j := junitCase{Name: review.Printable(c.name), Class: suite}
		if c.failure != "" {
			s.Failures++
			text := review.Printable(c.failure)
			j.Failure = &junitFailure{text, text}
		}
		s.Cases = append(s.Cases, j)
	}
	data, err := xml.MarshalIndent(junitSuites{Tests: s.Tests, Failures: s.Failures, Suite: s}, "", "  ")
	if err != nil {
		return err
	}
	return files.write(r.junit, []byte(xml.Header+string(data)+"\n"))
}

// maxAnnotations is how many of a kind GitHub shows of one step.
const maxAnnotations = 10

// annotatePlan prints missed gates as errors and findings, grouped by their
// codes, as warnings. They go to standard output unless the manifest does.
func (r *reportFlags) annotatePlan(c *call, stdoutFree bool, m *manifest.Manifest, missed []string) {
	if r.annotations == "" {
		return
	}
	w := io.Writer(c.stderr)
	if stdoutFree {
		w = c.stdout
	}
	annotate(w, "error", "gate missed", missed)
	var warnings []string
	for i := 0; i < len(m.Findings); {
		f, n := m.Findings[i], 0
		for ; i < len(m.Findings) && m.Findings[i].Code == f.Code; i++ {
			n++
		}
		text := f.Code + ": " + f.Subject + ": " + f.Message
		if n > 1 {
			text += fmt.Sprintf(", and %d more", n-1)
		}
		warnings = append(warnings, text)
	}
	annotate(w, "warning", "finding", warnings)
}

// annotateVerify prints differences as errors.
func (r *reportFlags) annotateVerify(w io.Writer, report *verify.Report) {
	if r.annotations == "" {
		return
	}
	var texts []string
	for _, d := range report.Differences {
		texts = append(texts, d.String())
	}
	annotate(w, "error", "not as planned", texts)
}

func annotate(w io.Writer, level, title string, texts []string) {
	for i, text := range texts {
		if i == maxAnnotations-1 && len(texts) > maxAnnotations {
			text = fmt.Sprintf("and %d more", len(texts)-i)
		}
		fmt.Fprintf(w, "::%s title=ggufplan %s::%s\n", level, title, annotationText(text))
		if i == maxAnnotations-1 {
			return
		}
	}
}

// annotationText escapes the data of a workflow command.
func annotationText(s string) string {
	s = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
	return review.Printable(s)
}
