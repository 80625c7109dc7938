package quant_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// oracleEnv makes the test binary serve as the oracle's process.
const oracleEnv = "GGUFPLAN_QUANT_ORACLE"

func TestMain(m *testing.M) {
	if os.Getenv(oracleEnv) != "" {
		if err := serveOracle(os.Stdin, os.Stdout); err != nil && err != io.EOF {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An oracle asks GGML in a child process, since several of its encoders end
// the process on rows that they cannot hold.
type oracle struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const (
	askDecode = iota
	askEncode
)

// A question is sent as its fields, then a payload.
type question struct {
	Ask      uint32
	Type     uint32
	Weights  uint32 // weights in all
	Columns  uint32 // weights per row
	Weighted uint32 // 1: Columns importance weights follow the rows
}

var sharedOracle struct {
	sync.Mutex
	o *oracle
}

// askOracle sends a question and returns the answer's bytes, or an error where
// the library ended its process. It skips the test where there is no library.
func askOracle(tb testing.TB, q question, payload ...any) ([]byte, error) {
	tb.Helper()
	llamacpp.Load(tb)
	sharedOracle.Lock()
	defer sharedOracle.Unlock()
	if sharedOracle.o == nil {
		o, err := startOracle()
		if err != nil {
			tb.Fatal(err)
		}
		sharedOracle.o = o
	}
	answer, err := sharedOracle.o.ask(q, payload)
	if err != nil {
		_ = sharedOracle.o.in.Close()
		_ = sharedOracle.o.cmd.Wait()
		sharedOracle.o = nil
	}
	return answer, err
}

func startOracle() (*oracle, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), oracleEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &oracle{cmd, in, bufio.NewReaderSize(out, 1<<16)}, nil
}

func (o *oracle) ask(q question, payload []any) ([]byte, error) {
	w := bufio.NewWriterSize(o.in, 1<<16)
	for _, v := range append([]any{q}, payload...) {
		if err := binary.Write(w, binary.LittleEndian, v); err != nil {
			return nil, err
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	var n uint32
	if err := binary.Read(o.out, binary.LittleEndian, &n); err != nil {
		return nil, err
	}
	answer := make([]byte, n)
	_, err := io.ReadFull(o.out, answer)
	return answer, err
}

func serveOracle(r io.Reader, w io.Writer) error {
	lib, err := llamacpp.Open()
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		var q question
		if err := binary.Read(in, binary.LittleEndian, &q); err != nil {
			return err
		}
		size := lib.RowBytes(q.Type, int(q.Columns)) * int(q.Weights/q.Columns)
		rows := make([]float32, q.Weights)
		var answer []byte
		if q.Ask == askDecode {
			src := make([]byte, size)
			if _, err := io.ReadFull(in, src); err != nil {
				return err
			}
			lib.Decode(q.Type, src, rows)
			if answer, err = binary.Append(nil, binary.LittleEndian, rows); err != nil {
				return err
			}
		} else {
			if err := binary.Read(in, binary.LittleEndian, rows); err != nil {
				return err
			}
			var weights []float32
			if q.Weighted != 0 {
				weights = make([]float32, q.Columns)
				if err := binary.Read(in, binary.LittleEndian, weights); err != nil {
					return err
				}
			}
			answer = lib.Encode(q.Type, rows, int(q.Columns), weights)
		}
		if err := binary.Write(w, binary.LittleEndian, uint32(len(answer))); err != nil {
			return err
		}
		if _, err := w.Write(answer); err != nil {
			return err
		}
	}
}

// oracleDecode decodes whole blocks with GGML.
func oracleDecode(tb testing.TB, f quant.Format, src []byte) ([]float32, error) {
	tb.Helper()
	n := len(src) / int(f.Layout.BytesPerBlock) * int(f.Layout.WeightsPerBlock)
	answer, err := askOracle(tb, question{askDecode, uint32(f.Type), uint32(n), uint32(n), 0}, src)
	if err != nil {
		return nil, err
	}
	dst := make([]float32, n)
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(answer[4*i:]))
	}
	return dst, nil
}

// oracleEncode encodes rows with ggml_quantize_chunk.
func oracleEncode(tb testing.TB, f quant.Format, rows []float32, columns int, weights []float32) ([]byte, error) {
	tb.Helper()
	q := question{askEncode, uint32(f.Type), uint32(len(rows)), uint32(columns), 0}
	if weights == nil {
		return askOracle(tb, q, rows)
	}
	q.Weighted = 1
	return askOracle(tb, q, rows, weights)
}
