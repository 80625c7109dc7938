package measure

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"

	"github.com/ggufplan/ggufplan/stats/internal/strictjson"
)

// Write writes the content of an errors file: JSON with one line per
// expert, keys in struct order and a final newline. The version written is
// this package's, whatever e was read from. It holds one expert's line in
// memory at a time.
func Write(w io.Writer, e *Result) error {
	own := *e
	own.Schema, own.FormatVersion = ErrorsSchemaName, ErrorsFormatVersion
	if err := own.validate(); err != nil {
		return err
	}
	out := errorsWriter{w: bufio.NewWriterSize(w, 64<<10)}
	fields := reflect.ValueOf(own)
	for i := range fields.NumField() {
		out.text(separator(i, "{", ",") + "\n  " + strconv.Quote(strictjson.Tag(fields.Type().Field(i))) + ": ")
		field := fields.Field(i)
		if field.Kind() == reflect.Slice && field.IsNil() {
			field = reflect.MakeSlice(field.Type(), 0, 0)
		}
		if field.Type() != reflect.TypeFor[[]TensorLoss]() {
			out.value(field.Interface(), 0)
			continue
		}
		out.text("[")
		for j, t := range own.Tensors {
			experts := t.Experts
			t.Experts = []ExpertLoss{}
			out.text(separator(j, "", ",") + "\n    ")
			out.value(t, len("]}"))
			for k := range experts {
				out.text(separator(k, "", ",") + "\n      ")
				out.value(experts[k], 0)
			}
			out.text("]}")
		}
		out.text("]")
	}
	out.text("\n}\n")
	return errors.Join(out.err, out.w.Flush())
}

// An errorsWriter keeps the errors of encoding; those of writing are kept by
// the buffer.
type errorsWriter struct {
	w    *bufio.Writer
	line bytes.Buffer
	err  error
}

func (o *errorsWriter) text(s string) { o.w.WriteString(s) }

// value writes v as JSON on one line without its last open bytes.
func (o *errorsWriter) value(v any, open int) {
	o.line.Reset()
	enc := json.NewEncoder(&o.line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		o.err = errors.Join(o.err, err)
		return
	}
	o.w.Write(o.line.Bytes()[:o.line.Len()-len("\n")-open])
}

func separator(i int, first, rest string) string {
	if i == 0 {
		return first
	}
	return rest
}

// Encode returns what [Write] writes.
func Encode(e *Result) ([]byte, error) {
	var b bytes.Buffer
	if err := Write(&b, e); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
