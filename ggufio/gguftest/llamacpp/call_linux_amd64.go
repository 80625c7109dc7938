package llamacpp

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trampoline returns the address of a function f(fn, arg, words, n) that
// copies n words to the stack and calls fn(arg) above them. purego passes at
// most 15 words; llama_context_params has 20.
var trampoline = sync.OnceValue(func() uintptr {
	code := []byte{
		0x55,             // push rbp
		0x48, 0x89, 0xe5, // mov rbp, rsp
		0x48, 0x89, 0xf8, // mov rax, rdi      fn
		0x49, 0x89, 0xf0, // mov r8, rsi       arg
		0x4c, 0x8d, 0x0c, 0xcd, 0, 0, 0, 0, // lea r9, [rcx*8]
		0x4c, 0x29, 0xcc, // sub rsp, r9
		0x48, 0x83, 0xe4, 0xf0, // and rsp, -16
		0x48, 0x89, 0xe7, // mov rdi, rsp
		0x48, 0x89, 0xd6, // mov rsi, rdx
		0xfc,             // cld
		0xf3, 0x48, 0xa5, // rep movsq
		0x4c, 0x89, 0xc7, // mov rdi, r8
		0xff, 0xd0, // call rax
		0xc9, // leave
		0xc3, // ret
	}
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	copy(page, code)
	if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(&page[0]))
})
