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
	return &command{
		name: "completion", operands: "bash|zsh|fish", short: "shell completion", min: 1, max: 1,
		long: `Prints a script that completes ggufplan's commands, flags and values.

  bash   ggufplan completion bash > /etc/bash_completion.d/ggufplan
  zsh    ggufplan completion zsh > "${fpath[1]}/_ggufplan"
  fish   ggufplan completion fish > ~/.config/fish/completions/ggufplan.fish

To try it in the running bash:

  $ source <(ggufplan completion bash)`,
		setup: func(*pflag.FlagSet) func(*call, []string) error {
			return func(c *call, operands []string) error {
				write, ok := map[string]func(io.Writer, []completedCommand){
					"bash": writeBashCompletion, "zsh": writeZshCompletion, "fish": writeFishCompletion,
				}[operands[0]]
				if !ok {
					return hinted(fmt.Errorf("%q is not a shell that completion is written for", operands[0]), "ggufplan completion bash")
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
}

type completedFlag struct {
	name, shorthand, usage string
	takesValue             bool
	values                 []string
}

func completedCommands() []completedCommand {
	var list []completedCommand
	for _, cmd := range commands() {
		flags, _ := cmd.flagSet()
		done := completedCommand{name: cmd.name, short: cmd.short}
		if cmd.name == "completion" {
			done.operands = []string{"bash", "zsh", "fish"}
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			done.flags = append(done.flags, completedFlag{f.Name, f.Shorthand, usage, f.NoOptDefVal == "", f.Annotations[valuesAnnotation]})
		})
		done.flags = append(done.flags, completedFlag{name: "help", shorthand: "h", usage: "show usage, flags and an example"})
		list = append(list, done)
	}
	return list
}

func writeBashCompletion(w io.Writer, list []completedCommand) {
	names := make([]string, len(list))
	for i, cmd := range list {
		names[i] = cmd.name
	}
	fmt.Fprintf(w, `# bash completion for ggufplan
_ggufplan() {
	local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" cmd="${COMP_WORDS[1]}"
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W "%s" -- "$cur"))
		return
	fi
	case "$cmd $prev" in
`, strings.Join(names, " "))
	for _, cmd := range list {
		for _, f := range cmd.flags {
			if len(f.values) > 0 {
				fmt.Fprintf(w, "\t\"%s --%s\") COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n", cmd.name, f.name, strings.Join(f.values, " "))
			}
		}
	}
	fmt.Fprint(w, "\tesac\n\tcase \"$cmd\" in\n")
	for _, cmd := range list {
		words := make([]string, len(cmd.flags))
		for i, f := range cmd.flags {
			words[i] = "--" + f.name
		}
		fmt.Fprintf(w, "\t%s) [[ \"$cur\" == -* ]] && { COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return; }", cmd.name, strings.Join(words, " "))
		if len(cmd.operands) > 0 {
			fmt.Fprintf(w, "; COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return", strings.Join(cmd.operands, " "))
		}
		fmt.Fprint(w, " ;;\n")
	}
	fmt.Fprint(w, "\tesac\n\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -o filenames -F _ggufplan ggufplan\n")
}

func writeZshCompletion(w io.Writer, list []completedCommand) {
	fmt.Fprint(w, "#compdef ggufplan\n# zsh completion for ggufplan\n_ggufplan() {\n\tlocal -a commands\n\tcommands=(\n")
	for _, cmd := range list {
		fmt.Fprintf(w, "\t\t%s\n", singleQuoted(cmd.name+":"+cmd.short))
	}
	fmt.Fprint(w, "\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n\tlocal command=$words[2]\n\tshift words\n\t(( CURRENT-- ))\n\tcase $command in\n")
	brackets := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`)
	for _, cmd := range list {
		fmt.Fprintf(w, "\t%s) _arguments", cmd.name)
		for _, f := range cmd.flags {
			spec := "*--" + f.name
			if f.takesValue {
				spec += "="
			}
			spec += "[" + brackets.Replace(f.usage) + "]"
			switch {
			case len(f.values) > 0:
				spec += ":" + f.name + ":(" + strings.Join(f.values, " ") + ")"
			case f.takesValue:
				spec += ":" + f.name + ":_files"
			}
			fmt.Fprintf(w, " \\\n\t\t%s", singleQuoted(spec))
		}
		rest := "*:file:_files"
		if len(cmd.operands) > 0 {
			rest = "*:operand:(" + strings.Join(cmd.operands, " ") + ")"
		}
		fmt.Fprintf(w, " \\\n\t\t%s ;;\n", singleQuoted(rest))
	}
	fmt.Fprint(w, "\tesac\n}\nif [ \"$funcstack[1]\" = _ggufplan ]; then _ggufplan \"$@\"; else compdef _ggufplan ggufplan; fi\n")
}

func writeFishCompletion(w io.Writer, list []completedCommand) {
	fmt.Fprint(w, "# fish completion for ggufplan\n")
	for _, cmd := range list {
		fmt.Fprintf(w, "complete -c ggufplan -n __fish_use_subcommand -f -a %s -d %s\n", cmd.name, singleQuoted(cmd.short))
	}
	for _, cmd := range list {
		when := singleQuoted("__fish_seen_subcommand_from " + cmd.name)
		for _, f := range cmd.flags {
			fmt.Fprintf(w, "complete -c ggufplan -n %s -l %s", when, f.name)
			if f.shorthand != "" {
				fmt.Fprintf(w, " -s %s", f.shorthand)
			}
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(w, " -x -a %s", singleQuoted(strings.Join(f.values, " ")))
			case f.takesValue:
				fmt.Fprint(w, " -r")
			}
			fmt.Fprintf(w, " -d %s\n", singleQuoted(f.usage))
		}
		if len(cmd.operands) > 0 {
			fmt.Fprintf(w, "complete -c ggufplan -n %s -f -a %s\n", when, singleQuoted(strings.Join(cmd.operands, " ")))
		}
	}
}

func singleQuoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
