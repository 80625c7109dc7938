//go:build !purego

#include "textflag.h"

// Shifts that bring bit i of a lane's number to the top.
DATA toTop<>+0(SB)/4, $31
DATA toTop<>+4(SB)/4, $30
DATA toTop<>+8(SB)/4, $29
DATA toTop<>+12(SB)/4, $28
DATA toTop<>+16(SB)/4, $27
DATA toTop<>+20(SB)/4, $26
DATA toTop<>+24(SB)/4, $25
DATA toTop<>+28(SB)/4, $24
GLOBL toTop<>(SB), RODATA, $32

// Of sixteen words, four of each power.
DATA powers<>+0(SB)/8, $0x0001000100010001
DATA powers<>+8(SB)/8, $0x0003000300030003
DATA powers<>+16(SB)/8, $0x0009000900090009
DATA powers<>+24(SB)/8, $0x001b001b001b001b
GLOBL powers<>(SB), RODATA, $32


// func expand8AVX2(dst *[256]float32, grid *[8]float32, from *groups)
TEXT ·expand8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ grid+8(FP), SI
	MOVQ from+16(FP), BX
	VMOVDQU toTop<>(SB), Y3
	VPCMPEQD Y4, Y4, Y4
	VPSLLD $31, Y4, Y4
	XORQ DX, DX
group:
	MOVWLZX (BX)(DX*2), AX
	SHLQ $5, AX
	VBROADCASTSS 256(BX)(DX*4), Y0
	VPBROADCASTD 128(BX)(DX*4), Y1
	VMULPS (SI)(AX*1), Y0, Y0
	VPSLLVD Y3, Y1, Y1
	VPAND Y4, Y1, Y1
	VXORPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	INCQ DX
	CMPQ DX, $32
	JB group
	VZEROUPPER
	RET

// func expand44AVX2(dst *[256]float32, grid *[4]float32, from *groups)
TEXT ·expand44AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ grid+8(FP), SI
	MOVQ from+16(FP), BX
	VMOVDQU toTop<>(SB), Y3
	VPCMPEQD Y4, Y4, Y4
	VPSLLD $31, Y4, Y4
	XORQ DX, DX
group:
	MOVWLZX (BX)(DX*4), AX
	MOVWLZX 2(BX)(DX*4), CX
	SHLQ $4, AX
	SHLQ $4, CX
	VMOVUPS (SI)(AX*1), X2
	VINSERTF128 $1, (SI)(CX*1), Y2, Y2
	VBROADCASTSS 256(BX)(DX*4), Y0
	VPBROADCASTD 128(BX)(DX*4), Y1
	VMULPS Y2, Y0, Y0
	VPSLLVD Y3, Y1, Y1
	VPAND Y4, Y1, Y1
	VXORPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	INCQ DX
	CMPQ DX, $32
	JB group
	VZEROUPPER
	RET

// func expandShiftedAVX2(dst *[256]float32, grid *[8]float32, from *groups)
TEXT ·expandShiftedAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ grid+8(FP), SI
	MOVQ from+16(FP), BX
	XORQ DX, DX
group:
	MOVWLZX (BX)(DX*2), AX
	SHLQ $5, AX
	VBROADCASTSS 256(BX)(DX*4), Y0
	VBROADCASTSS 384(BX)(DX*4), Y1
	VADDPS (SI)(AX*1), Y1, Y1
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	INCQ DX
	CMPQ DX, $32
	JB group
	VZEROUPPER
	RET

// DIGITS writes sixteen weights of the words in from, fractions of 256 whose
// first ternary digit counts, at off(DI).
#define DIGITS(from, off) \
	VPAND Y8, from, Y1        \
	VPADDW Y1, Y1, Y2         \
	VPADDW Y1, Y2, Y1         \
	VPSRLW $8, Y1, Y1         \
	VPSUBW Y9, Y1, Y1         \
	VPMOVSXWD X1, Y2          \
	VEXTRACTI128 $1, Y1, X1   \
	VPMOVSXWD X1, Y1          \
	VCVTDQ2PS Y2, Y2          \
	VCVTDQ2PS Y1, Y1          \
	VMULPS Y0, Y2, Y2         \
	VMULPS Y0, Y1, Y1         \
	VMOVUPS Y2, off(DI)       \
	VMOVUPS Y1, (off+32)(DI)

// TRIPLE goes on to the next digit.
#define TRIPLE(words) \
	VPADDW words, words, Y3 \
	VPADDW words, Y3, words

// func expandTQ1AVX2(dst *[256]float32, src *[54]byte, d float32)
TEXT ·expandTQ1AVX2(SB), NOSPLIT, $0-20
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	VBROADCASTSS d+16(FP), Y0
	VPCMPEQW Y9, Y9, Y9
	VPSRLW $8, Y9, Y8        // 255
	VPSRLW $15, Y9, Y9       // 1
	VPMOVZXBW (SI), Y4
	VPMOVZXBW 16(SI), Y5
	DIGITS(Y4, 0)
	DIGITS(Y5, 64)
	TRIPLE(Y4)
	TRIPLE(Y5)
	DIGITS(Y4, 128)
	DIGITS(Y5, 192)
	TRIPLE(Y4)
	TRIPLE(Y5)
	DIGITS(Y4, 256)
	DIGITS(Y5, 320)
	TRIPLE(Y4)
	TRIPLE(Y5)
	DIGITS(Y4, 384)
	DIGITS(Y5, 448)
	TRIPLE(Y4)
	TRIPLE(Y5)
	DIGITS(Y4, 512)
	DIGITS(Y5, 576)
	VPMOVZXBW 32(SI), Y4
	DIGITS(Y4, 640)
	TRIPLE(Y4)
	DIGITS(Y4, 704)
	TRIPLE(Y4)
	DIGITS(Y4, 768)
	TRIPLE(Y4)
	DIGITS(Y4, 832)
	TRIPLE(Y4)
	DIGITS(Y4, 896)
	VPBROADCASTD 48(SI), X4
	VPMOVZXBW X4, Y4
	VPMULLW powers<>(SB), Y4, Y4
	DIGITS(Y4, 960)
	VZEROUPPER
	RET

// PAIRS writes eight weights of the lowest two bits of Y4 at off(DI), and goes
// on to the next two bits.
#define PAIRS(off) \
	VPAND Y8, Y4, Y1   \
	VPSRLD $2, Y4, Y4  \
	VPSUBD Y9, Y1, Y1  \
	VCVTDQ2PS Y1, Y1   \
	VMULPS Y0, Y1, Y1  \
	VMOVUPS Y1, off(DI)

// func expandTQ2AVX2(dst *[256]float32, src *[66]byte, d float32)
TEXT ·expandTQ2AVX2(SB), NOSPLIT, $0-20
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	VBROADCASTSS d+16(FP), Y0
	VPCMPEQD Y9, Y9, Y9
	VPSRLD $30, Y9, Y8       // 3
	VPSRLD $31, Y9, Y9       // 1
	MOVQ $2, BX
half:
	MOVQ $4, CX
eight:
	VPMOVZXBD (SI), Y4
	PAIRS(0)
	PAIRS(128)
	PAIRS(256)
	PAIRS(384)
	ADDQ $8, SI
	ADDQ $32, DI
	DECQ CX
	JNZ eight
	ADDQ $384, DI
	DECQ BX
	JNZ half
	VZEROUPPER
	RET
