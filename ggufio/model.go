package ggufio

import (
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A Model is a GGUF model, one file or a set of shards, as its headers
// describe it. It holds no weights.
type Model struct {
	Name         string // general.name, or the first file's base name where the key is absent
	Architecture Architecture
	Files        []File   // in shard order
	Tensors      []Tensor // in file order, shard after shard
	Metadata     *Metadata
	TierSets     []TierSet // of a tier file, in the order of their tables; see [Data.ReadTiers]

	byName map[string]int // index into Tensors
}

// A File is one GGUF file of a model.
type File struct {
	FileID
	Path            string // as it was opened
	DataOffsetBytes uint64 // where tensor data starts: the aligned end of the header
	TensorCount     int
	AlignmentBytes  uint64
}

// An Architecture holds the facts that metadata states. A number that the
// metadata does not give is 0. Where the metadata has an entry per block, a
// number that is one here is the largest of them.
type Architecture struct {
	Name              string // general.architecture, such as "qwen3moe"
	BlockCount        int    // MTP blocks included; where metadata does not say, as many as tensors name
	ExpertCount       int    // what metadata says; Model.ExpertCount goes by the tensors
	ExpertUsedCount   []int  // experts per token, one entry per block; nil where absent
	ExpertSharedCount int
	LeadingDense      int   // leading blocks without experts
	NextNBlocks       int   // MTP blocks, the last of BlockCount
	HeadCount         []int // per block; nil where absent
	HeadCountKV       []int // per block; as HeadCount where absent
}

// A Role says what a tensor does in the model.
type Role string

// The roles, as manifests spell them.
const (
	RoleExpertGate   Role = "expert_gate"
	RoleExpertUp     Role = "expert_up"
	RoleExpertDown   Role = "expert_down"
	RoleExpertGateUp Role = "expert_gate_up"
	RoleRouter       Role = "router"
	RoleSharedExpert Role = "shared_expert"
	RoleAttention    Role = "attention"
	RoleDenseFFN     Role = "dense_ffn"
	RoleEmbedding    Role = "embedding"
	RoleOutput       Role = "output"
	RoleNorm         Role = "norm"
	RoleOther        Role = "other"
)

// IsExpert reports whether tensors of the role hold routed experts' weights.
func (r Role) IsExpert() bool {
	switch r {
	case RoleExpertGate, RoleExpertUp, RoleExpertDown, RoleExpertGateUp:
		return true
	}
	return false
}

// A Tensor is one tensor of a model: what it is and where its bytes lie.
type Tensor struct {
	Name        string
	Type        quant.Type
	Shape       []uint64 // ne[0] first; a fused expert tensor ends with the expert axis
	File        int      // index into Model.Files
	OffsetBytes uint64   // from the start of that file
	SizeBytes   uint64
	Parameters  uint64 // product of Shape
	Role        Role
	Layer       int // block number, -1 outside blocks
	Expert      int // for a tensor that holds one routed expert, its number; else -1

	// TierOf names the tensor some of whose experts a tier holds; else "".
	TierOf string

	infoOffset uint64 // where its entry in the header begins, for errors
}

// Experts returns how many routed experts' weights the tensor holds: the last
// axis of a fused tensor, 1 for a tensor of one expert, 0 for all others.
func (t *Tensor) Experts() int {
	switch {
	case !t.Role.IsExpert():
		return 0
	case t.Expert >= 0:
		return 1
	case len(t.Shape) >= 3:
		return int(t.Shape[len(t.Shape)-1])
	}
	return 1
}
