package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Exit statuses. Nothing else is returned.
const (
	exitDone    = 0 // done
	exitFinding = 1 // done, and there is a finding that was asked about
	exitTrouble = 2 // usage, unreadable or unfit input, or a bug
)

// A command is one verb of the command line.
type command struct {
	name     string
	operands string      // as usage shows them
	short    string      // one line for the list of commands
	long     string      // what --help says between usage and flags, a worked example included
	min, max int         // operands; max -1 for any number
	groups   []flagGroup // how help groups the flags, the common ones first; nil for one group

	// setup declares the command's flags and returns what runs when they are
	// parsed.
	setup func(flags *pflag.FlagSet) func(c *call, operands []string) error
}

// commands lists the verbs in the order that help shows them.
func commands() []*command {
	return []*command{
		inspectCommand(),
		statsCommand(),
		measureCommand(),
		planCommand(),
		showCommand(),
		applyCommand(),
		verifyCommand(),
		simulateCommand(),
		probeCommand(),
		kldCommand(),
		patchCommand(),
		exportCommand(),
		diffCommand(),
		schemaCommand(),
		versionCommand(),
		completionCommand(),
	}
}

func find(name string) *command {
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd
		}
	}
	return nil
}

// notACommand says which command was probably meant.
func notACommand(name string) error {
	var names []string
	for _, cmd := range commands() {
		names = append(names, cmd.name)
	}
	return didYouMean(fmt.Errorf("%q is not a command", name), name, names, "ggufplan ", "ggufplan --help")
}

// flagSet builds the command's flags anew, so that runs do not share state.
func (cmd *command) flagSet() (*pflag.FlagSet, func(*call, []string) error) {
	flags := pflag.NewFlagSet(cmd.name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.SortFlags = false
	flags.Usage = func() {}
	run := cmd.setup(flags)
	flags.String("color", "auto", "colour in what people read: `WHEN` is auto (on a terminal, unless NO_COLOR is set), always or never")
	oneOf(flags, "color", "auto", "always", "never")
	declared := flagNames(flags)
	flags.SetNormalizeFunc(func(f *pflag.FlagSet, name string) pflag.NormalizedName {
		plain := normalizeFlag(f, name)
		if meant, ok := naturalNames[string(plain)]; ok && !slices.Contains(declared, string(plain)) && slices.Contains(declared, meant) {
			return pflag.NormalizedName(meant)
		}
		return plain
	})
	return flags, run
}

func (cmd *command) execute(c *call, args []string) int {
	flags, run := cmd.flagSet()
	if err := flags.Parse(joinValues(flags, args)); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			cmd.writeHelp(c.page(), flags)
			return exitDone
		}
		return c.fail(cmd.explainParse(err, flags))
	}
	canonicalValues(flags)
	c.colour, _ = flags.GetString("color")
	if err := checkWord(flags, "color", c.colour); err != nil {
		return c.fail(err)
	}
	operands := flags.Args()
	if cmd.max == 0 && len(operands) > 0 {
		return c.fail(hinted(fmt.Errorf("%s takes no operands, not %d", cmd.name, len(operands)), "ggufplan "+cmd.name))
	}
	if len(operands) < cmd.min || cmd.max >= 0 && len(operands) > cmd.max {
		if hint := repeatedFlag(flags, operands); hint != "" {
			return c.fail(hinted(fmt.Errorf("%s takes %s, not %d operands: a flag takes one file, and may be repeated", cmd.name, cmd.operands, len(operands)), hint))
		}
		return c.fail(hinted(fmt.Errorf("%s takes %s, not %d operands", cmd.name, cmd.operands, len(operands)), "ggufplan "+cmd.name+" --help"))
	}
	if err := run(c, operands); err != nil {
		return c.fail(err)
	}
	return exitDone
}

// repeatedFlag is the hint for what a shell makes of --stats *.gguf: the first
// file is the flag's, the others are operands. It is "" where no flag may be
// repeated.
func repeatedFlag(flags *pflag.FlagSet, operands []string) string {
	hint := ""
	flags.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok && f.Value.Type() == "stringArray" && hint == "" && len(operands) > 1 {
			for _, file := range append(list.GetSlice(), operands[1:]...) {
				hint += " --" + f.Name + " " + shellQuote(file)
			}
			hint = strings.TrimSpace(hint)
		}
	})
	return hint
}
