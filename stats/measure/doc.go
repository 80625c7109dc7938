// Package measure knows what quantizing costs: [Run] quantizes every expert in
// every candidate type and returns the error, as a [Result], which is also the
// errors file. A [Sensitivity] says how much a tensor's error matters.
//
// # Units
//
// Errors and norms are sums of squares over a tensor's or expert's weights,
// each column weighted by the mean square of its input (ones where it is not
// known); a relative error is their ratio. Sums of a sample are scaled to all
// rows, with a 95 % interval.
//
// # Precision
//
// Rows are read for their norms n_i, all (of a million at most) where the precision
// P is below 10 %. Those to encode are drawn by weight, without replacement (priority
// sampling: Duffield, Lund and Thorup, J. ACM 54(6), 2007), each for w_i rows: the
// relative error is r = sum w_i e_i / sum w_i n_i, its variance sum w_i (w_i - 1)
// (e_i - r n_i)^2 by the norm squared. Rows go where they decide (Cochran, Sampling
// Techniques, 5.5): an expert with the share p of its layer's traffic is measured to
// within d/sqrt(p), at most P, so that the sum over a tensor's experts is within d:
// P/5 from 32 layers on, P/10 with up to 8. From P = 10 % on, most experts are
// measured in one type, and ten's ratios give the others: see sample.go and pool.go.
//
// # Determinism
//
// Rows are drawn by a seed, the tensor's name and the expert's place; sums run
// in a fixed order without fused operations. So neither the number of
// goroutines, nor parts, nor an interruption changes a bit.
package measure
