// Drawing a token from each row of logits: limits by number and by share, then the inverse of the distribution.
//
// A row is read once for the maxima of its blocks, and once more for the weights; what a limit asks is settled among the
// few blocks that can hold the likeliest tokens, and only where those are too few among all.
#pragma once

#include "kernels.h"
#include "tiles.h"

namespace quire {
namespace QUIRE_ISA {

constexpr int64_t BLOCK = 128;      // logits with one maximum and one sum
constexpr float COLDEST = 1e-30f;   // a temperature whose inverse is still a number
constexpr int64_t FIRST_LOOK = 64;  // blocks looked at for a share before all are: most nuclei are smaller

// Write the lanes of a mask side by side; how many they are. May write W elements.
static inline int64_t squeeze(float* to, mask lanes, vf x) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(to, _mm512_maskz_compress_ps(lanes, x));
  return __builtin_popcount(lanes);
#else
  float all_of_them[W];
  store(all_of_them, x);
  int64_t count = 0;
  for (int bits = _mm256_movemask_ps(lanes); bits != 0; bits &= bits - 1) to[count++] = all_of_them[__builtin_ctz(bits)];
  return count;
#endif
}

static inline mask at_or_above(vf x, vf y) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ);
#else
  return _mm256_cmp_ps(x, y, _CMP_GE_OQ);
#endif
}

static inline mask above(vf x, vf y) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ);
#else
  return _mm256_cmp_ps(x, y, _CMP_GT_OQ);
#endif
}

static inline bool has_nan(vf x) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0;
#else
  return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0;
#endif
}

static inline mask both(mask a, mask b) {
#if defined(__AVX512F__)
  return a & b;
#else
  return _mm256_and_ps(a, b);
#endif
}

// Numbers to choose a threshold from, and what each weighs; without weights each counts 1.
struct Pool {
  float* values;
  float* weights;  // or null
  int64_t count;

  // What the numbers above a threshold weigh, or those at it and above.
  double mass(float threshold, bool with_equal) const {
    double total = 0;
    const vf bound = all(threshold), one = all(1.0f);
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
      vf sums = zero();
      for (int64_t i = begin; i < at_most(begin + BLOCK, count); i += W) {
        const vf x = load(values + i), weight = weights != nullptr ? load(weights + i) : one;
        const mask is_in = both(with_equal ? at_or_above(x, bound) : above(x, bound), between(0, count - i));
        sums = sums + choose(is_in, weight, zero());
      }
      total += sum(sums);
    }
    return total;
  }

  // Keep only the numbers above a threshold, or only those below it.
  void keep(float threshold, bool above_it) {
    int64_t kept = 0;
    const vf bound = all(threshold);
    for (int64_t i = 0; i < count; i += W) {
      const vf x = load(values + i), weight = weights != nullptr ? load(weights + i) : zero();
      const mask lanes = both(above_it ? above(x, bound) : above(bound, x), between(0, count - i));
      if (weights != nullptr) squeeze(weights + kept, lanes, weight);
      kept += squeeze(values + kept, lanes, x);
    }
    count = kept;
  }
};

static inline float median(float a, float b, float c) {
  const float low = a < b ? a : b, high = a < b ? b : a;
  return c < low ? low : c > high ? high : c;
}

// The smallest number above which the others weigh less than is wanted. Empties the pool.
static float threshold_of(Pool pool, double wanted) {
  double before = 0;
  for (;;) {
    const float pivot = median(pool.values[0], pool.values[pool.count / 2], pool.values[pool.count - 1]);
    const double above_it = before + pool.mass(pivot, false);
    if (above_it >= wanted) {
      pool.keep(pivot, true);
      continue;
    }
    const double with_it = before + pool.mass(pivot, true);
    if (with_it >= wanted) return pivot;
    const int64_t count = pool.count;
    pool.keep(pivot, false);
    if (pool.count == 0 || pool.count == count) return pivot;  // nothing is smaller
    before = with_it;
  }
}

// One row at work. Its memory holds a maximum and a sum of each block, and room for a pool of the whole row.
template <class T>
struct DrawnRow {
  const T* logits;
  int64_t size, blocks;
  float* maxima;
  double* sums;
  float* values;
  float* weights;
  float best, heat;

  static int64_t bytes(int64_t size) {
    const int64_t blocks = (size + BLOCK - 1) / BLOCK;
    return round_up(blocks + W, 16) * 4 * 2 + round_up(blocks, 8) * 8 + 2 * round_up(size + W, 16) * 4;
  }

  DrawnRow(void* memory, int64_t size) : logits(nullptr), size(size), blocks((size + BLOCK - 1) / BLOCK) {
    sums = static_cast<double*>(memory);
    maxima = reinterpret_cast<float*>(sums + round_up(blocks, 8));
    values = maxima + 2 * round_up(blocks + W, 16);
    weights = values + round_up(size + W, 16);
    best = heat = 0;
  }

  vf at(int64_t i) const {
    if (size - i >= W) return load(logits + i);
    return choose(first(size - i), load_first(logits + i, size - i), all(-INFINITY));
  }

  vf weight(vf x) const { return exp((x - all(best)) * all(1.0f / heat)); }

