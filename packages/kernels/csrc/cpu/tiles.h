// Small matrix products over packed operands: what attention multiplies, and how it lays that out. It knows no cache.
//
// A product takes rows and columns. Columns are packed so that one vector holds one step of W of them; a row's element
// of that step is broadcast against it. A step is one float, or a pair of bf16 where the processor multiplies pairs.
// Each sum is added up in the order of the steps, whatever company its row has: how many rows are at hand, and which
// thread has them, changes no bit of an answer.
#pragma once

#include "simd.h"

namespace quire {
namespace QUIRE_ISA {

constexpr int COLUMNS = 4 * W;  // of a packed group: four vectors

#if defined(__AVX512F__)
constexpr int ROWS = 6;  // at once: with four vectors of columns they fill 24 of 32 registers with sums
#else
constexpr int ROWS = 3;  // 12 of 16
#endif

static inline int64_t at_least(int64_t n, int64_t least) { return n < least ? least : n; }
static inline int64_t at_most(int64_t n, int64_t most) { return n > most ? most : n; }
static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Lanes from begin up to end, which may lie outside the vector.
static inline mask between(int64_t begin, int64_t end) {
  const int low = begin < 0 ? 0 : begin > W ? W : static_cast<int>(begin);
  const int high = end < 0 ? 0 : end > W ? W : static_cast<int>(end);
#if defined(__AVX512F__)
  return static_cast<mask>(((1u << high) - 1) & ~((1u << low) - 1));
#else
  return _mm256_andnot_ps(first(low), first(high));
#endif
}

// 2 to the x, within 2 ulp from -126 to 127; 0 below. A polynomial of degree 6 for 2^f where |f| <= 1/2 (the series of
// e^(f ln 2)).
static inline vf exp2(vf x) {
  const vf low = all(-126.0f);
  const vf bounded = max(low, x);  // in this order, what is no number stays none
  const vf power = round(bounded);
  const vf f = bounded - power;
  vf p = all(1.5403530e-4f);
  p = fma(p, f, all(1.3333558e-3f));
  p = fma(p, f, all(9.6181291e-3f));
  p = fma(p, f, all(5.5504109e-2f));
  p = fma(p, f, all(2.4022651e-1f));
  p = fma(p, f, all(6.9314718e-1f));
  p = fma(p, f, all(1.0f));
  return zero_below(scale_by_power(p, power), x, low);
}

// W rows of W words become W columns.
static inline void transpose(vf (&rows)[W]) {
#if defined(__AVX512F__)
  vf a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  const auto low = [](vf x, vf y) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  const auto high = [](vf x, vf y) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // b[i + j], lane l: rows i to i + 3 of column 4 l + j
    b[i] = low(a[i], a[i + 2]);
    b[i + 1] = high(a[i], a[i + 2]);
    b[i + 2] = low(a[i + 1], a[i + 3]);
    b[i + 3] = high(a[i + 1], a[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const vf even = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), odd = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    const vf even2 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    const vf odd2 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_f32x4(even, even2, 0x88);
    rows[4 + j] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
    rows[8 + j] = _mm512_shuffle_f32x4(even, even2, 0xdd);
    rows[12 + j] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
  }
#else
  vf a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int j = 0; j < 4; ++j) {
    rows[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
    rows[4 + j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
  }
#endif
}

// Steps of one float: any element type, widened as it is packed.
template <class T>
struct Floats {
  static constexpr int DEPTH = 1;  // elements of a step
  using Element = T;

  static inline vf step(vf sum, vf row, vf columns) { return fma(row, columns, sum); }

  // Elements of a row from `at` on, one step in each lane; zeros after the last one.
  static inline vf take(const T* row, int64_t at, int64_t size) { return load_first(row + at, size - at); }

  static inline void put(float* steps, int64_t at, vf row) { store(steps + at, row); }

  // Rows of a step side by side: `columns` lanes that are steps' columns from `at` on.
  static inline void interleave(float* packed, const T* const* rows, int64_t at, int64_t size) {
    store(packed + at, load_first(rows[0] + at, size - at));
  }
  static constexpr int INTERLEAVED = W;  // columns that one call of it packs

  // Interleaved columns are in order.
  static inline void order(float*, int64_t) {}
};

#if defined(__AVX512BF16__)
// Steps of two bf16, multiplied exactly and added up in float32.
struct Pairs {
  static constexpr int DEPTH = 2;
  using Element = bf16;

  static inline vf step(vf sum, vf row, vf columns) {
    return _mm512_dpbf16_ps(sum, (__m512bh)row, (__m512bh)columns);
  }

  static inline vf take(const bf16* row, int64_t at, int64_t size) {
    const int64_t left = size - at;
    if (left >= 2 * W) return _mm512_loadu_ps(row + at);
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((1u << left) - 1, row + at));
  }

  static inline void put(float* steps, int64_t at, vf row) { store(reinterpret_cast<bf16*>(steps) + at, row); }

  // The halves of each quarter of a vector part ways here; `order` brings their sums together again.
  static inline void interleave(float* packed, const bf16* const* rows, int64_t at, int64_t size) {
    const __m512i a = _mm512_castps_si512(take(rows[0], at, size)), b = _mm512_castps_si512(take(rows[1], at, size));
    _mm512_storeu_si512(packed + at, _mm512_unpacklo_epi16(a, b));
    _mm512_storeu_si512(packed + at + W, _mm512_unpackhi_epi16(a, b));
  }
  static constexpr int INTERLEAVED = 2 * W;

  static inline void order(float* sums, int64_t size) {
    const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int64_t i = 0; i < size; i += 2 * W) {
      const vf low = load(sums + i), high = load(sums + i + W);
      store(sums + i, _mm512_permutex2var_ps(low, front, high));
      store(sums + i + W, _mm512_permutex2var_ps(low, back, high));
    }
  }
};
#endif

// Ask for the line that holds an address, into the second cache: the first one is full of what is at work.
static inline void fetch(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1); }

