package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

func versionCommand() *command {
	return &command{
		name:  "version",
		short: "build facts",
		long: `
Shows the program's version, the manifest format that it writes, the engine
whose rules its plans follow, and how it was built.

Example:

  $ ggufplan version
  ggufplan 0.1.0
  manifest format  1.1
  target           llama.cpp 0.5.0
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			asJSON := flags.Bool("json", false, "print the same facts as JSON")
			return func(c *call, _ []string) error {
				v := buildFacts()
				if *asJSON {
					return writeJSON(c.stdout, v)
				}
				fmt.Fprintf(c.stdout, "%s %s\n", v.Name, v.Version)
				fmt.Fprintf(c.stdout, "%-17s%s\n", "manifest format", v.ManifestFormat)
				fmt.Fprintf(c.stdout, "%-17s%s %s\n", "target", v.Target.Engine, v.Target.Version)
				fmt.Fprintf(c.stdout, "%-17s%s\n", "go", v.Go)
				fmt.Fprintf(c.stdout, "%-17s%s\n", "platform", v.Platform)
				if v.Revision != nil {
					modified := ""
					if v.Modified {
						modified = ", modified"
					}
					fmt.Fprintf(c.stdout, "%-17s%s%s\n", "revision", *v.Revision, modified)
				}
				return nil
			}
		},
	}
}

type facts struct {
	Name           string          `json:"name"`
	Version        string          `json:"version"`
	ManifestFormat string          `json:"manifest_format_version"`
	Target         manifest.Target `json:"target"`
	Go             string          `json:"go"`
	Platform       string          `json:"platform"`
	Revision       *string         `json:"revision"` // of the source, where the build recorded it
	Modified       bool            `json:"modified"`
}

func buildFacts() facts {
	v := facts{
		Name: manifest.GeneratorName, Version: manifest.GeneratorVersion, ManifestFormat: manifest.FormatVersion,
		Target: manifest.Target{Engine: manifest.TargetEngine, Version: manifest.TargetVersion},
		Go:     runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = buildVersion(info.Main.Version)
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = &s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

// releaseVersion is what Go records of a build from a tag. Others, such as
// v0.1.1-0.20260102030405-0123456789ab+dirty, are of no release.
var releaseVersion = regexp.MustCompile(`^v([0-9]+\.[0-9]+\.[0-9]+(-(rc|beta|alpha)[.0-9]*)?)$`)

// buildVersion is the version of a release from the build's information, and
// the next release's where the build is of none.
func buildVersion(recorded string) string {
	if m := releaseVersion.FindStringSubmatch(recorded); m != nil {
		return m[1]
	}
	return manifest.GeneratorVersion
}
