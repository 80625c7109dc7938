package ggufio

import "fmt"

// A FileID tells a file of a model from other files. Names are for people:
// only sizes and headers are compared.
type FileID struct {
	Name         string `json:"name"` // base name
	SizeBytes    uint64 `json:"size_bytes"`
	HeaderSHA256 string `json:"header_sha256"` // lower-case hex, over bytes 0 to File.DataOffsetBytes
}

// FileIDs identifies the model's files, in order.
func (m *Model) FileIDs() []FileID {
	ids := make([]FileID, len(m.Files))
	for i, f := range m.Files {
		ids[i] = f.FileID
	}
	return ids
}

// SameModel reports how a model's files differ from those of the wanted one.
func SameModel(want, got []FileID) error {
	if len(want) != len(got) {
		return fmt.Errorf("another model: %d files, want %d", len(got), len(want))
	}
	for i, g := range got {
		w := want[i]
		if w.SizeBytes != g.SizeBytes {
			return fmt.Errorf("another model: %s has %d bytes, want those of %s, %d", g.Name, g.SizeBytes, w.Name, w.SizeBytes)
		}
		if w.HeaderSHA256 != g.HeaderSHA256 {
			return fmt.Errorf("another model: %s has header sha256 %s, want that of %s, %s", g.Name, g.HeaderSHA256, w.Name, w.HeaderSHA256)
		}
	}
	return nil
}
