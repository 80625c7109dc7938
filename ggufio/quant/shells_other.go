//go:build !amd64 || purego

package quant

func (s *shellSearch) search(b *shellBook, n int, inverse, scale float32) {
	s.searchGo(b, n, inverse, scale)
}
