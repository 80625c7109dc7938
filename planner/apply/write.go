package apply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// ErrPartialExists reports state of an earlier run where a new one was asked
// for.
var ErrPartialExists = errors.New("holds an interrupted run")

// ErrOtherRun reports state that follows from other inputs or another layout.
var ErrOtherRun = errors.New("was begun with other inputs or another plan")

// ErrReadBack reports output that is not what was written.
var ErrReadBack = errors.New("does not read back as it was written: the disk or the memory is at fault")

// stateMagic starts the table behind a partial file's last byte; the digest of
// what the file follows from and a record for each piece come after it.
const stateMagic = "ggufplan.apply 1"

const stateHeaderBytes = len(stateMagic) + sha256.Size

const recordBytes = 8 // the piece's checksum, and one of the record

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteOptions say how a file is written.
type WriteOptions struct {
	Path    string // of the partial file
	Resume  bool
	Inputs  []string // what the bytes follow from beside the layout, such as digests
	Workers int      // 0 for one per processor

	// KeepState leaves the state of a whole file in it, so that a later run of
	// a set of files takes it over; [Layout.Finish] takes it off.
	KeepState bool

	NoCheck bool // leave out reading back
	SHA256  bool // return the file's digest

	// Progress is told what is done, "writing" or "checking", and how far that is,
	// in bytes of the source and of the file; what is left counts both. It may be
	// nil.
	Progress func(doing string, p pace.Progress)
}

// PartialBytes is the size of the partial file of a file of the layout.
func (l *Layout) PartialBytes(file int) uint64 {
	p := cut(l.Files[file].Tensors)
	return l.Files[file].SizeBytes + uint64(stateHeaderBytes) + recordBytes*uint64(p.count)
}

// A writing is the work on one file.
type writing struct {
	layout   *Layout
	file     *File
	options  WriteOptions
	pieces   pieces
	records  []byte
	identity [sha256.Size]byte
	out      *os.File
	progress progress
}

// Write writes a file of the layout to its partial file, reads it back, and
// leaves it whole, for the caller to rename. On an error what is done remains
// for a later run, if anything is. It returns the file's sha256 in hex where
// that is asked for.
func (l *Layout) Write(ctx context.Context, file int, o WriteOptions) (digest string, err error) {
	w := &writing{layout: l, file: &l.Files[file], options: o, pieces: cut(l.Files[file].Tensors)}
	if w.identity, err = w.identify(); err != nil {
		return "", err
	}
	created, err := w.open()
	if err != nil {
		return "", w.named(err)
	}
	wrote := !created
	defer func() {
		err = errors.Join(err, w.out.Close())
		if err != nil && !wrote {
			os.Remove(o.Path)
		}
	}()
	if err := w.begin(created); err != nil {
		return "", w.named(err)
	}
	wrote = true
	if err := w.fill(ctx); err != nil {
		return "", w.named(err)
	}
	after, err := w.identify()
	if err != nil {
		return "", err
	}
	if after != w.identity {
		return "", fmt.Errorf("%s: changed while it was read", l.model.Files[0].Name)
	}
	if !o.NoCheck || o.SHA256 {
		if digest, err = w.check(ctx); err != nil {
			return "", w.named(err)
		}
	}
	if !o.KeepState {
		if err := w.out.Truncate(int64(w.file.SizeBytes)); err != nil {
			return "", w.named(err)
		}
	}
	return digest, w.named(w.out.Sync())
}

// Finish takes the state off a whole file that was written with
// [WriteOptions.KeepState].
func (l *Layout) Finish(file int, path string) error {
	return os.Truncate(path, int64(l.Files[file].SizeBytes))
}

// named names the file that is to be, where an error names the partial one.
func (w *writing) named(err error) error {
	var fault *fs.PathError
	if errors.As(err, &fault) && fault.Path == w.options.Path {
		return fmt.Errorf("%s: %w", w.file.Name, fault.Err)
	}
	return err
}

