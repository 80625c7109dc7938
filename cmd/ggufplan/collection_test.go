package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// However often collection was postponed, the first one that leaves much puts an
// end to it, and one that leaves little does not.
func TestPostponedTwice(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	const usual = 100
	runtime.GC() // what other tests held
	debug.SetGCPercent(usual)
	postponeCollection()
	postponeCollection()
	runtime.GC()
	time.Sleep(20 * time.Millisecond) // for what a collection sets off
	if limit := debug.SetMemoryLimit(-1); limit != collectFromBytes {
		t.Errorf("after a collection that left little the limit is %d", limit)
	}
	held := make([]byte, 2*collectFromBytes)
	runtime.GC()
	for until := time.Now().Add(10 * time.Second); debug.SetMemoryLimit(-1) != math.MaxInt64; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("no collection put the limit back")
		}
	}
	runtime.KeepAlive(held)
	time.Sleep(20 * time.Millisecond)
	if percent := debug.SetGCPercent(usual); percent != collectPercent {
		t.Errorf("garbage is collected at %d percent, want %d", percent, collectPercent)
	}
}
