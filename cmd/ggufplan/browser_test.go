package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// browser finds Chromium and axe-core. Without them the test is skipped, or
// fails where GGUFPLAN_REQUIRE_BROWSER is set.
func browser(t *testing.T) (path, axe string) {
	t.Helper()
	missing := func(what string) {
		if os.Getenv("GGUFPLAN_REQUIRE_BROWSER") != "" {
			t.Fatalf("GGUFPLAN_REQUIRE_BROWSER is set, and there is no %s", what)
		}
		t.Skipf("SKIPPED: no %s, which .ci/run installs", what)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		missing("Chromium")
	}
	dir := os.Getenv("GGUFPLAN_AXE")
	if dir == "" {
		dir = filepath.Join(repository, "node_modules/.axe/node_modules/axe-core")
	}
	source, err := os.ReadFile(filepath.Join(dir, "axe.min.js"))
	if err != nil {
		missing("axe-core")
	}
	return path, string(source)
}

// largePlan is a plan of Kimi-K2's shapes: 60 layers of 384 experts.
func largePlan() *manifest.Manifest {
	m := manifest.New()
	m.Model.Name, m.Model.Architecture = "a large model", "deepseek2"
	m.Model.Files = []manifest.File{{Name: "model.gguf"}}
	m.Model.MoELayerCount, m.Model.ExpertCount, m.Policy.Base = 60, 384, "Q4_K_M"
	types := []string{"Q4_K", "Q3_K", "Q2_K"}
	unseen := "unseen"
	for layer := range 60 {
		l := manifest.Layer{Layer: layer + 1}
		var experts [3][]string
		sum := uint64(0)
		for e := range 384 {
			count := uint64(1e6) / uint64(1+(e*37+layer*11)%384)
			if e%97 == layer%97 {
				count = 0
			}
			sum += count
			x := manifest.Expert{Expert: e, Count: &count}
			if count == 0 {
				x.Flag = &unseen
			}
			l.Experts = append(l.Experts, x)
			for p := range experts {
				experts[p] = append(experts[p], types[(e*7+p*layer)%3])
			}
		}
		for e := range l.Experts {
			share := float64(*l.Experts[e].Count) / float64(sum)
			l.Experts[e].Share = &share
		}
		m.Layers = append(m.Layers, l)
		at := l.Layer
		for p, role := range []string{"gate", "up", "down"} {
			m.Tensors = append(m.Tensors, manifest.Tensor{Name: fmt.Sprintf("blk.%d.ffn_%s_exps.weight", at, role), Role: "expert_" + role, Layer: &at,
				Shape: []uint64{7168, 2048, 384}, Parameters: 5637144576, SourceType: "BF16", SourceBytes: 11274289152, PlannedType: types[(layer+p)%3],
				PlannedBytes: 2422210560, Reason: "most activations are in warm experts", ExpertTypes: experts[p]})
		}
		for n := range 12 {
			m.Tensors = append(m.Tensors, manifest.Tensor{Name: fmt.Sprintf("blk.%d.attn_%d.weight", at, n), Role: "attention", Layer: &at,
				Shape: []uint64{7168, 1536}, Parameters: 11010048, SourceType: "BF16", SourceBytes: 22020096, PlannedType: "Q8_0", PlannedBytes: 11698176, Reason: "base"})
		}
		m.Findings = append(m.Findings, manifest.Finding{Code: "unseen-experts", Subject: fmt.Sprintf("blk.%d", at), Message: "4 of 384 experts were never used"})
	}
	m.Policy.Budget = &manifest.Budget{Objective: "output-share", Damage: 0.02, SplitDamage: 0.015}
	m.Totals.PlannedBytes, m.Totals.SplitPlannedBytes, m.Totals.PlannedFileBytes = 3<<37, 3<<37, new(uint64)
	*m.Totals.PlannedFileBytes = 3<<37 + 4096
	m.Totals.Baselines = []manifest.Baseline{{Name: "Q4_K_M", TensorBytes: 1 << 39}, {Name: "Q2_K", TensorBytes: 1 << 38}}
	return m
}

