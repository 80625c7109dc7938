package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// Every expert of a tier file is as it is in the file whose experts all have
// its type, and where its table says; nothing else differs from the fused file.
func TestApplySplit(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	out := filepath.Join(dir, "tiers.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "--split", "-o", out)
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "--split", "--dry-run")
	type file struct {
		model *ggufio.Model
		data  []byte
	}
	open := func(path string) file {
		m, err := ggufio.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return file{m, data}
	}
	bytesOf := func(f file, name string) []byte {
		for i := range f.model.Tensors {
			if x := &f.model.Tensors[i]; x.Name == name {
				return f.data[x.OffsetBytes:][:x.SizeBytes]
			}
		}
		return nil
	}
	uniform := map[string]file{}
	for _, typ := range []string{"Q2_K", "Q3_K", "Q4_K"} {
		all := planFile(t, dir, typ, "--pin", "ffn_.*_exps="+typ)
		path := filepath.Join(dir, typ+".gguf")
		ggufplan(t, exitDone, "apply", all, realModel, "--imatrix", realImatrix, "-o", path)
		uniform[typ] = open(path)
	}
	raw, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	tiers := open(out)
	if size := m.Totals.SplitFileBytes; size == nil || *size != uint64(len(tiers.data)) {
		t.Errorf("the plan says %v bytes, the file has %d", size, len(tiers.data))
	}
	if !bytes.Contains(tiers.data[:tiers.model.Files[0].DataOffsetBytes], []byte("moe_tiers.requires")) {
		t.Error("the file does not say what it requires")
	}
	split := 0
	for _, want := range m.Tensors {
		base := strings.TrimSuffix(want.Name, ".weight")
		table := bytesOf(tiers, base+".tiers")
		if table == nil {
			continue
		}
		split++
		experts := len(want.ExpertTypes)
		for e, typ := range want.ExpertTypes {
			homes := 0
			for k := range len(table) / 4 / experts {
				at := int(int32(binary.LittleEndian.Uint32(table[4*(k*experts+e):])))
				if at < 0 {
					continue
				}
				homes++
				whole := bytesOf(uniform[typ], want.Name)
				size := len(whole) / experts
				tier := bytesOf(tiers, base+".tier"+string(rune('0'+k))+".weight")
				if len(tier) < (at+1)*size || !bytes.Equal(tier[at*size:][:size], whole[e*size:][:size]) {
					t.Errorf("%s: expert %d is not what %s makes of it", want.Name, e, typ)
				}
			}
			if homes != 1 {
				t.Errorf("%s: expert %d is in %d tiers", want.Name, e, homes)
			}
		}
		if bytesOf(tiers, want.Name) != nil {
			t.Errorf("%s is there beside its tiers", want.Name)
		}
	}
	if split == 0 {
		t.Error("no tensor is split")
	}
}
