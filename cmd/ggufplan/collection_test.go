package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// However often collection was postponed, the first one puts an end to it.
func TestPostponedTwice(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	const usual = 100
	debug.SetGCPercent(usual)
	postponeCollection()
	postponeCollection()
	runtime.GC()
	for until := time.Now().Add(10 * time.Second); debug.SetMemoryLimit(-1) != math.MaxInt64; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("no collection put the limit back")
		}
	}
	runtime.GC() // and whatever is still to be run
	time.Sleep(20 * time.Millisecond)
	if percent := debug.SetGCPercent(usual); percent != collectPercent {
		t.Errorf("garbage is collected at %d percent, want %d", percent, collectPercent)
	}
}
