package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlclark/regexp2"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/export"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/verify"
	"github.com/ggufplan/ggufplan/stats"
)

// modelsAtHand opens every model that tests have, and a few made for their
// names.
func modelsAtHand(t *testing.T) map[string]*ggufio.Model {
	t.Helper()
	dir := t.TempDir()
	models := map[string]*ggufio.Model{}
	open := func(name, path string) {
		m, err := ggufio.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		models[name] = m
	}
	headers, err := filepath.Glob("../../testdata/llama-quantize/*-bf16.gguf")
	if err != nil || len(headers) == 0 {
		t.Fatal("no headers", err)
	}
	for _, h := range headers {
		path, err := gguftest.ExtendHeader(dir, h)
		if err != nil {
			t.Fatal(err)
		}
		open(filepath.Base(h), path)
	}
	open("bytemoe", "../../testdata/bytemoe-2x8/model-f16.gguf")

	build := func(name string, b *gguftest.Builder) {
		path := filepath.Join(dir, name+".gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		open(name, path)
	}
	build("separate", gguftest.MoE{Separate: true, Layers: 11, Experts: 12, Type: quant.F16}.Builder())
	build("joined", gguftest.MoE{GateUp: true, Tied: true, MTP: 1, Dense: 1, Shared: 1, Type: quant.Q8_0}.Builder())
	odd := gguftest.MoE{Layers: 12, Type: quant.F16}.Builder()
	for _, name := range []string{
		"blk.0.Attn_Q.weight", "blk.0.attn_q_weight", "blk.0.attn_Q.weight", "blk.0.atTn_q.weight", // in lower case the same
		"blk.0.attn_q.weight.weight", "x.blk.0.attn_q.weight", // one in the other
		"a=b.weight", "a b .weight", "a,b.weight", `\d+[a-z]*(x|y)?^$.weight`, "#é'\".weight",
	} {
		odd.Add(name, quant.F16, []uint64{256, 4}, nil)
	}
	build("odd names", odd)
	return models
}

// planOf plans a model with counts that give neighbouring layers different
// types.
func planOf(t *testing.T, m *ggufio.Model, base string) *manifest.Manifest {
	t.Helper()
	ev := &stats.Evidence{Kind: stats.KindExact}
	for _, layer := range m.MoELayers() {
		l := stats.Layer{Index: layer, Kind: "routed", Counts: make([]uint64, m.ExpertCount(layer))}
		for e := range l.Counts {
			l.Counts[e] = uint64(1 + (e*(layer+7))%100)
		}
		if layer%3 == 0 {
			l.Counts[0] = 100000
		}
		ev.Layers = append(ev.Layers, l)
	}
	tiers, _ := frequency.Preset(frequency.PresetDefault)
	plan, err := planner.Solve(&planner.Problem{Model: m, Evidence: ev, Policy: planner.Policy{Name: planner.PolicyFrequency, Base: base,
		Frequency: planner.Frequency{Preset: frequency.PresetDefault, TiersBy: planner.TiersByMax, Scope: planner.ScopeLayer, Fuse: planner.FuseActivations, Tiers: tiers}}})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Manifest()
}

// A matcher applies rules as llama-quantize does, written from its
// documentation alone: the first pattern found anywhere in a name wins.
type matcher []struct {
	pattern *regexp2.Regexp
	typ     string
}

func newMatcher(t *testing.T, items []string) matcher {
	t.Helper()
	var m matcher
	for _, item := range items {
		pattern, typ, ok := strings.Cut(item, "=")
		if !ok {
			t.Fatalf("item %q has no =", item)
		}
		re, err := regexp2.Compile(pattern, regexp2.ECMAScript)
		if err != nil {
			t.Fatal(err)
		}
		m = append(m, struct {
			pattern *regexp2.Regexp
			typ     string
		}{re, typ})
	}
	return m
}

// find returns the type that the rules give a name, and which rule does.
func (m matcher) find(t *testing.T, name string) (typ string, rule int) {
	t.Helper()
	for i, r := range m {
		ok, err := r.pattern.MatchString(name)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return r.typ, i
		}
	}
	return "", -1
}

