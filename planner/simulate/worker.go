package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// A worker does tasks one after another in its own memory.
type worker struct {
	copy    *Copy
	data    *ggufio.Data
	outputs []Output
	trips   map[quant.Type]*stats.RoundTrip
	stores  map[quant.Type]*quant.Encoder

	raw, out   []byte
	rows, back []float32

	// The column weights at hand, and whose they are.
	weights stats.ColumnWeights
	change  *change
	slice   int
}

// sized returns a slice of n items, s where it is large enough. What it holds
// is left over from before.
func sized[T any](s []T, n uint64) []T {
	if uint64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

// write writes kept bytes as they are, and rows after a round trip.
func (w *worker) write(t *task) error {
	if t.change == nil {
		w.raw = sized(w.raw, t.kept.size)
		if err := w.data.ReadFile(t.file, t.kept.source, w.raw); err != nil {
			return err
		}
		_, err := w.outputs[t.file].WriteAt(w.raw, int64(t.kept.offset))
		return err
	}
	ch := t.change
	if err := w.readRows(t); err != nil {
		return err
	}
	store, err := w.encoderFor(ch.store)
	if err != nil {
		return err
	}
	columns := ch.tensor.Shape[0]
	rowBytes := ch.storeRowBytes()
	w.out = sized(w.out, t.rows*rowBytes)
	var lost, norm stats.Sum
	for i := range t.rows {
		row := w.rows[i*columns:][:columns]
		stored := w.out[i*rowBytes:][:rowBytes]
		kept := row
		if typ := ch.types[t.slice]; typ != ch.tensor.Type {
			trip, err := w.tripFor(typ, t.first+i)
			if err != nil {
				return w.fault(t, i, err)
			}
			e, err := trip.Row(row)
			if err != nil {
				return w.fault(t, i, err)
			}
			lost.Add(e.WeightedError)
			norm.Add(e.WeightedNorm)
			kept = trip.Decoded()
		}
		if err := store.EncodeRow(stored, kept, nil); err != nil {
			return w.fault(t, i, err)
		}
	}
	t.error, t.norm = lost.Value(), norm.Value()
	_, err = w.outputs[t.file].WriteAt(w.out, int64(ch.offsetOf(t)))
	return err
}

// check compares kept bytes with the source's, and sums what rows have lost.
func (w *worker) check(t *task) error {
	if t.change == nil {
		w.raw, w.out = sized(w.raw, t.kept.size), sized(w.out, t.kept.size)
		if err := w.data.ReadFile(t.file, t.kept.source, w.raw); err != nil {
			return err
		}
		if err := w.readBack(t, t.kept.offset); err != nil {
			return err
		}
		if !bytes.Equal(w.raw, w.out) {
			return fmt.Errorf("%s: bytes %d to %d are not the source's", w.copy.Files[t.file].Name, t.kept.offset, t.kept.offset+t.kept.size)
		}
		return nil
	}
	ch := t.change
	if err := w.readRows(t); err != nil {
		return err
	}
	w.out = sized(w.out, t.rows*ch.storeRowBytes())
	if err := w.readBack(t, ch.offsetOf(t)); err != nil {
		return err
	}
	w.back = sized(w.back, uint64(len(w.rows)))
	if err := quant.Decode(ch.store, w.back, w.out); err != nil {
		return err
	}
	if ch.types[t.slice] == ch.tensor.Type {
		for i := range w.rows {
			if w.rows[i] != w.back[i] {
				return fmt.Errorf("tensor %s: expert %d: weight %d of rows %d on changed, and its type does not", ch.tensor.Name, t.slice, i, t.first)
			}
		}
		return nil
	}
	columns := ch.tensor.Shape[0]
	unit, floor := rounding(ch.store)
	var lost, allowed stats.Sum
	for i := range t.rows {
		weights := w.weights.Of(w.weights.Matrix(t.first + i))
		var rowLost, rowAllowed float64
		for k := range columns {
			v := float64(w.back[i*columns+k])
			d := float64(w.rows[i*columns+k]) - v
			u := max(unit*math.Abs(v), floor)
			m := 1.0
			if weights != nil {
				m = weights[k]
			}
			rowLost += float64(m * float64(d*d))
			rowAllowed += float64(m * float64(u*u))
		}
		lost.Add(rowLost)
		allowed.Add(rowAllowed)
	}
	t.error, t.norm = lost.Value(), allowed.Value()
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
func (w *worker) readBack(t *task, offset uint64) error {
	n, err := w.outputs[t.file].ReadAt(w.out, int64(offset))
	if n == len(w.out) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: byte %d: %w", w.copy.Files[t.file].Name, offset, err)
}

// readRows decodes the task's rows of the source, and reads its expert's
// column weights.
func (w *worker) readRows(t *task) error {
	tensor := t.change.tensor
	w.raw = sized(w.raw, t.rows*tensor.RowBytes())
	if err := w.data.ReadRows(tensor, t.slice, t.first, t.rows, w.raw); err != nil {
		return err
	}
	w.rows = sized(w.rows, t.rows*tensor.Shape[0])
	if err := quant.Decode(tensor.Type, w.rows, w.raw); err != nil {
		return err
	}
	if w.change == t.change && w.slice == t.slice {
		return nil
	}
	w.change, w.slice = t.change, t.slice
	_, err := w.weights.Read(w.copy.options.Columns, tensor, t.slice)
	return err
}

// tripFor returns the round trip through a type with the weights of a row.
func (w *worker) tripFor(typ quant.Type, row uint64) (*stats.RoundTrip, error) {
	trip := w.trips[typ]
	if trip == nil {
		var err error
		if trip, err = stats.NewRoundTrip(typ); err != nil {
			return nil, err
		}
		w.trips[typ] = trip
	}
	trip.SetWeights(w.weights.Of(w.weights.Matrix(row)))
	return trip, nil
}

func (w *worker) encoderFor(typ quant.Type) (*quant.Encoder, error) {
	if w.stores[typ] == nil {
		enc, err := quant.NewEncoder(typ)
		if err != nil {
			return nil, err
		}
		w.stores[typ] = enc
	}
	return w.stores[typ], nil
}

func (w *worker) fault(t *task, row uint64, err error) error {
	return fmt.Errorf("tensor %s: expert %d: row %d: %w", t.change.tensor.Name, t.slice, t.first+row, err)
}

// storeRowBytes is the size of a row as the copy stores it.
func (ch *change) storeRowBytes() uint64 {
	f, _ := quant.Lookup(ch.store)
	return ch.tensor.Shape[0] * f.Layout.BytesPerBlock
}

// offsetOf returns where a task's rows lie in the copy's file.
func (ch *change) offsetOf(t *task) uint64 {
	return ch.offset + (uint64(t.slice)*ch.tensor.ExpertRows()+t.first)*ch.storeRowBytes()
}
