// Package llamacpp lets tests call the real llama.cpp: its encoders and
// decoders as oracles, llama_model_quantize to carry plans out, and inference
// to measure what they cost.
//
// It loads the shared libraries of llama.cpp v0.5.0 at run time, as the npm
// package @node-llama-cpp/linux-x64 3.22.1 ships them. They are looked for in
// the folder that GGUFPLAN_LLAMA_LIB names, else in
// node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 of the working
// directory and each folder above it.
//
// Struct layouts are those of v0.5.0 on x86-64; [Load] refuses any other
// version. Some of the library's functions end the process on bad input: call
// those in a child process.
package llamacpp

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Version is the llama.cpp version whose struct layouts this package knows.
const Version = "v0.5.0"

// RequireEnv names the environment variable that turns a missing library from
// a skipped test into a failed one. CI sets it.
const RequireEnv = "GGUFPLAN_REQUIRE_LLAMA"

var loaded struct {
	sync.Once
	lib *Library
	err error
}

// Load returns the library. Where it is missing the test is skipped, or fails
// if GGUFPLAN_REQUIRE_LLAMA is set.
func Load(tb testing.TB) *Library {
	tb.Helper()
	lib, err := Open()
	if err != nil {
		if os.Getenv(RequireEnv) != "" {
			tb.Fatalf("llama.cpp %s is required and missing: %v", Version, err)
		}
		tb.Skipf("SKIPPED, NOT TESTED: llama.cpp %s is missing: %v (npm install @node-llama-cpp/linux-x64@3.22.1)", Version, err)
	}
	return lib
}

// Open loads the library once for the process.
func Open() (*Library, error) {
	loaded.Do(func() {
		dir, err := find()
		if err != nil {
			loaded.err = err
			return
		}
		loaded.lib, loaded.err = open(dir)
	})
	return loaded.lib, loaded.err
}

type missingError struct{ msg string }

func (e *missingError) Error() string { return e.msg }

func find() (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", &missingError{"the libraries are for linux on x86-64 only"}
	}
	const name = "libllama." + Version + ".so"
	if dir := os.Getenv("GGUFPLAN_LLAMA_LIB"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", &missingError{"GGUFPLAN_LLAMA_LIB: " + err.Error()}
		}
		return dir, nil
	}
	path, err := findAbove(filepath.Join("node_modules", "@node-llama-cpp", "linux-x64", "bins", "linux-x64", name))
	return filepath.Dir(path), err
}
