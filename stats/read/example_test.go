package read_test

import (
	"context"
	"fmt"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// How often experts are used, and how far that is known.
func ExampleFile() {
	evidence, err := read.File(context.Background(), "../../testdata/bytemoe-2x8/mix.imatrix.gguf", read.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	layer := &evidence.Layers[1]
	fmt.Println(evidence.Kind, "counts of", *layer.Tokens, "tokens")
	for expert, count := range layer.Counts[:3] {
		share, _ := layer.ShareInterval(expert)
		fmt.Printf("expert %d: %d, %s, %.3f to %.3f of the tokens\n", expert, count, stats.FlagOf(count, layer.Deff()), share.Low, share.High)
	}
	// Output:
	// exact counts of 240000 tokens
	// expert 0: 63632, good, 0.260 to 0.271 of the tokens
	// expert 1: 48126, good, 0.196 to 0.206 of the tokens
	// expert 2: 42450, good, 0.172 to 0.182 of the tokens
}
