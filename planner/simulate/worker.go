package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A worker does tasks one after another in its own memory.
type worker struct {
	copy    *Copy
	data    *ggufio.Data
	outputs []Output
	trips   map[quant.Type]*measure.RoundTrip
	rows    *measure.Rows

	raw, out []byte
	back     []float32
}

// A chunk is as much of a task as a worker holds at once.
type chunk struct {
	*task
	kept        kept   // of kept bytes
	first, rows uint64 // of a change
	error, norm stats.Sum
}

// do runs f on a task, chunk by chunk.
func (w *worker) do(ctx context.Context, t *task, f func(*worker, *chunk) error) error {
	c := chunk{task: t}
	if t.change == nil {
		for at := uint64(0); at < t.kept.size; at += ChunkBytes {
			if err := ctx.Err(); err != nil {
				return err
			}
			c.kept = kept{t.kept.source + at, t.kept.offset + at, min(ChunkBytes, t.kept.size-at)}
			if err := f(w, &c); err != nil {
				return err
			}
		}
		return nil
	}
	perChunk := max(1, ChunkBytes/t.change.tensor.RowBytes())
	for done := uint64(0); done < t.rows; done += perChunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.first, c.rows = t.first+done, min(perChunk, t.rows-done)
		if err := f(w, &c); err != nil {
			return err
		}
	}
	t.error, t.norm = c.error.Value(), c.norm.Value()
	return nil
}

// write writes kept bytes as they are, and rows after a round trip.
func (w *worker) write(c *chunk) error {
	ch := c.change
	if ch == nil {
		w.raw = measure.Sized(w.raw, c.kept.size)
		if err := w.data.ReadFile(c.file, c.kept.source, w.raw); err != nil {
			return err
		}
		_, err := w.outputs[c.file].WriteAt(w.raw, int64(c.kept.offset))
		return err
	}
	if err := w.rows.Read(c.change.tensor, c.slice, c.first, c.rows); err != nil {
		return err
	}
	if err := w.encodeRows(c); err != nil {
		return err
	}
	_, err := w.outputs[c.file].WriteAt(w.out, int64(ch.offsetOf(c)))
	return err
}

// encodeRows fills w.out with the rows as the copy stores them.
func (w *worker) encodeRows(c *chunk) error {
	ch := c.change
	typ := ch.types[c.slice]
	if typ == ch.tensor.Type && typ == ch.store {
		w.out = append(w.out[:0], w.rows.Raw...)
		return nil
	}
	store, err := w.rows.Encoder(ch.store)
	if err != nil {
		return err
	}
	columns, rowBytes := ch.tensor.Shape[0], ch.storeRowBytes()
	w.out = measure.Sized(w.out, c.rows*rowBytes)
	for i := range c.rows {
		row := w.rows.Values[i*columns:][:columns]
		if typ != ch.tensor.Type {
			trip, err := w.tripFor(typ, c.first+i)
			if err != nil {
				return err
			}
			e, err := trip.Row(row)
			if err != nil {
				return w.fault(c, i, err)
			}
			c.error.Add(e.WeightedError)
			c.norm.Add(e.WeightedNorm)
			row = trip.Decoded()
		}
		if err := store.EncodeRow(w.out[i*rowBytes:][:rowBytes], row, nil); err != nil {
			return w.fault(c, i, err)
		}
	}
	return nil
}

