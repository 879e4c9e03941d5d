// Products on AMX: tiles of 16 rows by 64 bytes, two by two of them for bf16.
//
// The layouts of packed weights are made for this: 16 steps along K of a block of columns are a tile as they lie.
#pragma once

#include "linear_floats.h"
#include "linear_integers.h"

#if defined(QUIRE_EMULATE_TILES)
#include "tiles_emulated.h"
#endif

namespace quire {
namespace QUIRE_ISA {
namespace products {

constexpr int64_t TILE_ROWS = 16;
constexpr int64_t TILE_BYTES = 64;                      // of a row
constexpr int64_t TILE = TILE_ROWS * TILE_BYTES;        // a tile of a weight is one stretch of memory
constexpr int64_t SUMS_STRIDE = PANEL_COLUMNS * 4;      // bytes

struct TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 and 1 are sums of `above` rows, 2 and 3 of `below`; 4 and 5 hold rows of x, 6 and 7 weights.
static inline void configure_tiles(int64_t above, int64_t below) {
  TileConfiguration is;
  for (int tile = 0; tile < 8; ++tile) {
    const bool lower = tile == 2 || tile == 3 || tile == 5;
    is.row_bytes[tile] = TILE_BYTES;
    is.rows[tile] = static_cast<uint8_t>(tile >= 6 ? TILE_ROWS : lower ? below : above);
  }
  // GCC before 12.4 takes the instruction to read eight of these bytes only (GCC bug 114098): let it drop none.
  __asm__ volatile("" : : "r"(&is) : "memory");
  _tile_loadconfig(&is);
}

static inline void fetch_tile(const Ahead& ahead, int64_t offset) {
  if (ahead.blocks == 0) return;
  for (int64_t line = 0; line < TILE; line += 64) ahead.fetch(offset + line);
}

struct TiledBf16 : Bf16 {
  static constexpr int ROWS = 2 * TILE_ROWS, BLOCKS = 2, FEW = 0;
  static constexpr bool TILED = true;

  static void multiply(const Tile& tile, int64_t rows, int64_t blocks) {
    const int64_t above = rows < TILE_ROWS ? rows : TILE_ROWS, below = rows - above;
    configure_tiles(above, below > 0 ? below : 1);
    float* lower_sums = tile.sums + TILE_ROWS * PANEL_COLUMNS;
    begin_tiles(tile, lower_sums, below > 0, blocks > 1);
    const int64_t stride = tile.x_stride * 2;  // bytes
    const X* upper = static_cast<const X*>(tile.x);
    const X* lower = upper + TILE_ROWS * tile.x_stride;
    const char* left = tile.weight;
    const char* right = tile.weight + tile.block_bytes;
    for (int64_t k = 0; k < tile.k; k += 32) {
      fetch_tile(tile.ahead, k * 32);
      _tile_loadd(4, upper + k, stride);
      _tile_loadd(6, left + k * 32, TILE_BYTES);
      _tile_dpbf16ps(0, 4, 6);
      if (blocks > 1) {
        _tile_loadd(7, right + k * 32, TILE_BYTES);
        _tile_dpbf16ps(1, 4, 7);
      }
      if (below > 0) {
        _tile_loadd(5, lower + k, stride);
        _tile_dpbf16ps(2, 5, 6);
        if (blocks > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, tile.sums, SUMS_STRIDE);
    if (blocks > 1) _tile_stored(1, tile.sums + 16, SUMS_STRIDE);
    if (below > 0) _tile_stored(2, lower_sums, SUMS_STRIDE);
    if (below > 0 && blocks > 1) _tile_stored(3, lower_sums + 16, SUMS_STRIDE);
  }

  static inline void begin_tiles(const Tile& tile, const float* lower_sums, bool below, bool wide) {
    if (tile.first) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      return;
    }
    _tile_loadd(0, tile.sums, SUMS_STRIDE);
    if (wide) _tile_loadd(1, tile.sums + 16, SUMS_STRIDE);
    if (below) _tile_loadd(2, lower_sums, SUMS_STRIDE);
    if (below && wide) _tile_loadd(3, lower_sums + 16, SUMS_STRIDE);
  }
};

// Rows of 15 bits of their largest element, as their upper and their lower bytes, 64 by 64: a tile of sums cannot be
// weighed group by group in passing, so rows have one scale each, and need the bits.
struct TiledInt8 : Usual {
  using X = int16_t;
  static constexpr int ROWS = TILE_ROWS, BLOCKS = 2, FEW = 0;
  static constexpr bool TILED = true;
  static constexpr float LARGEST = 16383.0f;  // 14 bits and a sign times 8 bits, 1024 of them, stay inside 32 bits

  static int64_t length(const QuireLinear& op) { return quire_padded(op.k, op.kind, op.group); }
  static int64_t offset(int64_t k, const QuireLinear&) { return k * 16; }
  static int64_t x_offset(int64_t k, const QuireLinear&) { return k; }

