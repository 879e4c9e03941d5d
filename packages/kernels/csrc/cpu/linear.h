// out = x weight^T: products of rows with a packed weight, for few rows (where reading the weight is all the time) and
// for many (where multiplying is). It knows layouts of weights, not what a model does with them.
//
// The work is cut into panels of columns, panels into chunks along K that stay in the cache nearest to the core, and
// these into tiles of a few rows by a few blocks of 16 columns whose sums stay in registers. Each sum is added up along
// K from the front, whatever the shape of the tile it is in: how many rows there are changes no bit of any row.
#pragma once

#include "activations.h"
#include "kernels.h"
#include "linear_floats.h"
#include "linear_integers.h"

#if defined(__AMX_TILE__) || defined(QUIRE_EMULATE_TILES)
#define QUIRE_TILES
#include "linear_tiles.h"
#endif

namespace quire {
namespace QUIRE_ISA {
namespace products {

// What happens to finished sums: scales, bias, gate, and the way out.
template <class T>
static void finish_rows(const QuireLinear& op, const Prepared& x, const float* sums, Range rows, Range blocks) {
  const bool gated = op.gate != QUIRE_UNGATED;
  const int64_t step = gated ? 2 : 1;
  for (int64_t row = rows.begin; row < rows.end; ++row, sums += PANEL_COLUMNS) {
    const vf row_scale = all(x.scales == nullptr ? 1.0f : x.scales[row]);
    T* out = static_cast<T*>(op.out) + row * op.out_stride;
    const auto settled = [&](int64_t block, int part) {
      const int64_t column = block * 16 + part;
      vf value = load(sums + column - blocks.begin * 16);
      if (x.scales != nullptr) value = value * row_scale;
      if (op.scales != nullptr) value = value * load(op.scales + column);
      return op.bias == nullptr ? value : value + load(op.bias + column);
    };
    for (int64_t block = blocks.begin; block < blocks.end; block += step)
      for (int part = 0; part < 16; part += W) {
        const int64_t column = block / step * 16 + part, left = op.n - column;
        if (left <= 0) break;
        vf value = settled(block, part);
        if (gated) value = gate_of(value, op.gate) * settled(block + 1, part);
        if (op.accumulate) value = value + load_first(out + column, left);
        store_first(out + column, value, left);
      }
  }
}

static void finish(const QuireLinear& op, const Prepared& x, const float* sums, Range rows, Range blocks) {
  if (op.out_type == QUIRE_F32) return finish_rows<float>(op, x, sums, rows, blocks);
  if (op.out_type == QUIRE_BF16) return finish_rows<bf16>(op, x, sums, rows, blocks);
  finish_rows<f16>(op, x, sums, rows, blocks);
}

template <class Kind, int M, int B>
static void tile_up_to(const Tile& tile, int64_t rows, int64_t blocks) {
  if constexpr (B > 1) {
    if (blocks < B) return tile_up_to<Kind, M, B / 2>(tile, rows, blocks);
  }
  if constexpr (M > 1) {
    if (rows < M) return tile_up_to<Kind, M - 1, B>(tile, rows, blocks);
  }
  Kind::template tile<M, B>(tile);
}

static inline int64_t power_of_two_up_to(int64_t n, int64_t most) { return n >= most ? most : n >= 2 ? 2 : 1; }

// Rows against a panel, along one chunk of K.
template <class Kind>
static void multiply_chunk(Tile whole, int64_t rows, int64_t blocks, const Next& next) {
  const bool few = rows <= Kind::FEW;
  const int64_t most = few ? PANEL : Kind::BLOCKS;
  const int64_t row_tiles = (rows + Kind::ROWS - 1) / Kind::ROWS;
  const int64_t passes = row_tiles * ((blocks + most - 1) / most);
  int64_t pass = 0;
  for (int64_t block = 0; block < blocks;) {
    const int64_t width = power_of_two_up_to(blocks - block, most);
    for (int64_t i = 0; i < row_tiles; ++i, ++pass) {
      // Even parts: five rows are 3 and 2 where six are too many, not 4 and 1.
      const int64_t begin = rows * i / row_tiles, end = rows * (i + 1) / row_tiles;
      Tile tile = whole;
      tile.sums += begin * PANEL_COLUMNS + block * 16;
      tile.x = static_cast<const typename Kind::X*>(whole.x) + begin * whole.x_stride;
      tile.weight += block * whole.block_bytes;
      tile.ahead = next.part(pass, passes);
      if constexpr (Kind::TILED) {
        Kind::multiply(tile, end - begin, width);
      } else if constexpr (Kind::FEW > 0) {
        if (few)
          tile_up_to<Kind, Kind::FEW, PANEL>(tile, end - begin, width);
        else
          tile_up_to<Kind, Kind::ROWS, Kind::BLOCKS>(tile, end - begin, width);
      } else {
        tile_up_to<Kind, Kind::ROWS, Kind::BLOCKS>(tile, end - begin, width);
      }
    }
    block += width;
  }
}

// By columns, or by rows where there are few columns and many rows.
static void divide(const Share& share, const QuireLinear& op, Range* rows, Range* blocks) {
  const int64_t count = quire_blocks(op.n, op.gate);
  const int64_t panels = (count + PANEL - 1) / PANEL;
  *rows = {0, op.rows};
  *blocks = {0, count};
  if (panels < 4 * share.count && op.rows >= 16 * share.count)
    *rows = share.of(op.rows);
  else
    *blocks = share.of(count, op.gate == QUIRE_UNGATED ? 1 : 2);
}

template <class Kind>
static void run(const Share& share, const QuireLinear& op) {
  alignas(64) char own[OWN];
  const Prepared x = Kind::prepare(share, op, own);
  const int64_t bytes = quire_block_bytes(op.k, op.kind, op.group);
  const int64_t k = Kind::length(op);
  const char* weight = static_cast<const char*>(op.weight);
  Range my_rows, my_blocks;
  divide(share, op, &my_rows, &my_blocks);
  alignas(64) float sums[Kind::BATCH * PANEL_COLUMNS];
  alignas(64) char room[Kind::ROOM + 64];
  for (int64_t panel = my_blocks.begin; panel < my_blocks.end; panel += PANEL) {
    const Range blocks = {panel, panel + PANEL < my_blocks.end ? panel + PANEL : my_blocks.end};
    for (int64_t row = my_rows.begin; row < my_rows.end; row += Kind::BATCH) {
      const Range rows = {row, row + Kind::BATCH < my_rows.end ? row + Kind::BATCH : my_rows.end};
      for (int64_t at = 0; at < k; at += CHUNK) {
        const int64_t end = at + CHUNK < k ? at + CHUNK : k;
        const char* chunk = weight + panel * bytes + Kind::offset(at, op);
        const void* part = static_cast<const typename Kind::X*>(x.rows) + row * x.stride + Kind::x_offset(at, op);
        // What will be wanted next: the panel's next chunk, its first one for other rows, or the next panel's.
        Next next = {weight + panel * bytes + Kind::offset(end, op), bytes, blocks.end - blocks.begin};
        if (end == k && rows.end < my_rows.end) next.weight = weight + panel * bytes;
        if (end == k && rows.end == my_rows.end) {
          next.weight = weight + blocks.end * bytes;
          next.blocks = my_blocks.end - blocks.end < PANEL ? my_blocks.end - blocks.end : PANEL;
        }
        if (Kind::ROOM > 0) next.blocks = 0;  // reading in another layout takes its time without help
        Tile whole = {sums, part, x.stride, chunk, bytes, end - at, op.group, at == 0, {}};
        Kind::unpack(whole, blocks.end - blocks.begin, room);
        multiply_chunk<Kind>(whole, rows.end - rows.begin, blocks.end - blocks.begin, next);
      }
      finish(op, x, sums, rows, blocks);
    }
  }
}

}  // namespace products

#if defined(QUIRE_TILES)
constexpr int64_t TILES_FROM = 3;         // rows: fewer leave most of a tile empty
constexpr int64_t INT4_TILES_FROM = 16;   // rows that are worth making bf16 of all weights

// Whether tiles were the faster way, and taken. No kind comes to the same in both.
static bool linear_in_tiles(const Share& share, const QuireLinear& op) {
  if (op.kind == QUIRE_KIND_BF16 && (op.invariant || op.rows >= TILES_FROM))
    products::run<products::TiledBf16>(share, op);
  else if (op.kind == QUIRE_KIND_INT8 && (op.invariant || op.rows >= TILES_FROM))
    products::run<products::TiledInt8>(share, op);
  else if (op.kind == QUIRE_KIND_INT4 && !op.invariant && op.rows >= INT4_TILES_FROM)
    products::run<products::TiledInt4>(share, op);
  else
    return false;
  _tile_release();
  return true;
}
#endif

static void linear(const Share& share, const QuireLinear& op) {
#if defined(QUIRE_TILES)
  if (linear_in_tiles(share, op)) return;
#endif
  if (op.kind == QUIRE_KIND_F32) return products::run<products::Plain<float>>(share, op);
  if (op.kind == QUIRE_KIND_F16) return products::run<products::Plain<f16>>(share, op);
  if (op.kind == QUIRE_KIND_INT8) return products::run<products::Int8>(share, op);
  if (op.kind == QUIRE_KIND_INT4) return products::run<products::Int4>(share, op);
  products::run<products::Bf16>(share, op);
}

}  // namespace QUIRE_ISA
}  // namespace quire
