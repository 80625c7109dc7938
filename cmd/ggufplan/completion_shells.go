package main

import (
	"fmt"
	"io"
	"strings"
)

// bashFiles is a call that offers folders and files of some endings.
func bashFiles(endings []string) string {
	return strings.TrimSpace("_ggufplan_files " + strings.Join(endings, " "))
}

func writeBashCompletion(w io.Writer, list []completedCommand) {
	names := make([]string, len(list))
	for i, cmd := range list {
		names[i] = cmd.name
	}
	fmt.Fprintf(w, `# bash completion for ggufplan
_ggufplan_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_ggufplan_list() { # values with commas between
	local before=""
	[[ "$cur" == *,* ]] && before="${cur%%,*},"
	mapfile -t COMPREPLY < <(compgen -P "$before" -W "$1" -- "${cur##*,}")
}
_ggufplan_files() { # folders, and files of the endings given
	local ending
	mapfile -t COMPREPLY < <([ $# -eq 0 ] && compgen -f -- "$cur"; [ $# -gt 0 ] && compgen -d -- "$cur"
		for ending in "$@"; do compgen -f -X "!*.$ending" -- "$cur"; done)
}
_ggufplan_tensors() { # of the plan on the command line
	local word
	for word in "${COMP_WORDS[@]:2}"; do
		[ "$word" = "$cur" ] || [ ! -f "$word" ] ||
			mapfile -t COMPREPLY < <(compgen -W "$(ggufplan export "$word" --to csv 2>/dev/null | tail -n +2 | cut -d, -f1)" -- "$cur")
	done
}
_ggufplan() {
	local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" cmd="${COMP_WORDS[1]}"
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		_ggufplan_words "%s"
		return
	fi
	case "$cmd $prev" in
`, strings.Join(names, " "))
	for _, cmd := range list {
		for _, f := range cmd.flags {
			does := ""
			switch {
			case len(f.values) > 0 && f.list:
				does = "_ggufplan_list \"" + strings.Join(f.values, " ") + "\""
			case len(f.values) > 0:
				does = "_ggufplan_words \"" + strings.Join(f.values, " ") + "\""
			case f.tensors:
				does = "_ggufplan_tensors"
			case f.takesValue:
				does = bashFiles(f.endings)
			}
			if does != "" {
				pattern := fmt.Sprintf("%q", cmd.name+" --"+f.name)
				if f.shorthand != "" {
					pattern += fmt.Sprintf("|%q", cmd.name+" -"+f.shorthand)
				}
				fmt.Fprintf(w, "\t%s) %s; return ;;\n", pattern, does)
			}
		}
	}
	fmt.Fprint(w, "\tesac\n\tcase \"$cmd\" in\n")
	for _, cmd := range list {
		words := make([]string, len(cmd.flags))
		for i, f := range cmd.flags {
			words[i] = "--" + f.name
		}
		fmt.Fprintf(w, "\t%s) [[ \"$cur\" == -* ]] && { _ggufplan_words \"%s\"; return; }", cmd.name, strings.Join(words, " "))
		switch {
		case len(cmd.operands) > 0:
			fmt.Fprintf(w, "; _ggufplan_words \"%s\"; return", strings.Join(cmd.operands, " "))
		case cmd.endings != nil:
			fmt.Fprintf(w, "; %s; return", bashFiles(cmd.endings))
		}
		fmt.Fprint(w, " ;;\n")
	}
	fmt.Fprint(w, "\tesac\n\t_ggufplan_files\n}\ncomplete -o filenames -F _ggufplan ggufplan\n")
}

// zshFiles is what _arguments calls for files of some endings.
func zshFiles(endings []string) string {
	if len(endings) == 0 {
		return "_files"
	}
	return `_files -g "*.` + strings.Join(endings, " *.") + `"` // trailing parentheses would be glob qualifiers
}

func writeZshCompletion(w io.Writer, list []completedCommand) {
	fmt.Fprint(w, `#compdef ggufplan
# zsh completion for ggufplan
_ggufplan_tensors() {
	local word
	for word in $words; do
		[[ -f $word ]] && compadd -- ${(f)"$(ggufplan export $word --to csv 2>/dev/null | tail -n +2 | cut -d, -f1)"}
	done
}
_ggufplan() {
	local -a commands
	commands=(
`)
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
			case len(f.values) > 0 && f.list:
				spec += ":" + f.name + ":_values -s , " + f.name + " " + strings.Join(f.values, " ")
			case len(f.values) > 0:
				spec += ":" + f.name + ":(" + strings.Join(f.values, " ") + ")"
			case f.tensors:
				spec += ":" + f.name + ":_ggufplan_tensors"
			case f.takesValue:
				spec += ":" + f.name + ":" + zshFiles(f.endings)
			}
			fmt.Fprintf(w, " \\\n\t\t%s", singleQuoted(spec))
		}
		rest := "*:file:" + zshFiles(cmd.endings)
		if len(cmd.operands) > 0 {
			rest = "*:operand:(" + strings.Join(cmd.operands, " ") + ")"
		}
		fmt.Fprintf(w, " \\\n\t\t%s ;;\n", singleQuoted(rest))
	}
	fmt.Fprint(w, "\tesac\n}\nif [ \"$funcstack[1]\" = _ggufplan ]; then _ggufplan \"$@\"; else compdef _ggufplan ggufplan; fi\n")
}

