// Package read turns any known file of activation statistics into
// [stats.Evidence]: imatrix files in both formats, routing traces, count
// matrices, torch and numpy files, responses of serving engines, and the
// canonical JSON, which [MarshalCanonical] writes. [Formats] lists them, and
// readers in detect.go is where one is added.
//
// A format is told by the content, never by the name; gzip and zstd are
// unwrapped. What a source cannot know stays nil; what is neither usable nor
// doubtful is an error that names the file, the place and the value.
//
// Files come from strangers: every declared count is compared with the file's
// size before it is allocated, text is read in one pass, and what must be kept
// is bounded.
package read
