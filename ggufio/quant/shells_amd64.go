//go:build !purego

package quant

func (s *shellSearch) search(b *shellBook, n int, inverse, scale float32) {
	switch {
	case !vectors:
		s.searchGo(b, n, inverse, scale)
	case b.dims == 8:
		search8AVX2(s, &b.entry[0], &b.words[0], n, inverse, scale)
	default:
		search4AVX2(s, &b.entry[0], &b.words[0], n, inverse, scale)
	}
}

// Groups of eight weights of three levels.
//
//go:noescape
func search8AVX2(s *shellSearch, entry *uint32, words *uint16, n int, inverse, scale float32)

// Groups of four weights of eight levels.
//
//go:noescape
func search4AVX2(s *shellSearch, entry *uint32, words *uint16, n int, inverse, scale float32)
