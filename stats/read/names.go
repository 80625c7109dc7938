package read

import (
	"fmt"
	"slices"
	"strings"
)

// A role says what a column of a table, or a key of a record, means.
type role int

const (
	roleUnknown role = iota
	roleLayer
	roleExpert  // one expert per row
	roleExperts // all experts of a token
	roleCount   // of tokens
	roleShare   // of traffic, in any unit
	roleWeight  // the router's
	roleTotal   // of the layer: counts are checked against it
	rolePhase
	roleRank  // of the process that counted
	roleBlock // decoder or prediction (MTP) block; the layer where no column is
	roleMTP   // number of a prediction block, empty for others
	roleNone  // says when, where or of what, never how much
	roles
)

// columnNames is the one list of what names mean, for CSV, JSONL and JSON
// alike. A name with a star stands for all that begin or end so.
var columnNames = [roles][]string{
	roleLayer:   {"layer", "layer_id", "layer_idx", "layer_index", "layer_number", "layer_no", "blk", "layer_name", "module", "module_name"},
	roleExpert:  {"expert", "expert_id", "expert_idx", "expert_index", "expert_no", "logical_expert", "logical_expert_id"},
	roleExperts: {"experts", "expert_ids", "topk_ids", "topk_idx", "selected_experts"},
	roleCount: {"count", "counts", "n", "hits", "tokens", "activations", "selections", "num_tokens", "n_tokens",
		"*_count", "*_counts", "count_*", "*_hits", "*_activations", "*_selections"},
	roleShare: {"frequency", "freq", "share", "ratio", "prob", "probability", "popularity", "fraction", "percent", "pct",
		"*_frequency", "*_freq", "*_share", "*_ratio", "*_prob", "*_probability", "*_fraction", "*_percent", "*_pct"},
	roleWeight: {"weight", "weights", "topk_weights", "*_weight", "*_weights"},
	roleTotal:  {"layer_rows", "layer_tokens", "layer_total", "layer_activations", "total", "total_tokens"},
	rolePhase:  {"phase"},
	roleBlock:  {"block", "component"},
	roleMTP:    {"mtp", "mtp_idx", "mtp_index", "mtp_layer", "mtp_depth"},
	roleNone: {"step", "iter", "iteration", "forward_pass", "batch", "batch_id", "epoch", "window", "chunk", "time", "timestamp", "date", "run", "run_id",
		"", "unnamed: 0", "index", "row", "id", "uuid",
		"token", "token_id", "token_idx", "token_index", "pos", "position", "seq", "sequence", "request", "request_id", "sample",
		"session", "user", "prompt", "prompt_id", "domain", "dataset", "corpus", "file", "source", "text", "language", "task", "workload",
		"category", "split", "subset", "comment", "note", "model", "name", "expert_count", "layer_count", "k", "top_k", "topk"},
	roleRank: {"rank", "*_rank", "device", "device_id", "gpu", "gpu_id", "node", "host", "worker"},
}

var roleWords = [roles]string{
	roleLayer: "the layer", roleExpert: "the expert", roleExperts: "the experts of a token", roleCount: "a count of tokens",
	roleShare: "a share of traffic", roleWeight: "router weights", roleTotal: "a total of the layer", rolePhase: "prefill or decode",
	roleRank: "the process that counted", roleBlock: "decoder or mtp", roleMTP: "number of an MTP block", roleNone: "when, where or of what, never how much; rows add up",
}