// Ask for some of W rows of `size` elements, when another W have got to `at`: lines in the order in which they lie.
template <class Mode>
static inline void fetch_rows(const typename Mode::Element* const* rows, int64_t at, int64_t size) {
  constexpr int64_t CHUNK = W * Mode::DEPTH, LINE = 64 / sizeof(typename Mode::Element);
  const int64_t chunks = (size + CHUNK - 1) / CHUNK, chunk = at / CHUNK;
  for (int64_t row = W * chunk / chunks; row < W * (chunk + 1) / chunks; ++row)
    for (int64_t i = 0; i < size; i += LINE) fetch(rows[row] + i);
}

// Where rows of COLUMNS keys become columns: packed[step][key], from keys of `size` elements. Memory is asked meanwhile
// for the same elements of the rows in `next`: the processor does not foresee where they lie.
template <class Mode>
static void pack_columns(float* packed, const typename Mode::Element* const* keys,
                         const typename Mode::Element* const* next, int64_t size) {
  constexpr int CHUNK = W * Mode::DEPTH;
  for (int part = 0; part < COLUMNS; part += W)
    for (int64_t at = 0; at < size; at += CHUNK) {
      vf rows[W];
      fetch_rows<Mode>(next + part, at, size);
      for (int key = 0; key < W; ++key) rows[key] = Mode::take(keys[part + key], at, size);
      transpose(rows);
      float* target = packed + at / Mode::DEPTH * COLUMNS + part;
      for (int step = 0; step < W; ++step) store(target + step * COLUMNS, rows[step]);
    }
}

// Where rows of COLUMNS values stay rows: packed[step][column], each step of `width` >= size columns.
template <class Mode>
static void pack_rows(float* packed, const typename Mode::Element* const* values,
                      const typename Mode::Element* const* next, int64_t size, int64_t width) {
  for (int row = 0; row < COLUMNS; row += Mode::DEPTH, packed += width)
    for (int64_t at = 0; at < size; at += Mode::INTERLEAVED) {
      for (int i = 0; i < Mode::DEPTH; ++i) fetch(next[row + i] + at);
      Mode::interleave(packed, values + row, at, size);
    }
}

