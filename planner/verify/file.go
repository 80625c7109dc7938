package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

const (
	keyImatrix = "quantize.imatrix.file"
	keyRecord  = "ggufplan.plan_sha256"
)

// sameFacts refuses a model whose metadata is another model's.
func sameFacts(plan *manifest.Manifest, model *ggufio.Model) error {
	want, got := &plan.Model, &model.Architecture
	if manifest.Printable(got.Name) != want.Architecture {
		return fmt.Errorf("the model's architecture is %q, the plan is for %q", got.Name, want.Architecture)
	}
	if uint64(got.BlockCount) != want.BlockCount {
		return fmt.Errorf("another model: it has %d blocks, the planned one %d", got.BlockCount, want.BlockCount)
	}
	// A manifest counts by tensors; those of a tier file hold a part each.
	if n := uint64(model.MostExperts()); n != want.ExpertCount && uint64(got.ExpertCount) != want.ExpertCount {
		return fmt.Errorf("another model: it has %d experts, the planned one %d", n, want.ExpertCount)
	}
	// Where general.name is absent the name is the file's.
	named := len(want.Files) == 0 || want.Name != want.Files[0].Name
	if name, ok, _ := model.Metadata.String("general.name"); ok && named && want.Name != "" && manifest.Printable(name) != want.Name {
		return fmt.Errorf("another model: its name is %q, the planned one's %q", name, want.Name)
	}
	return nil
}

// compareImatrix reports an importance matrix that the file lacks or has
// beyond the plan.
func (r *Report) compareImatrix(plan *manifest.Manifest, model *ggufio.Model, allowNone bool) (planned, found string) {
	if plan.Statistics != nil {
		planned, _ = llamaquantize.Imatrix(plan.Statistics.Inputs)
	}
	found, has, _ := model.Metadata.String(keyImatrix)
	switch {
	case planned != "" && !has && !allowNone:
		r.add(KindImatrix, keyImatrix, planned, "")
	case planned == "" && has:
		r.add(KindImatrix, keyImatrix, "", found)
	}
	return planned, found
}

// compareSize reports a file of another size, with the reason where one is
// known. A size that differs only by what the file calls its importance
// matrix, or by the recorded plan, is right.
func (r *Report) compareSize(plan *manifest.Manifest, model *ggufio.Model, planned, found string, allowNone bool) {
	size, align := plan.Totals.PlannedFileBytes, uint64(llamaquantize.OutputAlignment)
	if model.IsTierFile() {
		size, align = plan.Totals.SplitFileBytes, model.Files[0].AlignmentBytes
	}
	if size == nil || len(model.Files) != 1 || model.Files[0].AlignmentBytes != align {
		return
	}
	want, got := int64(*size), int64(model.Files[0].SizeBytes)
	if want == got {
		return
	}
	var data uint64
	if model.IsTierFile() {
		for i := range model.Tensors {
			data += ggufio.Padded(model.Tensors[i].SizeBytes, align)
		}
	} else {
		for i := range plan.Tensors {
			data += ggufio.Padded(plan.Tensors[i].PlannedBytes, align)
		}
	}
	longer := int64(0)
	if planned != "" && found != "" {
		longer = int64(len(found)) - int64(min(len(planned), 127))
	}
	reason := fmt.Sprintf("by the length of its %s, %q", keyImatrix, found)
	if p, ok := model.Metadata.Lookup(keyRecord); ok {
		longer += int64(p.SizeBytes)
		reason = "by its " + keyRecord
	}
	header := uint64(got)-model.Files[0].DataOffsetBytes == data && *r.FoundBytes == r.PlannedBytes
	pad := int64(align)
	low := longer - ((longer%pad)+pad)%pad
	switch delta := got - want; {
	case header && longer != 0 && (delta == low || delta == low+pad):
		r.Notes = append(r.Notes, fmt.Sprintf("the file's %d bytes differ from the planned %d only %s", got, want, reason))
	case header && allowNone && planned != "" && found == "":
		r.Notes = append(r.Notes, fmt.Sprintf("the file's %d bytes differ from the planned %d only in the header, which names no importance matrix", got, want))
	case header:
		r.add(KindFileBytes, "file", strconv.FormatInt(want, 10), fmt.Sprintf("%d: the metadata differs, tensor data has the planned size", got))
	default:
		r.add(KindFileBytes, "file", strconv.FormatInt(want, 10), strconv.FormatInt(got, 10))
	}
}

// chunkBytes is how much of a tensor is looked at at once.
const chunkBytes = 1 << 20

// Data reads every tensor's blocks once and adds to the report what cannot be
// weights: numbers that are not finite, and matrices, or experts of them, that
// are all zero bytes.
func (r *Report) Data(ctx context.Context, model *ggufio.Model, workers int, progress func(done, total uint64)) error {
	data, err := model.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	found := make([][]Difference, len(model.Tensors))
	var total uint64
	for i := range model.Tensors {
		total += model.Tensors[i].SizeBytes
	}
	report := make(chan uint64)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var done uint64
		for n := range report {
			done += n
			if progress != nil {
				progress(done, total)
			}
		}
	}()
	err = measure.Parallel(ctx, len(model.Tensors), workers, func() *measure.Rows { return measure.NewRows(data, nil) }, func(s *measure.Rows, i int) error {
		t := &model.Tensors[i]
		experts := max(1, t.Experts())
		for e := range experts {
			zero := true
			perChunk := max(1, chunkBytes/max(1, t.RowBytes()))
			for first := uint64(0); first < t.ExpertRows(); first += perChunk {
				if err := ctx.Err(); err != nil {
					return err
				}
				rows := min(perChunk, t.ExpertRows()-first)
				if err := s.ReadRaw(t, e, first, rows); err != nil {
					return err
				}
				report <- uint64(len(s.Raw))
				if zero && len(bytes.TrimLeft(s.Raw, "\x00")) > 0 {
					zero = false
				}
				if !quant.CanDecode(t.Type) {
					continue
				}
				if err := s.Decode(t); err != nil {
					return err
				}
				for k, v := range s.Values {
					if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
						found[i] = append(found[i], Difference{KindData, t.Name, "finite weights",
							fmt.Sprintf("%v in row %d of expert %d", v, first+uint64(k)/t.Shape[0], e)})
						return nil
					}
				}
			}
			if zero && quant.Quantizable(t.Name, t.Shape) {
				got := "all zero bytes"
				if experts > 1 {
					got = fmt.Sprintf("expert %d is all zero bytes", e)
				}
				found[i] = append(found[i], Difference{KindData, t.Name, "weights", got})
				return nil
			}
		}
		return nil
	})
	close(report)
	<-finished
	if err != nil {
		return err
	}
	for i := range found {
		r.Differences = append(r.Differences, found[i]...)
	}
	r.sort()
	r.DataRead = true
	return nil
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(lastSubject(a), lastSubject(b)), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Kind, b.Kind))
	})
}

// lastSubject puts what is about the whole file behind tensors.
func lastSubject(d Difference) int {
	switch d.Kind {
	case KindTotal, KindFileBytes, KindImatrix:
		return 1
	}
	return 0
}
