// AMX's tile instructions in plain C++, for tests on processors without them: the same registers, the same steps in the
// same order (Intel, Architecture Instruction Set Extensions Programming Reference, chapter 3).
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace quire {
namespace QUIRE_ISA {
namespace emulated {

struct Configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

struct Registers {
  Configuration is;
  char tile[8][16][64];
};
static thread_local Registers registers;

static inline void loadconfig(const void* from) { memcpy(&registers.is, from, sizeof registers.is); }
static inline void release() { memset(&registers, 0, sizeof registers); }
static inline void clear(int to) { memset(registers.tile[to], 0, sizeof registers.tile[to]); }

static inline void load(int to, const void* from, int64_t stride) {
  clear(to);
  for (int row = 0; row < registers.is.rows[to]; ++row)
    memcpy(registers.tile[to][row], static_cast<const char*>(from) + row * stride, registers.is.row_bytes[to]);
}

static inline void store(int from, void* to, int64_t stride) {
  for (int row = 0; row < registers.is.rows[from]; ++row)
    memcpy(static_cast<char*>(to) + row * stride, registers.tile[from][row], registers.is.row_bytes[from]);
}

// Four bytes of a row of `a` times four of a column of `b`, added up in 32 bits.
template <class A>
static inline void multiply_bytes(int to, int a, int b) {
  for (int m = 0; m < registers.is.rows[to]; ++m)
    for (int k = 0; k < registers.is.row_bytes[a] / 4; ++k)
      for (int n = 0; n < registers.is.row_bytes[to] / 4; ++n) {
        int32_t sum;
        memcpy(&sum, registers.tile[to][m] + n * 4, 4);
        for (int i = 0; i < 4; ++i)
          sum += static_cast<A>(registers.tile[a][m][k * 4 + i]) *
                 static_cast<int8_t>(registers.tile[b][k][n * 4 + i]);
        memcpy(registers.tile[to][m] + n * 4, &sum, 4);
      }
}

// Pairs of bf16: even and odd products are added up apart, then to each other, then to the sum.
static inline void multiply_bf16(int to, int a, int b) {
  for (int m = 0; m < registers.is.rows[to]; ++m)
    for (int n = 0; n < registers.is.row_bytes[to] / 4; ++n) {
      float parts[2] = {0.0f, 0.0f}, sum;
      for (int k = 0; k < registers.is.row_bytes[a] / 4; ++k)
        for (int i = 0; i < 2; ++i) {
          bf16 left, right;
          memcpy(&left, registers.tile[a][m] + k * 4 + i * 2, 2);
          memcpy(&right, registers.tile[b][k] + n * 4 + i * 2, 2);
          parts[i] += to_float(left) * to_float(right);
        }
      memcpy(&sum, registers.tile[to][m] + n * 4, 4);
      sum += parts[0] + parts[1];
      memcpy(registers.tile[to][m] + n * 4, &sum, 4);
    }
}

}  // namespace emulated
}  // namespace QUIRE_ISA
}  // namespace quire

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#undef _tile_dpbusd
#define _tile_loadconfig(from) emulated::loadconfig(from)
#define _tile_release() emulated::release()
#define _tile_zero(to) emulated::clear(to)
#define _tile_loadd(to, from, stride) emulated::load(to, from, stride)
#define _tile_stored(from, to, stride) emulated::store(from, to, stride)
#define _tile_dpbf16ps(to, a, b) emulated::multiply_bf16(to, a, b)
#define _tile_dpbssd(to, a, b) emulated::multiply_bytes<int8_t>(to, a, b)
#define _tile_dpbusd(to, a, b) emulated::multiply_bytes<uint8_t>(to, a, b)
