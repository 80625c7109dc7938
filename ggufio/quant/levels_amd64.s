//go:build !purego

#include "textflag.h"

DATA magic23<>+0(SB)/4, $0x4b400000 // 1.5 × 2^23
GLOBL magic23<>(SB), RODATA, $4
DATA magic24<>+0(SB)/4, $0x4bc00000
GLOBL magic24<>(SB), RODATA, $4
DATA magic25<>+0(SB)/4, $0x4c400000
GLOBL magic25<>(SB), RODATA, $4
DATA four<>+0(SB)/4, $0x40800000
GLOBL four<>(SB), RODATA, $4
DATA eight<>+0(SB)/4, $0x41000000
GLOBL eight<>(SB), RODATA, $4
DATA twelve<>+0(SB)/4, $0x41400000
GLOBL twelve<>(SB), RODATA, $4
DATA unpack<>+0(SB)/4, $0
DATA unpack<>+4(SB)/4, $4
DATA unpack<>+8(SB)/4, $1
DATA unpack<>+12(SB)/4, $5
DATA unpack<>+16(SB)/4, $2
DATA unpack<>+20(SB)/4, $6
DATA unpack<>+24(SB)/4, $3
DATA unpack<>+28(SB)/4, $7
GLOBL unpack<>(SB), RODATA, $32

// TOTAL adds up the lanes of ry into the first of rx, its lower half: halves
// first, then neighbours.
#define TOTAL(ry, rx) \
	VEXTRACTF128 $1, ry, X15 \
	VADDPS X15, rx, rx       \
	VHADDPS rx, rx, rx       \
	VHADDPS rx, rx, rx

// func levelSumsAVX2(x, w *float32, n int, inverse, lo, hi float32) (wxq, wqq float32)
TEXT ·levelSumsAVX2(SB), NOSPLIT, $0-48
	MOVQ x+0(FP), SI
	MOVQ w+8(FP), BX
	MOVQ n+16(FP), CX
	VBROADCASTSS inverse+24(FP), Y0
	VBROADCASTSS lo+28(FP), Y1
	VBROADCASTSS hi+32(FP), Y2
	VBROADCASTSS magic23<>(SB), Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
sum:
	VMOVUPS (SI), Y6
	VMULPS Y0, Y6, Y7
	VMAXPS Y1, Y7, Y7
	VMINPS Y2, Y7, Y7
	VADDPS Y3, Y7, Y7
	VSUBPS Y3, Y7, Y7        // q
	VMULPS (BX), Y7, Y8      // w q
	VMULPS Y6, Y8, Y6
	VMULPS Y7, Y8, Y8
	VADDPS Y6, Y4, Y4
	VADDPS Y8, Y5, Y5
	ADDQ $32, SI
	ADDQ $32, BX
	DECQ CX
	JNZ sum
	TOTAL(Y4, X4)
	TOTAL(Y5, X5)
	VMOVSS X4, wxq+40(FP)
	VMOVSS X5, wqq+44(FP)
	VZEROUPPER
	RET

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

// E2M1 subtracts from |x| in reg the scale times its nearest level.
#define E2M1(reg, scaled, magic, mask) \
	VMULPS Y1, reg, scaled           \
	VMINPS Y10, scaled, scaled       \
	VCMPPS $1, Y11, scaled, mask     \
	VBLENDVPS mask, Y14, Y15, magic  \
	VCMPPS $1, Y12, scaled, mask     \
	VBLENDVPS mask, Y13, magic, magic \
	VADDPS magic, scaled, scaled     \
	VSUBPS magic, scaled, scaled     \
	VMULPS Y0, scaled, scaled        \
	VSUBPS scaled, reg, scaled       \
	VMULPS scaled, scaled, scaled

// func e2m1CostsAVX2(cost *[16]float32, x, w *[16]float32, scales, inverses *[16]float32)
TEXT ·e2m1CostsAVX2(SB), NOSPLIT, $0-40
	MOVQ cost+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), BX
	MOVQ scales+24(FP), R8
	MOVQ inverses+32(FP), R9
	MOVQ $16, CX
	VMOVUPS (SI), Y2
	VMOVUPS 32(SI), Y3
	VBROADCASTSS twelve<>(SB), Y10
	VBROADCASTSS eight<>(SB), Y11
	VBROADCASTSS four<>(SB), Y12
	VBROADCASTSS magic23<>(SB), Y13
	VBROADCASTSS magic24<>(SB), Y14
	VBROADCASTSS magic25<>(SB), Y15
scale:
	VBROADCASTSS (R8), Y0
	VBROADCASTSS (R9), Y1
	E2M1(Y2, Y4, Y5, Y6)
	E2M1(Y3, Y7, Y8, Y9)
	VMULPS (BX), Y4, Y4
	VMULPS 32(BX), Y7, Y7
	VADDPS Y7, Y4, Y4
	VEXTRACTF128 $1, Y4, X5
	VADDPS X5, X4, X4
	VHADDPS X4, X4, X4
	VHADDPS X4, X4, X4
	VMOVSS X4, (DI)
	ADDQ $4, DI
	ADDQ $4, R8
	ADDQ $4, R9
	DECQ CX
	JNZ scale
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

// func surveyAVX2(s *survey, x, w *float32, n int)
TEXT ·surveyAVX2(SB), NOSPLIT, $0-32
	MOVQ s+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), BX
	MOVQ n+24(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VPCMPEQD Y5, Y5, Y5
	VPSRLD $1, Y5, Y5        // all but the sign
look:
	VMOVUPS (SI), Y6
	VMOVUPS (BX), Y7
	VMAXPS Y6, Y0, Y0
	VMINPS Y6, Y1, Y1
	VMAXPS Y7, Y2, Y2
	VANDPS Y5, Y6, Y6
	VMULPS Y7, Y6, Y6
	VADDPS Y6, Y3, Y3
	VADDPS Y7, Y4, Y4
	ADDQ $32, SI
	ADDQ $32, BX
	DECQ CX
	JNZ look
	FOLD(VMAXPS, Y0, X0)
	FOLD(VMINPS, Y1, X1)
	FOLD(VMAXPS, Y2, X2)
	TOTAL(Y3, X3)
	TOTAL(Y4, X4)
	VMOVSS X0, (DI)
	VMOVSS X1, 4(DI)
	VMOVSS X2, 8(DI)
	VMOVSS X3, 12(DI)
	VMOVSS X4, 16(DI)
	VZEROUPPER
	RET

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
