package apply

import "sort"

const (
	pieceWeights = 512 << 10 // that a worker encodes at once, or a row
	pieceBytes   = 2 << 20   // that it copies at once
)

// A plan of pieces cuts a file's tensors the same way for any number of
// workers, without a list of them all: a model of 10^12 weights has millions.
type pieces struct {
	runs  []run
	count int
}

// A run is the pieces of one tensor: slice after slice, each cut alike.
type run struct {
	tensor   *Tensor
	first    int    // number of its first piece
	slices   int    // of whole source experts
	perSlice int    // pieces
	unit     uint64 // rows, or bytes where the tensor is copied, of a piece
	units    uint64 // of a slice
	outBytes uint64 // of a unit in the output
}

// A piece is some rows, or bytes, of one slice of a tensor.
type piece struct {
	*run
	slice        int
	start, units uint64
	offset, size uint64 // in the output
}

func cut(tensors []Tensor) pieces {
	var p pieces
	for i := range tensors {
		t := &tensors[i]
		r := run{tensor: t, first: p.count, slices: 1, unit: pieceBytes, units: t.SizeBytes, outBytes: 1}
		if t.Changed() {
			rows := t.Source.ExpertRows()
			r.slices = t.slices()
			r.unit, r.units = max(1, pieceWeights/t.Shape[0]), rows
			r.outBytes = t.SizeBytes / (rows * uint64(r.slices))
		} else if t.Experts != nil {
			r.slices, r.units = t.slices(), t.Source.ExpertBytes()
		}
		r.perSlice = int((r.units + r.unit - 1) / r.unit)
		p.runs = append(p.runs, r)
		p.count += r.slices * r.perSlice
	}
	return p
}

func (p *pieces) at(i int) piece {
	n := sort.Search(len(p.runs), func(k int) bool { return p.runs[k].first > i }) - 1
	for p.runs[n].slices*p.runs[n].perSlice == 0 {
		n-- // an empty tensor begins where the next does
	}
	r := &p.runs[n]
	i -= r.first
	x := piece{run: r, slice: i / r.perSlice, start: uint64(i%r.perSlice) * r.unit}
	x.units = min(r.unit, r.units-x.start)
	x.offset = r.tensor.offset + (uint64(x.slice)*r.units+x.start)*r.outBytes
	x.size = x.units * r.outBytes
	return x
}

// sourceBytes is how much of the source a piece reads.
func (x *piece) sourceBytes() uint64 {
	if x.tensor.Changed() {
		return x.units * x.tensor.Source.RowBytes()
	}
	return x.units
}

// sourceBytes is how much of the source all pieces read.
func (p *pieces) sourceBytes() (total uint64) {
	for i := range p.runs {
		all := piece{run: &p.runs[i], units: p.runs[i].units * uint64(p.runs[i].slices)}
		total += all.sourceBytes()
	}
	return total
}
