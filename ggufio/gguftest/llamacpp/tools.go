package llamacpp

import (
	"os"
	"path/filepath"
	"testing"
)

// Tool returns the path of one of llama.cpp's programs, built from the source
// of [Version] and linked with its shipped libraries (llama-quantize,
// llama-imatrix, llama-perplexity, llama-gguf-split, ggml-rpc-server), or of a
// library beside them. It is looked for in the folder that GGUFPLAN_LLAMA_BIN
// names, else in node_modules/.llama.cpp/bin of the working directory and each
// folder above it, where .ci/llama-cpp puts them. Where it is missing the test
// is skipped, or fails if GGUFPLAN_REQUIRE_LLAMA is set.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	return built(tb, "GGUFPLAN_LLAMA_BIN", "bin", name)
}

// Source returns the root of llama.cpp's source tree, in the folder that
// GGUFPLAN_LLAMA_SRC names or beside the programs of [Tool]. Tests that change
// it work on a copy.
func Source(tb testing.TB) string {
	tb.Helper()
	return filepath.Dir(built(tb, "GGUFPLAN_LLAMA_SRC", "src", "CMakeLists.txt"))
}

// built finds one file of the build that .ci/llama-cpp leaves.
func built(tb testing.TB, env, folder, name string) string {
	tb.Helper()
	path, err := findBuilt(env, folder, name)
	if err == nil {
		return path
	}
	if os.Getenv(RequireEnv) != "" {
		tb.Fatalf("llama.cpp %s: %s is required and missing: %v", Version, name, err)
	}
	tb.Skipf("SKIPPED, NOT TESTED: llama.cpp %s: %s is missing: %v (.ci/llama-cpp builds it)", Version, name, err)
	return ""
}

func findBuilt(env, folder, name string) (string, error) {
	if dir := os.Getenv(env); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", &missingError{env + ": " + err.Error()}
		}
		return path, nil
	}
	return findAbove(filepath.Join("node_modules", ".llama.cpp", folder, name))
}

// findAbove looks for a file under the working directory and each folder above
// it.
func findAbove(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", &missingError{"no folder above holds " + name}
		}
		dir = parent
	}
}
