//go:build !(linux && amd64)

package llamacpp

// trampoline is never reached: the library is found on linux on x86-64 only.
func trampoline() uintptr { panic("llama.cpp's libraries are for linux on x86-64 only") }
