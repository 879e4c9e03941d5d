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
// zeros to a multiple of 32, for int8 of 64, for int4 of two groups. A block is one stretch of memory:
enum QuireKind {
  QUIRE_KIND_F32 = 0,   // [k][16] floats
  QUIRE_KIND_BF16 = 1,  // [k / 2][16][2]: what one bf16 product of pairs reads, and 16 such rows are a tile of AMX
  QUIRE_KIND_F16 = 2,   // [k][16]
  QUIRE_KIND_INT8 = 3,  // [k / 4][16][4], a float32 scale per column
  QUIRE_KIND_INT4 = 4,  // [k / group / 2] of { [2][16] bf16 scales; [2][group / 8][16][4] bytes }: a byte's low half is
                        // of one four along K, its high half of the next four, both plus 8
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
  void* scratch;        // quire_scratch_bytes() of it, aligned to 64; may be null where that is 0
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

static inline int64_t quire_padded(int64_t k, int32_t kind, int32_t group) {
  const int64_t grain = kind == QUIRE_KIND_INT4 ? 2 * group : kind == QUIRE_KIND_INT8 ? 64 : 32;
  return (k + grain - 1) / grain * grain;
}

// Bytes of two groups of int4.
static inline int64_t quire_int4_record(int64_t group) { return 64 + group * 16; }

static inline int64_t quire_block_bytes(int64_t k, int32_t kind, int32_t group) {
  const int64_t padded = quire_padded(k, kind, group);
  if (kind == QUIRE_KIND_F32) return padded * 16 * 4;
  if (kind == QUIRE_KIND_INT8) return padded * 16;
  if (kind == QUIRE_KIND_INT4) return padded / group / 2 * quire_int4_record(group);
  return padded * 16 * 2;
}

// Causal attention of the queries of `spans` packed spans over their own sequences' cached keys and values: the op
// paged_attention of quire_kernels, see there for what each argument means. Rows of q and out from the last start on
// are padding: their out is zero. Where keys and values are bf16 and the processor multiplies pairs of it, queries and
// the softmax's weights are rounded to bf16 too; everywhere else products are of floats.
struct QuirePagedAttention {
  void* out;               // [tokens, q_heads, v_size]
  const void* q;           // [tokens, q_heads, size]
  const void* keys;        // [blocks, block, kv_heads, size], any strides but the last
  const void* values;      // [blocks, block, kv_heads, v_size]
  const int32_t* tables;   // [spans, *], rows `table_stride` apart
  const int32_t* starts;   // [spans + 1]
  const int32_t* lengths;  // [spans]
  const float* sinks;      // [q_heads] or null
  void* scratch;           // of quire_paged_attention_scratch(op, threads) bytes, 64-byte aligned
  int64_t tokens, spans, q_heads, kv_heads, size, v_size, block;
  int64_t q_token, q_head, out_token, out_head;  // strides
  int64_t k_block, k_slot, k_head, v_block, v_slot, v_head, table_stride;
  int64_t longest;  // bound on lengths, for the scratch
  int64_t window;   // 0: none
  float scale, softcap;
  int32_t q_type, kv_type, out_type;
  int32_t invariant;  // a query's answer is the same in every bit however its sequence is cut into spans
};

// Keys and values of `tokens` tokens into their slots of the cache, block * block size + offset; below 0: nowhere.
struct QuireStoreKv {
  void* keys;            // [blocks, block, heads, size]
  void* values;          // [blocks, block, heads, v_size]
  const void* key;       // [tokens, heads, size]
  const void* value;     // [tokens, heads, v_size]
  const int64_t* slots;  // [tokens]
  int64_t tokens, heads, size, v_size, block;
  int64_t key_token, key_head, value_token, value_head;  // strides
  int64_t k_block, k_slot, k_head, v_block, v_slot, v_head;
  int32_t type;  // of all of them
};

// Half-split rotary embedding of q and k in place, after a norm of each head where there is a weight.
struct QuireRotary {
  void* q;             // [tokens, q_heads, size]
  void* k;             // [tokens, k_heads, size]
  const float* cos;    // [tokens, half]
  const float* sin;    // [tokens, half]
  const void* q_weight;  // [size] or null
  const void* k_weight;  // [size] or null
  int64_t tokens, q_heads, k_heads, size, half;
  int64_t q_token, q_head, k_token, k_head, cos_token, sin_token;  // strides
  float eps, offset;
  int32_t type;  // of all but the angles
};

// out = activation(gate) * up, where each row of gate_up is the gate's columns and then as many values.
struct QuireGated {
  void* out;            // [rows, size]
  const void* gate_up;  // [rows, 2 size], rows `stride` apart
  int64_t rows, size, stride;
  int32_t gate;         // a QuireGate, but not QUIRE_UNGATED
  int32_t type;  // of both
};

// Scratch of a product: its rows in the type and the length that the kind of weight wants, where x is not that already.
static inline int64_t quire_scratch_bytes(const struct QuireLinear* op) {
  const int64_t padded = quire_padded(op->k, op->kind, op->group);
  if (op->kind == QUIRE_KIND_INT8) return op->rows * (padded * 2 + 4);
  if (op->kind == QUIRE_KIND_INT4) return op->rows * padded * 2;  // AMX's pairs of bf16; bytes and headers take less
  if (op->kind == QUIRE_KIND_BF16) return op->x_type == QUIRE_BF16 && op->k == padded ? 0 : op->rows * padded * 2;
  return op->x_type == QUIRE_F32 ? 0 : op->rows * op->k * 4;
}

// A token of each row of logits: the op draw of quire_kernels, see there.
struct QuireDraw {
  int64_t* tokens;           // [rows]
  float* best;               // [rows]
  const void* logits;        // [rows, size], rows `stride` apart
  const double* uniform;     // [rows]
  const float* temperature;  // [rows]
  const int64_t* top_k;      // [rows] or null
  const float* top_p;        // [rows] or null
  const float* min_p;        // [rows] or null
  void* scratch;             // of quire_draw_scratch(op, threads) bytes, 64-byte aligned
  int64_t rows, size, stride;
  int32_t type;  // of the logits
};
