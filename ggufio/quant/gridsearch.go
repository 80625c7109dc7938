package quant

// evaluate finds the lowest cost of each sub-block at e.scale, and, where
// codewords are shifted, which way.
func (e *gridEncoder) evaluate() {
	clear(e.cost[:])
	dims := e.book.dims
	per := e.subWeights / dims
	var other [maxSubs]float32 // costs when shifted down
	for batch := range superWeights / (8 * dims) {
		x, w, flipped := e.batch(batch)
		scale := e.laneScales(batch)
		switch {
		case e.signs == freeSigns:
			e.s.tables(x, w, &scale)
			e.s.scan()
			for i, c := range e.s.best {
				e.cost[(8*batch+i)/per] += c
			}
		case e.signs == evenMinuses:
			e.s.tables(x, w, &scale)
			e.s.tablesOdd(flipped, w, &scale)
			e.s.scanOdd()
			if dims == 8 {
				for i, c := range e.s.bestOdd {
					e.cost[(8*batch+i)/per] += c
				}
				continue
			}
			e.s.scan()
			for i := 0; i < 8; i += 2 {
				e.cost[(8*batch+i)/per] += min(e.s.bestOdd[i]+e.s.best[i+1], e.s.best[i]+e.s.bestOdd[i+1])
			}
		default:
			e.shifted(batch, &scale, 0)
			up := e.s.best
			e.shifted(batch, &scale, ^uint8(0))
			for i, c := range up {
				g := 8*batch + i
				if e.signs == shiftPerGroup {
					e.down[g] = 0
					if e.s.best[i] < c {
						e.down[g], c = 1, e.s.best[i]
					}
				}
				e.cost[g/per] += c
				other[g/per] += e.s.best[i]
			}
		}
	}
	if e.signs == shiftPerSub {
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

// evaluateCodewords finds the codewords at e.scale and e.down, the signs to
// flip, and the sums of which their cost is made.
func (e *gridEncoder) evaluateCodewords() {
	dims := e.book.dims
	for batch := range superWeights / (8 * dims) {
		x, w, flipped := e.batch(batch)
		scale := e.laneScales(batch)
		code := e.code[8*batch:][:8]
		if e.signs.shifts() {
			e.shifted(batch, &scale, e.downs(batch))
			for i := range code {
				code[i] = e.s.codeword(i, false)
			}
			continue
		}
		e.s.tables(x, w, &scale)
		if e.signs == freeSigns {
			e.s.scan()
			for i := range code {
				code[i] = e.s.codeword(i, false)
			}
			continue
		}
		e.s.tablesOdd(flipped, w, &scale)
		e.s.scanOdd()
		if dims == 8 {
			for i := range code {
				code[i] = e.s.codeword(i, true)
			}
			continue
		}
		e.s.scan()
		for i := 0; i < 8; i += 2 {
			first := e.s.bestOdd[i]+e.s.best[i+1] <= e.s.best[i]+e.s.bestOdd[i+1]
			code[i] = e.s.codeword(i, first)
			code[i+1] = e.s.codeword(i+1, !first)
		}
	}
	e.fit()
}

func (e *gridEncoder) batch(batch int) (x, w, flipped []lanes) {
	dims := e.book.dims
	return e.x[dims*batch:][:dims], e.w[dims*batch:][:dims], e.flipped[dims*batch:][:dims]
}

func (e *gridEncoder) laneScales(batch int) (scale lanes) {
	per := e.subWeights / e.book.dims
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
	x, w, _ := e.batch(batch)
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

// fit computes the sums of which the cost of the codewords is made, and
// chooses which signs to flip: those that cost least.
func (e *gridEncoder) fit() {
	clear(e.a[:])
	clear(e.b[:])
	dims := e.book.dims
	for k := range e.minus {
		var a, b, shift float32
		if e.signs.shifts() {
			shift = iq1Shifts[e.down[k]]
		}
		flip, least := uint8(8), float32(maxCost)
		for j := range 8 {
			i := 8*k + j
			at, lane := e.place(i)
			level := e.book.level[e.book.word[e.code[i/dims]][i%dims]] + shift
			wl := e.w[at][lane] * level
			p := e.x[at][lane] * wl
			a += float32(wl * level)
			b += float32(p)
			if e.odd[k] && p < least {
				flip, least = uint8(j), p
			}
		}
		if flip < 8 {
			b -= float32(2 * least)
		}
		e.flip[k] = flip
		e.a[8*k/e.subWeights] += a
		e.b[8*k/e.subWeights] += b
	}
}
