// Packs a weight for `linear`: the layouts of QuireKind, and the rounding of int8 and int4.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace quire {
namespace QUIRE_ISA {
namespace packing {

// The row of the weight that column `column` of a block holds, or -1 where the block is longer than the weight. With a
// gate, blocks of gate and of up take turns.
static inline int64_t row_of(const QuirePackLinear& op, int64_t block, int64_t column) {
  const bool gated = op.gate != QUIRE_UNGATED;
  const int64_t row = (gated ? block / 2 : block) * 16 + column;
  return row >= op.n ? -1 : gated && block % 2 == 1 ? op.n + row : row;
}

template <class T>
static inline float element(const QuirePackLinear& op, int64_t row, int64_t k) {
  return row < 0 || k >= op.k ? 0.0f : to_float(static_cast<const T*>(op.weight)[row * op.weight_stride + k]);
}

static inline int8_t rounded(float x, float low, float high) {
  x = nearbyintf(x);
  return static_cast<int8_t>(x < low ? low : x > high ? high : x);
}

// Words of 16 or 32 bits as they are, `together` of a column side by side.
template <class T>
static void copy_block(const QuirePackLinear& op, int64_t block, char* packed, int64_t together) {
  const int64_t padded = quire_padded(op.k, op.kind, op.group);
  T* out = reinterpret_cast<T*>(packed);
  for (int64_t column = 0; column < 16; ++column) {
    const int64_t row = row_of(op, block, column);
    const T* in = static_cast<const T*>(op.weight) + row * op.weight_stride;
    for (int64_t k = 0; k < padded; ++k)
      out[(k / together * 16 + column) * together + k % together] = row < 0 || k >= op.k ? T{} : in[k];
  }
}

// Symmetric: the largest magnitude of a row is 127.
template <class T>
static void int8_block(const QuirePackLinear& op, int64_t block, char* packed) {
  const int64_t padded = quire_padded(op.k, op.kind, op.group);
  for (int64_t column = 0; column < 16; ++column) {
    const int64_t row = row_of(op, block, column);
    float largest = 0.0f;
    for (int64_t k = 0; k < op.k; ++k) largest = fmaxf(largest, fabsf(element<T>(op, row, k)));
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    op.scales[block * 16 + column] = largest / 127.0f;
    for (int64_t k = 0; k < padded; ++k)
      packed[(k / 4 * 16 + column) * 4 + k % 4] = rounded(element<T>(op, row, k) * inverse, -127.0f, 127.0f);
  }
}

// The element of largest magnitude of a group becomes -8, whichever sign it has: all 16 steps are used.
template <class T>
static void int4_block(const QuirePackLinear& op, int64_t block, char* packed) {
  const int64_t groups = quire_padded(op.k, op.kind, op.group) / op.group;
  for (int64_t group = 0; group < groups; ++group) {
    char* record = packed + group / 2 * quire_int4_record(op.group);
    char* scales = record + group % 2 * 32;
    char* halves = record + 64 + group % 2 * op.group * 8;
    for (int64_t column = 0; column < 16; ++column) {
      const int64_t row = row_of(op, block, column);
      float peak = 0.0f;
      for (int64_t k = group * op.group; k < (group + 1) * op.group; ++k) {
        const float value = element<T>(op, row, k);
        if (fabsf(value) > fabsf(peak)) peak = value;
      }
      bf16 scale[W];
      store(scale, all(peak / -8.0f));
      memcpy(scales + column * 2, scale, sizeof(bf16));
      const float step = to_float(scale[0]);
      const float inverse = step != 0.0f ? 1.0f / step : 0.0f;
      for (int64_t i = 0; i < op.group; i += 8)
        for (int64_t j = 0; j < 4; ++j) {
          const int low = rounded(element<T>(op, row, group * op.group + i + j) * inverse, -8.0f, 7.0f);
          const int high = rounded(element<T>(op, row, group * op.group + i + 4 + j) * inverse, -8.0f, 7.0f);
          halves[(i / 8 * 16 + column) * 4 + j] = static_cast<char>((high + 8) * 16 + low + 8);
        }
    }
  }
}

template <class T>
static void pack_block(const QuirePackLinear& op, int64_t block, char* packed) {
  if (op.kind == QUIRE_KIND_INT8) return int8_block<T>(op, block, packed);
  if (op.kind == QUIRE_KIND_INT4) return int4_block<T>(op, block, packed);
  copy_block<T>(op, block, packed, op.kind == QUIRE_KIND_BF16 ? 2 : 1);
}

}  // namespace packing

static void pack_linear(const Share& share, const QuirePackLinear& op) {
  const Range blocks = share.of(quire_blocks(op.n, op.gate));
  const int64_t bytes = quire_block_bytes(op.k, op.kind, op.group);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    char* packed = static_cast<char*>(op.packed) + block * bytes;
    if (op.weight_type == QUIRE_F32) packing::pack_block<float>(op, block, packed);
    if (op.weight_type == QUIRE_BF16) packing::pack_block<bf16>(op, block, packed);
    if (op.weight_type == QUIRE_F16) packing::pack_block<f16>(op, block, packed);
  }
}

}  // namespace QUIRE_ISA
}  // namespace quire