// check compares kept bytes with the source's, and sums what rows have lost.
func (w *worker) check(c *chunk) error {
	ch := c.change
	if ch == nil {
		w.raw, w.out = measure.Sized(w.raw, c.kept.size), measure.Sized(w.out, c.kept.size)
		if err := w.data.ReadFile(c.file, c.kept.source, w.raw); err != nil {
			return err
		}
		if err := w.readBack(c, c.kept.offset); err != nil {
			return err
		}
		if !bytes.Equal(w.raw, w.out) {
			return fmt.Errorf("%s: bytes %d to %d are not the source's", w.copy.Files[c.file].Name, c.kept.offset, c.kept.offset+c.kept.size)
		}
		return nil
	}
	if err := w.rows.Read(c.change.tensor, c.slice, c.first, c.rows); err != nil {
		return err
	}
	if ch.types[c.slice] == ch.tensor.Type {
		return w.checkUnchanged(c)
	}
	w.out = measure.Sized(w.out, c.rows*ch.storeRowBytes())
	if err := w.readBack(c, ch.offsetOf(c)); err != nil {
		return err
	}
	w.back = measure.Sized(w.back, uint64(len(w.rows.Values)))
	if err := quant.Decode(ch.store, w.back, w.out); err != nil {
		return err
	}
	columns := ch.tensor.Shape[0]
	unit, floor := rounding(ch.store)
	for i := range c.rows {
		weights := w.rows.Weights(c.first + i)
		var rowLost, rowAllowed float64
		for k := range columns {
			v := float64(w.back[i*columns+k])
			d := float64(w.rows.Values[i*columns+k]) - v
			u := max(float64(unit*math.Abs(v)), floor)
			m := 1.0
			if weights != nil {
				m = weights[k]
			}
			rowLost += float64(m * float64(d*d))
			rowAllowed += float64(m * float64(u*u))
		}
		c.error.Add(rowLost)
		c.norm.Add(rowAllowed)
	}
	return nil
}

// checkUnchanged compares the rows of an expert that keeps its type with what
// they must be stored as.
func (w *worker) checkUnchanged(c *chunk) error {
	if err := w.encodeRows(c); err != nil {
		return err
	}
	want := w.out
	w.raw = measure.Sized(w.raw, uint64(len(want)))
	w.raw, w.out = w.out, w.raw
	if err := w.readBack(c, c.change.offsetOf(c)); err != nil {
		return err
	}
	if !bytes.Equal(want, w.out) {
		return fmt.Errorf("tensor %s: expert %d: rows %d to %d changed, and its type does not", c.change.tensor.Name, c.slice, c.first, c.first+c.rows)
	}
	return nil
}

// rounding returns how far storing a weight moves it at most: unit times the
// weight, and floor below the type's normal range. Both are twice the half
// spacing, for the last bits of what is computed from them.
func rounding(t quant.Type) (unit, floor float64) {
	switch t {
	case quant.F16: // 10 bits of fraction, least exponent -24
		return 0x1p-10, 0x1p-24
	case quant.BF16: // 7 bits, -133
		return 0x1p-7, 0x1p-133
	}
	return 0x1p-23, 0x1p-149
}

// readBack fills w.out from the copy.
func (w *worker) readBack(t *chunk, offset uint64) error {
	n, err := w.outputs[t.file].ReadAt(w.out, int64(offset))
	if n == len(w.out) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: byte %d: %w", w.copy.Files[t.file].Name, offset, err)
}

// tripFor returns the round trip through a type with the weights of a row.
func (w *worker) tripFor(typ quant.Type, row uint64) (*measure.RoundTrip, error) {
	trip := w.trips[typ]
	if trip == nil {
		var err error
		if trip, err = measure.NewRoundTrip(typ); err != nil {
			return nil, err
		}
		w.trips[typ] = trip
	}
	trip.SetWeights(w.rows.Weights(row))
	return trip, nil
}

func (w *worker) fault(t *chunk, row uint64, err error) error {
	return fmt.Errorf("%s: tensor %s: expert %d: row %d: %w", w.copy.Files[t.file].Name, t.change.tensor.Name, t.slice, t.first+row, err)
}

// storeRowBytes is the size of a row as the copy stores it.
func (ch *change) storeRowBytes() uint64 {
	f, _ := quant.Lookup(ch.store)
	return ch.tensor.Shape[0] * f.Layout.BytesPerBlock
}

// offsetOf returns where a chunk's rows lie in the copy's file.
func (ch *change) offsetOf(t *chunk) uint64 {
	return ch.offset + (uint64(t.slice)*ch.tensor.ExpertRows()+t.first)*ch.storeRowBytes()
}
