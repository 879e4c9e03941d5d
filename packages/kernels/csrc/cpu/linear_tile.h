// What every kind of packed weight gives `linear` to work with, and what it gets to work on.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace quire {
namespace QUIRE_ISA {
namespace products {

constexpr int64_t PANEL = 4;                     // blocks of 16 columns
constexpr int64_t PANEL_COLUMNS = PANEL * 16;
constexpr int64_t CHUNK = 1024;                  // inputs: a panel of bf16 is 128 KiB of them
constexpr int64_t OWN = 16 << 10;                // bytes of rows that each thread makes for itself, if they are few
constexpr int P = 16 / W;                        // vectors of floats to a block

// Memory that is read into the second cache while a tile is computed, as fast as the tile reads its own weights.
struct Ahead {
  const char* weight;
  int64_t block_bytes, blocks;

  void fetch(int64_t offset) const {
    if (blocks == 0) return;  // as for most tiles where there are many rows
    for (int64_t block = 0; block < blocks; ++block)
      _mm_prefetch(weight + block * block_bytes + offset, _MM_HINT_T1);
  }
};

// The chunk after the one at hand. Every pass over the chunk at hand fetches its part.
struct Next {
  const char* weight;
  int64_t block_bytes, blocks;

  Ahead part(int64_t pass, int64_t passes) const {
    const int64_t begin = blocks * pass / passes, end = blocks * (pass + 1) / passes;
    return {weight + begin * block_bytes, block_bytes, end - begin};
  }
};

// A kind of weight names the largest tile that its sums leave registers for, ROWS by BLOCKS; and FEW, up to how many
// rows a tile may take a whole panel instead: that much work in flight hides how long each step takes.

// Rows as a kind of weight wants them, `stride` elements apart, and for integers what one is worth in each row.
struct Prepared {
  const void* rows;
  int64_t stride;
  const float* scales;
};

// One register tile's work: sums [M, B * 16], PANEL_COLUMNS apart, of M rows of x with B blocks of the weight.
struct Tile {
  float* sums;
  const void* x;
  int64_t x_stride;
  const char* weight;
  int64_t block_bytes;
  int64_t k;
  int32_t group;
  bool first;  // of the chunks: sums begin at zero
  Ahead ahead;

  // The weights of some steps later, out of the second cache into the first: tiles that multiply all the time have none
  // to wait for them.
  template <int B>
  void fetch_near(int64_t offset) const {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) _mm_prefetch(weight + b * block_bytes + offset + 1024, _MM_HINT_T0);
  }
};

// A tile's sums, from and to memory.
template <int M, int V>
static inline void begin_sums(vf (&sums)[M][V], const Tile& tile) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sums[m][v] = tile.first ? zero() : load(tile.sums + m * PANEL_COLUMNS + v * W);
}

template <int M, int V>
static inline void end_sums(const vf (&sums)[M][V], const Tile& tile) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(tile.sums + m * PANEL_COLUMNS + v * W, sums[m][v]);
}

// What most kinds have: tiles of vectors, and weights that are read as they were packed.
struct Usual {
  static constexpr bool TILED = false;
  static constexpr int64_t BATCH = 96;  // rows whose sums are kept beside one panel
  static constexpr int64_t ROOM = 0;    // bytes for a panel's chunk in another layout
  static void unpack(Tile&, int64_t, char*) {}
};

// Rows of x in another type, or padded with zeros to a longer K, made by all threads together.
template <class To, class From>
static void convert_rows(const Share& share, const QuireLinear& op, To* out, int64_t length) {
  const Range rows = share.of(op.rows);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const From* x = static_cast<const From*>(op.x) + row * op.x_stride;
    for (int64_t k = 0; k < length; k += W)
      store_first(out + row * length + k, k < op.k ? load_first(x + k, op.k - k) : zero(), length - k);
  }
  share.meet();
}

template <class To>
static Prepared converted(const Share& share, const QuireLinear& op, int32_t type, int64_t length) {
  if (op.x_type == type && op.k == length) return {op.x, op.x_stride, nullptr};
  To* out = static_cast<To*>(op.scratch);
  if (op.x_type == QUIRE_F32) convert_rows<To, float>(share, op, out, length);
  if (op.x_type == QUIRE_BF16) convert_rows<To, bf16>(share, op, out, length);
  if (op.x_type == QUIRE_F16) convert_rows<To, f16>(share, op, out, length);
  return {out, length, nullptr};
}

}  // namespace products
}  // namespace QUIRE_ISA
}  // namespace quire
