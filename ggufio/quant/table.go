package quant

// A Type is a tensor type by its number in a GGUF file.
type Type uint32

// GGML's types as of llama.cpp v0.5.0. The gaps (4, 5, 31 to 33, 36 to 38) are
// numbers that GGML once used and now refuses.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// ik_llama.cpp's own types. Names ending in _R4, _R8 or _R16 interleave that
// many rows. Numbers 31 to 33 and 36 are left out: GGML gave them to other
// types, and nothing in a file tells which is meant.
const (
	Q8_2_X4    Type = 97
	Q8_0_X4    Type = 98
	Q8_1_X4    Type = 99
	Q6_0       Type = 133
	IQ1_BN     Type = 134
	IQ2_BN     Type = 135
	Q8_K64     Type = 136
	IQ2_K      Type = 137
	IQ3_K      Type = 138
	IQ4_K      Type = 139
	IQ5_K      Type = 140
	IQ6_K      Type = 141
	IQ4_KS     Type = 144
	IQ2_KS     Type = 145
	IQ4_KSS    Type = 146
	Q8_K16     Type = 147
	Q8_K32     Type = 148
	Q8_KR8     Type = 149
	Q8_K128    Type = 150
	Q8_KV      Type = 151
	IQ5_KS     Type = 152
	IQ2_KT     Type = 153
	IQ3_KT     Type = 154
	IQ4_KT     Type = 155
	IQ3_KS     Type = 156
	IQ2_KL     Type = 157
	IQ1_KT     Type = 158
	Q4_0_R8    Type = 202
	Q5_0_R4    Type = 206
	Q8_0_R8    Type = 208
	Q2_K_R4    Type = 210
	Q3_K_R4    Type = 211
	Q4_K_R4    Type = 212
	Q5_K_R4    Type = 213
	Q6_K_R4    Type = 214
	IQ2_XXS_R4 Type = 216
	IQ2_XS_R4  Type = 217
	IQ3_XXS_R4 Type = 218
	IQ1_S_R4   Type = 219
	IQ4_NL_R4  Type = 220
	IQ3_S_R4   Type = 221
	IQ2_S_R4   Type = 222
	IQ4_XS_R8  Type = 223
	IQ1_M_R4   Type = 229
	BF16_R16   Type = 230
	Q6_0_R4    Type = 233
	IQ2_BN_R4  Type = 335
	IQ2_K_R4   Type = 337
	IQ3_K_R4   Type = 338
	IQ4_K_R4   Type = 339
	IQ5_K_R4   Type = 340
	IQ4_KS_R4  Type = 344
	IQ5_KS_R4  Type = 352
	Q8_K_R16   Type = 397
	Q8_KV_R8   Type = 398
	Q8_K_R8    Type = 399
)

// Words of the table below.
const (
	written = true  // llama-quantize writes it
	never   = false // activations, indices: only the engine itself makes it
	imatrix = true
	free    = false // of an importance matrix
)

