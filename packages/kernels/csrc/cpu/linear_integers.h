// Products with weights of int8 and int4: rows are rounded too, and what shares a scale is summed in integers, exactly.
//
// For int8, rows keep 15 bits of their largest element, which err less than a bf16 does in that element; an integer
// weight becomes a word in one instruction, where making a bf16 or a float of it takes several. 14 bits and a sign times
// 8 bits, 1024 of them, stay inside 32 bits. For int4, rows keep 8 bits of the largest element of each group, as
// llama.cpp has it (its q8_0): a tenth of what int4 itself errs, and halves of bytes are multiplied as they are stored.
#pragma once

#include "linear_tile.h"

namespace quire {
namespace QUIRE_ISA {
namespace products {

constexpr float LARGEST_WORD = 16383.0f, LARGEST_BYTE = 127.0f;

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
// Fours of unsigned bytes times fours of signed ones; sums of two such products fit a word where the first have 4 bits.
static inline vi add_fours(vi sum, vi a, vi b) {
#if defined(__AVX512VNNI__)
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)));
#endif
}
static inline vi bytes(const char* p) { return _mm512_loadu_si512(p); }
static inline vi low_halves(vi bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
static inline vi high_halves(vi bytes) { return low_halves(_mm512_srli_epi16(bytes, 4)); }
static inline vi fours_of(const int8_t* x) {
  int32_t all_four;
  memcpy(&all_four, x, sizeof all_four);
  return _mm512_set1_epi32(all_four);
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
static inline void store_rounded(int8_t* p, vf a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
#else
using vi = __m256i;
static inline vi no_integers() { return _mm256_setzero_si256(); }
static inline vi integers(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi add_pairs(vi sum, vi a, vi b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
static inline vi words(const char* bytes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}
static inline vi add_fours(vi sum, vi a, vi b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
static inline vi bytes(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
static inline vi low_halves(vi bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
static inline vi high_halves(vi bytes) { return low_halves(_mm256_srli_epi16(bytes, 4)); }
static inline vi fours_of(const int8_t* x) {
  int32_t all_four;
  memcpy(&all_four, x, sizeof all_four);
  return _mm256_set1_epi32(all_four);
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
static inline void store_rounded(int8_t* p, vf a) {
  int16_t words[W];
  store_rounded(words, a);
  for (int i = 0; i < W; ++i) p[i] = static_cast<int8_t>(words[i]);
}
#endif

// What an integer is worth if the largest magnitude is to be `largest`. Not finite if any element is not.
template <class T>
static float worth_of(const T* x, int64_t k, float largest_integer) {
  vf largest_yet = zero(), poison = zero();
  for (int64_t i = 0; i < k; i += W) {
    const vf value = load_first(x + i, k - i);
    largest_yet = max(max(value, zero() - value), largest_yet);
    poison = fma(value, zero(), poison);
  }
  return largest(largest_yet) / largest_integer + sum(poison);
}

template <class I, class T>
static void round_stretch(I* out, const T* x, int64_t k, int64_t length, float worth) {
  const vf inverse = all(worth > 0.0f ? 1.0f / worth : 0.0f);
  for (int64_t i = 0; i < length; i += W) store_rounded(out + i, i < k ? load_first(x + i, k - i) * inverse : zero());
}

template <class Kind, class T>
static void round_rows(const QuireLinear& op, Range rows, char* to, int64_t row_bytes, float* worths) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    worths[row] = Kind::round(to + row * row_bytes, static_cast<const T*>(op.x) + row * op.x_stride, op);
}

// Rounded rows, then what each is worth. Each thread makes all of few rows for itself, which is quicker than to share
// them and meet.
template <class Kind>
static Prepared rounded(const Share& share, const QuireLinear& op, char* own, int64_t row_bytes) {
  const bool is_own = op.rows * (row_bytes + static_cast<int64_t>(sizeof(float))) <= OWN;
  char* const to = is_own ? own : static_cast<char*>(op.scratch);
  float* const worths = reinterpret_cast<float*>(to + op.rows * row_bytes);
  const Range rows = is_own ? Range{0, op.rows} : share.of(op.rows);
  if (op.x_type == QUIRE_F32) round_rows<Kind, float>(op, rows, to, row_bytes, worths);
  if (op.x_type == QUIRE_BF16) round_rows<Kind, bf16>(op, rows, to, row_bytes, worths);
  if (op.x_type == QUIRE_F16) round_rows<Kind, f16>(op, rows, to, row_bytes, worths);
  if (!is_own) share.meet();
  return {to, row_bytes / static_cast<int64_t>(sizeof(typename Kind::X)), worths};
}

// Four inputs at a time. A vector holds two sums of every column of its part of a block, to be added up at the end of
// a chunk.
struct Int8 : Usual {
  using X = int16_t;
  static constexpr int ROWS = P == 1 ? 6 : 2, BLOCKS = P == 1 ? 2 : 1, FEW = P == 1 ? 2 : 0;

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind, op.group); }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 16; }
  static int64_t x_offset(int64_t k, const QuireLinear&) { return k; }
  static Prepared prepare(const Share& share, const QuireLinear& op, char* own) {
    return rounded<Int8>(share, op, own, length(op) * 2);
  }

  template <class T>
  static float round(char* row, const T* x, const QuireLinear& op) {
    const float worth = worth_of(x, op.k, LARGEST_WORD);
    round_stretch(reinterpret_cast<X*>(row), x, op.k, length(op), worth);
    return worth;
  }

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

// Eight inputs at a time, four from the low halves of bytes and four from the high ones; a group's sum of integers is
// weighed with its two scales. Weights are stored 8 too large: what that adds up to stands before each group of a row.
struct Int4 : Usual {
  using X = int8_t;
  static constexpr int ROWS = P == 1 ? 6 : 2, BLOCKS = P == 1 ? 2 : 1, FEW = P == 1 ? 2 : 0;

  struct Header {
    float worth;
    int32_t excess;
  };
  static constexpr int64_t HEADER = sizeof(Header);

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind, op.group); }
  static int64_t offset(int64_t k, const QuireLinear& op) { return k / op.group / 2 * quire_int4_record(op.group); }
  static int64_t x_offset(int64_t k, const QuireLinear& op) { return k / op.group * (HEADER + op.group); }
  static Prepared prepare(const Share& share, const QuireLinear& op, char* own) {
    Prepared x = rounded<Int4>(share, op, own, x_offset(length(op), op));
    x.scales = nullptr;  // groups have their own
    return x;
  }

  template <class T>
  static float round(char* row, const T* x, const QuireLinear& op) {
    for (int64_t k = 0; k < length(op); k += op.group, row += HEADER + op.group) {
      const int64_t left = op.k - k < op.group ? op.k - k : op.group;
      X* const bytes = reinterpret_cast<X*>(row + HEADER);
      Header header = {worth_of(x + k, left, LARGEST_BYTE), 0};
      round_stretch(bytes, x + k, left, op.group, header.worth);
      for (int64_t i = 0; i < op.group; ++i) header.excess -= 8 * bytes[i];
      memcpy(row, &header, sizeof header);
    }
    return 1.0f;
  }

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int V = B * P;
    vf sums[M][V];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[m][v] = tile.first ? zero() : load(tile.sums + m * PANEL_COLUMNS + v * W);
    const int64_t group = tile.group;
    const X* x = static_cast<const X*>(tile.x);
    const char* scales = tile.weight;
    for (int64_t k = 0; k < tile.k; k += 2 * group, scales += quire_int4_record(group)) {
      tile.ahead.fetch(scales - tile.weight);
      const char* weight = scales + 64;
      for (int half = 0; half < 2; ++half, x += HEADER + group, weight += group * 8) {
        vi parts[M][V];
        Header headers[M];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          memcpy(&headers[m], x + m * tile.x_stride, sizeof(Header));
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v) parts[m][v] = integers(headers[m].excess);
        }
        for (int64_t i = 0; i < group; i += 8) {
          tile.ahead.fetch(weight - tile.weight + i * 8);
          vi low[V], high[V];
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v) {
            const vi both = bytes(weight + v / P * tile.block_bytes + i * 8 + v % P * W * 4);
            low[v] = low_halves(both);
            high[v] = high_halves(both);
          }
#pragma GCC unroll 16
          for (int m = 0; m < M; ++m) {
            const X* eight = x + m * tile.x_stride + HEADER + i;
            const vi first = fours_of(eight), second = fours_of(eight + 4);
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v)
              parts[m][v] = add_fours(add_fours(parts[m][v], low[v], first), high[v], second);
          }
        }
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          const char* own = scales + v / P * tile.block_bytes + half * 32;
          const vf scale = load(reinterpret_cast<const bf16*>(own) + v % P * W);
#pragma GCC unroll 16
          for (int m = 0; m < M; ++m)
            sums[m][v] = fma(floats(parts[m][v]) * all(headers[m].worth), scale, sums[m][v]);
        }
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
