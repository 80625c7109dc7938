package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A weight that no type, or one of the candidates, can hold is named, whatever
// the number of threads, and leaves nothing behind.
func TestMeasureNamesBadWeights(t *testing.T) {
	const tensor, columns, rows = "blk.1.ffn_up_exps.weight", 256, 256
	for _, tt := range []struct {
		name    string
		weight  float32
		types   string
		want    string
		alsoBad bool // and one further on
	}{
		{"NaN", float32(math.NaN()), "Q4_0", "weight NaN: not a finite number", false},
		{"infinite", float32(math.Inf(-1)), "Q4_0", "weight -Inf: not a finite number", true},
		{"too large", 3e7, "Q8_0,Q4_K", "the type's scale cannot hold it", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := gguftest.MoE{Type: quant.F32}.Builder()
			put := func(name string, expert, row, column int) {
				at := 4 * ((expert*rows+row)*columns + column)
				binary.LittleEndian.PutUint32(b.Tensor(name).Data[at:], math.Float32bits(tt.weight))
			}
			put(tensor, 2, 17, 5)
			if tt.alsoBad {
				put("blk.1.ffn_down_exps.weight", 3, 0, 0)
				put(tensor, 3, 1, 0)
			}
			model, out := filepath.Join(dir, "m.gguf"), filepath.Join(dir, "out.json")
			if err := b.WriteFile(model); err != nil {
				t.Fatal(err)
			}
			for _, threads := range []string{"1", "4"} {
				var stdout, stderr bytes.Buffer
				code := run(context.Background(), []string{"measure", model, "--full", "--types", tt.types, "--threads", threads, "-o", out}, strings.NewReader(""), &stdout, &stderr)
				if code != exitTrouble || stdout.Len() > 0 {
					t.Fatalf("status %d, output %q", code, stdout.String())
				}
				text := stderr.String()
				for _, want := range []string{"m.gguf: " + tensor + ": expert 2: row 17: ", "column 5: ", tt.want} {
					if !strings.Contains(text, want) {
						t.Errorf("%s threads: %q is not in %q", threads, want, text)
					}
				}
				if tt.weight == 3e7 && !strings.Contains(text, "such as --types BF16\n") {
					t.Errorf("no hint in %q", text)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "*out.json*")); left != nil {
					t.Errorf("leaves %v", left)
				}
			}
		})
	}
}

// Interrupted, measure says how to go on and keeps its state; resumed, it ends
// with the bytes of an uninterrupted run and removes it.
func TestMeasureInterruptedAndResumed(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "errors.json")
	args := []string{"measure", realModel, "--stats", realImatrix, "--types", "Q3_K,Q5_0", "-q", "-o", out}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// Until there is some work to keep.
		for {
			if info, err := os.Stat(out + ".partial"); err == nil && info.Size() > 1000 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, args, strings.NewReader(""), &stdout, &stderr); code != exitTrouble {
		t.Fatalf("status %d: %s", code, stderr.String())
	}
	want := "ggufplan: error: interrupted\nggufplan: hint: what is done is kept in " + out + ".partial: run the same command with --resume\n"
	if stderr.String() != want {
		t.Errorf("interrupted, it says %q, want %q", stderr.String(), want)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Error("an interrupted run left its output")
	}
	ggufplan(t, exitDone, append(args, "--resume")...)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(out + ".*"); left != nil {
		t.Errorf("leaves %v", left)
	}
	if whole := ggufplan(t, exitDone, args[:len(args)-2]...); whole != string(got) {
		t.Error("a resumed run ends with other bytes")
	}
}