// identify returns the digest of all that the file follows from.
func (w *writing) identify() (id [sha256.Size]byte, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d\n", stateMagic, pieceWeights, pieceBytes)
	h.Write(w.file.header)
	for i := range w.layout.model.Files {
		f := &w.layout.model.Files[i]
		info, err := os.Stat(f.Path)
		if err != nil {
			return id, err
		}
		fmt.Fprintf(h, "%d %s %d\n", info.Size(), f.HeaderSHA256, info.ModTime().UnixNano())
	}
	for i := range w.file.Tensors {
		t := &w.file.Tensors[i]
		if t.Source == nil {
			h.Write(t.Data)
			continue
		}
		fmt.Fprintf(h, "%s %v\n", t.Source.Name, t.Experts)
		if t.Rounded != nil {
			fmt.Fprintf(h, "%v\n", t.Rounded)
		}
	}
	for _, in := range w.options.Inputs {
		fmt.Fprintf(h, "%q\n", in)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// open opens the partial file.
func (w *writing) open() (created bool, err error) {
	path := w.options.Path
	w.out, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: is not a regular file", path)
	}
	if !w.options.Resume {
		return false, fmt.Errorf("%s: %w", path, ErrPartialExists)
	}
	w.out, err = os.OpenFile(path, os.O_RDWR, 0)
	return false, err
}

// begin makes the state, or takes over what an earlier run left.
func (w *writing) begin(created bool) error {
	w.records = make([]byte, recordBytes*w.pieces.count)
	state := append([]byte(stateMagic), w.identity[:]...)
	at := int64(w.file.SizeBytes)
	if !created {
		old := make([]byte, len(state))
		info, err := w.out.Stat()
		if err != nil {
			return err
		}
		n, err := w.out.ReadAt(old, at)
		if err != nil && err != io.EOF {
			return err
		}
		ours, faulty := w.headerIsOurs()
		switch {
		case faulty != nil:
			return faulty
		case !ours:
			return w.begunElsewhere()
		case info.Size() <= at:
			// Killed before there was a state, or after there was no more need of it.
			if err := w.out.Truncate(0); err != nil {
				return err
			}
		case n == len(old) && bytes.Equal(old, state):
			if _, err := w.out.ReadAt(w.records, at+int64(len(state))); err != nil && err != io.EOF {
				return err
			}
			return nil
		case n == len(old) && bytes.Equal(old, make([]byte, len(old))):
			// Killed just before.
		default:
			return w.begunElsewhere()
		}
	}
	if err := w.out.Truncate(at + int64(len(state)+len(w.records))); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(w.file.header, 0); err != nil {
		return err
	}
	_, err := w.out.WriteAt(state, at)
	return err
}

func (w *writing) begunElsewhere() error {
	return fmt.Errorf("%s: %w", w.options.Path, ErrOtherRun)
}

// headerIsOurs reports whether the partial file begins with the header, or as
// much of it as was written.
func (w *writing) headerIsOurs() (bool, error) {
	there := make([]byte, len(w.file.header))
	n, err := w.out.ReadAt(there, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	there = bytes.TrimRight(there[:n], "\x00")
	return bytes.HasPrefix(w.file.header, there), nil
}

// record returns what vouches for a piece whose bytes have a checksum.
func (w *writing) record(i int, sum uint32) []byte {
	r := binary.LittleEndian.AppendUint32(nil, sum)
	var own [sha256.Size + 8]byte
	copy(own[:], w.identity[:])
	binary.LittleEndian.PutUint64(own[sha256.Size:], uint64(i))
	return binary.LittleEndian.AppendUint32(r, crc32.Update(crc32.Checksum(own[:], castagnoli), castagnoli, r))
}

func (w *writing) recordOf(i int) []byte { return w.records[recordBytes*i:][:recordBytes] }

// fill makes every piece that is not there.
func (w *writing) fill(ctx context.Context) error {
	data, err := w.layout.model.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	p := w.foresee()
	return measure.Parallel(ctx, w.pieces.count, w.options.Workers, func() *worker { return newWorker(w.layout, data) }, func(k *worker, i int) error {
		x := w.pieces.at(i)
		if w.there(k, i, &x) {
			p.checked(x.size)
			return nil
		}
		if err := k.make(&x); err != nil {
			return err
		}
		if _, err := w.out.WriteAt(k.out, int64(x.offset)); err != nil {
			return err
		}
		r := w.record(i, crc32.Checksum(k.out, castagnoli))
		copy(w.recordOf(i), r)
		if _, err := w.out.WriteAt(r, int64(w.file.SizeBytes)+int64(stateHeaderBytes)+recordBytes*int64(i)); err != nil {
			return err
		}
		p.made(&x)
		return nil
	})
}

// recorded reports whether an earlier run says that it made a piece.
func (w *writing) recorded(i int) bool {
	return !bytes.Equal(w.recordOf(i), make([]byte, recordBytes))
}

// there reports whether an earlier run made a piece, and it is as it was made.
func (w *writing) there(k *worker, i int, x *piece) bool {
	r := w.recordOf(i)
	if !w.recorded(i) {
		return false
	}
	k.out = measure.Sized(k.out, x.size)
	if _, err := w.out.ReadAt(k.out, int64(x.offset)); err != nil {
		return false
	}
	return bytes.Equal(r, w.record(i, crc32.Checksum(k.out, castagnoli)))
}

// check reads the file once, in order: header, pieces as they were made, and
// zeros between.
func (w *writing) check(ctx context.Context) (digest string, err error) {
	sum := hash.Hash(nil)
	if w.options.SHA256 {
		sum = sha256.New()
	}
	var at uint64
	buf := make([]byte, pieceBytes)
	next := func(n uint64) ([]byte, error) {
		buf = measure.Sized(buf, n)
		if _, err := w.out.ReadAt(buf, int64(at)); err != nil {
			return nil, err
		}
		if sum != nil {
			sum.Write(buf)
		}
		at += n
		return buf, nil
	}
	differs := func(what string) error {
		return fmt.Errorf("%s: %s %w", w.file.Name, what, ErrReadBack)
	}
	zeros := func(to uint64) error {
		b, err := next(to - at)
		if err == nil && !bytes.Equal(b, make([]byte, len(b))) {
			err = differs("padding")
		}
		return err
	}
	header, err := next(uint64(len(w.file.header)))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(header, w.file.header) {
		return "", differs("the header")
	}
	p := w.foreseeCheck()
	for i := range w.pieces.count {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		x := w.pieces.at(i)
		if err := zeros(x.offset); err != nil {
			return "", err
		}
		b, err := next(x.size)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(w.recordOf(i), w.record(i, crc32.Checksum(b, castagnoli))) {
			return "", differs(x.tensor.called())
		}
		p.readBack(&x, &w.options)
	}
	if err := zeros(w.file.SizeBytes); err != nil || sum == nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
