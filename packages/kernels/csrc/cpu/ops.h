// What the ops are asked: one struct for each, filled in by Python (quire_kernels/_cpu.py) or by another op here.
// Plain C, and the same for every instruction set. Sizes and strides count elements.
#pragma once

#include <stdint.h>

enum QuireType { QUIRE_F32 = 0, QUIRE_BF16 = 1, QUIRE_F16 = 2 };

// out = x / sqrt(mean(x^2) + eps) * (weight + offset), row by row, computed in float32 and rounded once.
// With a residual: residual += x first, and it is what is normalised.
struct QuireRmsNorm {
  void* out;           // [rows, size]
  const void* x;       // [rows, size], rows `x_stride` apart
  void* residual;      // [rows, size] or null
  const void* weight;  // [size]
  int64_t rows, size, x_stride;
  float eps, offset;
  int32_t type;  // of all of them
};
