package main

import (
	"context"
	"io"
)

// An interruptibleReader gives up when its context ends, even while the read
// itself blocks, as it does on a terminal or on a pipe that nobody writes to.
// What was being read then is lost.
type interruptibleReader struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte      // what the read under way fills
	left []byte      // the part of buf that was read and not yet taken
	err  error       // that came with it
	done chan result // of the read under way, nil without one
}

type result struct {
	n   int
	err error
}

func (i *interruptibleReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(i.left) == 0 {
		if i.err != nil {
			return 0, i.err
		}
		if i.done == nil {
			if i.buf == nil {
				i.buf = make([]byte, 256<<10)
			}
			done := make(chan result, 1) // the reader may be gone
			i.done = done
			go func() {
				n, err := i.r.Read(i.buf)
				done <- result{n, err}
			}()
		}
		select {
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		case got := <-i.done:
			i.left, i.err, i.done = i.buf[:got.n], got.err, nil
		}
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	return n, nil
}
