package manifest_test

import (
	"fmt"
	"os"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// What another tool needs of a plan.
func ExampleDecode() {
	data, err := os.ReadFile("testdata/1.0/frequency.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := manifest.Decode(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range plan.Tensors {
		if t.ExpertTypes != nil {
			fmt.Println(t.Name, t.PlannedType, t.ExpertTypes)
		}
	}
	// Output:
	// blk.0.ffn_gate_exps.weight Q4_K [Q4_K Q2_K Q2_K Q2_K]
	// blk.0.ffn_up_exps.weight Q4_K [Q4_K Q2_K Q2_K Q2_K]
	// blk.0.ffn_down_exps.weight Q4_K [Q4_K Q2_K Q2_K Q2_K]
	// blk.1.ffn_gate_exps.weight Q3_K [Q4_K Q3_K Q3_K Q3_K]
	// blk.1.ffn_up_exps.weight Q3_K [Q4_K Q3_K Q3_K Q3_K]
	// blk.1.ffn_down_exps.weight Q3_K [Q4_K Q3_K Q3_K Q3_K]
	// blk.2.ffn_gate_exps.weight Q4_K [Q4_K Q4_K Q4_K Q4_K]
	// blk.2.ffn_up_exps.weight Q4_K [Q4_K Q4_K Q4_K Q4_K]
	// blk.2.ffn_down_exps.weight Q4_K [Q4_K Q4_K Q4_K Q4_K]
}