// TestReportInBrowser opens the report in Chromium, wide and narrow, light and
// dark, and with everything unfolded: nothing is wider than the page, nothing
// fails in the console, and axe finds no fault. Screenshots go to the folder
// GGUFPLAN_SCREENSHOTS, if it is set.
func TestReportInBrowser(t *testing.T) {
	t.Parallel()
	path, axe := browser(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	damage := []review.ChartPoint{{Name: "Q2_K", Bytes: 1 << 38, Damage: 0.3}, {Name: "Q4_K_M", Bytes: 1 << 39, Damage: 0.01}}
	options := review.Options{Gates: []review.Gate{{Name: "--max-size", Wanted: "at most 12GiB", Got: "332 GiB"}, {Name: "--max-bpw", Wanted: "at most 3", Got: "2.8", Passed: true}},
		Frontier: &review.Chart{Fused: damage, Split: damage, Types: damage}}
	if err := review.HTML(file, largePlan(), options); err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil || file.Close() != nil {
		t.Fatal(err)
	}
	if info.Size() > 1500000 {
		t.Errorf("the report has %d bytes", info.Size())
	}
	address := (&url.URL{Scheme: "file", Path: filepath.ToSlash(file.Name())}).String()
	allocator := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	root, stop := chromedp.NewExecAllocator(t.Context(), allocator...)
	defer stop()
	root, stop = chromedp.NewContext(root)
	defer stop()
	root, stop = context.WithTimeout(root, 3*time.Minute)
	defer stop()
	var faults []string
	chromedp.ListenTarget(root, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			faults = append(faults, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			faults = append(faults, e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			faults = append(faults, "console "+string(e.Type))
		}
	})
	for _, width := range []int64{400, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%d", scheme, width)
			var overflow, sideways int64
			var violations string
			var shot []byte
			err := chromedp.Run(root, log.Enable(),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.EmulateViewport(width, 900),
				page.SetBypassCSP(true), // for axe, not for the page
				chromedp.Navigate(address),
				chromedp.FullScreenshot(&shot, 100),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &sideways),
				chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => d.open = true)`, nil),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
				chromedp.Evaluate(`document.querySelectorAll("#tensors tbody tr").forEach((r, i) => { if (i > 40) r.remove(); })`, nil), // as the others
				chromedp.Evaluate(axe+`; axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.help, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary])))`, &violations,
					func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
			if err != nil {
				t.Fatal(err)
			}
			if sideways > 0 || overflow > 0 {
				t.Errorf("%s: the page is %d pixels too wide, unfolded %d", name, sideways, overflow)
			}
			if violations != "[]" {
				t.Errorf("%s: %s", name, violations)
			}
			if dir := os.Getenv("GGUFPLAN_SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}
	testReportScript(t, root, address)
	testReportPrinted(t, root, address)
	if len(faults) > 0 {
		t.Errorf("console: %s", strings.Join(faults, "; "))
	}
}

// testReportPrinted prints the page: long lists stay folded, so that a plan of
// 960 tensors is a few sheets.
func testReportPrinted(t *testing.T, root context.Context, address string) {
	t.Helper()
	var pdf []byte
	err := chromedp.Run(root, chromedp.Navigate(address), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = page.PrintToPDF().WithPrintBackground(true).Do(ctx)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("GGUFPLAN_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "print.pdf"), pdf, 0o644); err != nil {
			t.Error(err)
		}
	}
	if n := len(regexp.MustCompile(`/Type\s*/Page\b[^s]`).FindAll(pdf, -1)); n < 2 || n > 10 {
		t.Errorf("%d sheets", n)
	}
}

// testReportScript uses the page: the maps by keyboard, the switch, the search
// and the sorting of tensors.
func testReportScript(t *testing.T, root context.Context, address string) {
	t.Helper()
	var got map[string]any
	err := chromedp.Run(root, chromedp.Navigate(address), chromedp.Evaluate(`(() => {
		const key = (e, k) => e.dispatchEvent(new KeyboardEvent("keydown", {key: k, bubbles: true}));
		const $ = s => document.querySelector(s), r = {};
		const heat = $("#heat"); heat.focus(); key(heat, "ArrowRight"); key(heat, "ArrowDown"); r.heat = $("#heat-readout").textContent;
		const cell = $("table.map td[tabindex='0']"); cell.focus(); key(cell, "ArrowRight"); r.cell = $("#tensor-readout").textContent;
		$("#by-type").click(); r.types = getComputedStyle($("svg.types")).display; r.traffic = getComputedStyle($("svg.traffic")).display;
		$("#tensors").open = true;
		const box = $("#tensor-search"); box.value = "blk.7. down"; box.dispatchEvent(new Event("input")); r.found = $("#search-count").textContent;
		box.value = ""; box.dispatchEvent(new Event("input"));
		const bytes = [...document.querySelectorAll("#tensors th button")].find(b => b.textContent === "bytes"); bytes.click(); bytes.click();
		r.first = $("#tensors tbody th").textContent; r.sort = bytes.closest("th").getAttribute("aria-sort");
		return r;
	})()`, &got))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"types": "block", "traffic": "none", "found": "1 of 900", "first": "blk.1.ffn_gate_exps.weight", "sort": "descending"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %v, want %s", k, got[k], v)
		}
	}
	if s := fmt.Sprint(got["heat"]); !strings.Contains(s, "layer 2, expert ") || !strings.Contains(s, " activations, ") || !strings.Contains(s, "split plan ") {
		t.Errorf("heat map: %s", s)
	}
	if s := fmt.Sprint(got["cell"]); !strings.HasPrefix(s, "layer 1, up: ") {
		text, _ := json.Marshal(got)
		t.Errorf("map: %s", text)
	}
}
