package ggufio_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

const tiered = "blk.0.ffn_up_exps"

// tierModel has the experts of one projection in three tiers; tier 2 holds one.
func tierModel() *gguftest.Builder {
	return gguftest.MoE{Layers: 2, Experts: 6, Embd: 32, FF: 32, Vocab: 4, Type: quant.F16}.Builder().Tier(tiered+".weight", []int{1, 4}, []int{0, 2, 5}, []int{3})
}

func tensorOf(b *gguftest.Builder, name string) *gguftest.Tensor {
	return &b.Tensors[slices.IndexFunc(b.Tensors, func(t gguftest.Tensor) bool { return t.Name == name })]
}

func TestTiers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := tierModel().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !m.IsTierFile() || len(m.TierSets) != 1 || m.ExpertCount(0) != 6 || m.ExpertCount(1) != 6 || m.MostExperts() != 6 || len(m.MoELayers()) != 2 {
		t.Fatalf("tier sets %+v, %d experts", m.TierSets, m.MostExperts())
	}
	s := &m.TierSets[0]
	if s.Name != tiered+".weight" || s.Role != ggufio.RoleExpertUp || s.Layer != 0 || s.Experts != 6 || !slices.Equal(s.Shape, []uint64{32, 32, 6}) {
		t.Errorf("set %+v", s)
	}
	for k, want := range []int{2, 3, 1} {
		if x := &m.Tensors[s.Tiers[k]]; x.Experts() != want || x.TierOf != s.Name || x.Role != ggufio.RoleExpertUp || x.ExpertRows() != 32 {
			t.Errorf("tier %d: %+v", k, x)
		}
	}
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	places, err := d.ReadTiers(s)
	if want := []ggufio.Place{{1, 0}, {0, 0}, {1, 1}, {2, 0}, {0, 1}, {1, 2}}; err != nil || !slices.Equal(places, want) {
		t.Errorf("places %v, want %v (%v)", places, want, err)
	}
}

func TestTiersRefused(t *testing.T) {
	entry := func(b *gguftest.Builder, i int, v int32) {
		binary.LittleEndian.PutUint32(tensorOf(b, tiered+".tiers").Data[4*i:], uint32(v))
	}
	drop := func(b *gguftest.Builder, name string) {
		b.Tensors = slices.DeleteFunc(b.Tensors, func(t gguftest.Tensor) bool { return t.Name == name })
	}
	shape := []uint64{32, 32, 2}
	for _, tt := range []struct {
		name   string
		change func(b *gguftest.Builder)
		want   string
	}{
		{"a missing tier", func(b *gguftest.Builder) { drop(b, tiered+".tier1.weight") }, "tensor " + tiered + ".tiers: its tier " + tiered + ".tier1.weight is missing"},
		{"an extra tier", func(b *gguftest.Builder) { b.Add(tiered+".tier3.weight", quant.F16, shape, nil) }, "tensor " + tiered + ".tier3.weight: tier 3, but " + tiered + ".tiers has 3 tiers"},
		{"an extra tier far away", func(b *gguftest.Builder) { b.Add(tiered+".tier9.weight", quant.F16, shape, nil) }, "tier 9, but"},
		{"no table", func(b *gguftest.Builder) { drop(b, tiered+".tiers") }, "tensor " + tiered + ".tier0.weight: tier 0, but there is no table"},
		{"a plain tensor beside", func(b *gguftest.Builder) { b.Add(tiered+".weight", quant.F16, []uint64{32, 32, 6}, nil) }, "tensor " + tiered + ".weight: is there beside " + tiered + ".tiers"},
		{"floats", func(b *gguftest.Builder) { tensorOf(b, tiered+".tiers").Type = quant.F32 }, "want a table of I32"},
		{"one axis", func(b *gguftest.Builder) { tensorOf(b, tiered+".tiers").Shape = []uint64{18} }, "want a table of I32"},
		{"more tiers than experts", func(b *gguftest.Builder) { tensorOf(b, tiered+".tiers").Shape = []uint64{3, 6} }, "want a table of I32"},
		{"rows of two lengths", func(b *gguftest.Builder) { tensorOf(b, tiered+".tier1.weight").Shape = []uint64{64, 16, 3} }, "tensor " + tiered + ".tier1.weight: shape"},
		{"too few experts", func(b *gguftest.Builder) {
			x := tensorOf(b, tiered+".tier0.weight")
			x.Shape, x.Data = []uint64{32, 32, 1}, x.Data[:2048]
		}, "has 6 experts, its tiers hold 5"},
		{"other experts than down", func(b *gguftest.Builder) {
			x := tensorOf(b, "blk.0.ffn_down_exps.weight")
			x.Shape, x.Data = []uint64{32, 32, 5}, x.Data[:5*2048]
		}, "experts"},

		{"an index twice", func(b *gguftest.Builder) { entry(b, 1, 1) }, "experts 1 and 4 are both number 1 of tier 0"},
		{"an index too large", func(b *gguftest.Builder) { entry(b, 4, 2) }, "expert 4 is number 2 of tier 0, which holds 2"},
		{"an index below -1", func(b *gguftest.Builder) { entry(b, 4, -2) }, "expert 4 is number -2 of tier 0"},
		{"an expert twice", func(b *gguftest.Builder) { entry(b, 6+1, 0); entry(b, 6, -1) }, "expert 1 is in tiers 0 and 1"},
		{"an expert nowhere", func(b *gguftest.Builder) { entry(b, 4, -1) }, "nobody is number 1 of tier 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tierModel()
			tt.change(b)
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := b.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			err := openTiers(path)
			var format *ggufio.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), tt.want) || format.OffsetBytes == 0 {
				t.Errorf("error %v, want one with %q and a place", err, tt.want)
			}
		})
	}
}

// openTiers opens a model and reads its tables.
func openTiers(path string) error {
	m, err := ggufio.Open(path)
	if err != nil {
		return err
	}
	d, err := m.OpenData()
	if err != nil {
		return err
	}
	defer d.Close()
	for i := range m.TierSets {
		s := &m.TierSets[i]
		places, err := d.ReadTiers(s)
		if err != nil {
			return err
		}
		held := map[ggufio.Place]bool{}
		for _, p := range places {
			if p.Index < 0 || p.Index >= m.Tensors[s.Tiers[p.Tier]].Experts() || held[p] {
				return errors.New("a place that is none, or is taken")
			}
			held[p] = true
		}
	}
	return nil
}

// FuzzTiers: whatever a table holds, each expert gets a place of its own or the
// error says where the table is wrong.
func FuzzTiers(f *testing.F) {
	good := tierModel()
	f.Add(tensorOf(good, tiered+".tiers").Data, uint8(2), uint8(3), uint8(1))
	f.Add(make([]byte, 72), uint8(1), uint8(1), uint8(4))
	f.Add([]byte{1, 0, 0, 0}, uint8(6), uint8(0), uint8(0))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, table []byte, a, b, c uint8) {
		m := tierModel()
		copy(tensorOf(m, tiered+".tiers").Data, table)
		for k, n := range []uint8{a, b, c} {
			x := tensorOf(m, ggufio.TierName(tiered+".weight", k))
			x.Shape, x.Data = []uint64{32, 32, uint64(n)}, make([]byte, 2048*int(n))
		}
		path := filepath.Join(dir, "m.gguf")
		if err := m.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		err := openTiers(path)
		var format *ggufio.FormatError
		if err != nil && !errors.As(err, &format) {
			t.Fatalf("%v is not a FormatError", err)
		}
		os.Remove(path)
	})
}
