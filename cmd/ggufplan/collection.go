package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// collectFromBytes is the heap from which a command that ends soon begins to
// collect garbage.
const collectFromBytes = 72 << 20

// postponeCollection leaves garbage where it is until there are collectFromBytes
// in all: the plan of the largest models is written before, in some 30 MB, and
// collecting a heap that only grows takes a quarter of its time. After the first
// collection everything is as usual, as it is where the environment says when to
// collect.
func postponeCollection() {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	percent := debug.SetGCPercent(-1)
	if percent < 0 {
		return // postponed already, by an earlier call in this process
	}
	debug.SetMemoryLimit(collectFromBytes)
	runtime.AddCleanup(&struct{ *byte }{new(byte)}, func(percent int) {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(percent)
	}, percent)
}
