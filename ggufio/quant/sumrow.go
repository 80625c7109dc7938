package quant

// RowSums are sums over a row's weights v: of their squares, of the same times
// the weights of their columns, and of those times the square again.
type RowSums struct {
	Plain    float64 // sum of v^2
	Weighted float64 // sum of m v^2
	Fourth   float64 // sum of m v^4
}

// SumRow sums a row; columns are the weights m, nil for ones. Plain is not
// finite where a weight of the row is not, and only there.
//
// Sums are float64. Lane j of eight adds columns j, j + 8, j + 16, ... in that
// order; the lanes add up as ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)).
func SumRow(row []float32, columns []float64) RowSums {
	var s rowLanes
	whole := len(row) &^ 7
	if columns == nil {
		sumPlain(&s, row[:whole])
		sumPlainGo(&s, row[whole:])
		plain := s.plain.sum()
		return RowSums{plain, plain, s.fourth.sum()}
	}
	columns = columns[:len(row)]
	sumWeighted(&s, row[:whole], columns[:whole])
	sumWeightedGo(&s, row[whole:], columns[whole:])
	return RowSums{s.plain.sum(), s.weighted.sum(), s.fourth.sum()}
}

// rowLanes are the sums of eight lanes.
type rowLanes struct{ plain, weighted, fourth lanes64 }

type lanes64 [8]float64

func (l *lanes64) sum() float64 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// sumPlainGo adds plain and fourth of x without column weights; the first of x
// belongs to lane 0.
func sumPlainGo(s *rowLanes, x []float32) {
	for i, v := range x {
		square := float64(float64(v) * float64(v))
		s.plain[i%8] += square
		s.fourth[i%8] += float64(square * square)
	}
}

// sumWeightedGo adds all three.
func sumWeightedGo(s *rowLanes, x []float32, columns []float64) {
	for ; len(x) >= 8; x, columns = x[8:], columns[8:] {
		x, columns := (*[8]float32)(x), (*[8]float64)(columns)
		for j := range x {
			s.add(j, x[j], columns[j])
		}
	}
	for j, v := range x {
		s.add(j, v, columns[j])
	}
}

func (s *rowLanes) add(lane int, v float32, column float64) {
	square := float64(float64(v) * float64(v))
	weighted := float64(column * square)
	s.plain[lane] += square
	s.weighted[lane] += weighted
	s.fourth[lane] += float64(weighted * square)
}
