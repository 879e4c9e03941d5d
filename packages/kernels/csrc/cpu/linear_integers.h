// Products with weights of int8 and int4: rows are rounded to 15 bits and everything is summed in integers, exactly.
//
// 15 bits of a row's largest element err less than a bf16 does in that element, and an integer weight becomes a word in
// one instruction, where making a bf16 or a float of it takes several. 14 bits and a sign times 8 bits, 1024 of them,
// stay inside 32 bits.
#pragma once

#include "linear_tile.h"

namespace quire {
namespace QUIRE_ISA {
namespace products {

constexpr float LARGEST = 16383.0f;

#if defined(__AVX512F__)
using vi = __m512i;
static inline vi no_integers() { return _mm512_setzero_si512(); }
static inline vi integers(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi add_pairs(vi sum, vi a, vi b) {
#if defined(__AVX512VNNI__)
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));  // GCC 12 copies the sum around the intrinsic
  return sum;
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
static inline vi words(const char* bytes) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
}
static inline vi low_halves(vi words) { return _mm512_and_si512(words, _mm512_set1_epi16(15)); }
static inline vi high_halves(vi words) { return _mm512_srai_epi16(words, 4); }
static inline vi pair_of(const int16_t* x) {
  int32_t both;
  memcpy(&both, x, sizeof both);
  return _mm512_set1_epi32(both);
}
static inline vi four_of(const int16_t* x) {
  long long all_four;
  memcpy(&all_four, x, sizeof all_four);
  return _mm512_set1_epi64(all_four);
}
static inline vf floats(vi a) { return _mm512_cvtepi32_ps(a); }
static inline void store_integers(int32_t* p, vi a) { _mm512_storeu_si512(p, a); }
static inline void store_rounded(int16_t* p, vf a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
}
#else
using vi = __m256i;
static inline vi no_integers() { return _mm256_setzero_si256(); }
static inline vi integers(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi add_pairs(vi sum, vi a, vi b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
static inline vi words(const char* bytes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}
static inline vi low_halves(vi words) { return _mm256_and_si256(words, _mm256_set1_epi16(15)); }
static inline vi high_halves(vi words) { return _mm256_srai_epi16(words, 4); }
static inline vi pair_of(const int16_t* x) {
  int32_t both;
  memcpy(&both, x, sizeof both);
  return _mm256_set1_epi32(both);
}
static inline vi four_of(const int16_t* x) {
  long long all_four;
  memcpy(&all_four, x, sizeof all_four);
  return _mm256_set1_epi64x(all_four);
}
static inline vf floats(vi a) { return _mm256_cvtepi32_ps(a); }
static inline void store_integers(int32_t* p, vi a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
static inline void store_rounded(int16_t* p, vf a) {
  const __m256i words = _mm256_cvtps_epi32(a);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
#endif

// A row's largest magnitude over LARGEST: what an integer is worth. Not finite if any element is not.
template <class T>
static float worth_of_row(const T* x, int64_t k) {
  vf largest_yet = zero(), poison = zero();
  for (int64_t i = 0; i < k; i += W) {
    const vf value = load_first(x + i, k - i);
    largest_yet = max(max(value, zero() - value), largest_yet);
    poison = fma(value, zero(), poison);
  }
  return largest(largest_yet) / LARGEST + sum(poison);
}

// How rounded rows lie: as they are; in groups, each behind two words that hold one integer; or 64 by 64 as their upper
// bytes and then their lower ones.
enum class Words { PLAIN, GROUPED, SPLIT };
constexpr int64_t HEADER = 2;

template <class T>
static void round_row(int16_t* out, const T* x, int64_t k, int64_t length, vf inverse) {
  for (int64_t i = 0; i < length; i += W) store_rounded(out + i, i < k ? load_first(x + i, k - i) * inverse : zero());
}

// Low halves of int4 are stored 8 too large: what that adds up to in a group.
static inline void write_excess(int16_t* header, const int16_t* group, int64_t length) {
  int32_t excess = 0;
  for (int64_t i = 0; i < length; i += 4) excess -= 8 * (group[i] + group[i + 1]);
  memcpy(header, &excess, sizeof excess);
}

static inline void split_bytes(int16_t* words, int64_t length) {
  for (int64_t i = 0; i < length; i += 64) {
    int16_t whole[64];
    memcpy(whole, words + i, sizeof whole);
    char* bytes = reinterpret_cast<char*>(words + i);
    for (int j = 0; j < 64; ++j) {
      bytes[j] = static_cast<char>(whole[j] >> 8);
      bytes[64 + j] = static_cast<char>(whole[j]);
    }
  }
}

template <class T>
static void round_rows(const Share& share, const QuireLinear& op, Prepared to, float* scales, Words how) {
  const int64_t length = quire_padded(op.k, op.kind);
  const Range rows = share.of(op.rows);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const T* x = static_cast<const T*>(op.x) + row * op.x_stride;
    int16_t* out = static_cast<int16_t*>(op.scratch) + row * to.stride;
    const float worth = scales[row] = worth_of_row(x, op.k);
    const vf inverse = all(worth > 0.0f ? 1.0f / worth : 0.0f);
    if (how != Words::GROUPED) round_row(out, x, op.k, length, inverse);
    if (how == Words::SPLIT) split_bytes(out, length);
    if (how == Words::GROUPED)
      for (int64_t k = 0; k < length; k += op.group, out += HEADER + op.group) {
        round_row(out + HEADER, x + k, op.k - k, op.group, inverse);
        write_excess(out, out + HEADER, op.group);
      }
  }
  share.meet();
}

static Prepared rounded(const Share& share, const QuireLinear& op, Words how) {
  const int64_t length = quire_padded(op.k, op.kind);
  const int64_t stride = how == Words::GROUPED ? length / op.group * (HEADER + op.group) : length;
  float* scales = reinterpret_cast<float*>(static_cast<int16_t*>(op.scratch) + op.rows * stride);  // strides are even
  const Prepared to = {op.scratch, stride, scales};
  if (op.x_type == QUIRE_F32) round_rows<float>(share, op, to, scales, how);
  if (op.x_type == QUIRE_BF16) round_rows<bf16>(share, op, to, scales, how);
  if (op.x_type == QUIRE_F16) round_rows<f16>(share, op, to, scales, how);
  return to;
}

// Four inputs at a time. A vector holds two sums of every column of its part of a block, to be added up at the end of
// a chunk.
struct Int8 : Usual {
  using X = int16_t;
  static constexpr int ROWS = P == 1 ? 6 : 2, BLOCKS = P == 1 ? 2 : 1, FEW = P == 1 ? 2 : 0;

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind); }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 16; }
  static int64_t x_offset(int64_t k, const QuireLinear&) { return k; }
  static Prepared prepare(const Share& share, const QuireLinear& op) { return rounded(share, op, Words::PLAIN); }

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int PARTS = 2 * P, V = B * PARTS;
    vi sums[M][V];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[m][v] = no_integers();
    const X* x = static_cast<const X*>(tile.x);
    for (int64_t k = 0; k < tile.k; k += 4) {
      tile.ahead.fetch(k * 16);
      if (M > FEW) tile.fetch_near<B>(k * 16);
      vi weights[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v)
        weights[v] = words(tile.weight + v / PARTS * tile.block_bytes + k * 16 + v % PARTS * W * 2);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const vi row = four_of(x + m * tile.x_stride + k);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sums[m][v] = add_pairs(sums[m][v], row, weights[v]);
      }
    }
    alignas(64) int32_t halves[M][B * 32];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) store_integers(halves[m] + v * W, sums[m][v]);
    for (int m = 0; m < M; ++m) add_halves<B>(tile.sums + m * PANEL_COLUMNS, halves[m], tile.first);
  }

  template <int B>
  static inline void add_halves(float* out, const int32_t* halves, bool first) {
    for (int column = 0; column < B * 16; ++column) {
      const float sum = static_cast<float>(halves[2 * column] + halves[2 * column + 1]);
      out[column] = first ? sum : out[column] + sum;
    }
  }
};

