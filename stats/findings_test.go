package stats

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeConstant = regexp.MustCompile(`\tCode[A-Za-z]+ += "([a-z-]+)"`)
	codeLiteral  = regexp.MustCompile(`(?:find\(|Code: +)"`)
)

// TestFindingCodes looks at the package's source: every code is a constant, and
// every constant is listed, since commands take only codes that are.
func TestFindingCodes(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codeConstant.FindAllStringSubmatch(string(source), -1) {
			codes = append(codes, m[1])
		}
		if at := codeLiteral.FindString(string(source)); at != "" {
			t.Errorf("%s: a code that is no constant: %s", file, at)
		}
	}
	slices.Sort(codes)
	if got := FindingCodes(); len(got) == 0 || !slices.Equal(got, codes) {
		t.Errorf("FindingCodes lists %v, the constants are %v", got, codes)
	}
}
