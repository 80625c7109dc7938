package planner

import "github.com/ggufplan/ggufplan/planner/frequency"

// An Allocator is the frequency policy for a running system; see
// [frequency.NewAllocator].
type Allocator = frequency.Allocator
