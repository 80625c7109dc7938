package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

func showCommand() *command {
	return &command{
		name:     "show",
		operands: "PLAN",
		short:    "a manifest for a person; why a tensor or an expert gets its type",
		long: `
Shows a manifest: its totals beside the whole model at usual file types, its
tiers, its layers, its findings. --layer, --expert and --tensor explain choices:
an expert of a layer, an expert in every layer, a layer, a tensor; with --errors
also what every type would take and cost there. PLAN may be - for standard
input.

Example:

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -q -o plan.json
  $ ggufplan show plan.json
  model       bytemoe-2x8, qwen3moe, 2 blocks, 2 with 8 experts
  ...
  $ ggufplan show plan.json --layer 1 --expert 3
  layer  expert   count   share  of the largest  tier  type  flag  why
      1       3  38,047  7.93 %         27.60 %  cold  Q2_K  good  38,047 < 41,348
  ...`,
		min: 1, max: 1,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			s := &showFlags{flags: flags}
			flags.IntVar(&s.layer, "layer", 0, "explain the choices in block `N`")
			flags.IntVar(&s.expert, "expert", 0, "explain the choices for expert `E`")
			flags.StringVar(&s.tensor, "tensor", "", "explain the choice for the tensor `NAME`")
			flags.StringVar(&s.errors, "errors", "", "with the others: what every type would cost, from the errors that measure wrote to `FILE`")
			flags.BoolVar(&s.json, "json", false, "print the same facts as JSON")
			return func(c *call, operands []string) error { return s.run(c, operands[0]) }
		},
	}
}

type showFlags struct {
	flags         *pflag.FlagSet
	layer, expert int
	tensor        string
	errors        string
	json          bool
}