// fishFiles is a substitution that lists files of some endings first.
func fishFiles(endings []string) string {
	calls := make([]string, len(endings))
	for i, ending := range endings {
		calls[i] = "__fish_complete_suffix ." + ending
	}
	return singleQuoted("(" + strings.Join(calls, "; ") + ")")
}

func writeFishCompletion(w io.Writer, list []completedCommand) {
	fmt.Fprint(w, `# fish completion for ggufplan
function __ggufplan_tensors
	for word in (commandline -opc)[3..]
		test -f $word; and ggufplan export $word --to csv 2>/dev/null | tail -n +2 | cut -d, -f1
	end
end
# The values of a list, each after what is already typed.
function __ggufplan_list
	set -l before (string match -r '.*,' -- (commandline -ct))
	for value in $argv
		echo "$before$value"
	end
end
`)
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
			case len(f.values) > 0 && f.list:
				fmt.Fprintf(w, " -x -a %s", singleQuoted("(__ggufplan_list "+strings.Join(f.values, " ")+")"))
			case len(f.values) > 0:
				fmt.Fprintf(w, " -x -a %s", singleQuoted(strings.Join(f.values, " ")))
			case f.tensors:
				fmt.Fprint(w, " -x -a '(__ggufplan_tensors)'")
			case f.endings != nil:
				fmt.Fprintf(w, " -r -k -a %s", fishFiles(f.endings))
			case f.takesValue:
				fmt.Fprint(w, " -r")
			}
			fmt.Fprintf(w, " -d %s\n", singleQuoted(f.usage))
		}
		switch {
		case len(cmd.operands) > 0:
			fmt.Fprintf(w, "complete -c ggufplan -n %s -f -a %s\n", when, singleQuoted(strings.Join(cmd.operands, " ")))
		case cmd.endings != nil:
			fmt.Fprintf(w, "complete -c ggufplan -n %s -k -a %s\n", when, fishFiles(cmd.endings))
		}
	}
}

// powerShellList writes words as an array of PowerShell.
func powerShellList(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", "''") + "'"
	}
	return "@(" + strings.Join(quoted, ", ") + ")"
}

func writePowerShellCompletion(w io.Writer, list []completedCommand) {
	fmt.Fprint(w, "# PowerShell completion for ggufplan\nRegister-ArgumentCompleter -Native -CommandName ggufplan -ScriptBlock {\n\tparam($wordToComplete, $commandAst, $cursorPosition)\n\t$flags = @{\n")
	for _, cmd := range list {
		var names []string
		for _, f := range cmd.flags {
			names = append(names, "--"+f.name)
		}
		fmt.Fprintf(w, "\t\t'%s' = %s\n", cmd.name, powerShellList(names))
	}
	fmt.Fprint(w, "\t}\n\t$values = @{\n")
	for _, cmd := range list {
		for _, f := range cmd.flags {
			if len(f.values) > 0 {
				fmt.Fprintf(w, "\t\t'%s --%s' = %s\n", cmd.name, f.name, powerShellList(f.values))
			}
		}
		if len(cmd.operands) > 0 {
			fmt.Fprintf(w, "\t\t'%s' = %s\n", cmd.name, powerShellList(cmd.operands))
		}
	}
	fmt.Fprint(w, "\t}\n\t$endings = @{\n")
	for _, cmd := range list {
		if cmd.endings != nil {
			fmt.Fprintf(w, "\t\t'%s' = %s\n", cmd.name, powerShellList(cmd.endings))
		}
	}
	fmt.Fprint(w, `	}
	$words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
	if ($wordToComplete) { $words = @($words | Select-Object -SkipLast 1) }
	if ($words.Count -lt 2) {
		$offers = $flags.Keys | Sort-Object
	} else {
		$command = $words[1]
		$key = $command + ' ' + $words[-1]
		$before = ''
		if ($wordToComplete -like '*,*') { $before = $wordToComplete -replace '[^,]*$', '' }
		if ($key -eq 'show --tensor') {
			$plan = $words | Select-Object -Skip 2 | Where-Object { Test-Path -PathType Leaf $_ } | Select-Object -First 1
			if ($plan) { $offers = ggufplan export $plan --to csv | ConvertFrom-Csv | ForEach-Object { @($_.PSObject.Properties)[0].Value } }
		} elseif ($values.ContainsKey($key)) {
			$offers = $values[$key] | ForEach-Object { $before + $_ }
		} elseif ($wordToComplete -like '-*') {
			$offers = $flags[$command]
		} elseif ($values.ContainsKey($command)) {
			$offers = $values[$command]
		} else {
			$ends = $endings[$command]
			$offers = Get-ChildItem -Path ($wordToComplete + '*') -ErrorAction SilentlyContinue |
				Where-Object { $_.PSIsContainer -or -not $ends -or $ends -contains $_.Extension.TrimStart('.') } |
				Resolve-Path -Relative
		}
	}
	$offers | Where-Object { $_ -like ($wordToComplete + '*') -or $_ -like ('./' + $wordToComplete + '*') -or $_ -like ('.\' + $wordToComplete + '*') } |
		ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
`)
}

func singleQuoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
