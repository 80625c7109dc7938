package main

import (
	"fmt"
	"io"
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
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &command{
		name: "completion", operands: "bash|zsh|fish|powershell", short: "shell completion", min: 1, max: 1,
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
				write, ok := map[string]func(io.Writer, []completedCommand){
					"bash": writeBashCompletion, "zsh": writeZshCompletion, "fish": writeFishCompletion, "powershell": writePowerShellCompletion,
				}[operands[0]]
				if !ok {
					return didYouMean(fmt.Errorf("%q is not a shell that completion is written for", operands[0]), operands[0], shells, "ggufplan completion ", "ggufplan completion bash")
				}
				write(c.stdout, completedCommands())
				return nil
			}
		},
	}
}

// A completedCommand is what completion knows about a command.
type completedCommand struct {
	name, short string
	flags       []completedFlag
	operands    []string // operands to offer, where they are not files
	endings     []string // of the files that it takes; nil for any
}

type completedFlag struct {
	name, shorthand, usage string
	takesValue             bool
	values                 []string
	list                   bool     // several values, with commas
	endings                []string // of the files that it names; nil for any
	tensors                bool     // names a tensor of the plan
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
		done := completedCommand{name: cmd.name, short: cmd.short, endings: commandEndings[cmd.name]}
		if cmd.name == "completion" {
			done.operands = []string{"bash", "zsh", "fish", "powershell"}
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			_, several := f.Value.(pflag.SliceValue)
			done.flags = append(done.flags, completedFlag{name: f.Name, shorthand: f.Shorthand, usage: usage, takesValue: f.NoOptDefVal == "",
				values: f.Annotations[valuesAnnotation], list: several && f.Value.Type() == "stringSlice", endings: flagEndings[f.Name], tensors: cmd.name == "show" && f.Name == "tensor"})
		})
		for _, f := range done.flags {
			if f.name == "stats" && flags.Lookup("imatrix") == flags.Lookup("stats") {
				f.name, f.endings = "imatrix", flagEndings["imatrix"]
				done.flags = append(done.flags, f)
			}
		}
		done.flags = append(done.flags, completedFlag{name: "help", shorthand: "h", usage: "show usage, flags and an example"})
		list = append(list, done)
	}
	return list
}