  // The maximum of each block and of the row; no number if one of them is none.
  void survey() {
    best = -INFINITY;
    bool is_bad = false;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t end = at_most((block + 1) * BLOCK, size);
      vf highest = all(-INFINITY), probe = zero();
      for (int64_t i = block * BLOCK; i < end; i += W) {
        const vf x = at(i);
        highest = max(highest, x);
        probe = probe + choose(at_or_above(x, x), zero(), x);  // no number stays none
      }
      is_bad = is_bad || has_nan(probe);
      maxima[block] = largest(highest);
      best = best > maxima[block] ? best : maxima[block];
    }
    if (is_bad) best = NAN;
  }

  int64_t first_best() const {
    int64_t block = 0;
    while (maxima[block] != best) ++block;
    int64_t i = block * BLOCK;
    while (to_float(logits[i]) != best) ++i;
    return i;
  }

  // The count-th largest maximum of a block: so many logits at least are not below it.
  float bound(int64_t count) const {
    if (count >= blocks) return -INFINITY;
    float* copy = maxima + round_up(blocks + W, 16);
    memcpy(copy, maxima, blocks * sizeof(float));
    return threshold_of({copy, nullptr, blocks}, static_cast<double>(count));
  }

  // All logits from a bound on.
  Pool pool(float bound, bool weighs) const {
    Pool found{values, weighs ? weights : nullptr, 0};
    const vf low = all(bound);
    for (int64_t block = 0; block < blocks; ++block) {
      if (maxima[block] < bound) continue;
      const int64_t end = at_most((block + 1) * BLOCK, size);
      for (int64_t i = block * BLOCK; i < end; i += W) {
        const vf x = at(i);
        const mask lanes = both(at_or_above(x, low), between(0, size - i));
        if (weighs) squeeze(weights + found.count, lanes, weight(x));
        found.count += squeeze(values + found.count, lanes, x);
      }
    }
    return found;
  }

  // What the logits from a bound on weigh, block by block and together.
  double weigh(float bound) {
    double total = 0;
    const vf low = all(bound);
    for (int64_t block = 0; block < blocks; ++block) {
      vf sum_of = zero();
      const int64_t end = maxima[block] < bound ? 0 : at_most((block + 1) * BLOCK, size);
      for (int64_t i = block * BLOCK; i < end; i += W) {
        const vf x = at(i);
        sum_of = sum_of + choose(at_or_above(x, low), weight(x), zero());
      }
      sums[block] = sum(sum_of);
      total += sums[block];
    }
    return total;
  }

  // The smallest logit that stays.
  float limit(float min_p, int64_t k, float p) {
    float bottom = -3.4028234e38f;  // minus infinity has no share
    if (min_p > 0) {
      const float distance = logf(min_p < 1 ? min_p : 1.0f) * heat;
      bottom = best + distance > bottom ? best + distance : bottom;
    }
    if (k > 0 && k < size) {
      const float threshold = threshold_of(pool(bound(k), false), static_cast<double>(k));
      bottom = threshold > bottom ? threshold : bottom;
    }
    if (p < 1) {
      const double wanted = static_cast<double>(p) * weigh(bottom);
      float from = bound(FIRST_LOOK);
      from = from > bottom ? from : bottom;
      Pool likely = pool(from, true);
      if (from > bottom && likely.mass(from, true) < wanted) likely = pool(bottom, true);
      bottom = wanted > 0 ? threshold_of(likely, wanted) : best;
    }
    return bottom;
  }

  // The token in which a number falls when the weights of those that stay lie side by side.
  int64_t find(double uniform, float bottom) {
    const double total = weigh(bottom);
    double rest = uniform * total;
    int64_t block = 0, last = 0;  // the last block that weighs anything
    for (; block < blocks; ++block) {
      if (sums[block] > 0) last = block;
      if (rest < sums[block]) break;
      rest -= sums[block];
    }
    if (block == blocks) {  // a rounding took the number beyond the end
      block = last;
      rest = sums[last];
    }
    int64_t token = block * BLOCK;
    for (int64_t i = block * BLOCK; i < at_most((block + 1) * BLOCK, size); i += W) {
      float each[W], own[W];
      store(each, weight(at(i)));
      store(own, at(i));
      for (int64_t lane = 0; lane < at_most(size - i, W); ++lane) {
        if (!(own[lane] >= bottom) || !(each[lane] > 0)) continue;
        token = i + lane;
        if (rest < each[lane]) return token;
        rest -= each[lane];
      }
    }
    return token;
  }
};

template <class T>
static void draw_rows(const Share& share, const QuireDraw& op) {
  const Range rows = share.of(op.rows);
  DrawnRow<T> row(static_cast<char*>(op.scratch) + round_up(DrawnRow<T>::bytes(op.size), 64) * share.index, op.size);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    row.logits = static_cast<const T*>(op.logits) + r * op.stride;
    row.survey();
    op.best[r] = row.best;
    op.tokens[r] = 0;
    if (!(row.best > -INFINITY && row.best < INFINITY)) continue;  // the token means nothing
    row.heat = op.temperature[r];
    if (row.heat == 0) {
      op.tokens[r] = row.first_best();
      continue;
    }
    row.heat = row.heat > COLDEST ? row.heat : COLDEST;
    const float bottom = row.limit(op.min_p != nullptr ? op.min_p[r] : 0, op.top_k != nullptr ? op.top_k[r] : 0,
                                   op.top_p != nullptr ? op.top_p[r] : 1);
    op.tokens[r] = row.find(op.uniform[r], bottom);
  }
}

static void draw(const Share& share, const QuireDraw& op) {
  if (op.type == QUIRE_F32) return draw_rows<float>(share, op);
  if (op.type == QUIRE_BF16) return draw_rows<bf16>(share, op);
  draw_rows<f16>(share, op);
}

static int64_t draw_scratch(const QuireDraw& op, int threads) {
  return round_up(DrawnRow<float>::bytes(op.size), 64) * threads;
}

}  // namespace QUIRE_ISA
}  // namespace quire
