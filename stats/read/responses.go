package read

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/npy"
)

// npyBase64 is how the base64 of a .npy file begins.
const npyBase64 = "k05VTVBZ"

// routed counts the routed_experts of responses: ids [tokens][layers][k].
type routed struct {
	opt    Options
	tally  *tally
	layers int // of the layer axis, dense layers included; 0 until known
	topK   int
	found  bool
	token  int // tokens read, for messages

	ids []uint32
}

// responseFacts is what a response, or one of its choices, says of its own
// length.
type responseFacts struct {
	prompt, completion       int64
	hasPrompt, hasCompletion bool
	start                    int64 // tokens whose routing was not asked for
	values                   int   // raw routed_experts whose last token is held back
}

func sniffResponses(head []byte) bool {
	if !sniffJSON(head) {
		return false
	}
	keys := firstKeys(head, "choices", "meta_info", "sgl_ext")
	return keys["routed_experts"] || keys["prompt_routed_experts"] || keys["choices"] || keys["meta_info"]
}

// responseField reads a key that may hold routed experts or facts about them,
// and reports whether it consumed the value.
func (d *documents) responseField(key string, facts *responseFacts) (bool, error) {
	fact := func(dst *int64, has *bool) (bool, error) {
		if c, err := d.s.peek(); err != nil || c < '0' || c > '9' {
			return false, err
		}
		n, err := d.s.whole()
		*dst = int64(n)
		if has != nil {
			*has = true
		}
		return true, err
	}
	c, err := d.s.peek()
	if err != nil {
		return false, err
	}
	switch key {
	case "routed_experts", "prompt_routed_experts":
		return true, d.routedExperts(facts)
	case "choices", "outputs":
		if c != '[' {
			return false, nil
		}
		return true, d.s.array(func(int) error {
			if c, err := d.s.peek(); err != nil || c != '{' {
				return d.s.skip()
			}
			var own responseFacts
			if err := d.responseObject(&own); err != nil {
				return err
			}
			return d.endScope(&own, facts)
		})
	case "meta_info", "sgl_ext", "usage":
		if c != '{' {
			return false, nil
		}
		return true, d.responseObject(facts)
	case "prompt_tokens":
		return fact(&facts.prompt, &facts.hasPrompt)
	case "completion_tokens":
		return fact(&facts.completion, &facts.hasCompletion)
	case "routed_experts_start_len":
		return fact(&facts.start, nil)
	}
	return false, nil
}

// responseObject reads an object below a response.
func (d *documents) responseObject(facts *responseFacts) error {
	return d.s.object(func(key string) error {
		if done, err := d.responseField(key, facts); done || err != nil {
			return err
		}
		return d.s.skip()
	})
}

// routedExperts reads one value of routed_experts: base64 of a .npy file or of
// raw int32, or nested lists.
func (d *documents) routedExperts(facts *responseFacts) error {
	if null, err := d.s.null(); null || err != nil {
		return err
	}
	c, err := d.s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '[':
		return d.shaped().lists(d.s)
	case '"':
	default:
		return fmt.Errorf("%q, want base64 text", c)
	}
	text := stringReader{s: d.s}
	if err := text.open(); err != nil {
		return err
	}
	peeked := bufio.NewReaderSize(&text, 4096)
	start, err := peeked.Peek(len(npyBase64))
	if err != nil && err != io.EOF {
		return err
	}
	decoded := base64.NewDecoder(base64.StdEncoding, peeked)
	if string(start) == npyBase64 {
		err = d.shaped().npy(decoded)
	} else {
		err = d.rawIDs(decoded, facts)
	}
	if err != nil {
		var corrupt base64.CorruptInputError
		if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("routed_experts is not base64 of whole values: %w", err)
		}
		return err
	}
	_, err = io.Copy(io.Discard, decoded)
	return err
}

// shaped returns the tally of ids that come with their shape.
func (d *documents) shaped() *routed {
	if d.routed == nil {
		d.routed = &routed{opt: d.opt, tally: newTally(d.opt)}
	}
	return d.routed
}

// setShape takes the shape of the ids, which must be the same everywhere.
func (r *routed) setShape(layers, topK int) error {
	if layers < 1 || layers > maxLayers || topK < 1 || topK > maxTopK {
		return fmt.Errorf("routed_experts of %d layers and %d experts per token: want at most %d and %d", layers, topK, maxLayers, maxTopK)
	}
	if r.layers == 0 {
		if r.opt.Layers > 0 && r.opt.Layers != layers || r.opt.TopK > 0 && r.opt.TopK != topK {
			return fmt.Errorf("routed_experts has %d layers and %d experts per token, where %d and %d were stated", layers, topK, r.opt.Layers, r.opt.TopK)
		}
		r.layers, r.topK = layers, topK
	}
	if r.layers != layers || r.topK != topK {
		return fmt.Errorf("routed_experts has %d layers and %d experts per token, values before it %d and %d", layers, topK, r.layers, r.topK)
	}
	r.found = true
	return nil
}