// formats is the type table; everything about types is derived from it. Sizes
// are those of GGML's block structs; their sums name the fields.
var formats = []Format{
	{F32, "F32", BlockLayout{1, 4, 0}, false, LlamaCpp, written, free, F32, F32},
	{F16, "F16", BlockLayout{1, 2, 0}, false, LlamaCpp, written, free, F16, F16},
	{BF16, "BF16", BlockLayout{1, 2, 0}, false, LlamaCpp, written, free, BF16, BF16},
	{F64, "F64", BlockLayout{1, 8, 0}, false, LlamaCpp, never, free, F64, F64},
	{I8, "I8", BlockLayout{1, 1, 0}, false, LlamaCpp, never, free, I8, I8},
	{I16, "I16", BlockLayout{1, 2, 0}, false, LlamaCpp, never, free, I16, I16},
	{I32, "I32", BlockLayout{1, 4, 0}, false, LlamaCpp, never, free, I32, I32},
	{I64, "I64", BlockLayout{1, 8, 0}, false, LlamaCpp, never, free, I64, I64},
	{Q4_0, "Q4_0", BlockLayout{32, 2 + 16, 0}, true, LlamaCpp, written, free, Q4_0, Q4_0},
	{Q4_1, "Q4_1", BlockLayout{32, 2 + 2 + 16, 0}, true, LlamaCpp, written, free, Q4_1, Q4_1},
	{Q5_0, "Q5_0", BlockLayout{32, 2 + 4 + 16, 0}, true, LlamaCpp, written, free, Q5_0, Q5_0},
	{Q5_1, "Q5_1", BlockLayout{32, 2 + 2 + 4 + 16, 0}, true, LlamaCpp, written, free, Q5_1, Q5_1},
	{Q8_0, "Q8_0", BlockLayout{32, 2 + 32, 0}, true, LlamaCpp, written, free, Q8_0, Q8_0},
	{Q8_1, "Q8_1", BlockLayout{32, 2 + 2 + 32, 0}, true, LlamaCpp, never, free, Q8_1, Q8_1},
	{Q2_K, "Q2_K", BlockLayout{256, 16 + 64 + 2 + 2, 0}, true, LlamaCpp, written, free, Q4_0, IQ4_NL},
	{Q3_K, "Q3_K", BlockLayout{256, 32 + 64 + 12 + 2, 0}, true, LlamaCpp, written, free, Q4_0, IQ4_NL},
	{Q4_K, "Q4_K", BlockLayout{256, 2 + 2 + 12 + 128, 0}, true, LlamaCpp, written, free, Q5_0, Q5_0},
	{Q5_K, "Q5_K", BlockLayout{256, 2 + 2 + 12 + 32 + 128, 0}, true, LlamaCpp, written, free, Q5_1, Q6_0},
	{Q6_K, "Q6_K", BlockLayout{256, 128 + 64 + 16 + 2, 0}, true, LlamaCpp, written, free, Q8_0, Q8_0},
	{Q8_K, "Q8_K", BlockLayout{256, 4 + 256 + 32, 0}, true, LlamaCpp, never, free, Q8_K, Q8_K},
	{IQ1_S, "IQ1_S", BlockLayout{256, 2 + 32 + 16, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ1_M, "IQ1_M", BlockLayout{256, 32 + 16 + 8, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ2_XXS, "IQ2_XXS", BlockLayout{256, 2 + 64, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ2_XS, "IQ2_XS", BlockLayout{256, 2 + 64 + 8, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ2_S, "IQ2_S", BlockLayout{256, 2 + 64 + 8 + 8, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ3_XXS, "IQ3_XXS", BlockLayout{256, 2 + 96, 0}, true, LlamaCpp, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ3_S, "IQ3_S", BlockLayout{256, 2 + 64 + 8 + 32 + 4, 0}, true, LlamaCpp, written, free, IQ4_NL, IQ4_NL},
	{IQ4_NL, "IQ4_NL", BlockLayout{32, 2 + 16, 0}, true, LlamaCpp, written, free, IQ4_NL, IQ4_NL},
	{IQ4_XS, "IQ4_XS", BlockLayout{256, 2 + 2 + 4 + 128, 0}, true, LlamaCpp, written, free, IQ4_NL, IQ4_NL},
	{TQ1_0, "TQ1_0", BlockLayout{256, 48 + 4 + 2, 0}, true, LlamaCpp, written, free, Q4_0, TQ1_0},
	{TQ2_0, "TQ2_0", BlockLayout{256, 64 + 2, 0}, true, LlamaCpp, written, free, Q4_0, TQ2_0},
	{MXFP4, "MXFP4", BlockLayout{32, 1 + 16, 0}, true, LlamaCpp, written, free, MXFP4, MXFP4},
	{NVFP4, "NVFP4", BlockLayout{64, 4 + 32, 0}, true, LlamaCpp, written, free, NVFP4, NVFP4},
	{Q1_0, "Q1_0", BlockLayout{128, 2 + 16, 0}, true, LlamaCpp, written, free, Q1_0, Q1_0},
	{Q2_0, "Q2_0", BlockLayout{64, 2 + 16, 0}, true, LlamaCpp, written, free, Q4_0, Q2_0},

	{Q8_2_X4, "Q8_2_X4", BlockLayout{32, 2 + 2 + 32, 0}, true, IKLlama, never, free, Q8_2_X4, Q8_2_X4},
	{Q8_0_X4, "Q8_0_X4", BlockLayout{32, 2 + 32, 0}, true, IKLlama, never, free, Q8_0_X4, Q8_0_X4},
	{Q8_1_X4, "Q8_1_X4", BlockLayout{32, 2 + 2 + 32, 0}, true, IKLlama, never, free, Q8_1_X4, Q8_1_X4},
	{Q6_0, "Q6_0", BlockLayout{32, 2 + 8 + 16, 0}, true, IKLlama, written, free, Q6_0, Q6_0},
	{IQ1_BN, "IQ1_BN", BlockLayout{64, 12 + 1, 2}, true, IKLlama, written, free, IQ1_BN, IQ1_BN},
	{IQ2_BN, "IQ2_BN", BlockLayout{64, 16, 4}, true, IKLlama, written, free, IQ2_BN, IQ2_BN},
	{Q8_K64, "Q8_K64", BlockLayout{64, 4 + 64, 0}, true, IKLlama, never, free, Q8_K64, Q8_K64},
	{IQ2_K, "IQ2_K", BlockLayout{256, 2 + 2 + 8 + 64, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ3_K, "IQ3_K", BlockLayout{256, 2 + 2 + 2 + 8 + 64 + 32, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ4_K, "IQ4_K", BlockLayout{256, 2 + 2 + 4 + 8 + 128, 0}, true, IKLlama, written, free, Q5_0, Q5_0},
	{IQ5_K, "IQ5_K", BlockLayout{256, 2 + 2 + 4 + 8 + 128 + 32, 0}, true, IKLlama, written, free, Q6_0, Q6_0},
	{IQ6_K, "IQ6_K", BlockLayout{256, 2 + 2 + 16 + 128 + 64, 0}, true, IKLlama, written, free, Q8_0, Q8_0},
	{IQ4_KS, "IQ4_KS", BlockLayout{256, 8 + 128, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ2_KS, "IQ2_KS", BlockLayout{256, 2 + 4 + 64, 2}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ4_KSS, "IQ4_KSS", BlockLayout{256, 128, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{Q8_K16, "Q8_K16", BlockLayout{64, 64, 20}, true, IKLlama, never, free, Q8_K16, Q8_K16},
	{Q8_K32, "Q8_K32", BlockLayout{256, 4 + 256 + 32, 0}, true, IKLlama, never, free, Q8_K32, Q8_K32},
	{Q8_KR8, "Q8_KR8", BlockLayout{256, 4 + 256 + 32, 0}, true, IKLlama, never, free, Q8_KR8, Q8_KR8},
	{Q8_K128, "Q8_K128", BlockLayout{128, 4 + 128, 0}, true, IKLlama, never, free, Q8_K128, Q8_K128},
	{Q8_KV, "Q8_KV", BlockLayout{32, 32, 8}, true, IKLlama, written, free, Q8_KV, Q8_KV},
	{IQ5_KS, "IQ5_KS", BlockLayout{256, 8 + 128 + 32, 4}, true, IKLlama, written, free, Q5_0, Q5_0},
	{IQ2_KT, "IQ2_KT", BlockLayout{256, 4 + 64, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ3_KT, "IQ3_KT", BlockLayout{256, 4 + 64 + 32, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ4_KT, "IQ4_KT", BlockLayout{256, 128, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ3_KS, "IQ3_KS", BlockLayout{256, 2 + 4 + 64 + 32, 2}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ2_KL, "IQ2_KL", BlockLayout{256, 2 + 4 + 64 + 16, 2}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ1_KT, "IQ1_KT", BlockLayout{256, 8 + 32 + 16, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{Q4_0_R8, "Q4_0_R8", BlockLayout{32, 2 + 16, 0}, true, IKLlama, written, free, Q4_0_R8, Q4_0_R8},
	{Q5_0_R4, "Q5_0_R4", BlockLayout{32, 2 + 4 + 16, 0}, true, IKLlama, written, free, Q5_0_R4, Q5_0_R4},
	{Q8_0_R8, "Q8_0_R8", BlockLayout{32, 2 + 32, 0}, true, IKLlama, written, free, Q8_0_R8, Q8_0_R8},
	{Q2_K_R4, "Q2_K_R4", BlockLayout{256, 84, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{Q3_K_R4, "Q3_K_R4", BlockLayout{256, 110, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{Q4_K_R4, "Q4_K_R4", BlockLayout{256, 144, 0}, true, IKLlama, written, free, Q5_0, Q5_0},
	{Q5_K_R4, "Q5_K_R4", BlockLayout{256, 176, 0}, true, IKLlama, written, free, Q6_0, Q6_0},
	{Q6_K_R4, "Q6_K_R4", BlockLayout{256, 210, 0}, true, IKLlama, written, free, Q8_0, Q8_0},
	{IQ2_XXS_R4, "IQ2_XXS_R4", BlockLayout{256, 66, 0}, true, IKLlama, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ2_XS_R4, "IQ2_XS_R4", BlockLayout{256, 74, 0}, true, IKLlama, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ3_XXS_R4, "IQ3_XXS_R4", BlockLayout{256, 98, 0}, true, IKLlama, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ1_S_R4, "IQ1_S_R4", BlockLayout{32, 4 + 2, 2}, true, IKLlama, written, imatrix, IQ1_S_R4, IQ1_S_R4},
	{IQ4_NL_R4, "IQ4_NL_R4", BlockLayout{32, 2 + 16, 0}, true, IKLlama, written, free, IQ4_NL_R4, IQ4_NL_R4},
	{IQ3_S_R4, "IQ3_S_R4", BlockLayout{256, 110, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ2_S_R4, "IQ2_S_R4", BlockLayout{256, 82, 0}, true, IKLlama, written, imatrix, IQ4_NL, IQ4_NL},
	{IQ4_XS_R8, "IQ4_XS_R8", BlockLayout{256, 136, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ1_M_R4, "IQ1_M_R4", BlockLayout{32, 4 + 2 + 1, 2}, true, IKLlama, written, imatrix, IQ1_M_R4, IQ1_M_R4},
	{BF16_R16, "BF16_R16", BlockLayout{1, 2, 0}, false, IKLlama, written, free, BF16_R16, BF16_R16},
	{Q6_0_R4, "Q6_0_R4", BlockLayout{32, 26, 0}, true, IKLlama, written, free, Q6_0_R4, Q6_0_R4},
	{IQ2_BN_R4, "IQ2_BN_R4", BlockLayout{64, 16, 4}, true, IKLlama, written, free, IQ2_BN_R4, IQ2_BN_R4},
	{IQ2_K_R4, "IQ2_K_R4", BlockLayout{256, 76, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ3_K_R4, "IQ3_K_R4", BlockLayout{256, 110, 0}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ4_K_R4, "IQ4_K_R4", BlockLayout{256, 144, 0}, true, IKLlama, written, free, Q5_0, Q5_0},
	{IQ5_K_R4, "IQ5_K_R4", BlockLayout{256, 176, 0}, true, IKLlama, written, free, Q6_0, Q6_0},
	{IQ4_KS_R4, "IQ4_KS_R4", BlockLayout{256, 136, 4}, true, IKLlama, written, free, IQ4_NL, IQ4_NL},
	{IQ5_KS_R4, "IQ5_KS_R4", BlockLayout{256, 168, 4}, true, IKLlama, written, free, Q5_0, Q5_0},
	{Q8_K_R16, "Q8_K_R16", BlockLayout{256, 2 + 256, 0}, true, IKLlama, never, free, Q8_K_R16, Q8_K_R16},
	{Q8_KV_R8, "Q8_KV_R8", BlockLayout{32, 32, 4}, true, IKLlama, written, free, Q8_KV_R8, Q8_KV_R8},
	{Q8_K_R8, "Q8_K_R8", BlockLayout{256, 2 + 256, 0}, true, IKLlama, written, free, Q8_0, Q8_0},
}
