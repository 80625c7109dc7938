package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// valuesAnnotation marks a flag whose value is one of a list.
const valuesAnnotation = "ggufplan_values"

// oneOf declares the values that completion offers for a flag.
func oneOf(flags *pflag.FlagSet, name string, values ...string) {
	if err := flags.SetAnnotation(name, valuesAnnotation, values); err != nil {
		panic(err)
	}
}

// checkWord refuses a value that is not among those that oneOf listed.
func checkWord(flags *pflag.FlagSet, name, value string) error {
	values := flags.Lookup(name).Annotations[valuesAnnotation]
	if slices.Contains(values, value) {
		return nil
	}
	return didYouMean(fmt.Errorf("--%s: %q is not one of %s", name, value, strings.Join(values, ", ")), value, values, "--"+name+" ", "--"+name+" "+values[0])
}

func completionCommand() *command {
	return &command{
		name: "completion", operands: strings.Join(completionShells, "|"), short: "shell completion", min: 1, max: 1,
		long: `Prints a script that completes ggufplan's commands, flags, values, files by
their endings, and after show --tensor the tensors of the plan.

  bash        ggufplan completion bash > /etc/bash_completion.d/ggufplan
  zsh         ggufplan completion zsh > "${fpath[1]}/_ggufplan"
  fish        ggufplan completion fish > ~/.config/fish/completions/ggufplan.fish
  PowerShell  ggufplan completion powershell >> $PROFILE

To try it in the running bash:

  $ source <(ggufplan completion bash)`,
		setup: func(*pflag.FlagSet) func(*call, []string) error {
			return func(c *call, operands []string) error {
				if shell := operands[0]; !slices.Contains(completionShells, shell) {
					return didYouMean(fmt.Errorf("%q is not a shell that completion is written for", shell), shell, completionShells, "ggufplan completion ", "ggufplan completion bash")
				}
				var script bytes.Buffer
				if err := writeCompletion(&script, operands[0], completedCommands()); err != nil {
					return err
				}
				return c.writeProduct(script.Bytes())
			}
		},
	}
}

// A completedCommand is what completion knows about a command.
type completedCommand struct {
	Name, Short string
	Flags       []completedFlag
	Operands    []string // operands to offer, where they are not files
	Endings     []string // of the files that it takes; nil for any
}

type completedFlag struct {
	Name, Shorthand, Usage string
	TakesValue             bool
	Values                 []string
	List                   bool     // several values, with commas
	Endings                []string // of the files that it names; nil for any
	Tensors                bool     // names a tensor of the plan
}

// Endings of files, by what flags and operands call them.
var (
	commandEndings = map[string][]string{
		"inspect": {"gguf"}, "measure": {"gguf", "json"}, "plan": {"gguf"}, "show": {"json"}, "apply": {"json", "gguf"},
		"verify": {"json", "gguf"}, "simulate": {"json", "gguf"}, "export": {"json"}, "diff": {"json"}, "probe": {"gguf"},
	}
	flagEndings = map[string][]string{
		"errors": {"json"}, "mark": {"json"}, "imatrix": {"gguf", "dat"}, "model": {"gguf"}, "sensitivity": {"csv", "json"},
	}
)

func completedCommands() []completedCommand {
	var list []completedCommand
	for _, cmd := range commands() {
		flags, _ := cmd.flagSet()
		done := completedCommand{Name: cmd.name, Short: cmd.short, Endings: commandEndings[cmd.name]}
		if cmd.name == "completion" {
			done.Operands = completionShells
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			_, several := f.Value.(pflag.SliceValue)
			done.Flags = append(done.Flags, completedFlag{Name: f.Name, Shorthand: f.Shorthand, Usage: usage, TakesValue: f.NoOptDefVal == "",
				Values: f.Annotations[valuesAnnotation], List: several && f.Value.Type() == "stringSlice", Endings: flagEndings[f.Name], Tensors: cmd.name == "show" && f.Name == "tensor"})
		})
		for _, f := range done.Flags {
			if f.Name == "stats" && flags.Lookup("imatrix") == flags.Lookup("stats") {
				f.Name, f.Endings = "imatrix", flagEndings["imatrix"]
				done.Flags = append(done.Flags, f)
			}
		}
		done.Flags = append(done.Flags, completedFlag{Name: "help", Shorthand: "h", Usage: "show usage, flags and an example"})
		list = append(list, done)
	}
	return list
}
