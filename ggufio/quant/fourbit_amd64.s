//go:build !purego

#include "textflag.h"

// The numbers of the E2M1 levels 0 to 12, twice what they stand for.
DATA e2m1Levels<>+0(SB)/4, $0.0
DATA e2m1Levels<>+4(SB)/4, $1.0
DATA e2m1Levels<>+8(SB)/4, $2.0
DATA e2m1Levels<>+12(SB)/4, $3.0
DATA e2m1Levels<>+16(SB)/4, $4.0
DATA e2m1Levels<>+20(SB)/4, $6.0
DATA e2m1Levels<>+24(SB)/4, $8.0
DATA e2m1Levels<>+28(SB)/4, $12.0
GLOBL e2m1Levels<>(SB), RODATA|NOPTR, $32

DATA e2m1Numbers<>+0(SB)/4, $0x7fffffff // all but the sign
DATA e2m1Numbers<>+4(SB)/4, $1
DATA e2m1Numbers<>+8(SB)/4, $0x200000   // half of a mantissa's second bit
DATA e2m1Numbers<>+12(SB)/4, $0xfe
DATA e2m1Numbers<>+16(SB)/4, $7
DATA e2m1Numbers<>+20(SB)/4, $0x3fffffff // just below 2
DATA e2m1Numbers<>+24(SB)/4, $4.0
DATA e2m1Numbers<>+28(SB)/4, $0.5
GLOBL e2m1Numbers<>(SB), RODATA|NOPTR, $32

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

// RESIDUAL adds w (Y3) × (Y4 − its nearest level)² to sum.
#define RESIDUAL(sum) \
	PLACE; \
	VPERMPS Y9, Y5, Y5; \
	VSUBPS Y5, Y4, Y5; \
	VMULPS Y5, Y5, Y5; \
	VMULPS Y5, Y3, Y5; \
	VADDPS Y5, sum, sum

// func e2m1ResidualsAVX2(sum *[4]lanes, x, w *[32]float32, inv float32)
TEXT ·e2m1ResidualsAVX2(SB), NOSPLIT, $0-28
	MOVQ sum+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), DX
	VBROADCASTSS inv+24(FP), Y0
	LOADNUMBERS
	VMOVUPS e2m1Levels<>(SB), Y9
	VXORPS Y8, Y8, Y8
	VMOVUPS Y8, (DI)
	VMOVUPS Y8, 32(DI)
	VMOVUPS Y8, 64(DI)
	VMOVUPS Y8, 96(DI)
	MOVQ $4, CX

residualsLoop:
	VMULPS (SI), Y0, Y1
	VANDPS Y15, Y1, Y1
	VMOVUPS (DX), Y3
	VBROADCASTSS e2m1Numbers<>+24(SB), Y2
	VMULPS Y2, Y1, Y4
	VMOVUPS (DI), Y8
	RESIDUAL(Y8)
	VMOVUPS Y8, (DI)
	VADDPS Y1, Y1, Y4
	VMOVUPS 32(DI), Y8
	RESIDUAL(Y8)
	VMOVUPS Y8, 32(DI)
	VMOVAPS Y1, Y4
	VMOVUPS 64(DI), Y8
	RESIDUAL(Y8)
	VMOVUPS Y8, 64(DI)
	VBROADCASTSS e2m1Numbers<>+28(SB), Y2
	VMULPS Y2, Y1, Y4
	VMOVUPS 96(DI), Y8
	RESIDUAL(Y8)
	VMOVUPS Y8, 96(DI)
	ADDQ $32, SI
	ADDQ $32, DX
	DECQ CX
	JNZ  residualsLoop

	VZEROUPPER
	RET

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
