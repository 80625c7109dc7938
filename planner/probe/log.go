package probe

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// A Log is what llama-perplexity --kl-divergence printed.
type Log struct {
	Mean          float64 // KL divergence in nats per token, at least 0
	StandardError float64
	Maximum       float64 // of one token
	Chunks        uint64  // of text
}

// A LogError reports output that is not that of a run that ended well.
type LogError struct {
	Line int // 0 for no line in particular
	What string

	// CutShort says that the run may have ended well, and its last lines been
	// lost: llama-perplexity drops at times what it has not printed when it
	// exits.
	CutShort bool
}

func (e *LogError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.What)
	}
	return e.What
}

const statisticsTitle = "====== KL divergence statistics ======"

var (
	escapes  = regexp.MustCompile("\x1b\\[[0-9;]*m")
	prefix   = regexp.MustCompile(`^[0-9]+(\.[0-9]{2,3}){3} [DIWE] `)
	chunkRow = regexp.MustCompile(`^ *([1-9][0-9]{0,8})(?: +-?[0-9.naif]+ ± +-?[0-9.naif]+){3} +`)
	meanKLD  = regexp.MustCompile(`^Mean +KLD: +(\S+) ± +(\S+)$`)
	maxKLD   = regexp.MustCompile(`^Maximum KLD: +(\S+)$`)
)

// maxKLDNats bounds a mean divergence: that of a uniform guess over any
// vocabulary is below 20.
const maxKLDNats = 1000

// ReadLog reads the output of llama-perplexity --kl-divergence, standard error
// among it or not. It wants the rows of all chunks, counted from 1, and the
// block of statistics once, and takes a missing line for what it is: an error.
//
// llama-perplexity rounds logits to 16 bits, so that the mean of a file that
// equals its base may print as a hair below 0; that is 0.
func ReadLog(data []byte) (*Log, error) {
	log := &Log{Mean: math.NaN(), Maximum: math.NaN()}
	blocks := 0
	for n, line := range bytes.Split(data, []byte("\n")) {
		text := strings.TrimRight(escapes.ReplaceAllString(string(line), ""), "\r ")
		text = prefix.ReplaceAllString(text, "")
		at := func(what string) error { return &LogError{Line: n + 1, What: what} }
		if m := chunkRow.FindStringSubmatch(text); m != nil && blocks == 0 {
			i, _ := strconv.ParseUint(m[1], 10, 64)
			if i != log.Chunks+1 {
				return nil, at(fmt.Sprintf("chunk %d follows chunk %d: the output of more than one run, or not all of one", i, log.Chunks))
			}
			log.Chunks = i
		}
		if text == statisticsTitle {
			if blocks++; blocks > 1 {
				return nil, at("a second block of KL divergence statistics: the output of more than one run")
			}
		}
		if m := meanKLD.FindStringSubmatch(text); m != nil && blocks == 1 {
			if !math.IsNaN(log.Mean) {
				return nil, at("a second mean KL divergence")
			}
			var err error
			if log.Mean, err = divergence(m[1]); err != nil {
				return nil, at("mean KL divergence: " + err.Error())
			}
			if log.StandardError, err = divergence(m[2]); err != nil {
				return nil, at("standard error: " + err.Error())
			}
		}
		if m := maxKLD.FindStringSubmatch(text); m != nil && blocks == 1 {
			var err error
			if log.Maximum, err = divergence(m[1]); err != nil {
				return nil, at("maximum KL divergence: " + err.Error())
			}
		}
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, &LogError{What: "is empty"}
	case blocks == 0 && log.Chunks == 0:
		return nil, &LogError{What: "is not the output of llama-perplexity --kl-divergence"}
	case blocks == 0:
		return nil, &LogError{What: fmt.Sprintf("ends after %d chunks, without KL divergence statistics: they need 100 scored tokens and a run that ends", log.Chunks), CutShort: true}
	case math.IsNaN(log.Mean):
		return nil, &LogError{What: "its KL divergence statistics have no line of the mean", CutShort: true}
	case math.IsNaN(log.Maximum):
		return nil, &LogError{What: "its KL divergence statistics have no line of the maximum", CutShort: true}
	}
	return log, nil
}

// slightlyBelow is how far below 0 rounding can take the mean of tokens that
// do not differ.
const slightlyBelow = 1e-4

func divergence(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || math.IsNaN(v):
		return 0, fmt.Errorf("%.40q is not a number", s)
	case v < -slightlyBelow || v > maxKLDNats:
		return 0, fmt.Errorf("%v is out of range", v)
	}
	return max(0, v), nil
}
