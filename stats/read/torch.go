package read

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/npy"
	"github.com/ggufplan/ggufplan/stats/internal/pickle"
)

// A storageType is how torch stores the values of a storage.
type storageType struct {
	kind byte // as in npy.Number
	size int
}

// storageTypes are torch's typed storages of real numbers.
var storageTypes = map[string]storageType{
	"torch.LongStorage": {'i', 8}, "torch.IntStorage": {'i', 4}, "torch.ShortStorage": {'i', 2},
	"torch.CharStorage": {'i', 1}, "torch.ByteStorage": {'u', 1}, "torch.BoolStorage": {'b', 1},
	"torch.DoubleStorage": {'f', 8}, "torch.FloatStorage": {'f', 4}, "torch.HalfStorage": {'f', 2}, "torch.BFloat16Storage": {'B', 2},
}

// A torchStorage is a run of values in the archive.
type torchStorage struct {
	storageType
	values uint64
	key    string
	data   []byte // nil until a tensor of it is read
}

// A torchTensor is a strided view of a storage.
type torchTensor struct {
	storage *torchStorage
	offset  uint64
	shape   []uint64
	strides []uint64
	values  uint64
}

func (t *torchTensor) String() string { return fmt.Sprintf("tensor %v", t.shape) }

// A torchFile is a zip archive as torch.save writes it: PREFIX/data.pkl beside
// the raw little-endian storages PREFIX/data/KEY.
type torchFile struct {
	ctx      context.Context
	entries  map[string]*zip.File
	read     map[string]bool // entries
	prefix   string
	storages map[string]*torchStorage

	// What may still be read: a tensor named many times or expanded by strides
	// of 0, or entries that lie over each other, must not cost more than the
	// file, or than a map of experts where that is more.
	unreadValues, unreadBytes uint64
}

func sniffTorch(head []byte) bool {
	return len(head) >= 4 && string(head[:4]) == "PK\x03\x04"
}

// sniffPickle recognises a pickle outside of an archive. No instruction is 0,
// which is what follows in a legacy imatrix of 640 entries.
func sniffPickle(head []byte) bool {
	return len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] != 0
}

// refusePickle explains why bare pickles are not read.
func refusePickle(_ context.Context, src *source, _ Options) (*stats.Evidence, error) {
	return nil, stats.Hintf("save it with torch.save of PyTorch 1.6 or later, or as an array: numpy.save(FILE, counts)",
		"is a bare pickle, which is a program: only the tensors of a .pt archive are read")
}

// readTorch reads .pt files: SGLang's recorders, REAP's observations, and bare
// tensors of counts.
func readTorch(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	return withFile(src, func(f *os.File, size int64) (*stats.Evidence, error) { return torchEvidence(ctx, f, size, opt) })
}

func torchEvidence(ctx context.Context, f io.ReaderAt, size int64, opt Options) (*stats.Evidence, error) {
	file, root, err := openTorch(ctx, f, size)
	if err != nil {
		return nil, err
	}
	ev, err := file.evidence(root, opt)
	if err != nil {
		return nil, err
	}
	return ev, file.checkRest()
}