func (s *showFlags) run(c *call, path string) error {
	m, err := c.readPlan(path)
	if err != nil {
		return err
	}
	layer, expert, tensor := s.flags.Changed("layer"), s.flags.Changed("expert"), s.flags.Changed("tensor")
	if tensor && layer {
		return hinted(fmt.Errorf("--tensor and --layer exclude each other: a tensor has its layer"), "ggufplan show "+path+" --tensor "+s.tensor)
	}
	if s.errors != "" && !layer && !expert && !tensor {
		return hinted(fmt.Errorf("--errors explains a choice: which, say --layer, --expert or --tensor"), "ggufplan show "+path+" --layer 0 --errors "+s.errors)
	}
	if !layer && !expert && !tensor {
		if s.json {
			data, err := manifest.Encode(m)
			if err != nil {
				return err
			}
			_, err = c.stdout.Write(data)
			return err
		}
		showPlan(c.stdout, m)
		return nil
	}
	x := &explanation{Policy: m.Policy, Layers: []manifest.Layer{}, Tensors: []manifest.Tensor{}}
	if tensor {
		err = x.ofTensor(m, s.tensor)
	} else {
		err = x.ofLayers(m, s.layer, layer)
	}
	tensors := x.Tensors // whole, also where one expert is explained
	if err == nil && expert {
		err = x.onlyExpert(s.expert)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if s.errors != "" {
		if err := c.addChoices(x, m, s.errors, tensors, s.expert, expert); err != nil {
			return err
		}
	}
	if s.json {
		return writeJSON(c.stdout, x)
	}
	x.write(c.stdout, m, s.flags)
	if s.errors != "" {
		x.writeChoices(c.stdout)
	}
	return nil
}

// showPlan prints a manifest for a person.
func showPlan(w io.Writer, m *manifest.Manifest) {
	showHead(w, m)
	fmt.Fprintln(w)
	showTotals(w, m)
	if len(m.Totals.Tiers) > 0 {
		fmt.Fprintln(w)
		showTiers(w, m)
	}
	if len(m.Layers) > 0 {
		fmt.Fprintln(w)
		showLayers(w, m)
	}
	fmt.Fprintln(w)
	showOthers(w, m)
	if len(m.Findings) > 0 {
		fmt.Fprintln(w)
		showFindings(w, m.Findings)
	}
}

func showHead(w io.Writer, m *manifest.Manifest) {
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	model := fmt.Sprintf("%s, %s, %d blocks", m.Model.Name, m.Model.Architecture, m.Model.BlockCount)
	if m.Model.MoELayerCount > 0 {
		model += fmt.Sprintf(", %d with %d experts", m.Model.MoELayerCount, m.Model.ExpertCount)
	}
	fact("model", "%s", model)
	if st := m.Statistics; st != nil {
		var names []string
		for _, in := range st.Inputs {
			names = append(names, in.Name+" ("+in.Format+")")
		}
		fact("statistics", "%s, counts %s", strings.Join(names, ", "), st.CountsKind)
		coverage := fmt.Sprintf("%d of %d layers have counts", st.LayersWithCounts, len(m.Layers))
		if st.Tokens != nil {
			coverage = formatCount(*st.Tokens) + " tokens, " + coverage
		}
		fact("", "%s; %d experts unseen, %d scarce", coverage, st.UnseenExperts, st.ScarceExperts)
	}
	fact("policy", "%s", policyInWords(&m.Policy))
	fact("base", "%s", m.Policy.Base)
	for _, p := range m.Policy.Pins {
		fact("pin", "%s=%s", p.Pattern, p.Type)
	}
	for _, d := range m.Policy.DefinedTypes {
		fact("type", "%s: %d weights in %d bytes", d.Name, d.WeightsPerBlock, d.BytesPerBlock)
	}
	fact("target", "%s %s", m.Target.Engine, m.Target.Version)
}

func policyInWords(p *manifest.Policy) string {
	if p.Name != "frequency" {
		if b := p.Budget; b != nil {
			value := strconv.FormatFloat(b.TargetValue, 'f', -1, 64)
			return fmt.Sprintf("%s: %s %s, objective %s, %s errors", p.Name, b.Target, value, b.Objective, b.Errors.Kind)
		}
		return p.Name
	}
	number := func(v *float64) string { return strconv.FormatFloat(*v, 'g', -1, 64) }
	return fmt.Sprintf("%s, preset %s: hot from %s %s, cold below %s %s, else warm %s; tiers by %s per %s, fused by %s",
		p.Name, *p.Preset, number(p.HotPercentile), p.HotType, number(p.ColdPercentile), *p.ColdType, *p.WarmType,
		*p.TiersBy, *p.Scope, *p.Fuse)
}

// showTotals puts the plan beside the source and the baselines.
func showTotals(w io.Writer, m *manifest.Manifest) {
	t := &m.Totals
	sizes := newTable("", ">size", ">bits per weight", ">saved", ">of the source", ">experts")
	row := func(name string, bytes uint64, saved int64, experts string) {
		sizes.add(name, formatSize(bytes), bitsPerWeight(bytes, m.Model.Parameters), signedSize(saved), percent(bytes, t.SourceBytes), experts)
	}
	row("source", t.SourceBytes, 0, formatSize(t.RoutedExperts.SourceBytes))
	row("fused plan", t.PlannedBytes, t.SavedBytes, formatSize(t.RoutedExperts.PlannedBytes))
	row("split plan", t.SplitPlannedBytes, t.SplitSavedBytes, formatSize(t.RoutedExperts.SplitPlannedBytes))
	for _, b := range t.Baselines {
		row(printable(b.Name), b.TensorBytes, b.SavedBytes, "")
	}
	sizes.write(w, "")
	if t.PlannedFileBytes != nil {
		fmt.Fprintf(w, "planned file  %s bytes\n", formatCount(*t.PlannedFileBytes))
	}
}

func showTiers(w io.Writer, m *manifest.Manifest) {
	types := map[string]string{"hot": m.Policy.HotType}
	if m.Policy.WarmType != nil && m.Policy.ColdType != nil {
		types["warm"], types["cold"] = *m.Policy.WarmType, *m.Policy.ColdType
	}
	tiers := newTable("tier", "type", ">experts", ">activations", ">split plan")
	for _, t := range m.Totals.Tiers {
		tiers.add(t.Tier, types[t.Tier], formatCount(t.Experts), optionalPercent(t.ActivationShare), formatSize(t.SplitPlannedBytes))
	}
	tiers.write(w, "")
}

// showLayers prints a line per MoE layer.
func showLayers(w io.Writer, m *manifest.Manifest) {
	type sums struct {
		types          []string
		planned, split uint64
	}
	byLayer := map[int]*sums{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.ExpertTypes == nil || t.Layer == nil {
			continue
		}
		s := byLayer[*t.Layer]
		if s == nil {
			s = &sums{}
			byLayer[*t.Layer] = s
		}
		s.planned += t.PlannedBytes
		s.split += t.SplitPlannedBytes
		text := strings.TrimPrefix(t.Role, "expert_") + " " + t.PlannedType
		if t.Expert == nil && !slices.Contains(s.types, text) {
			s.types = append(s.types, text)
		}
	}
	t := newTable("layer", ">activations", ">hot", ">warm", ">cold", ">fused plan", ">split plan", "fused types")
	for i := range m.Layers {
		l := &m.Layers[i]
		tiers := map[string]int{}
		for _, x := range l.Experts {
			if x.Tier != nil {
				tiers[*x.Tier]++
			}
		}
		number := func(tier string) string {
			if len(tiers) == 0 {
				return "-"
			}
			return strconv.Itoa(tiers[tier])
		}
		s := byLayer[l.Layer]
		if s == nil {
			s = &sums{}
		}
		types := strings.Join(s.types, ", ")
		if types == "" {
			types = "one tensor per expert"
		}
		t.add(strconv.Itoa(l.Layer), optionalCount(l.Activations), number("hot"), number("warm"), number("cold"),
			formatSize(s.planned), formatSize(s.split), types)
	}
	t.write(w, "")
}

// showOthers sums up the tensors that are not routed experts by role and type.
func showOthers(w io.Writer, m *manifest.Manifest) {
	type group struct {
		role, from, to string
		tensors        int
		source, bytes  uint64
	}
	var groups []group
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.ExpertTypes != nil {
			continue
		}
		k := slices.IndexFunc(groups, func(g group) bool {
			return g.role == t.Role && g.from == t.SourceType && g.to == t.PlannedType
		})
		if k < 0 {
			k = len(groups)
			groups = append(groups, group{role: t.Role, from: t.SourceType, to: t.PlannedType})
		}
		groups[k].tensors++
		groups[k].source += t.SourceBytes
		groups[k].bytes += t.PlannedBytes
	}
	slices.SortStableFunc(groups, func(a, b group) int {
		return slices.Index(manifest.Roles, a.role) - slices.Index(manifest.Roles, b.role)
	})
	t := newTable("other tensors", ">tensors", "source", "planned", ">source size", ">planned size")
	for _, g := range groups {
		t.add(g.role, strconv.Itoa(g.tensors), g.from, g.to, formatSize(g.source), formatSize(g.bytes))
	}
	t.write(w, "")
}

// showFindings prints findings, those of one code that say the same in one
// line.
func showFindings(w io.Writer, findings []manifest.Finding) {
	fmt.Fprintln(w, "findings")
	for i := 0; i < len(findings); {
		f := findings[i]
		j := i + 1
		for j < len(findings) && findings[j].Code == f.Code && findings[j].Message == f.Message {
			j++
		}
		subject := printable(f.Subject)
		if j-i > 1 {
			subject += fmt.Sprintf(" and %d more", j-i-1)
		}
		fmt.Fprintf(w, "  %s: %s: %s\n", printable(f.Code), subject, printable(f.Message))
		i = j
	}
}