// What a product reads and writes: out [rows, columns] = rows [rows, steps] . packed [steps, columns], or += that.
struct Product {
  float* out;
  const float* rows;
  const float* packed;
  int64_t out_stride, row_stride, packed_stride, steps;
  bool add;
};

template <class Mode, int R, int V>
static inline void multiply_block(const Product& of) {
  vf sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = of.add ? load(of.out + r * of.out_stride + v * W) : zero();
  for (int64_t step = 0; step < of.steps; ++step) {
    vf columns[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) columns[v] = load(of.packed + step * of.packed_stride + v * W);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const vf row = all(of.rows[r * of.row_stride + step]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = Mode::step(sums[r][v], row, columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(of.out + r * of.out_stride + v * W, sums[r][v]);
}

template <class Mode, int V>
static void multiply_rows(const Product& of, int64_t rows) {
  switch (rows) {
    case 1: return multiply_block<Mode, 1, V>(of);
    case 2: return multiply_block<Mode, 2, V>(of);
    case 3: return multiply_block<Mode, 3, V>(of);
#if defined(__AVX512F__)
    case 4: return multiply_block<Mode, 4, V>(of);
    case 5: return multiply_block<Mode, 5, V>(of);
    case 6: return multiply_block<Mode, 6, V>(of);
#endif
  }
}

// Up to ROWS rows against any whole number of vectors of columns.
template <class Mode>
static void multiply(Product of, int64_t rows, int64_t columns) {
  for (int64_t left = columns; left > 0;) {
    const int64_t taken = left >= 4 * W ? 4 * W : left >= 2 * W ? 2 * W : W;
    if (taken == 4 * W) multiply_rows<Mode, 4>(of, rows);
    if (taken == 2 * W) multiply_rows<Mode, 2>(of, rows);
    if (taken == W) multiply_rows<Mode, 1>(of, rows);
    of.out += taken;
    of.packed += taken;
    left -= taken;
  }
}

// Whether few rows are multiplied with keys and values where they lie: packing those would cost more than it saves.
template <class Mode>
constexpr bool READS_IN_PLACE = false;

constexpr int FEW = 4;  // rows of one product in place

// Keys of these sizes have bodies below, and twice FEW rows are still few.
static inline bool reads_in_place(int64_t rows, int64_t size) {
  const int64_t vectors = (size + 31) / 32;
  return rows <= 2 * FEW && (vectors <= 4 || vectors == 8);
}

#if defined(__AVX512BF16__)
template <>
constexpr bool READS_IN_PLACE<Pairs> = true;

// Four vectors become one, in which lane 4 l + i has a quarter of the sum of vector i's lanes.
static inline vf add_quads(vf a, vf b, vf c, vf d) {
  const __m512d ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b));
  const __m512d cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d) + _mm512_unpackhi_ps(c, d));
  return _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)) + _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
}

// Four of those become the sums of sixteen vectors, in order.
static inline vf add_quarters(vf a, vf b, vf c, vf d) {
  const vf ab = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
  const vf cd = _mm512_shuffle_f32x4(c, d, 0x88) + _mm512_shuffle_f32x4(c, d, 0xdd);
  return _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
}

// R rows of queries against COLUMNS keys of C vectors each: of.out [R, COLUMNS].
template <int R, int C>
static void score_keys(const Product& of, const bf16* const* keys, const bf16* const* next, int64_t size) {
  const __mmask32 last = size % 32 == 0 ? ~0u : (1u << size % 32) - 1;
  vf queries[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) queries[r][c] = load(of.rows + r * of.row_stride + c * W);
  for (int first = 0; first < COLUMNS; first += 16) {
    vf quads[R][4];
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; ++quad) {
      vf sums[R][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const bf16* key = keys[first + 4 * quad + i];
        const bf16* later = next[first + 4 * quad + i];
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          fetch(later + c * 32);
          const vf part = _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(c == C - 1 ? last : ~0u, key + c * 32));
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) sums[r][i] = Pairs::step(c == 0 ? zero() : sums[r][i], queries[r][c], part);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) quads[r][quad] = add_quads(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      store(of.out + r * of.out_stride + first, add_quarters(quads[r][0], quads[r][1], quads[r][2], quads[r][3]));
  }
}

