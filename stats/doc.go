// Package stats knows what has been measured about a model's experts: how often
// each is used, and on what input. What quantizing it costs is stats/measure's.
//
// [Evidence] is what stats/read makes of any file of activation statistics;
// [Evidence.Fit] maps it onto a model and refuses that of another; [Merge]
// combines several inputs.
//
// A count is a number of tokens that went through an expert, so the counts of
// a layer sum to tokens times experts per token. Energies are sums of squares
// over tokens and columns, not divided by counts. Shares sum to 1 over a
// layer's experts; shares of tokens sum to the experts per token. Experts are
// in the order of the GGUF file, layers are its block numbers once fitted.
//
// [Kind] says what an input's numbers mean. Unknown and 0 differ: a signal that
// a source lacks is nil. What is doubtful but usable is a [Finding]; what is
// neither is an error that names the file, the place and the value.
//
// Tokens of one text are correlated. Counts are therefore divided by a design
// effect, measured from blocks of tokens where the source records them, else
// [DefaultDeff], before they become intervals ([Layer.ShareInterval]) or flags
// ([FlagOf]).
//
// Sums run in a fixed order without fused operations. Logarithms appear in
// what is reported ([Layer.Summarize], [Compare]) and decide nothing. Column
// means stay in the file ([Columns]).
package stats
