//go:build !purego

#include "textflag.h"

// Levels 2l+1, by the low three bits of a word. Of two-bit levels the third is the
// next level's, so theirs repeat.
DATA stand8<>+0(SB)/4, $0x3f800000
DATA stand8<>+4(SB)/4, $0x40400000
DATA stand8<>+8(SB)/4, $0x40a00000
DATA stand8<>+12(SB)/4, $0x40e00000
DATA stand8<>+16(SB)/4, $0x3f800000
DATA stand8<>+20(SB)/4, $0x40400000
DATA stand8<>+24(SB)/4, $0x40a00000
DATA stand8<>+28(SB)/4, $0x40e00000
GLOBL stand8<>(SB), RODATA|NOPTR, $32

DATA stand4<>+0(SB)/4, $0x3f800000
DATA stand4<>+4(SB)/4, $0x40400000
DATA stand4<>+8(SB)/4, $0x40a00000
DATA stand4<>+12(SB)/4, $0x40e00000
DATA stand4<>+16(SB)/4, $0x41100000
DATA stand4<>+20(SB)/4, $0x41300000
DATA stand4<>+24(SB)/4, $0x41500000
DATA stand4<>+28(SB)/4, $0x41700000
GLOBL stand4<>(SB), RODATA|NOPTR, $32

// What a level counts in the number of a list.
DATA power8<>+0(SB)/4, $0x3f800000
DATA power8<>+4(SB)/4, $0x40400000
DATA power8<>+8(SB)/4, $0x41100000
DATA power8<>+12(SB)/4, $0x41d80000
DATA power8<>+16(SB)/4, $0x42a20000
DATA power8<>+20(SB)/4, $0x43730000
DATA power8<>+24(SB)/4, $0x44364000
DATA power8<>+28(SB)/4, $0x4508b000
GLOBL power8<>(SB), RODATA|NOPTR, $32

DATA power4<>+0(SB)/4, $0x3f800000
DATA power4<>+4(SB)/4, $0x41000000
DATA power4<>+8(SB)/4, $0x42800000
DATA power4<>+12(SB)/4, $0x44000000
DATA power4<>+16(SB)/4, $0x3f800000
DATA power4<>+20(SB)/4, $0x41000000
DATA power4<>+24(SB)/4, $0x42800000
DATA power4<>+28(SB)/4, $0x44000000
GLOBL power4<>(SB), RODATA|NOPTR, $32

// Where a weight's level is in a word.
DATA shift8<>+0(SB)/4, $0x00000000
DATA shift8<>+4(SB)/4, $0x00000002
DATA shift8<>+8(SB)/4, $0x00000004
DATA shift8<>+12(SB)/4, $0x00000006
DATA shift8<>+16(SB)/4, $0x00000008
DATA shift8<>+20(SB)/4, $0x0000000a
DATA shift8<>+24(SB)/4, $0x0000000c
DATA shift8<>+28(SB)/4, $0x0000000e
GLOBL shift8<>(SB), RODATA|NOPTR, $32

DATA shift4<>+0(SB)/4, $0x00000000
DATA shift4<>+4(SB)/4, $0x00000003
DATA shift4<>+8(SB)/4, $0x00000006
DATA shift4<>+12(SB)/4, $0x00000009
DATA shift4<>+16(SB)/4, $0x00000000
DATA shift4<>+20(SB)/4, $0x00000003
DATA shift4<>+24(SB)/4, $0x00000006
DATA shift4<>+28(SB)/4, $0x00000009
GLOBL shift4<>(SB), RODATA|NOPTR, $32

DATA shellConsts<>+0(SB)/4, $0x3f800000
DATA shellConsts<>+4(SB)/4, $0x3f000000
DATA shellConsts<>+8(SB)/4, $0x4b400000
DATA shellConsts<>+12(SB)/4, $0x40000000
DATA shellConsts<>+16(SB)/4, $0x40e00000
DATA shellConsts<>+20(SB)/4, $0x00000003
DATA shellConsts<>+24(SB)/4, $0x00000007
DATA shellConsts<>+28(SB)/4, $0x00000001
GLOBL shellConsts<>(SB), RODATA|NOPTR, $32

