// Products with weights of int8 and int4: bytes of rows, four at a time, with bytes or halves of bytes of the weight.
//
// Rows are rounded to 8 bits of the largest element of every group of inputs, as llama.cpp has it (its q8_0): that errs
// less than half as much as int8 weights do, a twentieth of what int4 ones do, and one instruction multiplies twice as
// many bytes as words. A group is summed in integers, exactly, and then weighed with its scales.
#pragma once

#include "linear_tile.h"

namespace quire {
namespace QUIRE_ISA {
namespace products {

#if defined(__AVX512F__)
using vi = __m512i;
static inline vi integers(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi bytes(const char* p) { return _mm512_loadu_si512(p); }
static inline vi all_bytes(char x) { return _mm512_set1_epi8(x); }
static inline vi bits_of_both(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi bits_of_one(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi upper_halves(vi bytes) { return bits_of_both(_mm512_srli_epi16(bytes, 4), all_bytes(15)); }
// To each lane of a sum, four unsigned bytes times four signed ones. Without the instruction for it, pairs of products
// must fit a word: bytes of at most 128 do.
static inline vi add_fours(vi sum, vi a, vi b) {
#if defined(__AVX512VNNI__)
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));  // GCC 12 copies the sum around the intrinsic
  return sum;
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)));
#endif
}
static inline vi magnitudes(vi bytes) { return _mm512_abs_epi8(bytes); }
static inline vi with_signs_of(vi signs, vi bytes) {
  return _mm512_mask_sub_epi8(bytes, _mm512_movepi8_mask(signs), _mm512_setzero_si512(), bytes);
}
static inline vf floats(vi a) { return _mm512_cvtepi32_ps(a); }
static inline void store_rounded(int16_t* p, vf a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
}
static inline void store_rounded(int8_t* p, vf a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
#else
using vi = __m256i;
static inline vi integers(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi bytes(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
static inline vi all_bytes(char x) { return _mm256_set1_epi8(x); }
static inline vi bits_of_both(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi upper_halves(vi bytes) { return bits_of_both(_mm256_srli_epi16(bytes, 4), all_bytes(15)); }
static inline vi add_fours(vi sum, vi a, vi b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
static inline vi magnitudes(vi bytes) { return _mm256_abs_epi8(bytes); }
static inline vi with_signs_of(vi signs, vi bytes) { return _mm256_sign_epi8(bytes, signs); }
static inline vf floats(vi a) { return _mm256_cvtepi32_ps(a); }
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

static inline vi fours_of(const int8_t* x) {
  int32_t all_four;
  memcpy(&all_four, x, sizeof all_four);
  return integers(all_four);
}

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

// What int8 and int4 have in common. A kind tells where a group of a weight lies, how its bytes become fours of bytes,
// and what is to be added to them that they may be multiplied as unsigned ones: what that adds up to in the end stands
// before each group of a row.
template <class Kind>
struct Grouped : Usual {
  using X = int8_t;
  static constexpr int ROWS = P == 1 ? 6 : 2, BLOCKS = P == 1 ? 2 : 1, FEW = P == 1 ? 2 : 0;
  static constexpr float LARGEST = 127.0f;

  struct Header {
    float worth;
    int32_t excess;
  };
  static constexpr int64_t HEADER = sizeof(Header);

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind, op.group); }
  static int64_t x_offset(int64_t k, const QuireLinear& op) { return k / Kind::group(op) * (HEADER + Kind::group(op)); }
  static Prepared prepare(const Share& share, const QuireLinear& op, char* own) {
    Prepared x = rounded<Kind>(share, op, own, x_offset(length(op), op));
    x.scales = nullptr;  // groups have their own
    return x;
  }

  template <class T>
  static float round(char* row, const T* x, const QuireLinear& op) {
    const int64_t group = Kind::group(op);
    for (int64_t k = 0; k < length(op); k += group, row += HEADER + group) {
      const int64_t left = op.k - k < group ? op.k - k : group;
      X* const own = reinterpret_cast<X*>(row + HEADER);
      Header header = {worth_of(x + k, left, LARGEST), 0};
      round_stretch(own, x + k, left, group, header.worth);
      for (int64_t i = 0; i < group; ++i) header.excess -= Kind::OFFSET * own[i];
      memcpy(row, &header, sizeof header);
    }
    return 1.0f;
  }

  template <int M, int B>
  static void tile(const Tile& tile) {
    constexpr int V = B * P, FOURS = Kind::FOURS;
    vf sums[M][V];
    begin_sums(sums, tile);
    const int64_t group = Kind::group(tile);
    const X* x = static_cast<const X*>(tile.x);
    for (int64_t number = 0; number * group < tile.k; ++number, x += HEADER + group) {
      const typename Kind::Place place = Kind::place(tile.weight, number, group);
      Kind::fetch_scales(tile, place);
      vi parts[M][V];
      Header headers[M];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        memcpy(&headers[m], x + m * tile.x_stride, sizeof(Header));
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) parts[m][v] = integers(headers[m].excess);
      }
      const char* weight = place.bytes;
      for (int64_t i = 0; i < group; i += 4 * FOURS, weight += 64) {
        tile.ahead.fetch(weight - tile.weight);
        vi fours[V][FOURS];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) Kind::split(fours[v], bytes(weight + v / P * tile.block_bytes + v % P * W * 4));
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
          for (int four = 0; four < FOURS; ++four) {
            const vi row = fours_of(x + m * tile.x_stride + HEADER + i + 4 * four);
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) parts[m][v] = Kind::add(parts[m][v], fours[v][four], row);
          }
      }
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const typename Kind::Scale scale = Kind::scale(place, v / P * tile.block_bytes, v % P * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
          sums[m][v] = scale.add(sums[m][v], floats(parts[m][v]), all(headers[m].worth));
      }
    }
    end_sums(sums, tile);
  }
};

