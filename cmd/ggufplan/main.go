// Command ggufplan decides which quantization type each tensor of a
// Mixture-of-Experts GGUF model gets.
//
//	ggufplan plan model-f16.gguf --stats imatrix.gguf -o plan.json
//	ggufplan export plan.json --to llama-quantize -o tensor-types.txt
//	ggufplan verify plan.json model-f16-planned.gguf
//
// One file here holds one verb: its flags, its help and what it prints; what
// it knows is in the packages. "ggufplan --help" lists the verbs, "ggufplan
// VERB --help" has flags and a worked example, which the tests run.
//
// The product is on standard output, everything else on standard error. The
// exit status is 0 for done, 1 for a finding that was asked about (a
// difference, a missed gate, a budget that nothing keeps), 2 for trouble. A
// failed run leaves no output file and touches no existing one.
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
	context.AfterFunc(ctx, stop) // a second interrupt ends what does not heed the first
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
	closed bool      // nobody reads stdout: it was closed when the program began
	out    io.Writer // standard output itself: is it a terminal?
	args   []string  // as they were typed
	colour string    // --color, "" before it was read
}

// run carries out a command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	out := &stickyWriter{w: stdout}
	c := &call{ctx: ctx, stdin: &interruptibleReader{ctx: ctx, r: stdin}, stdout: out, stderr: stderr,
		closed: wasClosed(stdout), out: stdout, args: args}
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
			if args[1] == wordsTopic {
				writeGlossary(c.page())
				return exitDone
			}
			if cmd := find(args[1]); cmd != nil {
				return cmd.execute(c, []string{"--help"})
			}
			return c.fail(notACommand(args[1]))
		}
		writeUsage(c.page())
		return exitDone
	case "--version":
		name = "version"
	}
	cmd := find(name)
	if cmd == nil {
		return c.fail(notACommand(name))
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