// npy reads a .npy file of ids, [tokens][layers][k].
func (r *routed) npy(in io.Reader) error {
	h, err := npy.Read(in)
	if err != nil {
		return err
	}
	if len(h.Shape) != 3 || h.Kind != 'i' && h.Kind != 'u' || h.Fortran {
		return fmt.Errorf("routed_experts is %s: want integers [tokens, layers, experts per token]", h)
	}
	if h.Shape[0] == 0 {
		return nil
	}
	if err := r.setShape(int(min(h.Shape[1], math.MaxInt32)), int(min(h.Shape[2], math.MaxInt32))); err != nil {
		return err
	}
	token := make([]int64, r.layers*r.topK)
	raw := make([]byte, len(token)*h.Size)
	for range h.Shape[0] {
		if _, err := io.ReadFull(in, raw); err != nil {
			return fmt.Errorf("routed_experts: token %d of %d: %w", r.token, h.Shape[0], noEOF(err))
		}
		for i := range token {
			v := h.Value(raw[i*h.Size:])
			if v != math.Trunc(v) || math.Abs(v) > maxCount {
				return fmt.Errorf("routed_experts: token %d: id %v", r.token, v)
			}
			token[i] = int64(v)
		}
		if err := r.add(token); err != nil {
			return err
		}
	}
	return nil
}

// lists reads nested lists of ids, [tokens][layers][k].
func (r *routed) lists(s *jsonScanner) error {
	var token []int64
	return s.array(func(int) error {
		token = token[:0]
		layers, topK := 0, 0
		err := s.array(func(layer int) error {
			if layer >= maxLayers {
				return fmt.Errorf("more than %d layers", maxLayers)
			}
			width := 0
			err := s.array(func(i int) error {
				if i >= maxTopK {
					return fmt.Errorf("more than %d experts for one token", maxTopK)
				}
				width++
				v, err := s.number()
				if err == nil && (v != math.Trunc(v) || math.Abs(v) > maxCount) {
					err = fmt.Errorf("id %v", v)
				}
				token = append(token, int64(v))
				return err
			})
			if err == nil && layer > 0 && width != topK {
				err = fmt.Errorf("layer %d has %d experts per token, layers before it %d", layer, width, topK)
			}
			layers, topK = layers+1, width
			return err
		})
		if err != nil {
			return err
		}
		if err := r.setShape(layers, topK); err != nil {
			return err
		}
		return r.add(token)
	})
}

// add counts one token: the ids of each layer in turn. -1 pads; zeros alone
// say that nothing was recorded, for no token is routed to one expert twice.
func (r *routed) add(token []int64) error {
	for layer := range r.layers {
		slice := token[layer*r.topK : (layer+1)*r.topK]
		ids, err := r.filter(slice)
		if err == nil && len(ids) > 0 {
			err = r.tally.routedToken(uint64(layer), ids)
		}
		if err != nil {
			return fmt.Errorf("routed_experts: token %d, layer %d (of %d layers x %d experts per token): %w", r.token, layer, r.layers, r.topK, err)
		}
	}
	r.token++
	return nil
}

// filter returns the ids that are there.
func (r *routed) filter(slice []int64) ([]uint32, error) {
	r.ids = r.ids[:0]
	recorded := len(slice) == 1
	for _, id := range slice {
		recorded = recorded || id != 0
		switch {
		case id == -1:
		case id < 0 || id >= maxExperts:
			return nil, fmt.Errorf("expert %d", id)
		default:
			r.ids = append(r.ids, uint32(id))
		}
	}
	if !recorded {
		return nil, nil
	}
	return r.ids, nil
}

// evidence closes the tally.
func (r *routed) evidence() (*stats.Evidence, error) {
	// With one expert per token zeros alone could be expert 0; a whole layer
	// of them is one that was not recorded.
	if r.topK == 1 {
		for i, l := range r.tally.layers {
			if l != nil && l.counts[0] == l.slots {
				r.tally.layers[i] = nil
			}
		}
	}
	for len(r.tally.layers) < r.layers {
		r.tally.layers = append(r.tally.layers, nil)
	}
	ev, err := r.tally.evidence("routed-experts", stats.AxisRows)
	if err == errNoActivations {
		return nil, stats.Hintf("record again without a fused MoE kernel: some return zeros",
			"every id of routed_experts is 0: the server recorded no routing")
	}
	return ev, err
}

// noEOF makes the end of the input an error in the middle of a value.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
