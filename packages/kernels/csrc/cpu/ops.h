// What the ops are asked: one struct for each, filled in by Python (quire_kernels/_cpu.py) or by another op here.
// Plain C, and the same for every instruction set. Sizes and strides count elements.
#pragma once

#include <stdint.h>

enum QuireType { QUIRE_F32 = 0, QUIRE_BF16 = 1, QUIRE_F16 = 2 };

// out = x / sqrt(mean(x^2) + eps) * (weight + offset), row by row, computed in float32 and rounded once.
// With a residual: residual += x first, and it is what is normalised.
struct QuireRmsNorm {
  void* out;           // [rows, size]
  const void* x;       // [rows, size], rows `x_stride` apart
  void* residual;      // [rows, size] or null
  const void* weight;  // [size]
  int64_t rows, size, x_stride;
  float eps, offset;
  int32_t type;  // of all of them
};

// How a packed weight is stored. Columns (outputs) stand in blocks of 16, missing ones zero; K (inputs) is padded with
// zeros to a multiple of 32, for the integers of 64. A block is one stretch of memory:
enum QuireKind {
  QUIRE_KIND_F32 = 0,   // [k][16] floats
  QUIRE_KIND_BF16 = 1,  // [k / 2][16][2]: what one bf16 product of pairs reads, and 16 such rows are a tile of AMX
  QUIRE_KIND_F16 = 2,   // [k][16]
  QUIRE_KIND_INT8 = 3,  // [k / 4][16][4], a float32 scale per column
  QUIRE_KIND_INT4 = 4,  // [k / group] of { 16 bf16 scales; [group / 4][16][2] bytes }: a byte's low half is of an even
                        // pair along K, plus 8, its high half of the next pair, signed
};

// out = activation(gate) * up, where the weight has 2 n columns: blocks of gate and of up take turns.
enum QuireGate { QUIRE_UNGATED = 0, QUIRE_SILU = 1, QUIRE_GELU = 2, QUIRE_GELU_TANH = 3 };

// out = x weight^T + bias, summed in float32 along K in an order that depends on nothing but K.
struct QuireLinear {
  void* out;            // [rows, n], rows `out_stride` apart
  const void* x;        // [rows, k], rows `x_stride` apart
  const void* weight;   // packed, aligned to 64 bytes
  const float* scales;  // what packing made of int8; null for other kinds
  const float* bias;    // what packing made of it, or null
  void* scratch;        // quire_linear_scratch() bytes, aligned to 64; may be null where that is 0
  int64_t rows, n, k, x_stride, out_stride;
  int32_t x_type, out_type;
  int32_t kind, group;  // group: inputs that share a scale, 32 or 64; int4 only
  int32_t gate;         // a QuireGate
  int32_t accumulate;   // out += instead of out =
  int32_t invariant;    // a row's result depends on no other row: AMX then takes one path for any number of rows
};

// A weight as `linear` wants it.
struct QuirePackLinear {
  void* packed;        // blocks * quire_block_bytes(), aligned to 64
  float* scales;       // [blocks * 16], int8 only
  const void* weight;  // [n, k], rows `weight_stride` apart; with a gate [2 n, k]: all of gate, then all of up
  int64_t n, k, weight_stride;
  int32_t weight_type, kind, group, gate;
};

static inline int64_t quire_blocks(int64_t n, int32_t gate) { return (n + 15) / 16 * (gate != QUIRE_UNGATED ? 2 : 1); }

static inline int64_t quire_padded(int64_t k, int32_t kind) {
  const int64_t grain = kind >= QUIRE_KIND_INT8 ? 64 : 32;
  return (k + grain - 1) / grain * grain;
}

static inline int64_t quire_block_bytes(int64_t k, int32_t kind, int32_t group) {
  const int64_t padded = quire_padded(k, kind);
  if (kind == QUIRE_KIND_F32) return padded * 16 * 4;
  if (kind == QUIRE_KIND_INT8) return padded * 16;
  if (kind == QUIRE_KIND_INT4) return padded / group * (32 + group * 8);
  return padded * 16 * 2;
}
