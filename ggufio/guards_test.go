package ggufio_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// model is a valid file of two small tensors, to break in one way.
func model() *gguftest.Builder {
	b := &gguftest.Builder{}
	b.Set("general.architecture", "qwen3moe")
	b.Set("qwen3moe.block_count", uint32(1))
	b.AddF32("token_embd.weight", []uint64{4, 2}, make([]float32, 8))
	b.AddF32("blk.0.attn_norm.weight", []uint64{4}, make([]float32, 4))
	return b
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func raw(parts ...[]byte) gguftest.Raw {
	var out gguftest.Raw
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Each guard refuses the file that it is there for, says where, and spends
// little memory on it.
func TestGuards(t *testing.T) {
	patch := func(at int, data ...byte) func() []byte {
		return func() []byte {
			b := model().Bytes()
			copy(b[at:], data)
			return b
		}
	}
	set := func(key string, value any) func() []byte {
		return func() []byte { return model().Set(key, value).Bytes() }
	}
	shape := func(typ quant.Type, shape ...uint64) func() []byte {
		return func() []byte {
			b := model()
			b.Tensors[0] = gguftest.Tensor{Name: "token_embd.weight", Type: typ, Shape: shape, Data: make([]byte, 32)}
			return b.Bytes()
		}
	}
	name := func(s string) func() []byte {
		return func() []byte {
			b := model()
			b.Tensors[0].Name = s
			return b.Bytes()
		}
	}
	offset := func(v uint64) func() []byte {
		return func() []byte {
			b := model()
			b.Tensors[1].DeclaredOffset = &v
			return b.Bytes()
		}
	}
	declared := func(tensors, pairs uint64) func() []byte {
		return func() []byte {
			b := model()
			if tensors != 0 {
				b.DeclaredTensors = &tensors
			}
			if pairs != 0 {
				b.DeclaredPairs = &pairs
			}
			return b.Bytes()
		}
	}
	cut := func(n int) func() []byte { return func() []byte { return model().Bytes()[:n] } }

	for _, tt := range []struct {
		name string
		file func() []byte
		size int64 // the file is extended to it with a hole; 0 for as it is
		want string
	}{
		{"empty", func() []byte { return nil }, 0, "is empty"},
		{"three bytes", func() []byte { return []byte("GGU") }, 0, `byte 0: magic: "GGU" is not "GGUF"`},
		{"magic", patch(0, 'N', 'O', 'P', 'E'), 0, `byte 0: magic: "NOPE" is not "GGUF"`},
		{"ggml", patch(0, 'l', 'm', 'g', 'g'), 0, "before GGUF"},
		{"reversed magic", patch(0, 'F', 'U', 'G', 'G'), 0, "big-endian"},
		{"version 0", patch(4, 0), 0, "byte 4: version: 0 is not supported, only 2 and 3 are"},
		{"version 1", patch(4, 1), 0, "byte 4: version: 1 is not supported"},
		{"version 4", patch(4, 4), 0, "byte 4: version: 4 is not supported"},
		{"big endian", patch(4, 0, 0, 0, 3), 0, "byte 4: version: big-endian GGUF is not supported"},

		{"tensor count over the limit", declared(1<<60, 0), 0, "byte 8: tensor count: 1152921504606846976 is over the limit of 200000 (limit of this program)"},
		{"tensor count over the size", declared(1000, 0), 0, "(file size)"},
		{"one tensor more", declared(3, 0), 0, "tensor 2: name"},
		{"pair count over the limit", declared(0, 1<<60), 0, "byte 16: metadata count: 1152921504606846976 is over the limit of 65536 (limit of this program)"},
		{"pair count in a sparse giant", declared(0, 530_000_000), 10 << 30, "is over the limit of 65536"},
		{"pair count over the size", declared(0, 1000), 0, "(file size)"},
		{"one pair more", declared(0, 3), 0, "tensor 0: name: "},
		{"one pair less", declared(0, 1), 0, "tensor qwen3moe.block_count: shape: "},

		{"cut in the magic", cut(2), 0, "magic"},
		{"cut in the counts", cut(12), 0, "byte 8: tensor count: needs 8 bytes, and the file ends after 4"},
		{"cut in a key", cut(35), 0, "file size"},
		{"cut in the tensor infos", cut(150), 0, "tensor token_embd.weight: shape: needs 8 bytes, and the file ends after 5"},

		{"empty key", set("", uint32(1)), 0, "key: is empty"},
		{"twice the key", func() []byte {
			b := model()
			b.Pairs = append(b.Pairs, b.Pairs[0])
			return b.Bytes()
		}, 0, "metadata general.architecture: duplicate key"},
		{"longer key", set(strings.Repeat("k", 64<<20+1), uint32(1)), 0, "67108865 is over the limit of 67108864 (length of a string)"},
		{"key length 2^63", patch(24, 0, 0, 0, 0, 0, 0, 0, 0x80), 0, "byte 24: metadata pair 0: key: 9223372036854775808 is over the limit"},
		{"hostile key", set("a\x1b[2Jb", raw(le32(13))), 0, `metadata "a\x1b[2Jb": type: there is no value type 13`},
		{"value type 13", set("k", raw(le32(13))), 0, "metadata k: type: there is no value type 13"},
		{"string past the end", set("k", raw(le32(8), le64(100_000))), 0, "metadata k: 100000 is over the limit of"},
		{"string of 2^64-1", set("k", raw(le32(8), le64(math.MaxUint64))), 0, "(length of a string)"},
		{"string of 3 GB in a sparse giant", set("k", raw(le32(8), le64(3<<30))), 4 << 30, "metadata k: 3221225472 is over the limit of 67108864 (length of a string)"},

		{"array of arrays", set("k", raw(le32(9), le32(9), le64(1), le32(4), le64(0))), 0, "metadata k: element type: arrays of arrays are not supported"},
		{"array of type 13", set("k", raw(le32(9), le32(13), le64(0))), 0, "metadata k: element type: there is no value type 13"},
		{"array past the end", set("k", raw(le32(9), le32(4), le64(1000))), 0, "metadata k: array length: 1000 is over the limit of"},
		{"array of 2^61", set("k", raw(le32(9), le32(4), le64(1<<61))), 0, "metadata k: array length: 2305843009213693952 is over the limit of 67108864"},
		{"array of 10^9 in a sparse giant", set("k", raw(le32(9), le32(0), le64(1_000_000_000))), 20 << 30, "metadata k: array length: 1000000000 is over the limit"},
		{"header of 160 MB", set("k", raw(le32(9), le32(10), le64(20_000_000))), 1 << 30, "(size of a header)"},
		{"strings past the end", set("k", raw(le32(9), le32(8), le64(3), le64(0), le64(1<<40))), 0, "metadata k: 1099511627776 is over the limit"},

		{"alignment 0", set("general.alignment", uint32(0)), 0, "metadata general.alignment: 0 is not a power of two"},
		{"alignment 24", set("general.alignment", uint32(24)), 0, "24 is not a power of two"},
		{"alignment 2^31", set("general.alignment", uint32(1<<31)), 0, "2147483648 is over the limit of 1048576"},
		{"alignment as uint64", set("general.alignment", uint64(32)), 0, "metadata general.alignment: is uint64, not uint32"},
		{"alignment as string", set("general.alignment", "32"), 0, "is string, not uint32"},

		{"no name", name(""), 0, "tensor 0: name: is empty"},
		{"padded name", name("a.weight "), 0, "begins or ends with white space"},
		{"name of 64", name(strings.Repeat("n", 64)), 0, "tensor 0: name: 64 is over the limit of 63"},
		{"name with an escape", name("a\x1b[2J"), 0, "a character that does not print"},
		{"name not UTF-8", name("a\xff"), 0, "is not UTF-8"},
		{"twice the name", name("blk.0.attn_norm.weight"), 0, "tensor blk.0.attn_norm.weight: duplicate name"},
		{"no dimensions", shape(quant.F32), 0, "dimension count: 0 is not between 1 and 4"},
		{"five dimensions", shape(quant.F32, 1, 1, 1, 1, 8), 0, "dimension count: 5 is not between 1 and 4"},
		{"a dimension of 0", shape(quant.F32, 4, 0), 0, "shape: dimension 1 is 0"},
		{"dimensions that wrap", shape(quant.F32, 1<<40, 1<<40), 0, "holds 2^62 weights or more"},
		{"a dimension of 2^64-1", shape(quant.F32, math.MaxUint64), 0, "holds 2^62 weights or more"},
		{"bytes of 2^62", shape(quant.F64, 1<<61), 0, "token_embd.weight: F64: "},
		{"half a block", shape(quant.Q8_0, 33), 0, "tensor token_embd.weight: Q8_0: row of 33 weights does not divide into blocks of 32"},
		{"blocks do not span rows", shape(quant.Q4_K, 128, 2), 0, "does not divide into blocks of 256"},
		{"type 4", shape(4, 4, 2), 0, "type: there is no tensor type 4"},
		{"type 31", shape(31, 4, 2), 0, "there is no tensor type 31"},
		{"type 38", shape(38, 4, 2), 0, "there is no tensor type 38"},
		{"type 43", shape(43, 4, 2), 0, "there is no tensor type 43"},
		{"type 2^32-1", shape(math.MaxUint32, 4, 2), 0, "there is no tensor type 4294967295"},

		{"overlap", offset(0), 0, "tensor blk.0.attn_norm.weight: offset: 0 is not 32, where the tensor before it ends"},
		{"gap", offset(64), 0, "offset: 64 is not 32"},
		{"misaligned", offset(33), 0, "offset: 33 is not 32"},
		{"offset 2^64-1", offset(math.MaxUint64), 0, "offset: 18446744073709551615 is not 32"},
		{"data past the end", shape(quant.F32, 4, 4), 0, "offset: 32 is not 64"},
		{"data cut by one byte", func() []byte {
			b := model().Bytes()
			return b[:len(b)-17] // 16 bytes are padding
		}, 0, "tensor blk.0.attn_norm.weight: the tensor data is missing: 272 bytes are needed, the file has 271 (the file was cut)"},
		{"header only", func() []byte { return model().Header() }, 0, "the tensor data is missing: 272 bytes are needed, the file has 224 (the file holds a header only)"},

		{"no architecture", func() []byte { return model().Unset("general.architecture").Bytes() }, 0, "metadata general.architecture: is absent: this is not a model"},
		{"architecture a number", set("general.architecture", uint32(7)), 0, "metadata general.architecture: is uint32, not string"},
		{"block_count 2^32-1", set("qwen3moe.block_count", uint32(math.MaxUint32)), 0, "metadata qwen3moe.block_count: 4294967295 is over the limit of 512 (LLAMA_MAX_LAYERS)"},
		{"block_count 2^63", set("qwen3moe.block_count", uint64(1<<63)), 0, "is over the limit of 512"},
		{"block_count -1", set("qwen3moe.block_count", int32(-1)), 0, "-1 is negative"},
		{"block_count a string", set("qwen3moe.block_count", "1"), 0, "is string, not an integer"},
		{"block_count too small", set("qwen3moe.block_count", uint32(0)), 0, "is 0, but there are tensors of block 0"},
		{"head_count a float", set("qwen3moe.attention.head_count", float32(1)), 0, "is float32, not an integer or an array of them"},
		{"head_count of too many blocks", set("qwen3moe.attention.head_count", []uint32{1, 2, 3}), 0, "has 3 entries for 1 blocks"},
		{"head_count empty", set("qwen3moe.attention.head_count", []uint32{}), 0, "has 0 entries for 1 blocks"},
		{"negative expert count", set("qwen3moe.expert_count", []int32{-1}), 0, "-1 is negative"},
		{"expert count of 2^31", set("qwen3moe.expert_count", uint32(1<<31)), 0, "is over the limit of 65536"},
		{"more MTP blocks than blocks", set("qwen3moe.nextn_predict_layers", uint32(2)), 0, "2 is over the limit of 1"},
		{"file_type a string", set("general.file_type", "Q4_K_M"), 0, "general.file_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := os.WriteFile(path, tt.file(), 0o644); err != nil {
				t.Fatal(err)
			}
			if tt.size > 0 {
				if err := os.Truncate(path, tt.size); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ggufio.Open(path)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("accepted")
			}
			var format *ggufio.FormatError
			if !errors.As(err, &format) || format.File != path {
				t.Errorf("%v is not a FormatError about the file", err)
			}
			if msg := strings.TrimPrefix(err.Error(), path+": "); !strings.Contains(msg, tt.want) {
				t.Errorf("error %q does not say %q", msg, tt.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("allocated %d bytes on a bad file", n)
			}
		})
	}
}

// The file that the guards' cases are made from is a valid one.
func TestGuardsBase(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		b := model()
		b.Version = version
		m := openBuilt(t, b)
		if len(m.Tensors) != 2 || m.Architecture.BlockCount != 1 {
			t.Errorf("version %d: read %d tensors and %d blocks", version, len(m.Tensors), m.Architecture.BlockCount)
		}
	}
}