// ColumnNames describes what the names of columns and keys mean, a line each.
func ColumnNames() string {
	var b strings.Builder
	for r := roleLayer; r < roles; r++ {
		line := "  " + roleWords[r] + ":"
		for _, name := range columnNames[r] {
			if name == "" {
				name = "(no name)"
			}
			if len(line)+1+len(name) > 79 {
				b.WriteString(line + "\n")
				line = "   "
			}
			line += " " + name
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// roleOf returns what a name means, whatever its case.
func roleOf(name string) role {
	name = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "-", "_")
	for _, stars := range []bool{false, true} {
		for r := roleLayer; r < roles; r++ {
			if slices.ContainsFunc(columnNames[r], func(pattern string) bool {
				if !stars {
					return pattern == name
				}
				if end, ok := strings.CutPrefix(pattern, "*"); ok {
					return strings.HasSuffix(name, end)
				}
				begin, ok := strings.CutSuffix(pattern, "*")
				return ok && strings.HasPrefix(name, begin)
			}) {
				return r
			}
		}
	}
	return roleUnknown
}

// isFact reports whether a name is of a number that is the model's: it counts
// nothing, and does not tell rows apart either.
func isFact(name string) bool {
	return slices.Contains([]string{"expert_count", "layer_count", "top_k", "topk"}, strings.ToLower(name))
}

// A header is a set of names with their roles settled.
type header struct {
	names  []string
	roles  []role
	amount int // the column that says how much, -1 for none
	share  bool
}

// NoCountColumn, as [Options.CountColumn], says that no column counts: each
// row is one activation.
const NoCountColumn = "none"

// countsKey reports whether a list, table or object under a key of this name
// holds counts, one of each expert.
func countsKey(name string) bool {
	switch strings.ToLower(name) {
	case "histogram", "expert_histogram", "expert_popularity", "expert_frequency", "activation_frequency", "tokens_per_expert", "num_tokens_per_expert":
		return true
	case "n", "tokens", "num_tokens", "n_tokens":
		return false
	}
	return roleOf(name) == roleCount
}

// settle decides which column is the amount of a row of one expert: the count
// column if there is one, else the share. chosen, if not "", names it.
func settle(names []string, chosen string) (*header, error) {
	h := &header{names: names, amount: -1}
	byRole := [roles][]int{}
	for i, name := range names {
		r := roleOf(name)
		h.roles = append(h.roles, r)
		byRole[r] = append(byRole[r], i)
	}
	if len(byRole[roleLayer]) == 0 && len(byRole[roleBlock]) == 1 {
		i := byRole[roleBlock][0]
		h.roles[i], byRole[roleLayer], byRole[roleBlock] = roleLayer, byRole[roleBlock], nil
	}
	for _, r := range []role{roleLayer, roleExpert, roleExperts, rolePhase, roleBlock, roleMTP} {
		if len(byRole[r]) > 1 {
			return nil, fmt.Errorf("%q and %q are both %s", names[byRole[r][0]], names[byRole[r][1]], roleWords[r])
		}
	}
	if chosen != "" {
		if chosen == NoCountColumn && !slices.Contains(names, chosen) {
			for i, r := range h.roles {
				if r == roleUnknown || r == roleCount || r == roleShare || r == roleTotal {
					h.roles[i] = roleNone
				}
			}
			return h, nil
		}
		i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, chosen) })
		if i < 0 {
			return nil, fmt.Errorf("no column %q; the columns are %s", chosen, strings.Join(names, ", "))
		}
		if r := h.roles[i]; r == roleLayer || r == roleExpert || r == roleExperts {
			return nil, fmt.Errorf("column %q is %s, not an amount", names[i], roleWords[r])
		}
		h.share = h.roles[i] == roleShare || h.roles[i] == roleWeight
		h.amount = i
		h.demote(byRole[roleCount], i)
		return h, nil
	}
	amounts := byRole[roleCount]
	if len(amounts) > 1 { // tokens beside another count are the layer's
		amounts = slices.DeleteFunc(slices.Clone(amounts), func(i int) bool {
			if strings.EqualFold(names[i], "tokens") {
				h.roles[i] = roleTotal
				return true
			}
			return false
		})
	}
	if len(amounts) == 0 {
		amounts, h.share = byRole[roleShare], true
	}
	switch len(amounts) {
	case 0:
		h.share = false
	case 1:
		h.amount = amounts[0]
	default:
		return nil, &ColumnError{Names: []string{names[amounts[0]], names[amounts[1]]}, Why: "may each say how often an expert was used"}
	}
	return h, nil
}

// demote leaves all columns of a list but one out.
func (h *header) demote(columns []int, but int) {
	for _, i := range columns {
		if i != but {
			h.roles[i] = roleNone
		}
	}
}

// A ColumnError reports columns, or keys, that leave open what a row means.
// Naming the one that counts ([Options.CountColumn]) settles it.
type ColumnError struct {
	Names []string
	Why   string

	// Adds is set where the amount is clear, and whether rows of one expert add
	// up is not: naming the column of the amount says that they do.
	Adds bool
}

func (e *ColumnError) Error() string {
	quoted := make([]string, len(e.Names))
	for i, name := range e.Names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	noun := "column "
	if len(quoted) > 1 {
		noun = "columns "
	}
	return noun + strings.Join(quoted, " and ") + ": " + e.Why
}

// mtpRow reports whether a row with these fields is of a prediction block,
// which numbers its layers anew.
func mtpRow(block, mtp string) (bool, error) {
	switch strings.ToLower(block) {
	case "", "decoder", "main", "trunk", "backbone", "model":
	case "mtp", "nextn":
		return true, nil
	default:
		return false, fmt.Errorf("block %.40q: want decoder or mtp", block)
	}
	switch strings.ToLower(mtp) {
	case "", "-1", "none", "null", "false", "nan":
		return false, nil
	}
	return true, nil
}
