package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestInterruptibleReaderPassesContent(t *testing.T) {
	want := strings.Repeat("0123456789", 100_000)
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(want), "halves": iotest.HalfReader(strings.NewReader(want)), "with its end": iotest.DataErrReader(strings.NewReader(want))} {
		got, err := io.ReadAll(&interruptibleReader{ctx: t.Context(), r: r})
		if err != nil || string(got) != want {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	if _, err := io.ReadAll(&interruptibleReader{ctx: t.Context(), r: iotest.ErrReader(io.ErrClosedPipe)}); err != io.ErrClosedPipe {
		t.Errorf("error %v", err)
	}
}

// TestInterruptWhileStandardInputBlocks wants a run that waits for standard
// input to end when it is interrupted.
func TestInterruptWhileStandardInputBlocks(t *testing.T) {
	for _, args := range [][]string{{"stats", "-"}, {"show", "-"}} {
		silent, writer := io.Pipe()
		ctx, interrupt := context.WithCancel(context.Background())
		var stderr bytes.Buffer
		ended := make(chan int)
		go func() { ended <- run(ctx, args, silent, io.Discard, &stderr) }()
		if _, err := writer.Write([]byte("{")); err != nil {
			t.Fatal(err)
		}
		interrupt()
		select {
		case code := <-ended:
			if code != exitTrouble || stderr.String() != "ggufplan: error: interrupted\n" {
				t.Errorf("%q ends with %d, %q", args, code, stderr.String())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q does not end", args)
		}
		writer.Close()
	}
}
