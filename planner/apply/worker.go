package apply

import (
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A worker makes pieces in its own memory.
type worker struct {
	layout *Layout
	data   *ggufio.Data
	rows   *measure.Rows
	out    []byte
}

func newWorker(l *Layout, data *ggufio.Data) *worker {
	return &worker{layout: l, data: data, rows: measure.NewRows(data, l.columns)}
}

// make fills w.out with a piece.
func (w *worker) make(x *piece) error {
	t := x.tensor
	w.out = measure.Sized(w.out, x.size)
	if t.kept {
		return w.data.ReadFile(t.file, x.offset, w.out)
	}
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
	columns, expert, through := t.Shape[0], t.expert(x.slice), t.rounding(x.slice)
	if through == quant.F32 && t.Type == t.Source.Type {
		return w.data.ReadRows(t.Source, expert, x.start, x.units, w.out)
	}
	if err := w.rows.Read(t.Source, expert, x.start, x.units); err != nil {
		return err
	}
	enc, err := w.rows.Encoder(t.Type)
	if err != nil {
		return err
	}
	var trip *measure.RoundTrip
	if through != quant.F32 {
		if trip, err = w.rows.Trip(through); err != nil {
			return err
		}
	}
	for i := range x.units {
		given := w.rows.Given(x.start + i)
		row := w.rows.Values[i*columns:][:columns]
		if trip != nil {
			err = trip.There(row, given)
			row = trip.Decoded()
		}
		if err == nil {
			err = enc.EncodeRow(w.out[i*x.outBytes:][:x.outBytes], row, given)
		}
		if err != nil {
			return fmt.Errorf("%s: tensor %s: expert %d: row %d: %w", w.layout.model.Files[t.Source.File].Name, t.Name, expert, x.start+i, err)
		}
	}
	return nil
}
