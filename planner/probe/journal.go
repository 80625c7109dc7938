package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrStateExists reports state of an earlier probe where a new one was asked
// for; ErrStateElsewhere state of a probe of other inputs.
var (
	ErrStateExists    = errors.New("holds an interrupted probe")
	ErrStateElsewhere = errors.New("is of a probe with other inputs or flags")
)

const journalMagic = "ggufplan.probe.partial 1 "

// An entry is one line of the state: one of its fields.
type entry struct {
	Piece    *piece  `json:"piece,omitempty"`    // its base logits are whole
	Copy     bool    `json:"copy,omitempty"`     // the copy is as the reference
	Changing string  `json:"changing,omitempty"` // the run whose tensors the copy is given
	Result   *result `json:"result,omitempty"`
}

// A piece is a stretch of the text.
type piece struct {
	Index       int    `json:"index"`
	OffsetBytes uint64 `json:"offset_bytes"`
	TextBytes   uint64 `json:"text_bytes"` // that its tokens stand for
	Chunks      uint64 `json:"chunks"`
	LogitsBytes uint64 `json:"logits_bytes"`
}

// A result is what one run showed on one piece.
type result struct {
	Run           string  `json:"run"`
	Piece         int     `json:"piece"`
	Mean          float64 `json:"mean"`
	StandardError float64 `json:"standard_error"`
	Tokens        uint64  `json:"tokens"`
}

// A journal keeps a probe's state in a file of lines, the first of which says
// what it follows from. A line that a crash cut short ends what is read.
type journal struct {
	file    *os.File
	entries []entry
}

func openJournal(path, identity string, resume bool) (*journal, error) {
	header := []byte(journalMagic + identity + "\n")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(header)
		return &journal{file: f}, err
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	if !resume {
		return nil, fmt.Errorf("%s: %w", path, ErrStateExists)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	j := &journal{file: f}
	if len(data) < len(header) && bytes.HasPrefix(header, data) { // killed at once
		data = header
	}
	rest, ok := bytes.CutPrefix(data, header)
	if !ok {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrStateElsewhere)
	}
	good := len(header)
	for {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		var e entry
		if !whole || json.Unmarshal(line, &e) != nil {
			break
		}
		j.entries = append(j.entries, e)
		good += len(line) + 1
		rest = more
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(int64(good)); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(int64(good), 0)
	return j, err
}

func (j *journal) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	j.entries = append(j.entries, e)
	return j.file.Sync()
}