// openBuilt writes a file that must open.
func openBuilt(t *testing.T, b *gguftest.Builder) *ggufio.Model {
	t.Helper()
	m, err := ggufio.Open(writeBuilt(t, b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func writeBuilt(t *testing.T, b *gguftest.Builder) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ggufio.Open(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
	missing := filepath.Join(dir, "nix.gguf")
	if _, err := ggufio.Open(missing); !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), "nix.gguf") != 1 {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := ggufio.Open(os.DevNull); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a device: %v", err)
	}
}

func TestOpenImatrix(t *testing.T) {
	b := gguftest.MoE{}.Imatrix(func(int) []float32 { return []float32{100, 75, 25, 4} })
	path := writeBuilt(t, b)
	if _, err := ggufio.Open(path); !errors.Is(err, ggufio.ErrImatrix) {
		t.Errorf("an imatrix as a model: %v", err)
	}
	m, err := ggufio.OpenAny(path)
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := m.TensorByName("blk.1.ffn_down_exps.weight.counts"); !ok || len(x.Shape) != 2 || x.Shape[1] != 4 {
		t.Errorf("counts: %+v, %v", x, ok)
	}
	if files, ok, err := m.Metadata.Strings("imatrix.datasets"); err != nil || !ok || len(files) != 1 {
		t.Errorf("datasets: %q, %v, %v", files, ok, err)
	}
	// An older writer may leave the type out; the tensors tell all the same.
	if _, err := ggufio.Open(writeBuilt(t, b.Unset("general.type"))); !errors.Is(err, ggufio.ErrImatrix) {
		t.Errorf("an imatrix without general.type: %v", err)
	}
}
