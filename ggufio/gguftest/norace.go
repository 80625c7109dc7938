//go:build !race

package gguftest

// RaceDetector says whether tests run under the race detector. Cases that
// differ in what is computed, and not in which goroutines do it, are fewer there:
// all of them run without.
const RaceDetector = false
