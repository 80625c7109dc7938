package ggufio

// A ValueType is the type number of a metadata value.
type ValueType uint32

// Metadata value types, by their number in the file.
const (
	ValueUint8   ValueType = 0
	ValueInt8    ValueType = 1
	ValueUint16  ValueType = 2
	ValueInt16   ValueType = 3
	ValueUint32  ValueType = 4
	ValueInt32   ValueType = 5
	ValueFloat32 ValueType = 6
	ValueBool    ValueType = 7
	ValueString  ValueType = 8
	ValueArray   ValueType = 9
	ValueUint64  ValueType = 10
	ValueInt64   ValueType = 11
	ValueFloat64 ValueType = 12
)

// A Pair is one key of the metadata and where it lies.
type Pair struct {
	Key         string
	Type        ValueType
	ElementType ValueType // of an array
	Length      uint64    // of an array; bytes of a string
	File        int       // index into Model.Files
	OffsetBytes uint64    // of the whole pair: key length, key, type, value
	SizeBytes   uint64    // of the whole pair

	value any // decoded scalars, strings and short numeric arrays; nil for others
}

// Metadata is the metadata of a model: the first file's pairs in file order,
// then those of further shards.
type Metadata struct {
	Pairs []Pair
	index map[string]int // first file's keys
}
