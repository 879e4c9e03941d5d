// Root mean square layer normalisation (Zhang and Sennrich 2019).
#pragma once

#include "kernels.h"
#include "simd.h"

namespace quire {
namespace QUIRE_ISA {

template <class T>
static void rms_norm_row(T* out, const T* x, T* residual, const T* weight, int64_t size, float eps, float offset) {
  vf squares = zero();
  for (int64_t i = 0; i < size; i += W) {
    vf value = load_first(x + i, size - i);
    if (residual != nullptr) {
      value = value + load_first(residual + i, size - i);
      store_first(residual + i, value, size - i);
      value = load_first(residual + i, size - i);  // as rounded: what later layers will see
    }
    squares = fma(value, value, squares);
  }
  const vf factor = all(1.0f / sqrtf(sum(squares) / static_cast<float>(size) + eps));
  const T* source = residual != nullptr ? residual : x;
  for (int64_t i = 0; i < size; i += W) {
    const vf scale = load_first(weight + i, size - i) + all(offset);
    store_first(out + i, load_first(source + i, size - i) * factor * scale, size - i);
  }
}

template <class T>
static void rms_norm_rows(const Share& share, const QuireRmsNorm& op) {
  const Range rows = share.of(op.rows);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    T* residual = op.residual == nullptr ? nullptr : static_cast<T*>(op.residual) + row * op.size;
    rms_norm_row(static_cast<T*>(op.out) + row * op.size, static_cast<const T*>(op.x) + row * op.x_stride, residual,
                 static_cast<const T*>(op.weight), op.size, op.eps, op.offset);
  }
}

static void rms_norm(const Share& share, const QuireRmsNorm& op) {
  if (op.type == QUIRE_F32) return rms_norm_rows<float>(share, op);
  if (op.type == QUIRE_BF16) return rms_norm_rows<bf16>(share, op);
  rms_norm_rows<f16>(share, op);
}

}  // namespace QUIRE_ISA
}  // namespace quire
