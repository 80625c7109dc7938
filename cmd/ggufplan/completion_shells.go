package main

import (
	"embed"
	"io"
	"path"
	"strings"
	"text/template"
)

// One script a shell, made of what completion knows about the commands.
//
//go:embed completion/*.tmpl
var completionScripts embed.FS

// completionShells are the shells that completion is written for.
var completionShells = []string{"bash", "zsh", "fish", "powershell"}

func writeCompletion(w io.Writer, shell string, list []completedCommand) error {
	name := shell + ".tmpl"
	t, err := template.New(name).Funcs(template.FuncMap{
		"join": strings.Join, "single": singleQuoted, "files": zshFiles, "argument": zshArgument,
		"doubled": func(s string) string { return strings.ReplaceAll(s, "'", "''") },
	}).ParseFS(completionScripts, path.Join("completion", name))
	if err != nil {
		return err
	}
	return t.Execute(w, list)
}

// zshFiles is what _arguments calls for files of some endings.
func zshFiles(endings []string) string {
	if len(endings) == 0 {
		return "_files"
	}
	return `_files -g "*.` + strings.Join(endings, " *.") + `"` // trailing parentheses would be glob qualifiers
}

// zshArgument is a flag as _arguments wants it.
func zshArgument(f completedFlag) string {
	spec := "*--" + f.Name
	if f.TakesValue {
		spec += "="
	}
	spec += "[" + strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(f.Usage) + "]"
	switch {
	case len(f.Values) > 0 && f.List:
		spec += ":" + f.Name + ":_values -s , " + f.Name + " " + strings.Join(f.Values, " ")
	case len(f.Values) > 0:
		spec += ":" + f.Name + ":(" + strings.Join(f.Values, " ") + ")"
	case f.Tensors:
		spec += ":" + f.Name + ":_ggufplan_tensors"
	case f.TakesValue:
		spec += ":" + f.Name + ":" + zshFiles(f.Endings)
	}
	return spec
}

func singleQuoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
