// Package pickle reads Python pickles, protocols 2 to 5, as data: numbers,
// text, lists and dicts. It runs nothing: a call of anything but what the
// caller allows is an error, and what is kept is bounded.
package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// MaxBytes bounds a pickle, whose values take up to some thirty times
// its size in memory. The numbers of a .pt file lie beside it, so those of
// recorders take a few kilobytes.
const MaxBytes = 64 << 20

// Values of a pickle. Whole numbers are int64, the rest nil, bool, float64,
// string, []byte or one of these.
type (
	List   struct{ Items []any }
	Tuple  struct{ Items []any }
	Dict   struct{ Keys, Values []any }
	Global struct{ Name string }
	mark   struct{}
)

// TypeName names the type of a value as Python does.
func TypeName(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case *List:
		return "list"
	case *Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	}
	return "object"
}

// Get returns the value of a string key, nil if it is not there.
func (d *Dict) Get(key string) any {
	// Python keeps the last of equal keys.
	for i := len(d.Keys) - 1; i >= 0; i-- {
		if d.Keys[i] == key {
			return d.Values[i]
		}
	}
	return nil
}

// An Unpickler interprets a pickle of protocols 2 to 5 as data. It runs
// nothing: the only names a pickle may mention are those that allowed lists,
// and calling them is done here. Memory is bounded by the pickle's size, since
// an instruction adds at most one value and lengths are checked before use.
type Unpickler struct {
	Data  []byte
	pos   int
	stack []any
	memo  map[uint32]any

	Allowed    func(name string) bool
	Call       func(name string, args []any) (any, error)
	Persistent func(id any) (any, error)
}

// Load interprets the pickle and returns its value.
func (u *Unpickler) Load() (any, error) {
	u.memo = make(map[uint32]any)
	for {
		at := u.pos
		op, err := u.bytes(1)
		if err != nil {
			return nil, u.fault(at, err)
		}
		if op[0] == '.' {
			v, err := u.pop()
			if err != nil {
				return nil, u.fault(at, err)
			}
			return v, nil
		}
		if err := u.step(op[0]); err != nil {
			return nil, u.fault(at, err)
		}
	}
}

func (u *Unpickler) fault(at int, err error) error {
	return fmt.Errorf("pickle byte %d: %w", at, err)
}

func (u *Unpickler) push(v any) error {
	u.stack = append(u.stack, v)
	return nil
}