// asciiLower lower-cases byte by byte.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// TestExportedRules shows that every exported rule set gives every tensor
// exactly its planned type and hits nothing else.
func TestExportedRules(t *testing.T) {
	for name, m := range modelsAtHand(t) {
		for _, base := range []string{"Q4_K_M", planner.BaseKeep} {
			if base == planner.BaseKeep && len(m.Tensors) > 500 {
				continue // the large ones take their time
			}
			t.Run(name+"/"+base, func(t *testing.T) {
				plan := planOf(t, m, base)
				q, err := export.LlamaQuantize(plan, export.Paths{Rules: "rules"})
				if err != nil {
					t.Fatal(err)
				}
				items := strings.Fields(string(q.Rules))
				for i := range items {
					pattern, typ, _ := strings.Cut(items[i], "=")
					items[i] = asciiLower(pattern) + "=" + typ
				}
				checkRules(t, plan, newMatcher(t, items))
				if len(items) != quantizable(plan) {
					t.Errorf("%d rules for %d tensors", len(items), quantizable(plan))
				}

				if name == "separate" {
					return // ik_llama.cpp wants one type for all experts
				}
				q, err = export.IKLlama(plan, export.Paths{})
				if err != nil {
					t.Fatal(err)
				}
				argument := strings.TrimSuffix(string(q.Rules), "\n")
				if len(argument) >= 128<<10 {
					t.Errorf("an argument of %d bytes", len(argument))
				}
				checkRules(t, plan, newMatcher(t, strings.Split(argument, ",")))
			})
		}
	}
}

// TestExportedRulesInLlamaCpp has the real library read the rules, lower-cased
// as llama-quantize does, and print what each tensor would become.
func TestExportedRulesInLlamaCpp(t *testing.T) {
	lib := llamacpp.Load(t)
	models := modelsAtHand(t)
	for _, name := range []string{"bytemoe", "odd names", "joined", "separate", "olmoe-1b-7b-bf16.gguf"} {
		m := models[name]
		plan := planOf(t, m, "Q4_K_M")
		q, err := export.LlamaQuantize(plan, export.Paths{Rules: "rules"})
		if err != nil {
			t.Fatal(err)
		}
		o := llamacpp.QuantizeOptions{FileType: 15, Threads: 1, DryRun: true}
		for _, item := range strings.Split(strings.TrimSuffix(string(q.Rules), "\n"), "\n") {
			pattern, typ, _ := strings.Cut(item, "=")
			f, _ := quant.ByName(typ)
			o.Rules = append(o.Rules, llamacpp.Rule{Pattern: asciiLower(pattern), Type: uint32(f.Type)})
		}
		log, err := lib.Quantize(m.Files[0].Path, "", o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		report, err := verify.DryRunLog(plan, "the dry run", strings.NewReader(log))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, d := range report.Differences {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestJoinedRules does the same for a model whose rules must be joined to fit
// one argument.
func TestJoinedRules(t *testing.T) {
	b := gguftest.MoE{Separate: true, Layers: 24, Experts: 96, Embd: 32, FF: 32, Type: quant.F16, Sparse: true}.Builder()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	plan := planOf(t, m, "Q4_0")
	for i := range plan.Tensors {
		// ik_llama.cpp wants one type per layer and projection.
		if x := &plan.Tensors[i]; x.Expert != nil {
			x.PlannedType = []string{"Q4_0", "Q8_0", "IQ4_NL"}[(*x.Layer+len(x.Role))%3]
		}
	}
	q, err := export.IKLlama(plan, export.Paths{})
	if err != nil {
		t.Fatal(err)
	}
	argument := strings.TrimSuffix(string(q.Rules), "\n")
	items := strings.Split(argument, ",")
	if len(argument) >= 128<<10 || len(items) >= quantizable(plan)/10 {
		t.Errorf("%d rules in %d bytes for %d tensors: not joined", len(items), len(argument), quantizable(plan))
	}
	checkRules(t, plan, newMatcher(t, items))
}

func quantizable(plan *manifest.Manifest) (n int) {
	for _, x := range plan.Tensors {
		if quant.Quantizable(x.Name, x.Shape) {
			n++
		}
	}
	return n
}

func checkRules(t *testing.T, plan *manifest.Manifest, rules matcher) {
	t.Helper()
	used := make([]bool, len(rules))
	for i := range plan.Tensors {
		x := &plan.Tensors[i]
		got, rule := rules.find(t, x.Name)
		switch {
		case !quant.Quantizable(x.Name, x.Shape):
			if rule >= 0 {
				t.Errorf("%s is hit by rule %d", x.Name, rule)
			}
		case !strings.EqualFold(got, x.PlannedType):
			t.Errorf("%s gets %q, planned %s", x.Name, got, x.PlannedType)
		default:
			used[rule] = true
		}
		// Near misses must not be hit.
		for _, near := range []string{x.Name + "x", "x" + x.Name, strings.ReplaceAll(x.Name, ".", "_")} {
			if i%37 != 0 || near == x.Name || planned(plan, near) {
				continue
			}
			if _, rule := rules.find(t, near); rule >= 0 {
				t.Errorf("%q is hit by rule %d", near, rule)
			}
		}
	}
	for i, u := range used {
		if !u {
			t.Errorf("rule %d is of no use: %s", i, fmt.Sprint(rules[i].pattern))
		}
	}
}

func planned(plan *manifest.Manifest, name string) bool {
	for i := range plan.Tensors {
		if plan.Tensors[i].Name == name {
			return true
		}
	}
	return false
}
