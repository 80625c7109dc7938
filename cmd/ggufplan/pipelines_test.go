package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

const repository = "../.."

// buildsPrograms begins a test of programs that it builds: the race detector does
// not watch them, and what runs of the test is the same with it and without.
func buildsPrograms(t *testing.T) {
	t.Helper()
	t.Parallel()
	if gguftest.RaceDetector {
		t.Skip("the programs that it builds run without the race detector")
	}
}

// shellBlocks returns what stands under each "run: |" of an action, by the
// name of its step.
func shellBlocks(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, file))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	name := ""
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "- name: "); ok {
			name = rest
		}
		if strings.TrimSpace(line) != "run: |" {
			continue
		}
		indent := strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " "))+2)
		for i+1 < len(lines) && (lines[i+1] == "" || strings.HasPrefix(lines[i+1], indent)) {
			i++
			blocks[name] += strings.TrimPrefix(lines[i], indent) + "\n"
		}
	}
	return blocks
}

// A pipeline is a folder with spaces in its name, and what a runner sets.
type pipeline struct {
	t   *testing.T
	dir string
	env []string
}

func newPipeline(t *testing.T) *pipeline {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Fatal(err) // what people copy is bash
	}
	p := &pipeline{t: t, dir: filepath.Join(t.TempDir(), "a work space")}
	for name, from := range map[string]string{"my model.gguf": "model-f16.gguf", "the imatrix.gguf": "mix.imatrix.gguf"} {
		data, err := os.ReadFile(filepath.Join(repository, "testdata/bytemoe-2x8", from))
		if err != nil {
			t.Fatal(err)
		}
		p.write(name, data)
	}
	for _, name := range []string{"GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		p.env = append(p.env, name+"="+filepath.Join(p.dir, "runner files", name))
		p.write("runner files/"+name, nil)
	}
	p.env = append(p.env, "RUNNER_TEMP="+filepath.Join(p.dir, "runner files"))
	return p
}

func (p *pipeline) write(name string, data []byte) {
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeline) read(name string) string {
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Error(err)
	}
	return string(data)
}

