package probe

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// A standing copy of the reference, in which runs change tensors.
type standing struct {
	*Setup
	paths   []string
	parts   map[string]int // file by tensor, of a set of shards
	workers int
}

// newStanding names the files of a copy after prefix.
func (s *Setup) newStanding(prefix string, workers int) *standing {
	c := &standing{Setup: s, workers: workers}
	n := len(s.reference.Files)
	if !s.simulated {
		c.parts = map[string]int{}
		group := map[string]int{}
		for i := range s.Record.Tensors {
			t := &s.Record.Tensors[i]
			if group[t.Group] == 0 {
				group[t.Group] = len(group) + 1
			}
			c.parts[t.Name] = group[t.Group]
		}
		n = len(group) + 1
	}
	if n == 1 {
		c.paths = []string{prefix + ".gguf"}
		return c
	}
	for i := range n {
		c.paths = append(c.paths, fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, n))
	}
	return c
}

func (c *standing) remove() {
	for _, path := range c.paths {
		os.Remove(path)
		os.Remove(path + ".new")
	}
}

// make writes the copy as the reference is.
func (c *standing) make(ctx context.Context, progress func(pace.Progress)) error {
	if c.simulated {
		c.remove()
		l, err := apply.Copy(c.reference, nil, c.names(), nil)
		for i := 0; i < len(c.paths) && err == nil; i++ {
			err = writeLaidOut(ctx, l, i, c.paths[i], c.workers, func(_ string, p pace.Progress) { progress(p) })
		}
		return err
	}
	for i := range c.paths {
		if err := c.writeShard(ctx, i, nil, progress); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names of the copy's files.
func (c *standing) names() (names []string) {
	for _, path := range c.paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

// change writes a run's tensors in its types. It refuses a run whose file is
// its base's.
func (c *standing) change(ctx context.Context, r *Run, progress func(pace.Progress)) error {
	if !c.simulated {
		return c.writeShards(ctx, r, r.types, progress)
	}
	if err := c.rewrite(ctx, r, func(t *ggufio.Tensor) quant.Type { return r.types[t.Name] }, progress); err != nil {
		return err
	}
	return c.differs(r)
}

// restore writes a run's tensors as the reference has them.
func (c *standing) restore(ctx context.Context, r *Run, progress func(pace.Progress)) error {
	if !c.simulated {
		return c.writeShards(ctx, r, nil, progress)
	}
	return c.rewrite(ctx, r, func(t *ggufio.Tensor) quant.Type { return t.Type }, progress)
}

func (c *standing) rewrite(ctx context.Context, r *Run, to func(t *ggufio.Tensor) quant.Type, progress func(pace.Progress)) error {
	target, err := ggufio.Open(c.paths[0])
	if err != nil {
		return err
	}
	var roundings []apply.Rounding
	for i := range c.reference.Tensors {
		if t := &c.reference.Tensors[i]; hasType(r, t.Name) {
			roundings = append(roundings, apply.Rounding{Tensor: t.Name, To: to(t)})
		}
	}
	return apply.Rewrite(ctx, target, c.reference, roundings, apply.RewriteOptions{Columns: c.columns(), Workers: c.workers, Progress: progress})
}

func hasType(r *Run, name string) bool {
	_, ok := r.types[name]
	return ok
}

func (s *Setup) columns() stats.Columns {
	if s.options.Evidence == nil {
		return nil
	}
	return s.options.Evidence.Columns
}

// An EqualError reports a run whose file equals its base: its divergence would
// be that of no change.
type EqualError struct{ Run string }

func (e *EqualError) Error() string {
	return fmt.Sprintf("run %s: its file equals its base: nothing would be measured", e.Run)
}

// differs checks that a run's file is not the reference's.
func (c *standing) differs(r *Run) error {
	target, err := ggufio.Open(c.paths[0])
	if err != nil {
		return err
	}
	a, err := target.OpenData()
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := c.reference.OpenData()
	if err != nil {
		return err
	}
	defer b.Close()
	const chunk = 1 << 20
	x, y := make([]byte, chunk), make([]byte, chunk)
	for i := range target.Tensors {
		t := &target.Tensors[i]
		own, ok := c.reference.TensorByName(t.Name)
		if !hasType(r, t.Name) || !ok {
			continue
		}
		for at := uint64(0); at < t.SizeBytes; at += chunk {
			n := min(chunk, t.SizeBytes-at)
			if err := a.ReadRange(t, at, x[:n]); err != nil {
				return err
			}
			if err := b.ReadRange(own, at, y[:n]); err != nil {
				return err
			}
			if !bytes.Equal(x[:n], y[:n]) {
				return nil
			}
		}
	}
	return &EqualError{r.Name}
}

// writeShards writes the shards that hold a run's tensors, with them in their
// types, or for nil in the reference's.
func (c *standing) writeShards(ctx context.Context, r *Run, types map[string]quant.Type, progress func(pace.Progress)) error {
	same := types != nil
	files := map[int]bool{}
	for name := range r.types {
		files[c.parts[name]] = true
		if t, ok := c.reference.TensorByName(name); ok && t.Type != types[name] {
			same = false
		}
	}
	if same {
		return &EqualError{r.Name}
	}
	for i := range c.paths {
		if !files[i] {
			continue
		}
		if err := c.writeShard(ctx, i, types, progress); err != nil {
			return err
		}
	}
	return nil
}

// writeShard writes a file of the set: tensors as the reference has them, or
// the model's in given types.
func (c *standing) writeShard(ctx context.Context, i int, types map[string]quant.Type, progress func(pace.Progress)) error {
	source := c.reference
	typeOf := func(t *ggufio.Tensor) quant.Type { return t.Type }
	if types != nil {
		source = c.options.Model
		typeOf = func(t *ggufio.Tensor) quant.Type {
			if typ, ok := types[t.Name]; ok {
				return typ
			}
			return t.Type
		}
	}
	l, err := apply.Typed(source, typeOf, apply.Options{Names: c.names(), Columns: c.columns(), Part: func(t *ggufio.Tensor) int { return c.parts[t.Name] }})
	if err != nil {
		return err
	}
	return writeLaidOut(ctx, l, i, c.paths[i], c.workers, func(_ string, p pace.Progress) { progress(p) })
}

func writeLaidOut(ctx context.Context, l *apply.Layout, i int, path string, workers int, progress func(doing string, p pace.Progress)) error {
	part := path + ".new"
	if err := os.Remove(part); err != nil && !os.IsNotExist(err) {
		return err
	}
	if _, err := l.Write(ctx, i, apply.WriteOptions{Path: part, Workers: workers, Progress: progress}); err != nil {
		os.Remove(part)
		return err
	}
	return os.Rename(part, path)
}

// WriteWhole writes the file of the whole run: every tensor that counts really
// quantized.
func (s *Setup) WriteWhole(ctx context.Context, path string, workers int, progress func(pace.Progress)) error {
	r := s.run(measure.RunWhole)
	l, err := apply.Typed(s.options.Model, func(t *ggufio.Tensor) quant.Type {
		if typ, ok := r.types[t.Name]; ok && llamaquantize.Quantizable(t) {
			return typ
		}
		return t.Type
	}, apply.Options{Names: []string{filepath.Base(path)}, Columns: s.columns()})
	if err != nil {
		return err
	}
	return writeLaidOut(ctx, l, 0, path, workers, func(_ string, p pace.Progress) { progress(p) })
}

// RunPaths returns the files that [Setup.WriteRun] writes; llama.cpp is given
// the first.
func (s *Setup) RunPaths(name, out string) []string {
	if name == measure.RunWhole {
		return []string{out}
	}
	return s.newStanding(strings.TrimSuffix(out, ".gguf"), 0).paths
}

// WriteRun writes the file of one run to be scored elsewhere: OUT, or a set of
// files named after it: see [Setup.RunPaths].
func (s *Setup) WriteRun(ctx context.Context, name, out string, workers int, progress func(pace.Progress)) error {
	if name == measure.RunWhole {
		return s.WriteWhole(ctx, out, workers, progress)
	}
	r := s.run(name)
	if len(r.types) == 0 {
		return fmt.Errorf("there is no run %q: the runs are %s", name, strings.Join(s.Record.RunNames(), ", "))
	}
	c := s.newStanding(strings.TrimSuffix(out, ".gguf"), workers)
	err := c.make(ctx, progress)
	if err == nil {
		err = c.change(ctx, &r, progress)
	}
	if err != nil {
		c.remove()
	}
	return err
}
