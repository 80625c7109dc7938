//go:build !purego

#include "textflag.h"

// SCALE16 multiplies 16 levels at l(SI) by the scale in Y0, to Y2 and Y3.
#define SCALE16(l) \
	VPMOVSXBD l(SI), Y2; \
	VPMOVSXBD (l+8)(SI), Y3; \
	VCVTDQ2PS Y2, Y2; \
	VCVTDQ2PS Y3, Y3; \
	VMULPS Y0, Y2, Y2; \
	VMULPS Y0, Y3, Y3

// OFFSET16 adds the offset in Y1.
#define OFFSET16 \
	VADDPS Y1, Y2, Y2; \
	VADDPS Y1, Y3, Y3

// STORE16 writes 16 weights to d(DI).
#define STORE16(d) \
	VMOVUPS Y2, d(DI); \
	VMOVUPS Y3, (d+32)(DI)

// func expandAVX2(dst *float32, level *uint8, n int, scale, offset *float32, half int)
TEXT ·expandAVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ level+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ scale+24(FP), R8
	MOVQ offset+32(FP), R9
	MOVQ half+40(FP), R10

expandLoop:
	VBROADCASTSS (R8), Y0
	VBROADCASTSS (R9), Y1
	SCALE16(0)
	OFFSET16
	STORE16(0)
	VBROADCASTSS (R8)(R10*1), Y0
	VBROADCASTSS (R9)(R10*1), Y1
	SCALE16(16)
	OFFSET16
	STORE16(64)
	LEAQ 4(R8)(R10*1), R8
	LEAQ 4(R9)(R10*1), R9
	ADDQ $32, SI
	ADDQ $128, DI
	DECQ CX
	JNZ  expandLoop

	VZEROUPPER
	RET

// func multiply8AVX2(scale, offset *float32, codes, mins uint64, d, m float32)
TEXT ·multiply8AVX2(SB), NOSPLIT, $0-40
	MOVQ scale+0(FP), DI
	MOVQ offset+8(FP), SI
	VBROADCASTSS d+32(FP), Y0
	VBROADCASTSS m+36(FP), Y1
	VPMOVZXBD codes+16(FP), Y2
	VPMOVZXBD mins+24(FP), Y3
	VCVTDQ2PS Y2, Y2
	VCVTDQ2PS Y3, Y3
	VMULPS Y0, Y2, Y2
	VMULPS Y1, Y3, Y3
	VMOVUPS Y2, (DI)
	VMOVUPS Y3, (SI)
	VZEROUPPER
	RET

// func q8_0AVX2(dst *float32, src *byte, n int)
TEXT ·q8_0AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

q8_0Loop:
	VPBROADCASTW (SI), X0
	VCVTPH2PS X0, Y0
	SCALE16(2)
	STORE16(0)
	SCALE16(18)
	STORE16(64)
	ADDQ $34, SI
	ADDQ $128, DI
	DECQ CX
	JNZ  q8_0Loop

	VZEROUPPER
	RET

// func halvesF16C(dst *float32, src *byte, n int)
TEXT ·halvesF16C(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

halvesLoop:
	VCVTPH2PS (SI), Y0
	VCVTPH2PS 16(SI), Y1
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ $32, SI
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ  halvesLoop

	VZEROUPPER
	RET

// func brainsAVX2(dst *float32, src *byte, n int)
TEXT ·brainsAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

brainsLoop:
	VPMOVZXWD (SI), Y0
	VPMOVZXWD 16(SI), Y1
	VPSLLD $16, Y0, Y0
	VPSLLD $16, Y1, Y1
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ $32, SI
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ  brainsLoop

	VZEROUPPER
	RET
