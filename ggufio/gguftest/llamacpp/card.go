package llamacpp

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A Card is a device of llama.cpp's that takes layers, as a graphics card does.
// No run uses it but those that name it.
type Card struct{ device uintptr }

// AddCard loads a device that holds tensors as CUDA does and takes the work
// that CUDA takes, but computes nothing: card/card.cpp.
func (l *Library) AddCard(tb testing.TB) *Card {
	tb.Helper()
	return &Card{l.regDevice(l.addBackend(tb, "libcard.so"), 0)}
}

// AddRPC starts llama.cpp's ggml-rpc-server on the CPU and returns its device.
// llama.cpp places on it what it would place on a card, in buffers of the CPU.
func (l *Library) AddRPC(tb testing.TB) *Card {
	tb.Helper()
	server := Tool(tb, "ggml-rpc-server")
	reg := l.addBackend(tb, "libggml-rpc.so")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	endpoint := listener.Addr().String()
	listener.Close()
	_, port, _ := strings.Cut(endpoint, ":")
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", port, "-t", "1")
	if cmd.Dir, err = find(); err != nil { // it looks there for the CPU's backend
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", endpoint)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(until) {
			tb.Fatalf("%s answers at %s: %v", server, endpoint, err)
		}
	}
	addServer := l.regAddress(reg, "ggml_backend_rpc_add_server")
	text := append([]byte(endpoint), 0)
	added, _, _ := purego.SyscallN(addServer, uintptr(unsafe.Pointer(&text[0])))
	if added == 0 {
		tb.Fatalf("llama.cpp does not take the server at %s", endpoint)
	}
	return &Card{l.regDevice(added, 0)}
}

// addBackend loads a backend for the length of a test.
func (l *Library) addBackend(tb testing.TB, name string) (reg uintptr) {
	tb.Helper()
	path := Tool(tb, name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if reg = l.backendLoad(path); reg == 0 {
		tb.Fatalf("%s: llama.cpp does not load it", path)
	}
	tb.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.backendUnload(reg)
	})
	return reg
}

// expertTensors are what --n-cpu-moe keeps of a block on the CPU: common.h,
// LLM_FFN_EXPS_REGEX.
const expertTensors = `blk\.%d\.ffn_(up|down|gate|gate_up)_(ch|)exps`

// placement is the start of llama_model_params: where tensors may lie. What it
// points to is to be kept alive.
func (l *Library) placement(o *RunOptions) (params [2]uintptr, keep []any) {
	devices := []uintptr{0, 0}
	if o.Card != nil {
		devices[0] = o.Card.device
	}
	var overrides []uintptr // pairs of a pattern and a buffer type
	for layer := range o.CPUExpertLayers {
		pattern := append(fmt.Appendf(nil, expertTensors, layer), 0)
		overrides = append(overrides, uintptr(unsafe.Pointer(&pattern[0])), l.cpuBufferType())
		keep = append(keep, pattern)
	}
	overrides = append(overrides, 0, 0)
	return [2]uintptr{uintptr(unsafe.Pointer(&devices[0])), uintptr(unsafe.Pointer(&overrides[0]))}, append(keep, devices, overrides)
}
