// Package review puts a plan before a person: its facts and tables, once, and
// their renderers for the terminal ([WritePlan], [WriteDifference],
// [Explanation]), a pull request ([Markdown]) and a page ([HTML]).
//
// Sizes are written in powers of 1024, counts with their thousands apart, bits
// per weight with two decimals or three. Whatever comes from a manifest came
// from a stranger: what does not print is replaced ([Printable]), and markup
// is escaped.
package review
