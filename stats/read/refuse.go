package read

import (
	"errors"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
)

// errNoActivations reports a source whose counts are all zero.
var errNoActivations = errors.New("no expert was ever used: every count is 0")

// placementKeys are the keys of files that say where experts lie.
var placementKeys = map[string]bool{
	"physical_to_logical_map": true, "last_physical_to_logical_map": true, "logical_to_physical_map": true,
	"logical_to_all_physical_map": true, "layer_list": true, "moe_layer_count": true, "device_list": true, "expert_map": true,
}

// refusePlacement explains why a map of experts to devices is no statistics.
func refusePlacement(key string) error {
	return stats.Hintf("export the counts the placement was made from: from SGLang the dump of /dump_expert_distribution_record (logical_count), from vLLM-Ascend expert_load_view.pt",
		"%q places experts on devices and does not say how often they are used", key)
}

// refuseContent explains that a container that could be read holds nothing
// that is known.
func refuseContent(what string, names []string) error {
	if len(names) == 0 {
		names = []string{"none"}
	}
	if len(names) > 8 {
		names = append(names[:8:8], "...")
	}
	names = slices.Clone(names)
	for i, name := range names {
		if len(name) > 40 {
			names[i] = name[:40] + "..."
		}
	}
	return stats.Hintf(`export counts as {"logical_count": [[12, 0, 7], [3, 9, 7]]}, one row per layer, or a trace of {"layer": 0, "experts": [5, 0]} lines`,
		"holds no known activation statistics: its %s: %s", what, strings.Join(names, ", "))
}

// refuseShape explains what a raw array of ids lacks.
func refuseShape() error {
	return stats.Curable(stats.StateShape,
		"routed_experts is an array without a shape: it takes the number of layers and of experts per token to read it")
}

// refusePhysical explains that ids count slots of devices.
func refusePhysical() error {
	return stats.Hintf("dump the record again with a version of SGLang that stores the map, or with --expert-distribution-recorder-mode stat, which counts logical experts",
		"holds counts of physical experts and no last_physical_to_logical_map to tell which logical experts they are")
}
