package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/probe"
)

func kldCommand() *command {
	return &command{
		name: "kld", operands: "PLAN", short: "the plan with what llama-perplexity measured of its file", min: 1, max: 1,
		long: `Reads the output of llama-perplexity --kl-divergence for the file of the fused
plan, and writes the plan with the mean KL divergence and its standard error, for
every report to show beside what was predicted. --text adds the digest of the
text, which the output does not hold. No path is recorded. A plan that has a
measurement gets the new one.

Example:
  $ ggufplan plan model-f16.gguf --imatrix mix.imatrix.gguf --like Q4_K_M -q -o plan.json
  ...

    llama-perplexity -m model-f16.gguf -f eval.txt --kl-divergence-base base.kld
    llama-perplexity -m planned.gguf --kl-divergence-base base.kld --kl-divergence > log.txt
    ggufplan kld plan.json --log log.txt --text eval.txt -o measured.json`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			log := flags.String("log", "", "the output of llama-perplexity, `FILE`")
			text := flags.String("text", "", "the text that it was run on, `FILE`")
			out := flags.StringP("output", "o", "", "write the plan to `NEW` instead of standard output")
			return func(c *call, operands []string) error { return c.recordKLD(operands[0], *log, *text, *out) }
		},
	}
}

func (c *call) recordKLD(planPath, logPath, textPath, out string) error {
	if logPath == "" {
		return hinted(fmt.Errorf("kld needs --log FILE"), "ggufplan kld plan.json --log log.txt -o measured.json")
	}
	if planPath == "-" && logPath == "-" {
		return hinted(fmt.Errorf("the plan and --log cannot both be standard input"), "ggufplan kld plan.json --log - -o measured.json")
	}
	plan, err := c.readPlan(planPath)
	if err != nil {
		return err
	}
	data, err := c.readWhole(logPath, maxLogBytes)
	if err != nil {
		return err
	}
	log, err := probe.ReadLog(data)
	if err != nil {
		return fmt.Errorf("%s: %w", inputName(logPath), err)
	}
	plan.Measured = &manifest.Measured{KLD: log.Mean, StandardError: log.StandardError}
	if textPath != "" {
		text, err := digestText(textPath)
		if err != nil {
			return err
		}
		plan.Measured.TextSHA256 = &text.SHA256
	}
	if err := refuseOverwrite(out, logPath, textPath); err != nil {
		return err
	}
	content, err := manifest.Encode(plan)
	if err != nil {
		return err
	}
	return c.writeOutput(out, content)
}
