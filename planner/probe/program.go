package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A Program is llama-perplexity, or what does its work.
type Program struct {
	Path string
	Args []string // given before those of the probe, which win
}

// A ProgramError reports a program that failed or said nothing.
type ProgramError struct {
	Run    string
	Err    error
	Detail string // the last line that it printed on standard error, escaped
}

func (e *ProgramError) Error() string {
	s := fmt.Sprintf("run %s: llama-perplexity: %v", e.Run, e.Err)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *ProgramError) Unwrap() error { return e.Err }

// maxOutputBytes bounds what is kept of a program's output: 100 bytes a chunk.
const maxOutputBytes = 64 << 20

// BaseArgs are those of a run that writes base logits.
func (p *Program) BaseArgs(model, text, logits string, contextTokens, chunks uint64) []string {
	return append(append([]string{}, p.Args...), "-m", model, "-f", text, "-c", number(contextTokens), "-b", number(contextTokens),
		"--chunks", number(chunks), "--kl-divergence-base", logits)
}

// RunArgs are those of a run that is compared with base logits, which hold the
// text too.
func (p *Program) RunArgs(model, logits string, contextTokens uint64) []string {
	return append(append([]string{}, p.Args...), "-m", model, "-c", number(contextTokens), "-b", number(contextTokens),
		"--kl-divergence-base", logits, "--kl-divergence")
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// A watch is told what a run prints as it goes on.
type watch struct {
	chunk  func(n uint64) // is scored
	chunks func(n uint64) // there are in all, said by a run that writes base logits; may be nil
}

// start runs the program to its end, watched by w unless it is nil.
// It returns what it printed, and the last line on standard error.
func (p *Program) start(ctx context.Context, run string, args []string, w *watch) (printed []byte, message string, err error) {
	cmd := exec.CommandContext(ctx, p.Path, args...)
	out, messages := &output{most: maxOutputBytes}, &output{most: 16 << 10, last: true}
	if w != nil {
		var mu sync.Mutex // the two are written at once
		one := func(tell func(n uint64)) func(n uint64) {
			if tell == nil {
				return nil
			}
			return func(n uint64) {
				mu.Lock()
				defer mu.Unlock()
				tell(n)
			}
		}
		out.find, out.tell = []*regexp.Regexp{chunkRow, baseChunk}, one(w.chunk)
		messages.find, messages.tell = []*regexp.Regexp{chunkCount}, one(w.chunks)
	}
	cmd.Stdout, cmd.Stderr = out, messages
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	message = lastLine(messages.data)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case out.over:
		return nil, "", &ProgramError{run, fmt.Errorf("printed more than %d bytes", maxOutputBytes), ""}
	case err != nil:
		var fault *exec.Error
		if errors.As(err, &fault) {
			err = fmt.Errorf("%s: %w", fault.Name, fault.Err)
		}
		return nil, "", &ProgramError{run, err, message}
	}
	return out.data, message, nil
}

// lastLine returns the last line of messages that says something, without the
// time and level that llama.cpp puts before it.
func lastLine(data []byte) string {
	lines := bytes.Split(data, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		text := prefix.ReplaceAllString(escapes.ReplaceAllString(string(bytes.TrimSpace(lines[i])), ""), "")
		if len(text) > 200 {
			text = text[:200]
		}
		if text != "" {
			return manifest.Printable(text)
		}
	}
	return ""
}

// What a run that writes base logits prints: of a chunk, before a comma and no end
// of line, and before all.
var (
	baseChunk  = regexp.MustCompile(`^\[([1-9][0-9]{0,8})\][0-9.naif-]+$`)
	chunkCount = regexp.MustCompile(`calculating perplexity over ([1-9][0-9]{0,8}) chunks$`)
)

// An output keeps what a program prints: all of it, or the end.
type output struct {
	data []byte
	most int
	last bool // keep the end, and drop what is before
	over bool
	at   int // where the line, or what stands between commas, begins
	find []*regexp.Regexp
	tell func(n uint64) // the number that one of find finds; nil for nobody
}

func (o *output) Write(b []byte) (int, error) {
	o.data = append(o.data, b...)
	for o.tell != nil {
		n := bytes.IndexAny(o.data[o.at:], "\n,")
		if n < 0 {
			break
		}
		for _, find := range o.find {
			if m := find.FindSubmatch(o.data[o.at : o.at+n]); m != nil {
				if i, err := strconv.ParseUint(string(m[1]), 10, 64); err == nil {
					o.tell(i)
				}
			}
		}
		o.at += n + 1
	}
	if len(o.data) > o.most {
		if !o.last {
			o.over = true
			return 0, errors.New("too much output")
		}
		cut := len(o.data) - o.most/2
		o.data = append(o.data[:0], o.data[cut:]...)
		o.at = max(0, o.at-cut)
	}
	return len(b), nil
}
