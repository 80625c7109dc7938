package ggufio_test

import (
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
)

// The bytes of one expert, and of no other.
func ExampleData_ReadExpert() {
	model, err := ggufio.Open("../testdata/bytemoe-2x8/model-f16.gguf")
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := model.OpenData()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer data.Close()
	for _, t := range model.ExpertTensors(1) {
		expert := make([]byte, t.ExpertBytes())
		if err := data.ReadExpert(t, 5, expert); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(t.Name, t.Type, t.Shape, len(expert))
	}
	// Output:
	// blk.1.ffn_gate_exps.weight F16 [256 256 8] 131072
	// blk.1.ffn_up_exps.weight F16 [256 256 8] 131072
	// blk.1.ffn_down_exps.weight F16 [256 256 8] 131072
}