// Four inputs at a time, out of one byte for two of them; a group's sum of integers is weighed with its scale.
struct Int4 : Usual {
  using X = int16_t;
  static constexpr int ROWS = P == 1 ? 6 : 2, BLOCKS = P == 1 ? 2 : 1, FEW = P == 1 ? 2 : 0;

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind); }
  static int64_t offset(int64_t k, const QuireLinear& op) { return k / op.group * (32 + op.group * 8); }
  static int64_t x_offset(int64_t k, const QuireLinear& op) { return k / op.group * (HEADER + op.group); }
  static Prepared prepare(const Share& share, const QuireLinear& op) { return rounded(share, op, Words::GROUPED); }

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int V = B * P;
    vf sums[M][V];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[m][v] = tile.first ? zero() : load(tile.sums + m * PANEL_COLUMNS + v * W);
    const int64_t group = tile.group, bytes = 32 + group * 8;
    const X* x = static_cast<const X*>(tile.x);
    const char* weight = tile.weight;
    for (int64_t k = 0; k < tile.k; k += group, x += HEADER + group, weight += bytes) {
      vi parts[M][V];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        int32_t excess;
        memcpy(&excess, x + m * tile.x_stride, sizeof excess);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) parts[m][v] = integers(excess);
      }
      for (int64_t i = 0; i < group; i += 4) {
        if (i % 8 == 0) tile.ahead.fetch(weight - tile.weight + i * 8);
        vi low[V], high[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          const vi both = words(weight + v / P * tile.block_bytes + 32 + i * 8 + v % P * W * 2);
          low[v] = low_halves(both);
          high[v] = high_halves(both);
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const X* four = x + m * tile.x_stride + HEADER + i;
          const vi even = pair_of(four), odd = pair_of(four + 2);
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v)
            parts[m][v] = add_pairs(add_pairs(parts[m][v], even, low[v]), odd, high[v]);
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const vf scale = load(reinterpret_cast<const bf16*>(weight + v / P * tile.block_bytes) + v % P * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) sums[m][v] = fma(floats(parts[m][v]), scale, sums[m][v]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) store(tile.sums + m * PANEL_COLUMNS + v * W, sums[m][v]);
  }
};

}  // namespace products
}  // namespace QUIRE_ISA
}  // namespace quire
