package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// collectFromBytes is the heap from which a command that ends soon begins to
// collect garbage.
const collectFromBytes = 72 << 20

// collectPercent is the garbage, of what is held, that is collected where more
// than two thirds of that are held. The page of a budget plan of the largest
// models, with its frontier, holds 75 MB: with the usual 100 it would peak at
// 170, and saves 5 % of its time.
const collectPercent = 30

// postponeCollection leaves garbage where it is until there are collectFromBytes
// in all: the plan of the largest models is written before, in some 30 MB, and
// collecting a heap that only grows takes a quarter of its time. Where the
// environment says when to collect it decides.
func postponeCollection() {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	if debug.SetGCPercent(-1) < 0 {
		return // postponed already, by an earlier call in this process
	}
	debug.SetMemoryLimit(collectFromBytes)
	afterCollection()
}

// afterCollection ends the delay after the first collection that leaves much.
func afterCollection() {
	runtime.AddCleanup(&struct{ *byte }{new(byte)}, func(struct{}) {
		held := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		if metrics.Read(held); held[0].Value.Uint64() < collectFromBytes/3*2 {
			afterCollection()
			return
		}
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(collectPercent)
	}, struct{}{})
}
