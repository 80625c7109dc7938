package llamacpp

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// tiersEnv marks a test process that has the library preloaded.
const tiersEnv = "GGUFPLAN_LLAMA_TIERS"

// WithTiers runs the rest of a test, which must not be a subtest, where stock
// llama.cpp runs tier files: in a process of its own, into which a library is
// preloaded that .ci/llama-cpp builds of tiers/tiers.cpp and the lines that
// patch-llamacpp inserts. It reports true there; where it reports false the
// other process has run the test.
func WithTiers(t *testing.T) bool {
	t.Helper()
	if os.Getenv(tiersEnv) != "" {
		return true
	}
	Load(t)
	library := Tool(t, "libtiers.so")
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library, tiersEnv+"=1")
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil || !strings.Contains(text, "--- PASS: "+t.Name()) {
		t.Errorf("with the library preloaded: %v\n%s", err, text)
	} else {
		t.Log("\n" + text)
	}
	return false
}