// checkRest reads the stored entries that hold nothing of what was asked to
// their ends, where their checksums are compared: a file that is damaged there
// may be damaged in its numbers too.
func (f *torchFile) checkRest() error {
	for _, name := range slices.Sorted(maps.Keys(f.entries)) {
		entry := f.entries[name]
		if entry.Method != zip.Store || f.read[name] {
			continue
		}
		if entry.UncompressedSize64 > f.unreadBytes {
			return errors.New("archive entries are larger than the file")
		}
		f.unreadBytes -= entry.UncompressedSize64
		r, err := entry.Open()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// openTorch reads the pickle of an archive, and no tensor yet.
func openTorch(ctx context.Context, f io.ReaderAt, size int64) (*torchFile, any, error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return nil, nil, err
	}
	file := &torchFile{ctx: ctx, entries: make(map[string]*zip.File), read: make(map[string]bool), storages: make(map[string]*torchStorage), unreadValues: max(uint64(size), 1<<16), unreadBytes: uint64(size)}
	var content *zip.File
	for _, entry := range z.File {
		if file.entries[entry.Name] != nil {
			return nil, nil, fmt.Errorf("duplicate archive entry %.80q", entry.Name)
		}
		file.entries[entry.Name] = entry
		if prefix, is := strings.CutSuffix(entry.Name, "data.pkl"); is && (prefix == "" || strings.Count(prefix, "/") == 1 && strings.HasSuffix(prefix, "/")) {
			if content != nil {
				return nil, nil, errors.New("archive holds two data.pkl")
			}
			content, file.prefix = entry, prefix
		}
	}
	if content == nil {
		return nil, nil, stats.Hintf("save it with torch.save or numpy.savez", "is a zip archive without data.pkl or .npy arrays")
	}
	if order := file.entries[file.prefix+"byteorder"]; order != nil {
		text, err := readStored(order, 16)
		if err != nil {
			return nil, nil, err
		}
		if string(bytes.TrimSpace(text)) != "little" {
			return nil, nil, fmt.Errorf("byte order %q: want little", text)
		}
	}
	data, err := readStored(content, pickle.MaxBytes)
	if err != nil {
		return nil, nil, err
	}
	u := pickle.Unpickler{Data: data, Allowed: allowedInTorch, Call: callInTorch, Persistent: file.storage}
	root, err := u.Load()
	if err != nil {
		var foreign *pickle.ForeignName
		if errors.As(err, &foreign) {
			err = stats.Hintf("export the counts as numbers: numpy.save(FILE, counts), or as JSON", "%s: %w", content.Name, err)
		} else {
			err = fmt.Errorf("%s: %w", content.Name, err)
		}
		return nil, nil, err
	}
	return file, root, nil
}

// readStored reads an entry, which torch stores without compression.
func readStored(entry *zip.File, limit uint64) ([]byte, error) {
	if entry.Method != zip.Store || entry.CompressedSize64 != entry.UncompressedSize64 {
		return nil, fmt.Errorf("%s is compressed: torch.save stores", entry.Name)
	}
	if entry.UncompressedSize64 > limit {
		return nil, fmt.Errorf("%s has %d bytes, over the limit of %d", entry.Name, entry.UncompressedSize64, limit)
	}
	r, err := entry.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", entry.Name, err)
	}
	defer r.Close()
	// The size is a claim; what is read ends with the file.
	// Its checksum is compared at its end.
	data, err := io.ReadAll(io.LimitReader(r, int64(entry.UncompressedSize64)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", entry.Name, err)
	}
	return data, nil
}

// allowedInTorch lists the names that a file of tensors may mention.
func allowedInTorch(name string) bool {
	switch name {
	case "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict":
		return true
	}
	_, is := storageTypes[name]
	return is
}

// callInTorch does what calling an allowed name would do.
func callInTorch(name string, args []any) (any, error) {
	switch name {
	case "collections.OrderedDict":
		dict := &pickle.Dict{}
		if len(args) == 0 {
			return dict, nil
		}
		list, is := args[0].(*pickle.List)
		if !is || len(args) > 1 {
			return nil, errors.New("takes one list of pairs")
		}
		for _, item := range list.Items {
			pair, is := item.(*pickle.Tuple)
			if !is || len(pair.Items) != 2 {
				return nil, errors.New("takes one list of pairs")
			}
			dict.Keys = append(dict.Keys, pair.Items[0])
			dict.Values = append(dict.Values, pair.Items[1])
		}
		return dict, nil
	case "torch._utils._rebuild_parameter":
		if len(args) > 0 {
			if tensor, is := args[0].(*torchTensor); is {
				return tensor, nil
			}
		}
		return nil, errors.New("takes a tensor")
	case "torch._utils._rebuild_tensor_v2":
		return rebuildTensor(args)
	}
	return nil, errors.New("cannot be called; nothing was run")
}

// rebuildTensor takes (storage, offset, shape, strides, ...).
func rebuildTensor(args []any) (*torchTensor, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("%d arguments", len(args))
	}
	storage, ok1 := args[0].(*torchStorage)
	offset, ok2 := args[1].(int64)
	shape, ok3 := wholeTuple(args[2])
	strides, ok4 := wholeTuple(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || offset < 0 || len(shape) != len(strides) || len(shape) > 8 {
		return nil, errors.New("arguments are not a storage, an offset, a shape and strides")
	}
	t := &torchTensor{storage: storage, offset: uint64(offset), shape: shape, strides: strides, values: 1}
	if slices.Contains(shape, 0) {
		t.values = 0
		return t, nil
	}
	last := t.offset
	for i, n := range shape {
		if t.values > math.MaxInt64/n || strides[i] > storage.values || (n-1)*strides[i] > storage.values {
			return nil, fmt.Errorf("shape %v with strides %v does not lie in a storage of %d values", shape, strides, storage.values)
		}
		t.values *= n
		last += (n - 1) * strides[i]
	}
	if last >= storage.values {
		return nil, fmt.Errorf("shape %v with strides %v at %d does not lie in a storage of %d values", shape, strides, offset, storage.values)
	}
	return t, nil
}

// wholeTuple converts a tuple of numbers below 2^31.
func wholeTuple(v any) ([]uint64, bool) {
	tuple, is := v.(*pickle.Tuple)
	if !is || len(tuple.Items) > 8 {
		return nil, false
	}
	out := make([]uint64, len(tuple.Items))
	for i, item := range tuple.Items {
		n, is := item.(int64)
		if !is || n < 0 || n > math.MaxInt32 {
			return nil, false
		}
		out[i] = uint64(n)
	}
	return out, true
}

// storage takes ("storage", type, key, device, values). The device is where
// the writer had it, and does not matter.
func (f *torchFile) storage(id any) (any, error) {
	tuple, is := id.(*pickle.Tuple)
	if !is || len(tuple.Items) < 5 || tuple.Items[0] != "storage" {
		return nil, errors.New("a persistent id that is not a storage")
	}
	global, ok1 := tuple.Items[1].(*pickle.Global)
	key, ok2 := tuple.Items[2].(string)
	values, ok3 := tuple.Items[4].(int64)
	if !ok1 || !ok2 || !ok3 || values < 0 {
		return nil, errors.New("a storage without type, key and size")
	}
	kind, is := storageTypes[global.Name]
	if !is {
		return nil, fmt.Errorf("a storage of type %s", global.Name)
	}
	s := &torchStorage{storageType: kind, values: uint64(values), key: key}
	if known := f.storages[key]; known != nil {
		if known.storageType != s.storageType || known.values != s.values {
			return nil, fmt.Errorf("storage %q has two types or sizes", key)
		}
		return known, nil
	}
	entry := f.entries[f.prefix+"data/"+key]
	if entry == nil {
		return nil, fmt.Errorf("storage %.40q is not in the archive", key)
	}
	if have := entry.UncompressedSize64; s.values > have/uint64(s.size) {
		return nil, fmt.Errorf("storage %q has %d bytes, too few for %d values of %d", key, have, s.values, s.size)
	}
	f.storages[key] = s
	return s, nil
}

// bytesOf returns the bytes of a storage.
func (f *torchFile) bytesOf(s *torchStorage) ([]byte, error) {
	if s.data == nil {
		data, err := readStored(f.entries[f.prefix+"data/"+s.key], f.unreadBytes)
		if err != nil {
			return nil, err
		}
		f.unreadBytes -= uint64(len(data))
		f.read[f.prefix+"data/"+s.key] = true
		if uint64(len(data)) < s.values*uint64(s.size) {
			return nil, fmt.Errorf("storage %q ends after %d bytes of %d: %w", s.key, len(data), s.values*uint64(s.size), io.ErrUnexpectedEOF)
		}
		s.data = data
	}
	return s.data, nil
}

// rows calls row with each run of the last axis of a tensor, in the order of
// its shape. values is reused.
func (f *torchFile) rows(t *torchTensor, row func(values []float64) error) error {
	if t.storage.kind == 'b' {
		return fmt.Errorf("%v is of truth values, want numbers", t)
	}
	if t.values > f.unreadValues {
		return errors.New("tensors hold more values than the file: one is named many times")
	}
	f.unreadValues -= t.values
	if t.values == 0 {
		return nil
	}
	data, err := f.bytesOf(t.storage)
	if err != nil {
		return err
	}
	axes := len(t.shape)
	width, stride := uint64(1), uint64(0)
	if axes > 0 {
		axes--
		width, stride = t.shape[axes], t.strides[axes]
	}
	values := make([]float64, width)
	index := make([]uint64, axes)
	for n := 0; ; n++ {
		if n%1024 == 0 {
			if err := f.ctx.Err(); err != nil {
				return err
			}
		}
		at := t.offset
		for i, place := range index {
			at += place * t.strides[i]
		}
		for i := range values {
			values[i] = t.storage.value(data, at+uint64(i)*stride)
		}
		if err := row(values); err != nil {
			return err
		}
		i := axes - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < t.shape[i] {
				break
			}
			index[i] = 0
		}
		if i < 0 {
			return nil
		}
	}
}

// value decodes value i of a storage.
func (s storageType) value(data []byte, i uint64) float64 {
	var wide [8]byte
	copy(wide[:s.size], data[i*uint64(s.size):])
	return npy.Number(s.kind, s.size, binary.LittleEndian.Uint64(wide[:]))
}

// vector returns the values of a tensor of one axis.
func (f *torchFile) vector(t *torchTensor) ([]float64, error) {
	if len(t.shape) != 1 || t.shape[0] > maxExperts {
		return nil, fmt.Errorf("%v, want a list of at most %d experts", t, maxExperts)
	}
	var out []float64
	err := f.rows(t, func(values []float64) error {
		out = append(out, values...)
		return nil
	})
	return out, err
}

// scalar returns the value of a tensor of one value, or of a plain number.
func (f *torchFile) scalar(v any) (float64, error) {
	switch v := v.(type) {
	case int64:
		return float64(v), nil
	case float64:
		return v, nil
	case *torchTensor:
		if v.values == 1 {
			var out float64
			err := f.rows(v, func(values []float64) error {
				out = values[0]
				return nil
			})
			return out, err
		}
	}
	return 0, errors.New("is not a number")
}
