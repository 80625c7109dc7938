//go:build !purego

#include "textflag.h"

DATA magic23<>+0(SB)/4, $0x4b400000 // 1.5 × 2^23
GLOBL magic23<>(SB), RODATA, $4
DATA unpack<>+0(SB)/4, $0
DATA unpack<>+4(SB)/4, $4
DATA unpack<>+8(SB)/4, $1
DATA unpack<>+12(SB)/4, $5
DATA unpack<>+16(SB)/4, $2
DATA unpack<>+20(SB)/4, $6
DATA unpack<>+24(SB)/4, $3
DATA unpack<>+28(SB)/4, $7
GLOBL unpack<>(SB), RODATA, $32

// LEVELS leaves eight integers of x × inverse at off in reg.
#define LEVELS(off, reg) \
	VMULPS off(SI), Y0, reg \
	VMAXPS Y1, reg, reg     \
	VMINPS Y2, reg, reg     \
	VADDPS Y3, reg, reg     \
	VPSUBD Y4, reg, reg

// func levelBytesAVX2(dst *uint8, x *float32, n int, inverse, lo, hi float32)
TEXT ·levelBytesAVX2(SB), NOSPLIT, $0-36
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS inverse+24(FP), Y0
	VBROADCASTSS lo+28(FP), Y1
	VBROADCASTSS hi+32(FP), Y2
	VBROADCASTSS magic23<>(SB), Y3
	VADDPS Y3, Y1, Y4        // the bits of level lo
	VMOVDQU unpack<>(SB), Y9
loop:
	LEVELS(0, Y5)
	LEVELS(32, Y6)
	LEVELS(64, Y7)
	LEVELS(96, Y8)
	VPACKSSDW Y6, Y5, Y5
	VPACKSSDW Y8, Y7, Y7
	VPACKUSWB Y7, Y5, Y5
	VPERMD Y5, Y9, Y5
	VMOVDQU Y5, (DI)
	ADDQ $128, SI
	ADDQ $32, DI
	DECQ CX
	JNZ loop
	VZEROUPPER
	RET

// FOLD leaves the most extreme lane of ry in all of rx, its lower half.
#define FOLD(op, ry, rx) \
	VEXTRACTF128 $1, ry, X15  \
	op X15, rx, rx            \
	VPERMILPS $0x4e, rx, X15  \
	op X15, rx, rx            \
	VPERMILPS $0xb1, rx, X15  \
	op X15, rx, rx

// func largestBitsAVX2(x *float32, n int, mask uint32) uint32
TEXT ·largestBitsAVX2(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VBROADCASTSS mask+16(FP), Y1
	VPXOR Y0, Y0, Y0
next:
	VPAND (SI), Y1, Y2
	VPMAXUD Y2, Y0, Y0
	ADDQ $32, SI
	DECQ CX
	JNZ next
	FOLD(VPMAXUD, Y0, X0)
	VMOVD X0, AX
	MOVL AX, ret+24(FP)
	VZEROUPPER
	RET

// func plusBitsAVX2(dst *uint8, x *float32, n int)
TEXT ·plusBitsAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
eight:
	VMOVUPS (SI), Y0
	VMOVMSKPS Y0, AX
	NOTL AX
	MOVB AX, (DI)
	ADDQ $32, SI
	INCQ DI
	DECQ CX
	JNZ eight
	VZEROUPPER
	RET
