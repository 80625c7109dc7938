//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package measure

import (
	"errors"
	"os"
	"syscall"
)

// lockFile keeps other processes from the file until it is closed.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrJournalInUse
	}
	if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOSYS) {
		return nil // a file system without locks
	}
	return err
}
