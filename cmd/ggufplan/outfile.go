package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Outputs are written to temporary files beside their targets; only when all
// are complete is the first renamed, so that a failed run touches nothing.
type outputs struct {
	c       *call
	pending []pendingFile
}

type pendingFile struct {
	temp   *os.File
	target string
}

// create returns a file that becomes target on commit.
//
// A link stays: what it leads to is replaced. One of the system's, such as
// /dev/stdout, leads to a file that somebody has open, which is written to.
func (o *outputs) create(target string) (*os.File, error) {
	named := target
	target, open, err := follow(named)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named, err)
	}
	if info, err := os.Stat(target); open || err == nil && !info.Mode().IsRegular() {
		if err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s: is a directory", named)
		}
		// A device or a pipe cannot be renamed onto: write it directly.
		flag := os.O_WRONLY
		if open {
			flag |= os.O_APPEND
		}
		f, err := o.c.openSpecial(named, flag)
		if err != nil {
			return nil, err
		}
		o.pending = append(o.pending, pendingFile{temp: f})
		return f, nil
	}
	if strings.HasSuffix(target, string(filepath.Separator)) {
		return nil, fmt.Errorf("%s: names a folder, not a file", named)
	}
	f, err := createTemp(target)
	if err != nil {
		var fault *os.PathError // names the temporary file, which nobody asked for
		if errors.As(err, &fault) {
			err = fault.Err
		}
		return nil, fmt.Errorf("%s: cannot be written there: %w", named, err)
	}
	o.pending = append(o.pending, pendingFile{f, target})
	return f, nil
}

// follow returns what links lead to, whether it is there or not, and whether that
// is an open file of a process.
func follow(path string) (to string, open bool, err error) {
	for range 40 {
		if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
			return path, false, nil
		}
		folder, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil || strings.HasPrefix(folder, "/proc/") {
			return path, err == nil, err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return path, false, err
		}
		if path = to; !filepath.IsAbs(to) {
			path = filepath.Join(folder, to)
		}
	}
	return path, false, errors.New("links lead in a circle")
}

// write creates target with the given content on commit.
func (o *outputs) write(target string, content []byte) error {
	return o.stream(target, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// stream creates target with what write writes on commit. A device or a pipe,
// which nothing can be taken back from, gets all of it or nothing.
func (o *outputs) stream(target string, write func(io.Writer) error) error {
	f, err := o.create(target)
	if err != nil {
		return err
	}
	p := &o.pending[len(o.pending)-1]
	if p.target != "" {
		return p.fault(write(f))
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	return p.fault(err)
}

// fault is an error of the temporary file, which nobody asked for, under the
// name of its target.
func (p *pendingFile) fault(err error) error {
	var fault *os.PathError
	if p.target == "" || !errors.As(err, &fault) {
		return err
	}
	return fmt.Errorf("%s: %w", p.target, fault.Err)
}

// tempSuffix marks the files of runs that have not ended.
const tempSuffix = ".ggufplan-tmp"

// createTemp creates a file beside target, named after it and this process. It
// removes those that runs on this machine left there when they were killed: a
// model's copy is as large as the model.
func createTemp(target string) (*os.File, error) {
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(host))
	prefix := fmt.Sprintf(".%s.%x-", filepath.Base(target), sum[:4])
	dir := filepath.Dir(target)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSuffix(rest, tempSuffix)); err == nil && strings.HasSuffix(rest, tempSuffix) && !isRunning(pid) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return os.OpenFile(filepath.Join(dir, prefix+strconv.Itoa(os.Getpid())+tempSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

// isRunning reports whether there is, or may be, a process of a number.
func isRunning(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	return pid == os.Getpid() || runtime.GOOS == "windows" || !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// commit makes every output durable and then renames them all into place.
func (o *outputs) commit() error {
	for _, p := range o.pending {
		if p.target == "" {
			continue
		}
		// A file that is replaced keeps its mode; that of a new one is the
		// umask's.
		if info, err := os.Stat(p.target); err == nil {
			if err := p.temp.Chmod(info.Mode().Perm()); err != nil {
				return p.fault(err)
			}
		}
		if err := p.temp.Sync(); err != nil {
			return p.fault(err)
		}
	}
	for _, p := range o.pending {
		if err := p.temp.Close(); err != nil {
			return p.fault(err)
		}
	}
	for i, p := range o.pending {
		if p.target == "" {
			continue
		}
		if err := os.Rename(p.temp.Name(), p.target); err != nil {
			o.pending = o.pending[i:]
			return err
		}
	}
	o.pending = nil
	return nil
}

// discard removes what was not committed. It is safe to call after commit.
func (o *outputs) discard() {
	for _, p := range o.pending {
		p.temp.Close()
		if p.target != "" {
			os.Remove(p.temp.Name())
		}
	}
	o.pending = nil
}

// refuseOverwrite reports the first input that writing to out would overwrite.
// "" and "-" are not files.
func refuseOverwrite(out string, inputs ...string) error {
	for _, in := range inputs {
		if in != "" && in != "-" && out != "" && out != "-" && sameFile(in, out) {
			return hinted(fmt.Errorf("%s: is an input: the output would overwrite it", in), "name another file after -o")
		}
	}
	return nil
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	ia, erra := os.Stat(a)
	ib, errb := os.Stat(b)
	return erra == nil && errb == nil && os.SameFile(ia, ib)
}

// commitPrinted is commit once everything printed so far has reached standard
// output: a run that fails there leaves no file.
func (c *call) commitPrinted(files *outputs) error {
	if _, err := c.stdout.Write(nil); err != nil { // it remembers its first error
		return fmt.Errorf("standard output: %w", err)
	}
	return files.commit()
}

// writeProduct writes what a command was run for to standard output.
func (c *call) writeProduct(content []byte) error {
	if c.closed {
		return errors.New("standard output: is closed")
	}
	_, err := c.stdout.Write(content)
	return err
}

// writeOutput writes content to a file, or to standard output where path is
// "" or "-".
func (c *call) writeOutput(path string, content []byte) error {
	if path == "" || path == "-" {
		return c.writeProduct(content)
	}
	files := outputs{c: c}
	defer files.discard()
	if err := files.write(path, content); err != nil {
		return err
	}
	return files.commit()
}