func (u *Unpickler) pop() (any, error) {
	if len(u.stack) == 0 {
		return nil, errors.New("nothing on the stack")
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	if _, is := v.(mark); is {
		return nil, errors.New("a mark where a value must be")
	}
	return v, nil
}

// popMark returns the values above the last mark, and removes both.
func (u *Unpickler) popMark() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, is := u.stack[i].(mark); is {
			items := slices.Clone(u.stack[i+1:])
			u.stack = u.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("no mark on the stack")
}

// top returns the value on top of the stack, which stays.
func (u *Unpickler) top() (any, error) {
	v, err := u.pop()
	if err == nil {
		u.stack = append(u.stack, v)
	}
	return v, err
}

// bytes returns the next n bytes of the pickle.
func (u *Unpickler) bytes(n uint64) ([]byte, error) {
	if n > uint64(len(u.Data)-u.pos) {
		return nil, fmt.Errorf("needs %d bytes, and the pickle has %d left", n, len(u.Data)-u.pos)
	}
	b := u.Data[u.pos : u.pos+int(n)]
	u.pos += int(n)
	return b, nil
}

// uint reads a little-endian number of the given size.
func (u *Unpickler) uint(size uint64) (uint64, error) {
	b, err := u.bytes(size)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// sized reads a length of the given size and as many bytes.
func (u *Unpickler) sized(size uint64) ([]byte, error) {
	n, err := u.uint(size)
	if err != nil {
		return nil, err
	}
	return u.bytes(n)
}

func (u *Unpickler) line() (string, error) {
	i := slices.Index(u.Data[u.pos:], '\n')
	if i < 0 {
		return "", errors.New("the pickle ends inside a line")
	}
	b, err := u.bytes(uint64(i) + 1)
	return string(b[:max(len(b)-1, 0)]), err
}

// step carries out one instruction.
func (u *Unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.uint(1)
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("protocol %d: want 2 to 5", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.uint(8)
		return err
	case '(': // MARK
		return u.push(mark{})
	case '0': // POP
		if len(u.stack) == 0 {
			return errors.New("nothing on the stack")
		}
		u.stack = u.stack[:len(u.stack)-1]
		return nil
	case '1': // POP_MARK
		_, err := u.popMark()
		return err
	case '2': // DUP
		v, err := u.top()
		if err != nil {
			return err
		}
		return u.push(v)
	case 'N':
		return u.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return u.push(op == 0x88)
	case 'K', 'M', 'J', 0x8a, 'G': // BININT1, BININT2, BININT, LONG1, BINFLOAT
		return u.number(op)
	case 'X', 0x8c, 0x8d, 'T', 'U', 'B', 'C', 0x8e: // strings and bytes
		return u.text(op)
	case ']', ')', '}', 'l', 't', 'd', 0x85, 0x86, 0x87, 'a', 'e', 's', 'u':
		return u.container(op)
	case 'q', 'r', 0x94, 'h', 'j':
		return u.remember(op)
	case 'c': // GLOBAL
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		return u.global(module, name)
	case 0x93: // STACK_GLOBAL
		name, err := u.pop()
		if err != nil {
			return err
		}
		module, err := u.pop()
		if err != nil {
			return err
		}
		moduleText, ok1 := module.(string)
		nameText, ok2 := name.(string)
		if !ok1 || !ok2 {
			return errors.New("a name that is not text")
		}
		return u.global(moduleText, nameText)
	case 'R': // REDUCE
		return u.reduce()
	case 'b': // BUILD
		return u.build()
	case 'Q': // BINPERSID
		id, err := u.pop()
		if err != nil {
			return err
		}
		v, err := u.Persistent(id)
		if err != nil {
			return err
		}
		return u.push(v)
	}
	return fmt.Errorf("instruction %#02x, which no file of tensors needs, is not carried out", op)
}

func (u *Unpickler) number(op byte) error {
	switch op {
	case 'K':
		v, err := u.uint(1)
		u.push(int64(v))
		return err
	case 'M':
		v, err := u.uint(2)
		u.push(int64(v))
		return err
	case 'J':
		v, err := u.uint(4)
		u.push(int64(int32(v)))
		return err
	case 'G':
		b, err := u.bytes(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	size, err := u.uint(1)
	if err != nil {
		return err
	}
	if size > 8 {
		return fmt.Errorf("a whole number of %d bytes: want up to 8", size)
	}
	v, err := u.uint(size)
	if err != nil {
		return err
	}
	shift := 64 - 8*size // sign-extend; a shift by 64 gives 0
	return u.push(int64(v<<shift) >> shift)
}

func (u *Unpickler) text(op byte) error {
	size := uint64(1)
	switch op {
	case 'X', 'T', 'B':
		size = 4
	case 0x8d, 0x8e:
		size = 8
	}
	b, err := u.sized(size)
	if err != nil {
		return err
	}
	switch op {
	case 'B', 'C', 0x8e:
		return u.push(b)
	}
	return u.push(string(b))
}

func (u *Unpickler) container(op byte) error {
	switch op {
	case ']':
		return u.push(&List{})
	case ')':
		return u.push(&Tuple{})
	case '}':
		return u.push(&Dict{})
	case 0x85, 0x86, 0x87:
		items := make([]any, op-0x84)
		for i := len(items) - 1; i >= 0; i-- {
			v, err := u.pop()
			if err != nil {
				return err
			}
			items[i] = v
		}
		return u.push(&Tuple{items})
	case 'a', 's':
		var items []any
		for range map[byte]int{'a': 1, 's': 2}[op] {
			v, err := u.pop()
			if err != nil {
				return err
			}
			items = append([]any{v}, items...)
		}
		return u.extend(op == 's', items)
	}
	items, err := u.popMark()
	if err != nil {
		return err
	}
	switch op {
	case 'l':
		return u.push(&List{items})
	case 't':
		return u.push(&Tuple{items})
	case 'd':
		u.push(&Dict{})
	}
	return u.extend(op != 'e', items)
}

// extend adds items to the list on top of the stack, or pairs to the dict.
func (u *Unpickler) extend(pairs bool, items []any) error {
	target, err := u.top()
	if err != nil {
		return err
	}
	if !pairs {
		list, is := target.(*List)
		if !is {
			return errors.New("items for what is not a list")
		}
		list.Items = append(list.Items, items...)
		return nil
	}
	dict, is := target.(*Dict)
	if !is || len(items)%2 != 0 {
		return errors.New("keys and values for what is not a dict")
	}
	for i := 0; i < len(items); i += 2 {
		switch items[i].(type) {
		case string, int64, bool, float64, nil:
		case *Tuple:
		default:
			return errors.New("a key that is not a plain value")
		}
		dict.Keys = append(dict.Keys, items[i])
		dict.Values = append(dict.Values, items[i+1])
	}
	return nil
}

// remember stores the top of the stack in the memo, or fetches from it.
func (u *Unpickler) remember(op byte) error {
	index := uint64(len(u.memo))
	if op != 0x94 {
		size := uint64(1)
		if op == 'r' || op == 'j' {
			size = 4
		}
		var err error
		if index, err = u.uint(size); err != nil {
			return err
		}
	}
	if op == 'h' || op == 'j' {
		v, there := u.memo[uint32(index)]
		if !there {
			return fmt.Errorf("memo %d is empty", index)
		}
		return u.push(v)
	}
	v, err := u.top()
	if err != nil {
		return err
	}
	u.memo[uint32(index)] = v
	return nil
}

// A foreignName reports a pickle that names something beyond data.
type ForeignName struct{ name string }

func (e *ForeignName) Error() string {
	return fmt.Sprintf("names %.80q, which a file of tensors has no need of; nothing was run", e.name)
}

func (u *Unpickler) global(module, name string) error {
	full := module + "." + name
	if strings.ContainsAny(module, "\x00") || !u.Allowed(full) {
		return &ForeignName{full}
	}
	return u.push(&Global{full})
}

// reduce calls one of the allowed names.
func (u *Unpickler) reduce() error {
	args, err := u.pop()
	if err != nil {
		return err
	}
	callee, err := u.pop()
	if err != nil {
		return err
	}
	tuple, ok1 := args.(*Tuple)
	global, ok2 := callee.(*Global)
	if !ok1 || !ok2 {
		return errors.New("a call of something that is not a name; nothing was run")
	}
	v, err := u.Call(global.Name, tuple.Items)
	if err != nil {
		return fmt.Errorf("%s: %w", global.Name, err)
	}
	return u.push(v)
}

// build sets the state of an object. Tensor files do it for the attributes of
// an OrderedDict, which do not matter here.
func (u *Unpickler) build() error {
	state, err := u.pop()
	if err != nil {
		return err
	}
	target, err := u.top()
	if err != nil {
		return err
	}
	_, ok1 := target.(*Dict)
	_, ok2 := state.(*Dict)
	if !ok1 || !ok2 {
		return errors.New("state for an object that is not a dict; nothing was run")
	}
	return nil
}
