package gguftest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
)

// ExtendHeader copies a header-only model into dir and extends it to the size
// that the SIZES.tsv beside it states. The extension is a hole: it takes no
// disk space and reads as zeros.
func ExtendHeader(dir, headerPath string) (path string, err error) {
	name := filepath.Base(headerPath)
	sizes, err := os.ReadFile(filepath.Join(filepath.Dir(headerPath), "SIZES.tsv"))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(sizes), "\n") {
		file, size, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || file != name {
			continue
		}
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, name)
		if err := CopyFile(path, headerPath); err != nil {
			return "", err
		}
		return path, os.Truncate(path, n)
	}
	return "", fmt.Errorf("gguftest: SIZES.tsv has no line for %s", name)
}

// OpenHeader opens a header-only model as [ExtendHeader] extends it.
func OpenHeader(tb testing.TB, headerPath string) *ggufio.Model {
	tb.Helper()
	path, err := ExtendHeader(tb.TempDir(), headerPath)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// CopyFile copies a file, byte by byte.
func CopyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// Patch overwrites bytes of a file, to corrupt it.
func Patch(path string, offset int64, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, offset)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
