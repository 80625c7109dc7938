package ggufio

import (
	"fmt"
	"strings"
)

// A tier file holds a projection's experts in several tensors, its tiers, each
// of one type, and a table that says where each expert is. Its first file says
// so by two keys.
const (
	TierVersionKey  = "moe_tiers.version"
	TierVersion     = 1
	TierRequiresKey = "moe_tiers.requires"
	TierRequires    = "a llama.cpp that knows expert tiers"
)

// TierName is the name of a tier of a tensor whose name ends in ".weight".
func TierName(tensor string, tier int) string {
	return fmt.Sprintf("%s.tier%d.weight", strings.TrimSuffix(tensor, ".weight"), tier)
}

// TierTableName is the name of a tensor's table: I32 [experts, tiers], the index
// of an expert inside a tier, or -1 where it is in another.
func TierTableName(tensor string) string { return strings.TrimSuffix(tensor, ".weight") + ".tiers" }
