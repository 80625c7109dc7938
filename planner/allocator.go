package planner

import "github.com/ggufplan/ggufplan/planner/frequency"

// An Allocator is the frequency policy for a running system.
type Allocator = frequency.Allocator

// NewAllocator returns an allocator for experts 0 to experts-1.
func NewAllocator(experts int, tiers frequency.Tiers) (*Allocator, error) {
	return frequency.NewAllocator(experts, tiers)
}
