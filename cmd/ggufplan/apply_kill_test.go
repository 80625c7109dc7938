package main

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var applyKills = flag.Int("apply-kills", 20, "how often TestAppliedAfterKills kills apply")

// A run that is killed at any moment leaves nothing under the final name, and
// ends with the same bytes once it is resumed.
func TestAppliedAfterKills(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan", "--base", "IQ3_S")
	args := func(out string) []string {
		return []string{"apply", plan, realModel, "--imatrix", realImatrix, "-q", "--resume", "--threads", "2", "-o", out}
	}
	whole := filepath.Join(dir, "whole.gguf")
	start := time.Now()
	if out, err := exec.Command("ggufplan", args(whole)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(start)
	random := rand.New(rand.NewPCG(1, 2))
	resumed := 0
	for i := range *applyKills {
		out := filepath.Join(dir, "killed.gguf")
		for kill := range 3 {
			cmd := exec.Command("ggufplan", args(out)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(random.Float64() * float64(took)))
			cmd.Process.Kill()
			if cmd.Wait() == nil {
				break // it was faster
			}
			if _, err := os.Stat(out + ".partial"); err == nil {
				resumed++
			}
			if _, err := os.Stat(out); err == nil {
				sameBytes(t, whole, out) // killed after the rename
			}
			if i%2 == 0 && kill == 0 {
				break
			}
		}
		if log, err := exec.Command("ggufplan", args(out)...).CombinedOutput(); err != nil {
			t.Fatalf("resumed: %v\n%s", err, log)
		}
		sameBytes(t, whole, out)
		if _, err := os.Stat(out + ".partial"); err == nil {
			t.Errorf("the partial file remains")
		}
		if t.Failed() {
			t.Fatalf("after kill %d", i)
		}
		os.Remove(out)
	}
	if resumed == 0 {
		t.Errorf("no kill left anything to resume")
	}
	t.Logf("%d runs resumed", resumed)
}

// What an interrupted run left is not taken by a run with other inputs, and
// not trusted where its bytes are not those that were written.
func TestApplyChecksWhatItResumes(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	other := planFile(t, dir, "other", "--base", "Q5_K_M")
	out := filepath.Join(dir, "out.gguf")
	apply := func(plan string, flags ...string) []string {
		return append([]string{plan, realModel, "--imatrix", realImatrix, "-q", "-o", out}, flags...)
	}
	ggufplan(t, exitDone, append([]string{"apply"}, apply(plan)...)...)
	whole := filepath.Join(dir, "whole.gguf")
	if err := os.Rename(out, whole); err != nil {
		t.Fatal(err)
	}
	var partial string
	for delay := 20 * time.Millisecond; partial == ""; delay += 5 * time.Millisecond {
		if delay > 2*time.Second {
			t.Fatal("no run was caught at work")
		}
		cmd := exec.Command("ggufplan", append([]string{"apply"}, apply(plan, "--threads", "1")...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		cmd.Process.Kill()
		cmd.Wait()
		if data, err := os.ReadFile(out + ".partial"); err == nil && bytes.Contains(data, []byte("ggufplan.apply 1")) {
			partial = out + ".partial"
		} else {
			os.Remove(out)
			os.Remove(out + ".partial")
		}
	}
	applyRefused(t, dir, "holds an interrupted run", apply(plan)...)
	applyRefused(t, dir, "was begun with other inputs or another plan", apply(other, "--resume")...)
	applyRefused(t, dir, "hint: remove "+partial+" to start anew", apply(plan, "--resume", "--record")...)
	f, err := os.OpenFile(partial, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Data that does not agree with its record, from the header on.
	if _, err := f.WriteAt(make([]byte, 200_000), 20_000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ggufplan(t, exitDone, append([]string{"apply"}, apply(plan, "--resume")...)...)
	sameBytes(t, whole, out)
}
