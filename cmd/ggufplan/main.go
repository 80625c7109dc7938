// Command ggufplan decides which quantization type each tensor of a
// Mixture-of-Experts GGUF model gets.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A call is one run of a command: where it reads and writes, and what it was
// asked.
type call struct {
	ctx    context.Context // ends on the first interrupt
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// run carries out a command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	out := &stickyWriter{w: stdout}
	c := &call{ctx: ctx, stdin: stdin, stdout: out, stderr: stderr}
	defer func() {
		// A full disk or a closed pipe must not pass for success.
		if out.err != nil && code != exitTrouble {
			c.say("error", "standard output: %v", out.err)
			code = exitTrouble
		}
	}()
	if len(args) == 0 {
		writeUsage(stderr)
		return exitTrouble
	}
	name := args[0]
	switch name {
	case "-h", "--help", "help":
		if len(args) > 1 && name == "help" {
			if cmd := find(args[1]); cmd != nil {
				return cmd.execute(c, []string{"--help"})
			}
			return c.fail(hinted(usageErrorf("%q is not a command", args[1]), "ggufplan --help"))
		}
		writeUsage(c.stdout)
		return exitDone
	case "--version":
		name = "version"
	}
	cmd := find(name)
	if cmd == nil {
		return c.fail(hinted(usageErrorf("%q is not a command", name), "ggufplan --help"))
	}
	return cmd.execute(c, args[1:])
}

// A stickyWriter remembers its first error.
type stickyWriter struct {
	w   io.Writer
	err error
}

func (s *stickyWriter) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}