  static Prepared prepare(const Share& share, const QuireLinear& op, char* own) {
    return rounded<TiledInt8>(share, op, own, length(op) * 2);
  }

  template <class T>
  static float round(char* row, const T* x, const QuireLinear& op) {
    const float worth = worth_of(x, op.k, LARGEST);
    round_stretch(reinterpret_cast<X*>(row), x, op.k, length(op), worth);
    split_bytes(reinterpret_cast<X*>(row), length(op));
    return worth;
  }

  // Words become, 64 by 64, their upper bytes and then their lower ones.
  static inline void split_bytes(X* words, int64_t length) {
    for (int64_t i = 0; i < length; i += 64) {
      X whole[64];
      memcpy(whole, words + i, sizeof whole);
      char* bytes = reinterpret_cast<char*>(words + i);
      for (int j = 0; j < 64; ++j) {
        bytes[j] = static_cast<char>(whole[j] >> 8);
        bytes[64 + j] = static_cast<char>(whole[j]);
      }
    }
  }

  static void multiply(const Tile& tile, int64_t rows, int64_t blocks) {
    configure_tiles(rows, rows);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const int64_t stride = tile.x_stride * 2;
    const X* x = static_cast<const X*>(tile.x);
    const char* left = tile.weight;
    const char* right = tile.weight + tile.block_bytes;
    for (int64_t k = 0; k < tile.k; k += 64) {
      fetch_tile(tile.ahead, k * 16);
      _tile_loadd(4, x + k, stride);  // upper bytes, signed
      _tile_loadd(5, x + k + 32, stride);  // lower bytes, unsigned
      _tile_loadd(6, left + k * 16, TILE_BYTES);
      _tile_dpbssd(0, 4, 6);
      _tile_dpbusd(2, 5, 6);
      if (blocks > 1) {
        _tile_loadd(7, right + k * 16, TILE_BYTES);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbusd(3, 5, 7);
      }
    }
    alignas(64) int32_t upper[TILE_ROWS * 32], lower[TILE_ROWS * 32];
    _tile_stored(0, upper, 128);
    _tile_stored(1, upper + 16, 128);
    _tile_stored(2, lower, 128);
    _tile_stored(3, lower + 16, 128);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < blocks * 16; ++column) {
        const float sum = static_cast<float>(upper[row * 32 + column] * 256 + lower[row * 32 + column]);
        float& out = tile.sums[row * PANEL_COLUMNS + column];
        out = tile.first ? sum : out + sum;
      }
  }
};

// Many rows with int4: weights are made bf16 once for all of them.
struct TiledInt4 : TiledBf16 {
  static constexpr int64_t BATCH = 512;
  static constexpr int64_t ROOM = PANEL * CHUNK * 32;

  static int64_t offset(int64_t k, const QuireLinear& op) { return Int4::offset(k, op); }

  // The panel's chunk as if it had been packed so.
  static void unpack(Tile& tile, int64_t blocks, char* room) {
    for (int64_t block = 0; block < blocks; ++block)
      unpack_block(tile.weight + block * tile.block_bytes, room + block * CHUNK * 32, tile.k, tile.group);
    tile.weight = room;
    tile.block_bytes = CHUNK * 32;
  }

  static void unpack_block(const char* in, char* out, int64_t length, int64_t group) {
    for (int64_t k = 0; k < length; k += 2 * group, in += quire_int4_record(group))
      for (int half = 0; half < 2; ++half) {
        const vf scale = load(reinterpret_cast<const bf16*>(in) + half * 16);
        const char* weight = in + 64 + half * group * 8;
        for (int64_t i = 0; i < group; i += 8, out += 256) {
          const vi both = bytes(weight + i * 8);
          store_four(out, bits_of_both(both, all_bytes(15)), scale);
          store_four(out + 128, upper_halves(both), scale);
        }
      }
  }

  // Four inputs of a column, stored 8 too large, as two pairs of bf16.
  static inline void store_four(char* out, vi four, vf scale) {
    const vi steps = _mm512_sub_epi8(four, _mm512_set1_epi8(8));
    const vi even = _mm512_slli_epi32(steps, 8);
    _mm512_store_si512(out, pair_of(_mm512_slli_epi32(even, 16), _mm512_slli_epi32(steps, 16), scale));
    _mm512_store_si512(out + 64, pair_of(even, steps, scale));
  }

  // The uppermost bytes of lanes times their column's scale.
  static inline vi pair_of(vi first, vi second, vf scale) {
    const vi half = _mm512_set1_epi32(0x8000);
    const vf even = floats(_mm512_srai_epi32(first, 24)) * scale, odd = floats(_mm512_srai_epi32(second, 24)) * scale;
    const vi low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    const vi high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
  }
};

}  // namespace products
}  // namespace QUIRE_ISA
}  // namespace quire
