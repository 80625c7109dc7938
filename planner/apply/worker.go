package apply

import (
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A worker makes pieces in its own memory.
type worker struct {
	layout   *Layout
	data     *ggufio.Data
	encoders map[quant.Type]*quant.Encoder

	raw, out, rounded []byte
	rows              []float32

	// The column weights at hand, and whose they are.
	weights measure.ColumnWeights
	of      *ggufio.Tensor
	expert  int
	matrix  int
	given   []float32
}

func newWorker(l *Layout, data *ggufio.Data) *worker {
	return &worker{layout: l, data: data, encoders: map[quant.Type]*quant.Encoder{}}
}

func sized[T any](s []T, n uint64) []T {
	if uint64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

// make fills w.out with a piece.
func (w *worker) make(x *piece) error {
	t := x.tensor
	w.out = sized(w.out, x.size)
	if t.Source == nil {
		copy(w.out, t.Data[x.start:])
		return nil
	}
	if !t.Changed() {
		at := x.start
		if t.Experts != nil {
			at += uint64(t.expert(x.slice)) * t.Source.ExpertBytes()
		}
		return w.data.ReadRange(t.Source, at, w.out)
	}
	columns, expert := t.Shape[0], t.expert(x.slice)
	w.raw = sized(w.raw, x.units*t.Source.RowBytes())
	if err := w.data.ReadRows(t.Source, expert, x.start, x.units, w.raw); err != nil {
		return err
	}
	w.rows = sized(w.rows, x.units*columns)
	if err := quant.Decode(t.Source.Type, w.rows, w.raw); err != nil {
		return fmt.Errorf("tensor %s: %w", t.Name, err)
	}
	if w.of != t.Source || w.expert != expert {
		if _, err := w.weights.Read(w.layout.columns, t.Source, expert); err != nil {
			return err
		}
		w.of, w.expert, w.matrix = t.Source, expert, -1
	}
	enc, err := w.encoder(t.Type)
	if err != nil {
		return err
	}
	for i := range x.units {
		if m := w.weights.Matrix(x.start + i); m != w.matrix {
			w.matrix = m
			if of := w.weights.Of(m); of == nil {
				w.given = nil
			} else {
				w.given = measure.EncoderWeights(w.given, of)
			}
		}
		row := w.rows[i*columns:][:columns]
		if t.rounds() {
			if err := w.round(t.Rounded, row); err != nil {
				return fmt.Errorf("tensor %s: expert %d: row %d: %w", t.Name, expert, x.start+i, err)
			}
		}
		if err := enc.EncodeRow(w.out[i*x.outBytes:][:x.outBytes], row, w.given); err != nil {
			return fmt.Errorf("tensor %s: expert %d: row %d: %w", t.Name, expert, x.start+i, err)
		}
	}
	return nil
}

func (w *worker) encoder(t quant.Type) (*quant.Encoder, error) {
	if w.encoders[t] == nil {
		enc, err := quant.NewEncoder(t)
		if err != nil {
			return nil, err
		}
		w.encoders[t] = enc
	}
	return w.encoders[t], nil
}

// round puts a row through a type and back, with the weights at hand.
func (w *worker) round(t quant.Type, row []float32) error {
	enc, err := w.encoder(t)
	if err != nil {
		return err
	}
	f, _ := quant.Lookup(t)
	size, err := f.Layout.EncodedBytes(1, uint64(len(row)))
	if err != nil {
		return err
	}
	w.rounded = sized(w.rounded, size)
	if err := enc.EncodeRow(w.rounded, row, w.given); err != nil {
		return err
	}
	return quant.Decode(t, row, w.rounded)
}
