package planner_test

import (
	"fmt"

	"github.com/ggufplan/ggufplan/planner"
)

// A server counts which experts its router chooses, and now and then asks
// which of them deserve a better type.
func ExampleAllocator() {
	tiers, _ := planner.Preset("quality-focused")
	a, err := planner.NewAllocator(4, tiers)
	if err != nil {
		fmt.Println(err)
		return
	}
	a.RecordAll([]int{0, 2}) // one token, two experts
	a.RecordN(0, 99)
	a.RecordN(1, 75)
	a.RecordN(2, 24)
	a.RecordN(3, 5)
	a.Recompute()
	fmt.Println(a.Thresholds())
	for e := range a.Len() {
		fmt.Println(e, a.Count(e), a.Tier(e), a.Type(e))
	}
	// Output:
	// {80 20}
	// 0 100 hot Q5_K
	// 1 75 warm Q4_K
	// 2 25 warm Q4_K
	// 3 5 cold Q3_K
}
