//go:build unix

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// wasClosed reports whether a standard stream was closed when the program
// began. The runtime opens the null device in its place, for reading and
// writing, where who throws output away opens it for writing.
func wasClosed(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var own, null unix.Stat_t
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR &&
		unix.Fstat(int(f.Fd()), &own) == nil && unix.Stat(os.DevNull, &null) == nil && own.Rdev == null.Rdev && own.Mode == null.Mode
}
