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
// Relative errors are ratio estimates from rows drawn without replacement; their
// variance is that of the residuals (Cochran, Sampling Techniques, 6.3). Rows go
// where they decide (5.5): an expert with the share p of its layer's traffic is
// measured to within P/5/sqrt(p), at most P, so that the sum over a tensor's
// experts is within P/5. From P = 10 % on, most experts are measured in one type
// and the others follow from the ratios that ten have. sample.go and pool.go
// hold the formulas.
//
// # Determinism
//
// Rows are drawn by a seed, the tensor's name and the expert's place; sums run
// in a fixed order without fused operations. So neither the number of
// goroutines, nor parts, nor an interruption changes a bit.
package measure