// ROUND leaves the numbers of the lists of an octet's groups, as floats: one in
// X8, and with four weights to a group, the second in the upper half.
#define ROUND(highest, power) \
	VMULPS (DI), Y15, Y8                             \
	VBROADCASTSS shellConsts<>+0(SB), Y9             \
	VSUBPS Y9, Y8, Y8                                \
	VBROADCASTSS shellConsts<>+4(SB), Y9             \
	VMULPS Y9, Y8, Y8                                \
	VBROADCASTSS shellConsts<>+8(SB), Y9             \
	VADDPS Y9, Y8, Y8                                \
	VSUBPS Y9, Y8, Y8                                \
	VXORPS Y9, Y9, Y9                                \
	VMAXPS Y9, Y8, Y8                                \
	VBROADCASTSS shellConsts<>+highest(SB), Y9       \
	VMINPS Y9, Y8, Y8                                \
	VMULPS power<>(SB), Y8, Y8                       \
	VHADDPS Y8, Y8, Y8                               \
	VHADDPS Y8, Y8, Y8

// LIST takes the list whose number is in AX: its first batch to AX, its batches
// to BX.
#define LIST \
	MOVL (SI)(AX*4), AX  \
	MOVL AX, (R9)        \
	ADDQ $4, R9          \
	MOVL AX, BX          \
	ANDL $0x7f, BX       \
	SHRL $8, AX          \
	SHLQ $4, AX          \
	ADDQ DX, AX

// COSTS is what each level of the weight at an offset costs.
#define COSTS(at, cost) \
	VBROADCASTSS (at)(DI), Y9        \
	VSUBPS Y9, Y14, Y9               \
	VMULPS Y9, Y9, Y9                \
	VBROADCASTSS (256+at)(DI), Y10   \
	VMULPS Y10, Y9, cost

#define MORE(bits, cost) \
	VPSRLD $bits, Y8, Y10    \
	VPERMPS cost, Y10, Y10   \
	VADDPS Y10, Y9, Y9

// BATCH8 leaves the words of a batch in Y8, their costs in Y9.
#define BATCH8 \
	VPMOVZXWD (AX), Y8   \
	VPERMPS Y0, Y8, Y9   \
	MORE(2, Y1)          \
	MORE(4, Y2)          \
	MORE(6, Y3)          \
	MORE(8, Y4)          \
	MORE(10, Y5)         \
	MORE(12, Y6)         \
	MORE(14, Y7)

#define BATCH4 \
	VPMOVZXWD (AX), Y8   \
	VPERMPS Y0, Y8, Y9   \
	MORE(3, Y1)          \
	MORE(6, Y2)          \
	MORE(9, Y3)

#define FIRST \
	VMOVAPS Y9, Y12   \
	VMOVAPS Y8, Y13

#define LOWER \
	VCMPPS $1, Y12, Y9, Y10          \
	VBLENDVPS Y10, Y9, Y12, Y12      \
	VBLENDVPS Y10, Y8, Y13, Y13

// WORD leaves the cheapest word in X13 and AX.
#define WORD \
	VEXTRACTF128 $1, Y12, X9     \
	VMINPS X9, X12, X9           \
	VPERMILPS $0x4e, X9, X10     \
	VMINPS X10, X9, X9           \
	VPERMILPS $0xb1, X9, X10     \
	VMINPS X10, X9, X9           \
	VBROADCASTSS X9, Y9          \
	VCMPPS $0, Y9, Y12, Y10      \
	VMOVMSKPS Y10, AX            \
	BSFL AX, AX                  \
	VMOVD AX, X10                \
	VPERMD Y13, Y10, Y13         \
	VMOVD X13, AX                \
	MOVW AX, (R8)                \
	ADDQ $2, R8

