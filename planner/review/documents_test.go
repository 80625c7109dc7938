package review

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/manifest/manifesttest"
)

// Names come from strangers: none may become markup.
func TestReviewsEscape(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Model.Name = "<script>alert(1)</script> | *x* _y_ a_b [l](u)\n# z"
	m.Findings = []manifest.Finding{{Code: "enlarges", Subject: "a|b", Message: "<b>"}}
	var md, page strings.Builder
	if err := errors.Join(Markdown(&md, m, Options{}), HTML(&page, m, Options{})); err != nil {
		t.Fatal(err)
	}
	if want := `# Quantization plan for &lt;script>alert(1)&lt;/script> \| \*x\* \_y\_ a_b \[l\](u) \# z` + "\n"; !strings.HasPrefix(md.String(), want) {
		t.Errorf("markdown begins %.150q", md.String())
	}
	if !strings.Contains(md.String(), "| enlarges | a\\|b | &lt;b> |\n") {
		t.Errorf("no finding in\n%s", md.String())
	}
	if strings.Contains(page.String(), "<script>alert") || !strings.Contains(page.String(), "&lt;script&gt;") {
		t.Errorf("page\n%s", page.String())
	}
	for _, want := range []string{"blk.0.ffn\\_up\\_exps", "blk.0.ffn_up_exps.weight | Q3_K | 1 | 1 Q3_K, 1 Q4_K |"} {
		if strings.Contains(md.String(), want) != !strings.Contains(want, `\`) {
			t.Errorf("markdown on %s:\n%s", want, md.String())
		}
	}
}

// A map draws every layer, runs of a level as one box, most used first.
func TestHTMLMaps(t *testing.T) {
	m := manifesttest.TwoExperts()
	expert := func(e int, count uint64, share float64) manifest.Expert {
		x := manifest.Expert{Expert: e, Count: &count, Share: &share}
		if count == 0 {
			unseen := "unseen"
			x.Flag = &unseen
		}
		return x
	}
	m.Layers = []manifest.Layer{
		{Layer: 0, Experts: []manifest.Expert{expert(0, 0, 0), expert(1, 10, 1)}},
		{Layer: 1, Experts: []manifest.Expert{{}, {Expert: 1}}},
	}
	var page strings.Builder
	if err := HTML(&page, m, Options{Gates: []Gate{{"--max-size", "at most <1", "2", false}}}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		`<title>layer 0, 1 expert: 100.00 % to 100.00 % of the layer</title>`: 1,
		`<title>layer 0, 1 expert: never used</title>`:                        1,
		`<title>layer 1, 2 experts: no statistics</title>`:                    1,
		`"l":0,"e":[1,0],"n":[10,0],"sum":10,"t":[0,1]`:                       1,
		`"types":["Q3_K/IQ4_XS","Q4_K/IQ4_XS"]`:                               1,
		`title="layer 0, up: 0 B, 0 bits per weight; ffn_up_exps Q3_K">Q3_K<`: 1,
		`<td>at most &lt;1</td><td>2</td><td class="fail">fail</td>`:          1,
		"https:": 0,
	} {
		if got := strings.Count(page.String(), text); got != want {
			t.Errorf("%d times %s, want %d", got, text, want)
		}
	}
	for _, element := range []string{"table", "tr", "details", "svg", "ul", "dl", "div"} {
		if open, closed := strings.Count(page.String(), "<"+element+" ")+strings.Count(page.String(), "<"+element+">"), strings.Count(page.String(), "</"+element+">"); open != closed || open == 0 {
			t.Errorf("%d <%s>, %d of its ends", open, element, closed)
		}
	}
}

// A comment holds 65,536 characters whatever the plan's size, and says what it
// leaves out.
func TestMarkdownFitsAComment(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Model.Name = strings.Repeat("long ", 5000)
	m.Policy.Pins = slices.Repeat([]manifest.Pin{{Pattern: strings.Repeat("*", 900), Type: "Q8_0"}}, 90)
	m.Findings = slices.Repeat([]manifest.Finding{{Code: "enlarges", Subject: "s", Message: strings.Repeat("|", 400)}}, 3000)
	for range 2000 {
		m.Tensors = append(m.Tensors, m.Tensors[3])
	}
	var md strings.Builder
	if err := Markdown(&md, m, Options{Gates: slices.Repeat([]Gate{{"--fail-on enlarges", "none", "1", false}}, 60)}); err != nil {
		t.Fatal(err)
	}
	if n := md.Len(); n > MaxComment || n < MaxComment/4 {
		t.Errorf("%d characters", n)
	}
	if !strings.Contains(md.String(), "**60 of 60 gates missed.**") || !strings.Contains(md.String(), "\nand 10 more\n") || strings.Count(md.String(), "<details>") != strings.Count(md.String(), "</details>") {
		t.Errorf("begins %.400s", md.String())
	}
}

func TestHTMLOfWhatDoesNotPrint(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Model.Name = "a\x1b[31m\n<b>"
	var page strings.Builder
	if err := HTML(&page, m, Options{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page.String(), "\x1b") || !strings.Contains(page.String(), "a\uFFFD[31m\uFFFD&lt;b&gt;</title>") {
		t.Errorf("page begins %.500q", page.String())
	}
}

func TestMarkdownTables(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Model.Parameters = 1 << 20
	m.Totals.SourceBytes, m.Totals.PlannedBytes, m.Totals.SavedBytes = 2<<20, 500<<10, 2<<20-500<<10
	m.Totals.Baselines = []manifest.Baseline{{Name: "Q4_K_M", TensorBytes: 600 << 10}, {Name: "Q2_K", TensorBytes: 400 << 10}, {Name: "Q3_K_M", TensorBytes: 500 << 10}}
	var md strings.Builder
	if err := Markdown(&md, m, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| whole model as | tensors | bits per weight | the plan is |\n| --- | --: | --: | --: |\n",
		"| Q4_K_M | 600.0 KiB | 4.69 | 100.0 KiB smaller |\n",
		"| Q2_K | 400.0 KiB | 3.12 | 100.0 KiB larger |\n",
		"| Q3_K_M | 500.0 KiB | 3.91 | as large |\n",
		"| expert_up | 1 | 0 B | 0 B | 1 Q3_K |\n",
		"- **Size:** 500.0 KiB of 2.0 MiB, saves 75.6 %, 3.91 bits per weight\n",
		"- **Nearest:** Q3_K_M, 500.0 KiB: the plan is as large; ",
	} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("no %q in\n%s", want, md.String())
		}
	}
}

// A verdict is eight lines at most with the next command, whatever is known.
func TestVerdictIsShort(t *testing.T) {
	m := manifesttest.TwoExperts()
	damage := 0.5
	m.Totals.Damage = &damage
	m.Totals.PredictedKLD = &manifest.PredictedKLD{KLD: 0.1, Low: 0.05, High: 0.2}
	m.Totals.Tiers = []manifest.TierTotal{{Tier: "hot"}}
	m.Findings = []manifest.Finding{{Code: "enlarges"}}
	m.Totals.Baselines = []manifest.Baseline{{Name: "Q4_K_M"}}
	m.Policy.Run, m.Totals.Run = &manifest.Run{}, &manifest.RunTotals{}
	if facts := Verdict(m); len(facts) != MaxFacts {
		t.Errorf("%d facts: %q", len(facts), facts)
	}
}
