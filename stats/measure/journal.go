package measure

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Journal keeps the finished items of a measurement in a file, so that an
// interrupted run can go on where it stopped.
//
// The first line holds the digest of everything that the result follows from;
// each further line one item: its number, its result as JSON, and a checksum.
// A line that a crash cut short ends what is read.
type Journal struct {
	path   string
	resume bool
	file   *os.File
	synced time.Time
	last   int // the last item that it held at the start, -1 for none
}

// journalMagic starts the first line; the number is the version of the format
// and of how rows are drawn: the third is by weight.
const (
	journalName  = "ggufplan.errors.partial "
	journalMagic = journalName + "3 "
)

// maxJournalLineBytes bounds a line: an item has some 30 types of 100 bytes.
const maxJournalLineBytes = 1 << 20

// syncEvery is how much work a power cut may cost.
const syncEvery = 10 * time.Second

// ErrJournalExists reports state of an earlier run where a new one was asked
// for.
var ErrJournalExists = errors.New("holds an interrupted run")

// NewJournal names the file to keep state in. With resume, items that it holds
// are not measured again; without, a file that exists is refused.
func NewJournal(path string, resume bool) *Journal {
	return &Journal{path: path, resume: resume, last: -1}
}

// Close closes the file and leaves it for a later run.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Remove closes and deletes the file, once the result is safe.
func (j *Journal) Remove() error {
	if j.file == nil {
		return nil
	}
	return errors.Join(j.Close(), os.Remove(j.path))
}

// ErrJournalInUse reports state that another run is writing.
var ErrJournalInUse = errors.New("another run is measuring into it")

// ErrModelChanged reports files that are not what they were when measuring
// began, now or in the run that left the state.
var ErrModelChanged = errors.New("the model has changed since measuring began")

// weightsState says which files the weights are read from, as far as it can be
// told without reading them all: the result's digests are of headers alone.
func (m *measurement) weightsState() (string, error) {
	var state strings.Builder
	for _, f := range m.model.Files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&state, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	}
	return state.String(), nil
}

// identity is the digest of what the result follows from.
func (m *measurement) identity() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(m.result); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// begin opens the file, takes finished items from it into the result, and
// marks them done.
func (j *Journal) begin(m *measurement, done []bool) error {
	id, err := m.identity()
	if err != nil {
		return err
	}
	weights := sha256.Sum256([]byte(m.weights))
	header := journalMagic + id + " " + hex.EncodeToString(weights[:]) + "\n"
	_, err = os.Stat(j.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if j.file, err = os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return err
		}
		if err := lockFile(j.file); err != nil {
			return fmt.Errorf("%s: %w", j.path, err)
		}
		_, err = j.file.WriteString(header)
		return err
	case err != nil:
		return err
	case !j.resume:
		return fmt.Errorf("%s: %w", j.path, ErrJournalExists)
	}
	if j.file, err = os.OpenFile(j.path, os.O_RDWR, 0); err != nil {
		return err
	}
	if err := lockFile(j.file); err != nil {
		return fmt.Errorf("%s: %w", j.path, err)
	}
	in := bufio.NewReaderSize(j.file, 64<<10)
	line, err := readLine(in)
	if err != nil && strings.HasPrefix(header, string(line)) {
		// Cut short before the first item.
		_, err = j.file.WriteAt([]byte(header), 0)
		return errors.Join(err, seekEnd(j.file))
	}
	if err == nil && bytes.HasPrefix(line, []byte(journalName)) && !bytes.HasPrefix(line, []byte(journalMagic)) {
		return fmt.Errorf("%s: line 1: is the state of a ggufplan of another version, which draws other rows: remove it to begin anew", j.path)
	}
	if err != nil || !bytes.HasPrefix(line, []byte(journalMagic)) {
		return fmt.Errorf("%s: line 1: is not the state of a measurement", j.path)
	}
	if string(line) != header && strings.HasPrefix(string(line), journalMagic+id+" ") {
		return fmt.Errorf("%s: line 1: %w: its files have another size or time", j.path, ErrModelChanged)
	}
	if string(line) != header {
		return fmt.Errorf("%s: line 1: is the state of another measurement: model, statistics, types, sampling and part must be the same", j.path)
	}
	good := int64(len(line))
	j.last = -1
	for {
		line, err := readLine(in)
		if err != nil {
			break
		}
		item, x, ok := parseJournalLine(line)
		if !ok || item >= len(m.items) || !m.fits(item, &x) {
			break
		}
		*m.items[item].place = x
		done[item] = true
		j.last = item
		good += int64(len(line))
	}
	// What follows the last whole line is a torn write.
	return errors.Join(j.file.Truncate(good), seekEnd(j.file))
}

func seekEnd(f *os.File) error {
	_, err := f.Seek(0, io.SeekEnd)
	return err
}

// fits reports whether a stored result can be that of an item.
func (m *measurement) fits(item int, x *ExpertLoss) bool {
	it := &m.items[item]
	return x.Expert == it.expert() && x.validate(len(it.types)) == nil
}

// readLine returns the next line with its newline, or an error if there is no
// whole line.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxJournalLineBytes {
			return nil, err
		}
	}
}

func parseJournalLine(line []byte) (item int, x ExpertLoss, ok bool) {
	sum, rest, ok1 := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	number, data, ok2 := bytes.Cut(rest, []byte(" "))
	item, err := strconv.Atoi(string(number))
	if !ok1 || !ok2 || err != nil || item < 0 || string(sum) != checksum(rest) || json.Unmarshal(data, &x) != nil {
		return 0, x, false
	}
	return item, x, true
}

func checksum(b []byte) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))
}

// add records an item's result.
func (j *Journal) add(item int, x ExpertLoss) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	rest := strconv.Itoa(item) + " " + string(data)
	if _, err := j.file.WriteString(checksum([]byte(rest)) + " " + rest + "\n"); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(j.synced) > syncEvery {
		j.synced = now
		return j.file.Sync()
	}
	return nil
}