// SUMS adds an octet, whose words are in the lanes of Y8, to the sums.
#define SUMS(shift, mask) \
	VPSRLVD shift<>(SB), Y8, Y8                      \
	VPBROADCASTD shellConsts<>+mask(SB), Y9          \
	VPAND Y9, Y8, Y8                                 \
	VPADDD Y8, Y8, Y8                                \
	VPBROADCASTD shellConsts<>+28(SB), Y9            \
	VPADDD Y9, Y8, Y8                                \
	VCVTDQ2PS Y8, Y8                                 \
	VMULPS 128(DI), Y8, Y9                           \
	VMULPS (DI), Y9, Y10                             \
	VADDPS 432(R10), Y10, Y10                        \
	VMOVUPS Y10, 432(R10)                            \
	VMULPS Y8, Y9, Y9                                \
	VADDPS 464(R10), Y9, Y9                          \
	VMOVUPS Y9, 464(R10)

#define SETUP(stand) \
	MOVQ s+0(FP), DI                    \
	MOVQ entry+8(FP), SI                \
	MOVQ words+16(FP), DX               \
	MOVQ n+24(FP), CX                   \
	MOVQ DI, R10                        \
	LEAQ 384(DI), R8                    \
	LEAQ 400(DI), R9                    \
	VBROADCASTSS inverse+32(FP), Y15    \
	VBROADCASTSS scale+36(FP), Y14      \
	VMULPS stand<>(SB), Y14, Y14        \
	VXORPS Y9, Y9, Y9                   \
	VMOVUPS Y9, 432(DI)                 \
	VMOVUPS Y9, 464(DI)

// func search8AVX2(s *shellSearch, entry *uint32, words *uint16, n int, inverse, scale float32)
TEXT ·search8AVX2(SB), NOSPLIT, $0-40
	SETUP(stand8)

octet8:
	ROUND(12, power8)
	VEXTRACTF128 $1, Y8, X9
	VADDSS X9, X8, X8
	VCVTTSS2SI X8, AX
	LIST
	COSTS(0, Y0)
	COSTS(4, Y1)
	COSTS(8, Y2)
	COSTS(12, Y3)
	COSTS(16, Y4)
	COSTS(20, Y5)
	COSTS(24, Y6)
	COSTS(28, Y7)
	BATCH8
	FIRST
	DECL BX
	JZ   found8

batch8:
	ADDQ $16, AX
	BATCH8
	LOWER
	DECL BX
	JNZ  batch8

found8:
	WORD
	VPBROADCASTD X13, Y8
	SUMS(shift8, 20)
	ADDQ $32, DI
	DECQ CX
	JNZ  octet8
	VZEROUPPER
	RET

// func search4AVX2(s *shellSearch, entry *uint32, words *uint16, n int, inverse, scale float32)
TEXT ·search4AVX2(SB), NOSPLIT, $0-40
	SETUP(stand4)

octet4:
	ROUND(16, power4)
	VCVTTSS2SI X8, AX
	VEXTRACTF128 $1, Y8, X8
	VCVTTSS2SI X8, R11
	LIST
	COSTS(0, Y0)
	COSTS(4, Y1)
	COSTS(8, Y2)
	COSTS(12, Y3)
	BATCH4
	FIRST
	DECL BX
	JZ   found4

batch4:
	ADDQ $16, AX
	BATCH4
	LOWER
	DECL BX
	JNZ  batch4

found4:
	WORD
	VPBROADCASTD X13, Y11
	MOVL R11, AX
	LIST
	COSTS(16, Y0)
	COSTS(20, Y1)
	COSTS(24, Y2)
	COSTS(28, Y3)
	BATCH4
	FIRST
	DECL BX
	JZ   foundSecond4

batchSecond4:
	ADDQ $16, AX
	BATCH4
	LOWER
	DECL BX
	JNZ  batchSecond4

foundSecond4:
	WORD
	VPBROADCASTD X13, X8
	VINSERTI128 $1, X8, Y11, Y8
	SUMS(shift4, 24)
	ADDQ $32, DI
	DECQ CX
	JNZ  octet4
	VZEROUPPER
	RET
