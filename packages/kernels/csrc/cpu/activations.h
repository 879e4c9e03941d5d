// Activations of gates on vectors.
#pragma once

#include "ops.h"
#include "simd.h"

namespace quire {
namespace QUIRE_ISA {

static inline vf silu(vf x) { return x / (all(1.0f) + exp(zero() - x)); }

// By 1 - erf, within 1.5e-7 (Abramowitz and Stegun 7.1.26).
static inline vf gelu(vf x) {
  const vf z = max(x, zero() - x) * all(0.70710678118654752f);
  const vf t = all(1.0f) / fma(all(0.3275911f), z, all(1.0f));
  vf p = all(1.061405429f);
  p = fma(p, t, all(-1.453152027f));
  p = fma(p, t, all(1.421413741f));
  p = fma(p, t, all(-0.284496736f));
  p = fma(p, t, all(0.254829592f));
  const vf rest = all(0.5f) * p * t * exp(zero() - z * z);  // half of 1 - erf(z)
  return max(x, zero()) - max(x, zero() - x) * rest;
}

// x / (1 + e^-2u) is x (1 + tanh(u)) / 2.
static inline vf gelu_tanh(vf x) {
  const vf u = x * fma(x * x, all(0.7978845608f * 0.044715f), all(0.7978845608f));
  return x / (all(1.0f) + exp(u * all(-2.0f)));
}

// By a QuireGate that is one.
static inline vf gate_of(vf x, int32_t gate) {
  if (gate == QUIRE_SILU) return silu(x);
  if (gate == QUIRE_GELU) return gelu(x);
  return gelu_tanh(x);
}

}  // namespace QUIRE_ISA
}  // namespace quire
