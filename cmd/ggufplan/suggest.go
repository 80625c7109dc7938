package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/review"
)

// bare is a name without what people do not remember of it: case, underscores
// and hyphens.
func bare(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// sameName returns the entry of names that reads the same as name.
func sameName(name string, names []string) (string, bool) {
	if slices.Contains(names, name) {
		return name, true
	}
	i := slices.IndexFunc(names, func(n string) bool { return bare(n) == bare(name) })
	if i < 0 {
		return "", false
	}
	return names[i], true
}

// nearest returns the name that was probably meant, or "": the one with the
// fewest changed letters, about a third of them at most, the first of equals. The
// start of a long name is as good as the name.
func nearest(name string, names []string) string {
	if same, ok := sameName(name, names); ok {
		return same
	}
	best, least := "", max(2, len(name)/3)+1
	if len(bare(name)) < 4 {
		least = 2
	}
	for _, n := range names {
		d := levenshtein.ComputeDistance(bare(name), bare(n))
		if len(bare(name)) >= 3 && strings.HasPrefix(bare(n), bare(name)) {
			d = 1
		}
		if d < least && d < len(bare(n)) {
			best, least = n, d
		}
	}
	return best
}

// didYouMean adds the name that was probably meant to an error, and a hint to
// use where there is none.
func didYouMean(err error, name string, names []string, prefix, otherwise string) error {
	if n := nearest(name, names); n != "" {
		return hinted(fmt.Errorf("%w; did you mean %s?", err, n), prefix+n)
	}
	return hinted(err, otherwise)
}

// canonicalValues spells the values of flags that take one of a list as the
// list does. What is not in it is left to the command, which knows more.
func canonicalValues(flags *pflag.FlagSet) {
	flags.Visit(func(f *pflag.Flag) {
		values := f.Annotations[valuesAnnotation]
		if len(values) == 0 || strings.HasSuffix(f.Name, "-type") { // a declared type may differ by an underscore alone
			return
		}
		spell := func(text string) string {
			if same, ok := sameName(text, values); ok {
				return same
			}
			return text
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			words := list.GetSlice()
			for i := range words {
				words[i] = spell(words[i])
			}
			_ = list.Replace(words) // words of its own
			return
		}
		_ = f.Value.Set(spell(f.Value.String())) // a value of its own
	})
}

// flagNames lists a command's flags.
func flagNames(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// explainParse turns what pflag says about a command line into an error with a
// way out.
func (cmd *command) explainParse(err error, flags *pflag.FlagSet) error {
	help := "ggufplan " + cmd.name + " --help"
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		names := flagNames(flags)
		for _, f := range slices.Clone(names) {
			if natural, ok := naturalNames[f]; ok && !slices.Contains(names, natural) {
				names = append(names, natural)
			}
		}
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			err := fmt.Errorf("%s has no flag -%s", cmd.name, name)
			if len(short) > 2 { // a long name with one hyphen
				return didYouMean(err, short, names, "--", help)
			}
			return hinted(err, help)
		}
		return didYouMean(fmt.Errorf("%s has no flag --%s", cmd.name, name), name, names, "--", help)
	case errors.As(err, &missing):
		f := missing.GetFlag()
		varname, usage := pflag.UnquoteUsage(f)
		return hinted(fmt.Errorf("--%s needs a value: %s", f.Name, usage), "--"+f.Name+" "+varname)
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		what := map[string]string{"bool": "want true or false", "int": "want a whole number", "uint64": "want a whole number from 0", "uint": "want a whole number from 0"}[f.Value.Type()]
		if what == "" {
			what = "want a " + f.Value.Type()
		}
		return hinted(fmt.Errorf("--%s: %q: %s", f.Name, invalid.GetValue(), what), help)
	}
	return hinted(err, help)
}

// normalizeFlag makes --Target_Size the same as --target-size.
func normalizeFlag(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.ReplaceAll(strings.ToLower(name), "_", "-"))
}

// naturalNames are flags by the names that people try first, where a command
// has no flag of that name.
var naturalNames = map[string]string{"imatrix": "stats", "stats": "imatrix"}

// shellQuote writes words as a shell reads them.
func shellQuote(words ...string) string { return review.CommandLine(words...) }

// aloneAnnotation holds the pattern of the values of a flag that may stand alone.
const aloneAnnotation = "ggufplan_alone"

// mayStandAlone declares that a flag need not have a value, and what an argument
// after it looks like that is its value.
func mayStandAlone(flags *pflag.FlagSet, name, values string) {
	if err := flags.SetAnnotation(name, aloneAnnotation, []string{values}); err != nil {
		panic(err)
	}
}

// joinValues writes the values of flags that may stand alone as pflag takes
// them: with an equals sign.
func joinValues(flags *pflag.FlagSet, args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		name, long := strings.CutPrefix(args[i], "--")
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		if f := flags.Lookup(name); long && f != nil && i+1 < len(args) {
			if p := f.Annotations[aloneAnnotation]; p != nil && regexp.MustCompile(p[0]).MatchString(args[i+1]) {
				out = append(out, args[i]+"="+args[i+1])
				i++
				continue
			}
		}
		out = append(out, args[i])
	}
	return out
}