// run runs a script as a runner does, and returns its exit status.
func (p *pipeline) run(script string, env ...string) int {
	p.t.Helper()
	if script == "" {
		p.t.Fatal("no script")
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir = p.dir
	path := strings.ReplaceAll(strings.TrimSpace(p.read("runner files/GITHUB_PATH")), "\n", ":")
	cmd.Env = append(os.Environ(), append(append(p.env, "PATH="+path+":"+os.Getenv("PATH"), "GOFLAGS=-buildvcs=false"), env...)...)
	out, err := cmd.CombinedOutput()
	p.t.Logf("%s", out)
	if err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestAction runs every step of the action as it is written: a first plan, the
// same again beside the base branch's, and one that misses a gate.
func TestAction(t *testing.T) {
	buildsPrograms(t)
	p := newPipeline(t)
	steps := shellBlocks(t, ".github/actions/ggufplan/action.yml")
	if len(steps) != 4 {
		t.Fatalf("%d steps", len(steps))
	}
	source, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	inputs := func(args, base string) []string {
		return []string{"GGUFPLAN_VERSION=source", "GGUFPLAN_SOURCE=" + source, "GGUFPLAN_MODEL=my model.gguf", "GGUFPLAN_STATS=the imatrix.gguf\n",
			"GGUFPLAN_PLAN=the plan.json", "GGUFPLAN_REPORTS=the reports", "GGUFPLAN_ARGS=" + args, "GGUFPLAN_BASE=" + base}
	}
	if status := p.run(steps["Install"], inputs("", "")...); status != 0 {
		t.Fatalf("install: %d", status)
	}
	if status := p.run(steps["Plan"], inputs("--max-size=3MiB\n--min-saved=60%", "")...); status != 0 {
		t.Fatalf("plan: %d", status)
	}
	if out := p.read("runner files/GITHUB_OUTPUT"); !strings.Contains(out, "passed=true\n") || !strings.Contains(out, "plan=the plan.json\n") {
		t.Errorf("outputs %s", out)
	}
	for _, name := range []string{"review.md", "gates.xml", "plan.html"} {
		if p.read("the reports/"+name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if status := p.run(steps["Compare with the base branch"], inputs("", "")...); status != 0 {
		t.Errorf("nothing to compare with: %d", status)
	}
	if status := p.run("git init -q -b base . && git add 'the plan.json' && git -c user.name=t -c user.email=t@example.org commit -q -m plan"); status != 0 {
		t.Fatal("git")
	}

	// A plan that differs and misses a gate leaves everything behind.
	p.write("runner files/GITHUB_OUTPUT", nil)
	p.write("runner files/GITHUB_STEP_SUMMARY", nil)
	missing := inputs("--max-size=1MiB\n--preset=quality-focused", "base")
	if status := p.run(steps["Plan"], missing...); status != 0 {
		t.Fatalf("plan that misses a gate: %d", status)
	}
	if status := p.run(steps["Compare with the base branch"], missing...); status != 0 {
		t.Errorf("compare: %d", status)
	}
	if out := p.read("runner files/GITHUB_OUTPUT"); !strings.Contains(out, "passed=false\n") || !strings.Contains(out, "changed=true\n") {
		t.Errorf("outputs %s", out)
	}
	for _, want := range []string{"1 of 1 gates missed", "| --max-size | at most 1MiB |", "# Changes to the plan for bytemoe-2x8"} {
		if !strings.Contains(p.read("runner files/GITHUB_STEP_SUMMARY"), want) {
			t.Errorf("no %q in the summary", want)
		}
	}
	if diff := p.read("the reports/diff.md"); !strings.Contains(diff, "| tensors | ") {
		t.Errorf("no headline in\n%s", diff)
	}
	// The base branch's plan may be of another model.
	p.write("runner files/GITHUB_OUTPUT", nil)
	other := strings.Replace(p.read("the plan.json"), `"name": "bytemoe-2x8"`, `"name": "another"`, 1)
	p.write("the plan.json", []byte(other))
	if status := p.run("git add 'the plan.json' && git -c user.name=t -c user.email=t@example.org commit -q -m other && git checkout -q -b change && git show base~:'./the plan.json' > 'the plan.json'"); status != 0 {
		t.Fatal("git")
	}
	if status := p.run(steps["Compare with the base branch"], missing...); status != 0 || strings.Contains(p.read("runner files/GITHUB_OUTPUT"), "changed") {
		t.Errorf("another model's plan: %d", status)
	}
	if status := p.run(steps["Gates"], "GGUFPLAN_PASSED=false"); status != 1 {
		t.Errorf("missed gates: %d", status)
	}
	if status := p.run(steps["Gates"], "GGUFPLAN_PASSED=true"); status != 0 {
		t.Errorf("passed gates: %d", status)
	}
	// Trouble is trouble at once.
	if status := p.run(steps["Plan"], inputs("--preset=nonsense", "")...); status != 2 {
		t.Errorf("nonsense: %d", status)
	}
}

// TestGitLab runs the lines of the GitLab example.
func TestGitLab(t *testing.T) {
	buildsPrograms(t)
	text, err := os.ReadFile(filepath.Join(repository, ".github/examples/gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	lines := func(key string) string {
		block := regexp.MustCompile(`(?m)^  ` + key + `:\n((?:    - .*\n)+)`).FindStringSubmatch(string(text))
		if block == nil {
			t.Fatalf("no %s", key)
		}
		return strings.ReplaceAll("\n"+block[1], "\n    - ", "\n")
	}
	p := newPipeline(t)
	bin := filepath.Join(p.dir, "bin")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/", ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.write("runner files/GITHUB_PATH", []byte(bin))
	env := []string{"GGUFPLAN_MODEL=my model.gguf", "GGUFPLAN_STATS=the imatrix.gguf", "GGUFPLAN_MAX_SIZE=1MiB"}
	if status := p.run(lines("script"), env...); status != 1 {
		t.Errorf("script: %d", status)
	}
	for _, name := range []string{"plan.json", "review.md", "gates.xml", "plan.html"} {
		if p.read("reports/"+name) == "" {
			t.Errorf("no %s", name)
		}
	}
}

// TestReproducible builds the program with the release's flags in two folders:
// the bytes are the same. The container's build has these flags.
func TestReproducible(t *testing.T) {
	buildsPrograms(t)
	recipe, err := os.ReadFile(filepath.Join(repository, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`(?m)^    flags: \[(.+)\]\n    ldflags: \["(.+)"\]$`).FindStringSubmatch(string(recipe))
	if flags == nil {
		t.Fatal("no flags in the recipe")
	}
	container, err := os.ReadFile(filepath.Join(repository, ".container/Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if line := "RUN CGO_ENABLED=0 go build " + flags[1] + ` -ldflags="` + flags[2] + `" -o /ggufplan ./cmd/ggufplan` + "\n"; !strings.Contains(string(container), line) {
		t.Errorf("the container is not built by %s", line)
	}
	other := filepath.Join(t.TempDir(), "another place")
	copySources(t, repository, other)
	var built [2][]byte
	for i, dir := range []string{repository, other} {
		out := filepath.Join(t.TempDir(), "ggufplan")
		cmd := exec.Command("go", "build", "-buildvcs=false", flags[1], "-ldflags="+flags[2], "-o", out, "./cmd/ggufplan")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if built[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("two builds differ")
	}
	if bytes.Contains(built[1], []byte("another place")) {
		t.Error("the build's folder is in the binary")
	}
}

// TestReleaseVersion builds from a tag, beside the folder that goreleaser writes
// into: the program says the tag's version.
func TestReleaseVersion(t *testing.T) {
	buildsPrograms(t)
	dir := filepath.Join(t.TempDir(), "a clone")
	copySources(t, repository, dir)
	p := &pipeline{t: t, dir: dir}
	p.write("runner files/GITHUB_PATH", nil)
	status := p.run(`
		printf '/runner files/\n' > .git-exclude
		git init -q . && mv .git-exclude .git/info/exclude && git add . && git -c user.name=t -c user.email=t@example.org commit -q -m all && git tag v0.98.7
		mkdir dist && echo {} > dist/metadata.json
		CGO_ENABLED=0 go build -buildvcs=true -trimpath -o dist/ ./cmd/ggufplan
		[ "$(dist/ggufplan version | head -n 1)" = 'ggufplan 0.98.7' ]`)
	if status != 0 {
		t.Errorf("status %d", status)
	}
}

// copySources copies what a build reads.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name == "testdata" || name == "node_modules" || name == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == ".git" {
			return nil
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBuildVersion(t *testing.T) {
	for recorded, want := range map[string]string{"v0.2.0": "0.2.0", "v1.0.0-rc.1": "1.0.0-rc.1"} {
		if got := buildVersion(recorded); got != want {
			t.Errorf("%s: %s", recorded, got)
		}
	}
	for _, recorded := range []string{"", "(devel)", "v0.1.1-0.20260102030405-0123456789ab", "v0.2.0+dirty"} {
		if got := buildVersion(recorded); got != buildVersion("") {
			t.Errorf("%s: %s", recorded, got)
		}
	}
}
