// Vectors of floats on one instruction set, and the element types that are read into them and written from them.
//
// Every source file that includes this is compiled once per instruction set, with QUIRE_ISA as its name. Everything in
// it therefore lives in a namespace of that name, or is static; and nothing of the C++ library that might become a
// shared inline function is used: the linker would keep one copy, for whichever instruction set comes first.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace quire {
namespace QUIRE_ISA {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

#if defined(__AVX512F__)

constexpr int W = 16;  // floats of a vector
using vf = __m512;
using mask = __mmask16;

static inline vf zero() { return _mm512_setzero_ps(); }
static inline vf all(float x) { return _mm512_set1_ps(x); }
static inline mask first(int64_t n) { return n >= W ? 0xffff : static_cast<mask>((1u << n) - 1); }
static inline vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf max(vf a, vf b) { return _mm512_max_ps(a, b); }  // b where either is no number, as in min
static inline vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline float sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float largest(vf a) { return _mm512_reduce_max_ps(a); }
static inline vf round(vf a) { return _mm512_roundscale_ps(a, 8); }
static inline vf scale_by_power(vf a, vf power) { return _mm512_scalef_ps(a, power); }
static inline vf choose(mask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }

static inline vf load(const float* p) { return _mm512_loadu_ps(p); }
static inline vf load(const bf16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
static inline vf load(const f16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline void store(float* p, vf a) { _mm512_storeu_ps(p, a); }
static inline void store(bf16* p, vf a) {
#if defined(__AVX512BF16__)
  const __m256i bits = (__m256i)_mm512_cvtneps_pbh(a);
#else
  // To the nearest, ties to even; what is no number stays none.
  const __m512i word = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(word, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(word, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const mask nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000));
  const __m256i bits = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bits);
}
static inline void store(f16* p, vf a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

#else  // AVX2, FMA and F16C

constexpr int W = 8;
using vf = __m256;
using mask = __m256;  // all bits of a lane, or none

static inline vf zero() { return _mm256_setzero_ps(); }
static inline vf all(float x) { return _mm256_set1_ps(x); }
static inline mask first(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n > W ? W : static_cast<int>(n)), lane));
}
static inline vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline float sum(vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float largest(vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf scale_by_power(vf a, vf power) {  // powers from -126 to 127
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(exponent));
}
static inline vf choose(mask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }

static inline vf load(const float* p) { return _mm256_loadu_ps(p); }
static inline vf load(const bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
static inline vf load(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
static inline void store(float* p, vf a) { _mm256_storeu_ps(p, a); }
static inline void store(bf16* p, vf a) {
  const __m256i word = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(word, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const vf nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
  const vf kept = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), nan);
  const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(kept), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
static inline void store(f16* p, vf a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

#endif

// The first n elements (0 < n <= W), the other lanes zero; and the first n lanes only. Through a copy on the stack:
// rows end there once each, so simple beats fast.
template <class T>
static inline vf load_first(const T* p, int64_t n) {
  if (n >= W) return load(p);
  T copy[W] = {};
  memcpy(copy, p, n * sizeof(T));
  return load(copy);
}
template <class T>
static inline void store_first(T* p, vf a, int64_t n) {
  if (n >= W) return store(p, a);
  T copy[W];
  store(copy, a);
  memcpy(p, copy, n * sizeof(T));
}

static inline float to_float(float x) { return x; }
static inline float to_float(bf16 x) {
  const uint32_t word = static_cast<uint32_t>(x.bits) << 16;
  float result;
  memcpy(&result, &word, sizeof result);
  return result;
}
static inline float to_float(f16 x) { return _cvtsh_ss(x.bits); }

// The lanes of a, but zero where x is below a bound.
static inline vf zero_below(vf a, vf x, vf bound) {
#if defined(__AVX512F__)
  return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, bound, _CMP_LT_OQ), zero());
#else
  return _mm256_andnot_ps(_mm256_cmp_ps(x, bound, _CMP_LT_OQ), a);
#endif
}

// e to the x, within 2 ulp from -87 to 88; below that 0, above it what e^88 is. Powers of two by range reduction to
// |f| <= ln(2) / 2 and a polynomial of degree 6 there (Cephes' coefficients, Moshier 1984).
static inline vf exp(vf x) {
  const vf low = all(-87.3365f);
  const vf bounded = max(low, min(all(88.3762f), x));  // in this order, what is no number stays none
  const vf power = round(bounded * all(1.44269504088896341f));
  vf f = fma(power, all(-0.693359375f), bounded);
  f = fma(power, all(2.12194440e-4f), f);
  vf p = all(1.9875691500e-4f);
  p = fma(p, f, all(1.3981999507e-3f));
  p = fma(p, f, all(8.3334519073e-3f));
  p = fma(p, f, all(4.1665795894e-2f));
  p = fma(p, f, all(1.6666665459e-1f));
  p = fma(p, f, all(5.0000001201e-1f));
  p = fma(p, f * f, f + all(1.0f));
  return zero_below(scale_by_power(p, power), x, low);
}

}  // namespace QUIRE_ISA
}  // namespace quire
