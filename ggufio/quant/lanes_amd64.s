//go:build !purego

#include "textflag.h"

// The arithmetic of lanes.go on eight floats at once. Operations and their
// order are the same, lane by lane; products are not fused into sums.

// func distancesAVX2(dst, x, w, s *lanes, levels *float32, dims, n int)
TEXT ·distancesAVX2(SB), NOSPLIT, $0-56
	MOVQ dst+0(FP), DI
	MOVQ s+24(FP), R8
	MOVQ levels+32(FP), R9
	MOVQ n+48(FP), R10
	VMOVUPS (R8), Y0
	MOVQ R10, R11
	SHLQ $5, R11             // bytes from one weight's costs to the next's
level:
	VBROADCASTSS (R9), Y1
	VMULPS Y0, Y1, Y1
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), BX
	MOVQ dims+40(FP), CX
	MOVQ DI, DX
weight:
	VMOVUPS (SI), Y2
	VSUBPS Y1, Y2, Y2        // x − s level
	VMULPS Y2, Y2, Y2
	VMULPS (BX), Y2, Y2
	VMOVUPS Y2, (DX)
	ADDQ $32, SI
	ADDQ $32, BX
	ADDQ R11, DX
	DECQ CX
	JNZ weight
	ADDQ $4, R9
	ADDQ $32, DI
	DECQ R10
	JNZ level
	VZEROUPPER
	RET

// func sumsAVX2(dst, p, q *lanes, np, nq int)
TEXT ·sumsAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ q+16(FP), DX
	MOVQ nq+32(FP), BX
row:
	VMOVUPS (DX), Y0
	MOVQ p+8(FP), SI
	MOVQ np+24(FP), CX
sum:
	VADDPS (SI), Y0, Y1
	VMOVUPS Y1, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	DECQ CX
	JNZ sum
	ADDQ $32, DX
	DECQ BX
	JNZ row
	VZEROUPPER
	RET

// func scanAVX2(best *lanes, rank *[8]int32, lo, hi *lanes, list *uint16, n int)
TEXT ·scanAVX2(SB), NOSPLIT, $0-48
	MOVQ best+0(FP), AX
	MOVQ rank+8(FP), BX
	MOVQ lo+16(FP), SI
	MOVQ hi+24(FP), DI
	MOVQ list+32(FP), R8
	MOVQ n+40(FP), R9
	LEAQ (R8)(R9*2), R9
	VMOVUPS (AX), Y0         // lowest cost
	VPXOR Y1, Y1, Y1         // its rank
	VPXOR Y2, Y2, Y2         // this rank
	VPCMPEQD Y3, Y3, Y3      // −1
first:
	MOVWLZX (R8), DX
	MOVWLZX 2(R8), CX
	MOVWLZX 4(R8), R10
	MOVWLZX 6(R8), R11
	MOVWLZX 8(R8), R12
	MOVWLZX 10(R8), R13
	VMOVUPS (DI)(R10*1), Y4
	VMOVUPS (DI)(R11*1), Y5
	VMOVUPS (DI)(R12*1), Y6
	VMOVUPS (DI)(R13*1), Y7
	ADDQ $12, R8
	SUBQ $4, CX
	JZ lowest
second:
	MOVWLZX (R8), R10
	MOVWLZX 2(R8), R11
	MOVWLZX 4(R8), R12
	MOVWLZX 6(R8), R13
	VMINPS (DI)(R10*1), Y4, Y4
	VMINPS (DI)(R11*1), Y5, Y5
	VMINPS (DI)(R12*1), Y6, Y6
	VMINPS (DI)(R13*1), Y7, Y7
	ADDQ $8, R8
	SUBQ $4, CX
	JNZ second
lowest:
	VMINPS Y5, Y4, Y4
	VMINPS Y7, Y6, Y6
	VMINPS Y6, Y4, Y4
	VADDPS (SI)(DX*1), Y4, Y4
	VCMPPS $1, Y0, Y4, Y5    // less
	VMINPS Y0, Y4, Y0
	VBLENDVPS Y5, Y2, Y1, Y1
	VPSUBD Y3, Y2, Y2
	CMPQ R8, R9
	JB first
	VMOVUPS Y0, (AX)
	VMOVUPS Y1, (BX)
	VZEROUPPER
	RET
