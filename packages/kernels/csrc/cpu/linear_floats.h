// Products with weights of float32, float16 and bfloat16, summed in float32.
#pragma once

#include "linear_tile.h"

namespace quire {
namespace QUIRE_ISA {
namespace products {

// One input at a time; x is float32.
template <class T>
struct Plain : Usual {
  using X = float;
  static constexpr int ROWS = P == 1 ? 6 : 4, BLOCKS = P == 1 ? 4 : 1, FEW = 0;

  static int64_t length(const QuireLinear& op) { return op.k; }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 16 * sizeof(T); }
  static int64_t x_offset(int64_t k, const QuireLinear&) { return k; }
  static Prepared prepare(const Share& share, const QuireLinear& op, char*) {
    return converted<float>(share, op, QUIRE_F32, op.k);
  }

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int V = B * P;
    vf sums[M][V];
    begin_sums(sums, tile);
    const X* x = static_cast<const X*>(tile.x);
    for (int64_t k = 0; k < tile.k; ++k) {
      tile.ahead.fetch(k * 16 * sizeof(T));
      vf weights[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v)
        weights[v] = load(reinterpret_cast<const T*>(tile.weight + v / P * tile.block_bytes) + k * 16 + v % P * W);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const vf row = all(x[m * tile.x_stride + k]);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sums[m][v] = fma(row, weights[v], sums[m][v]);
      }
    }
    end_sums(sums, tile);
  }
};

// Two inputs at a time, side by side in a lane.
struct Bf16 : Usual {
  using X = bf16;
  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind, op.group); }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 32; }
  static int64_t x_offset(int64_t k, const QuireLinear&) { return k; }
  static Prepared prepare(const Share& share, const QuireLinear& op, char*) {
    return converted<bf16>(share, op, QUIRE_BF16, length(op));
  }
  static inline int32_t pair(const X* x) {
    int32_t both;
    memcpy(&both, x, sizeof both);
    return both;
  }

#if defined(__AVX512BF16__)
  static constexpr int ROWS = 6, BLOCKS = 4, FEW = 0;

  template <int M, int B>
  static void tile(const Tile& tile) {
    vf sums[M][B];
    begin_sums(sums, tile);
    const X* x = static_cast<const X*>(tile.x);
    for (int64_t k = 0; k < tile.k; k += 2) {
      tile.ahead.fetch(k * 32);
      if (M > 3) tile.fetch_near<B>(k * 32);
      __m512bh weights[B];
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) weights[b] = (__m512bh)_mm512_load_si512(tile.weight + b * tile.block_bytes + k * 32);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const __m512bh row = (__m512bh)_mm512_set1_epi32(pair(x + m * tile.x_stride + k));
#pragma GCC unroll 16
        for (int b = 0; b < B; ++b) sums[m][b] = _mm512_dpbf16_ps(sums[m][b], row, weights[b]);
      }
    }
    end_sums(sums, tile);
  }
#else
  static constexpr int ROWS = 4, BLOCKS = P == 1 ? 4 : 1, FEW = 0;

  // A bf16 is the upper half of a float, so the second of a pair needs no more than the first one gone.
#if defined(__AVX512F__)
  using Word = __m512i;
  static inline Word words(const char* p) { return _mm512_load_si512(p); }
  static inline Word words(int32_t pair) { return _mm512_set1_epi32(pair); }
  static inline vf first_of(Word pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
  static inline vf second_of(Word pair) {
    return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))));
  }
#else
  using Word = __m256i;
  static inline Word words(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static inline Word words(int32_t pair) { return _mm256_set1_epi32(pair); }
  static inline vf first_of(Word pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); }
  static inline vf second_of(Word pair) {
    return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000))));
  }
#endif

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int V = B * P;
    vf sums[M][V];
    begin_sums(sums, tile);
    const X* x = static_cast<const X*>(tile.x);
    for (int64_t k = 0; k < tile.k; k += 2) {
      tile.ahead.fetch(k * 32);
      Word weights[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) weights[v] = words(tile.weight + v / P * tile.block_bytes + k * 32 + v % P * W * 4);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Word row = words(pair(x + m * tile.x_stride + k));
        const vf first = first_of(row), second = second_of(row);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          sums[m][v] = fma(first, first_of(weights[v]), sums[m][v]);
          sums[m][v] = fma(second, second_of(weights[v]), sums[m][v]);
        }
      }
    }
    end_sums(sums, tile);
  }
#endif
};

}  // namespace products
}  // namespace QUIRE_ISA
}  // namespace quire
