package pace

import (
	"math"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A Cost is a time of one core, in tenths of nanoseconds.
type Cost uint64

// Seconds are those of one core of the table's machine.
func (c Cost) Seconds() float64 { return float64(c) / 1e10 }

// A typeCost is what a weight takes to be encoded and decoded again: with column
// weights and without, which for some types is another search; on machines with
// AVX2, and on others.
type typeCost struct{ weighted, plain [2]Cost }

// typeCosts were measured on one core of an AMD EPYC with rows of 2048 normal
// weights, the processor's time, with AVX2 and in a build without assembly
// (BenchmarkCosts of stats/measure prints them anew). Other machines differ by a
// factor that most types share.
var typeCosts = map[quant.Type]typeCost{
	quant.Q1_0:    {[2]Cost{14, 31}, [2]Cost{14, 25}},
	quant.IQ1_S:   {[2]Cost{1250, 5500}, [2]Cost{1250, 5500}},
	quant.TQ1_0:   {[2]Cost{14, 48}, [2]Cost{13, 42}},
	quant.IQ1_M:   {[2]Cost{1030, 4500}, [2]Cost{1030, 4500}},
	quant.TQ2_0:   {[2]Cost{6, 38}, [2]Cost{5, 31}},
	quant.IQ2_XXS: {[2]Cost{800, 2800}, [2]Cost{800, 2800}},
	quant.Q2_0:    {[2]Cost{13, 39}, [2]Cost{13, 33}},
	quant.IQ2_XS:  {[2]Cost{1120, 4200}, [2]Cost{1120, 4200}},
	quant.IQ2_S:   {[2]Cost{840, 2000}, [2]Cost{840, 2000}},
	quant.Q2_K:    {[2]Cost{380, 1290}, [2]Cost{355, 1160}},
	quant.IQ3_XXS: {[2]Cost{1260, 4700}, [2]Cost{1260, 4700}},
	quant.Q3_K:    {[2]Cost{224, 790}, [2]Cost{35, 138}},
	quant.IQ3_S:   {[2]Cost{890, 3000}, [2]Cost{800, 3000}},
	quant.MXFP4:   {[2]Cost{17, 43}, [2]Cost{16, 37}},
	quant.IQ4_XS:  {[2]Cost{600, 620}, [2]Cost{570, 570}},
	quant.Q4_0:    {[2]Cost{123, 490}, [2]Cost{13, 55}},
	quant.Q4_K:    {[2]Cost{222, 910}, [2]Cost{211, 780}},
	quant.IQ4_NL:  {[2]Cost{460, 460}, [2]Cost{445, 445}},
	quant.NVFP4:   {[2]Cost{27, 41}, [2]Cost{27, 35}},
	quant.Q4_1:    {[2]Cost{210, 860}, [2]Cost{13, 51}},
	quant.Q5_0:    {[2]Cost{124, 480}, [2]Cost{15, 56}},
	quant.Q5_K:    {[2]Cost{222, 805}, [2]Cost{206, 770}},
	quant.Q5_1:    {[2]Cost{220, 850}, [2]Cost{15, 54}},
	quant.Q6_K:    {[2]Cost{149, 780}, [2]Cost{140, 360}},
	quant.Q8_0:    {[2]Cost{19, 40}, [2]Cost{19, 33}},
	quant.F16:     {[2]Cost{22, 45}, [2]Cost{21, 40}},
	quant.BF16:    {[2]Cost{17, 34}, [2]Cost{16, 29}},
	quant.F32:     {[2]Cost{18, 28}, [2]Cost{18, 23}},
}

// RoundTrip is what the table says that a weight takes to be encoded in a type
// and decoded again, with column weights or without, on a machine with AVX2; 0
// where the type cannot be encoded. It is the same everywhere.
func RoundTrip(t quant.Type, weighted bool) Cost { return roundTrip(t, weighted, 0) }

func roundTrip(t quant.Type, weighted bool, machine int) Cost {
	c := typeCosts[t]
	if weighted {
		return c.weighted[machine]
	}
	return c.plain[machine]
}

// Costs are what steps take on this machine. Those of the zero Costs are the
// table's for a machine of its kind.
type Costs struct {
	slowness            map[quant.Type]float64 // 1 where it is not there
	checkByte, hashByte float64                // in seconds; 0 where they are not timed
}

// RoundTrip is [RoundTrip] on this machine.
func (c *Costs) RoundTrip(t quant.Type, weighted bool) Cost {
	machine := 0
	if !quant.HasVectors() {
		machine = 1
	}
	cost := roundTrip(t, weighted, machine)
	if slowness, timed := c.slowness[t]; timed {
		return Cost(math.Round(float64(cost) * slowness))
	}
	return cost
}

// ReadRow is what a weight takes to be read by the row, from memory, and
// decoded.
const ReadRow Cost = 8

// Norm is what a weight takes to be read with its neighbours, decoded and added
// to the norms, by the table.
const Norm Cost = 5

// NormHere is that on this machine.
func NormHere() Cost {
	if quant.HasVectors() {
		return Norm
	}
	return 4 * Norm
}

// Compare is what a weight takes to be compared with what came back from a type:
// sums are of blocks, and a block of one weight has them all.
func Compare(t quant.Type) Cost {
	f, _ := quant.Lookup(t)
	return 12 + 65/Cost(max(1, f.Layout.WeightsPerBlock))
}

// Costs of a byte of files, in the memory of the system.
const (
	CopyByte  Cost = 23 // to be read, summed up, and written
	WriteByte Cost = 21
)

// Encode is what it takes to read weights by the row, to bring them through types
// one after another, with column weights or without, and to write them in bytes.
func (c *Costs) Encode(weights, bytes uint64, weighted bool, through ...quant.Type) Cost {
	perWeight := ReadRow
	for _, t := range through {
		perWeight += c.RoundTrip(t, weighted)
	}
	return perWeight*Cost(weights) + WriteByte*Cost(bytes)
}

// CheckSeconds is what it takes one core to read bytes back from the memory of the
// system and to sum them up, or also to compute their SHA-256.
func (c *Costs) CheckSeconds(bytes uint64, hashed bool) float64 {
	perByte := 0.2e-9
	if c.checkByte > 0 {
		perByte = c.checkByte
	}
	if hashed && c.hashByte > 0 {
		perByte += c.hashByte
	} else if hashed {
		perByte += 0.5e-9
	}
	return float64(float64(bytes) * perByte)
}
