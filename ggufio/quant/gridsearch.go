package quant

// evaluate finds the lowest cost of each sub-block at e.scale, and which way its
// codewords are shifted.
func (e *gridEncoder) evaluate() {
	clear(e.cost[:])
	per := e.subWeights / bookDims
	var other [maxSubs]float32 // costs when shifted down
	for batch := range batches {
		scale := e.laneScales(batch)
		e.shifted(batch, &scale, 0)
		up := e.s.best
		e.shifted(batch, &scale, ^uint8(0))
		for i, c := range up {
			g := 8*batch + i
			if e.shifts == shiftPerGroup {
				e.down[g] = 0
				if e.s.best[i] < c {
					e.down[g], c = 1, e.s.best[i]
				}
			}
			e.cost[g/per] += c
			other[g/per] += e.s.best[i]
		}
	}
	if e.shifts == shiftPerSub {
		for i := range e.subs() {
			down := uint8(0)
			if other[i] < e.cost[i] {
				down, e.cost[i] = 1, other[i]
			}
			for g := per * i; g < per*i+per; g++ {
				e.down[g] = down
			}
		}
	}
}

// evaluateCodewords finds the codewords at e.scale and e.down, and the sums of
// which their cost is made.
func (e *gridEncoder) evaluateCodewords() {
	for batch := range batches {
		scale := e.laneScales(batch)
		e.shifted(batch, &scale, e.downs(batch))
		for i := range 8 {
			e.code[8*batch+i] = e.s.codeword(i)
		}
	}
	e.fit()
}

func (e *gridEncoder) laneScales(batch int) (scale lanes) {
	per := e.subWeights / bookDims
	for i := range scale {
		scale[i] = e.scale[(8*batch+i)/per]
	}
	return scale
}

// downs has a bit for each lane whose codeword is shifted down.
func (e *gridEncoder) downs(batch int) (bits uint8) {
	for i, d := range e.down[8*batch:][:8] {
		bits |= d << i
	}
	return bits
}

// shifted searches codewords that are shifted down in the lanes that down has
// a bit for, else up: the weights are shifted the other way.
func (e *gridEncoder) shifted(batch int, scale *lanes, down uint8) {
	x, w := e.x[8*batch:][:8], e.w[8*batch:][:8]
	var moved [8]lanes
	var by lanes
	for i := range by {
		by[i] = scale[i] * iq1Shifts[down>>i&1]
	}
	for j := range moved {
		for i := range by {
			moved[j][i] = x[j][i] - by[i]
		}
	}
	e.s.tables(moved[:], w, scale)
	e.s.scan()
}

// fit computes the sums of which the cost of the codewords is made.
func (e *gridEncoder) fit() {
	clear(e.a[:])
	clear(e.b[:])
	for k, code := range e.code {
		var a, b float32
		shift := iq1Shifts[e.down[k]]
		for j, l := range e.s.book.word[code] {
			at, lane := place(8*k + j)
			level := e.s.book.level[l] + shift
			wl := e.w[at][lane] * level
			a += float32(wl * level)
			b += float32(e.x[at][lane] * wl)
		}
		e.a[8*k/e.subWeights] += a
		e.b[8*k/e.subWeights] += b
	}
}
