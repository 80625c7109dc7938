//go:build linux || darwin

package main

import (
	"os"
	"syscall"
)

// freeBytes returns what may still be written in a folder, and whether that
// is known.
func freeBytes(dir string) (uint64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}

// allocatedBytes returns what a file takes on the disk already.
func allocatedBytes(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Blocks) * 512
	}
	return 0
}