// A vector is of four inputs; columns' scales wait until the end.
struct Int8 : Grouped<Int8> {
  static constexpr int FOURS = 1;
#if defined(__AVX512VNNI__)
  static constexpr int32_t OFFSET = 128;
#else
  static constexpr int32_t OFFSET = 0;
#endif

  struct Place {
    const char* bytes;
  };
  struct Scale {
    vf add(vf sum, vf part, vf worth) const { return fma(part, worth, sum); }
  };

  template <class Asked>
  static int64_t group(const Asked&) { return 32; }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 16; }
  static Place place(const char* weight, int64_t number, int64_t group) { return {weight + number * group * 16}; }
  static void fetch_scales(const Tile&, Place) {}
  static Scale scale(Place, int64_t, int64_t) { return {}; }

#if defined(__AVX512VNNI__)
  static inline void split(vi (&fours)[1], vi weights) { fours[0] = bits_of_one(weights, all_bytes(-128)); }
  static inline vi add(vi sum, vi weights, vi row) { return add_fours(sum, weights, row); }
#else
  static inline void split(vi (&fours)[1], vi weights) { fours[0] = weights; }
  static inline vi add(vi sum, vi weights, vi row) {
    return add_fours(sum, magnitudes(weights), with_signs_of(weights, row));
  }
#endif
};

// A vector is of eight inputs: four in the low halves of bytes, four in the high ones.
struct Int4 : Grouped<Int4> {
  static constexpr int FOURS = 2;
  static constexpr int32_t OFFSET = 8;  // as they are stored

  struct Place {
    const char *bytes, *scales;
  };
  struct Scale {
    vf value;
    vf add(vf sum, vf part, vf worth) const { return fma(part * worth, value, sum); }
  };

  template <class Asked>
  static int64_t group(const Asked& asked) { return asked.group; }
  static int64_t offset(int64_t k, const QuireLinear& op) { return k / op.group / 2 * quire_int4_record(op.group); }
  static Place place(const char* weight, int64_t number, int64_t group) {
    const char* record = weight + number / 2 * quire_int4_record(group);
    return {record + 64 + number % 2 * group * 8, record + number % 2 * 32};
  }
  static void fetch_scales(const Tile& tile, Place place) { tile.ahead.fetch(place.scales - tile.weight); }
  static Scale scale(Place place, int64_t block, int64_t column) {
    return {load(reinterpret_cast<const bf16*>(place.scales + block) + column)};
  }
  static inline void split(vi (&fours)[2], vi weights) {
    fours[0] = bits_of_both(weights, all_bytes(15));
    fours[1] = upper_halves(weights);
  }
  static inline vi add(vi sum, vi weights, vi row) { return add_fours(sum, weights, row); }
};

}  // namespace products
}  // namespace QUIRE_ISA
}  // namespace quire