// R rows of weights against COLUMNS values, of which 32 C columns from `at` on: of.out [R, 32 C], in interleaved order.
template <int R, int C>
static void add_values(const Product& of, const bf16* const* values, const bf16* const* next, int64_t at, int64_t size) {
  vf sums[R][2 * C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < 2 * C; ++c) sums[r][c] = of.add ? load(of.out + r * of.out_stride + at + c * W) : zero();
  const __mmask32 last = size - at >= 32 * C ? ~0u : (1u << size % 32) - 1;
  for (int pair = 0; pair < COLUMNS / 2; ++pair) {
    const bf16 *a = values[2 * pair] + at, *b = values[2 * pair + 1] + at;
    const bf16 *later_a = next[2 * pair] + at, *later_b = next[2 * pair + 1] + at;
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const __mmask32 lanes = c == C - 1 ? last : ~0u;
      fetch(later_a + 32 * c);
      fetch(later_b + 32 * c);
      const __m512i x = _mm512_maskz_loadu_epi16(lanes, a + 32 * c), y = _mm512_maskz_loadu_epi16(lanes, b + 32 * c);
      const vf low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(x, y));
      const vf high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(x, y));
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const vf weights = all(of.rows[r * of.row_stride + pair]);
        sums[r][2 * c] = Pairs::step(sums[r][2 * c], weights, low);
        sums[r][2 * c + 1] = Pairs::step(sums[r][2 * c + 1], weights, high);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < 2 * C; ++c) store(of.out + r * of.out_stride + at + c * W, sums[r][c]);
}

template <int R>
static void score_in_place(const Product& of, const bf16* const* keys, const bf16* const* next, int64_t size) {
  switch ((size + 31) / 32) {
    case 1: return score_keys<R, 1>(of, keys, next, size);
    case 2: return score_keys<R, 2>(of, keys, next, size);
    case 3: return score_keys<R, 3>(of, keys, next, size);
    case 4: return score_keys<R, 4>(of, keys, next, size);
    case 8: return score_keys<R, 8>(of, keys, next, size);
  }
}

template <int R>
static void add_in_place(const Product& of, const bf16* const* values, const bf16* const* next, int64_t size) {
  constexpr int MOST = R > 2 ? 2 : 4;  // sums for 16 of 32 registers
  int64_t at = 0;
  for (; at + 32 * MOST <= round_up(size, 32); at += 32 * MOST) add_values<R, MOST>(of, values, next, at, size);
  for (; at < size; at += 32) add_values<R, 1>(of, values, next, at, size);
}

// of.out [rows, COLUMNS] = queries . keys, for any number of rows.
static void score_in_place(Product of, int64_t rows, const bf16* const* keys, const bf16* const* next, int64_t size) {
  for (int64_t left = rows; left > 0; left -= FEW) {
    if (left == 1) score_in_place<1>(of, keys, next, size);
    if (left == 2) score_in_place<2>(of, keys, next, size);
    if (left == 3) score_in_place<3>(of, keys, next, size);
    if (left >= FEW) score_in_place<FEW>(of, keys, next, size);
    of.out += FEW * of.out_stride;
    of.rows += FEW * of.row_stride;
    next = keys;  // asked for already
  }
}

// of.out [rows, round_up(size, 32)] += weights . values, or = that.
static void add_in_place(Product of, int64_t rows, const bf16* const* values, const bf16* const* next, int64_t size) {
  for (int64_t left = rows; left > 0; left -= FEW) {
    if (left == 1) add_in_place<1>(of, values, next, size);
    if (left == 2) add_in_place<2>(of, values, next, size);
    if (left == 3) add_in_place<3>(of, values, next, size);
    if (left >= FEW) add_in_place<FEW>(of, values, next, size);
    of.out += FEW * of.out_stride;
    of.rows += FEW * of.row_stride;
    next = values;
  }
}
#endif

}  // namespace QUIRE_ISA
}  // namespace quire
