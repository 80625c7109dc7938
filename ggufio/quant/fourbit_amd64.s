//go:build !purego

#include "textflag.h"

DATA e2m1Numbers<>+0(SB)/4, $0x7fffffff // all but the sign
DATA e2m1Numbers<>+4(SB)/4, $1
DATA e2m1Numbers<>+8(SB)/4, $0x200000   // half of a mantissa's second bit
DATA e2m1Numbers<>+12(SB)/4, $0xfe
DATA e2m1Numbers<>+16(SB)/4, $7
DATA e2m1Numbers<>+20(SB)/4, $0x3fffffff // just below 2
GLOBL e2m1Numbers<>(SB), RODATA|NOPTR, $24

#define LOADNUMBERS \
	VBROADCASTSS e2m1Numbers<>+0(SB), Y15; \
	VBROADCASTSS e2m1Numbers<>+4(SB), Y14; \
	VBROADCASTSS e2m1Numbers<>+8(SB), Y13; \
	VBROADCASTSS e2m1Numbers<>+12(SB), Y12; \
	VBROADCASTSS e2m1Numbers<>+16(SB), Y11; \
	VBROADCASTSS e2m1Numbers<>+20(SB), Y10

// PLACE sets Y5 to the places of the levels nearest to Y4, halves up: below 2
// levels are integers, above they are floats with two bits, so that exponent
// and first bit of the mantissa count them.
#define PLACE \
	VADDPS Y4, Y4, Y5; \
	VCVTTPS2DQ Y5, Y5; \
	VPADDD Y14, Y5, Y5; \
	VPSRLD $1, Y5, Y5; \
	VPADDD Y13, Y4, Y6; \
	VPSRLD $22, Y6, Y6; \
	VPSUBD Y12, Y6, Y6; \
	VPMINSD Y11, Y6, Y6; \
	VPCMPGTD Y10, Y4, Y7; \
	VPBLENDVB Y7, Y6, Y5, Y5

// PLACES writes the places of eight weights at at(SI), with signs, as words to y.
#define PLACES(at, y) \
	VMULPS at(SI), Y0, Y1; \
	VANDPS Y15, Y1, Y4; \
	PLACE; \
	VPSRLD $31, Y1, Y1; \
	VPSLLD $3, Y1, Y1; \
	VPOR Y1, Y5, y

// func e2m1PlacesAVX2(q *[32]uint8, x *[32]float32, inv float32)
TEXT ·e2m1PlacesAVX2(SB), NOSPLIT, $0-20
	MOVQ q+0(FP), DI
	MOVQ x+8(FP), SI
	VBROADCASTSS inv+16(FP), Y0
	LOADNUMBERS
	MOVQ $2, CX

placesLoop:
	PLACES(0, Y8)
	PLACES(32, Y9)
	VPACKSSDW Y9, Y8, Y8
	VPERMQ $0xD8, Y8, Y8
	VEXTRACTI128 $1, Y8, X9
	VPACKUSWB X9, X8, X8
	VMOVDQU X8, (DI)
	ADDQ $64, SI
	ADDQ $16, DI
	DECQ CX
	JNZ  placesLoop

	VZEROUPPER
	RET
