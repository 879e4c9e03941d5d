// Paged attention: which keys each query sees, who computes what, and the softmax in between. Products are tiles.h's.
//
// The work is cut into units: a tile of a span's queries, all query heads of one key head. A unit walks its keys in
// parts of PART from the sequence's first on, as flash attention does (Dao 2023): each part gives a peak, a total and a
// sum of values per row, and parts are merged in their order. Parts lie where they lie for every tile and any thread, so
// neither the batch, nor the cut of a prompt into chunks, nor the number of threads changes a bit of the answer.
#pragma once

#include "kernels.h"
#include "tiles.h"

namespace quire {
namespace QUIRE_ISA {

constexpr int64_t PART = 256;       // keys between two merges: scores of a tile stay in the second cache
constexpr int64_t TILE_ROWS = 96;   // at most, unless a key head has more query heads: enough to repay packing its keys
constexpr int64_t SHARED_ROWS = 16; // a tile of at most so many may be cut between threads, at parts
constexpr int64_t PACKING = 24;     // what packing a key costs, in rows that it is multiplied with

static_assert(PART % COLUMNS == 0, "a part is whole groups of columns");

static inline int64_t element_bytes(int32_t type) { return type == QUIRE_F32 ? 4 : 2; }

// A span's queries from `first` on, and the keys they see.
struct Tile {
  int64_t span, first, queries;
  int64_t ends;       // keys up to and including the first query's own; one more for each query after it
  int64_t low, high;  // keys that any of them sees

  int64_t part_begin() const { return low / PART; }
  int64_t parts() const { return at_least((high + PART - 1) / PART - part_begin(), 1); }
};

// Sizes that all threads agree on, and each thread's place in the scratch.
struct Plan {
  int64_t group;          // query heads of a key head
  int64_t tile_queries;
  int64_t rows;           // of the largest tile
  int64_t query_steps;    // floats of a packed query
  int64_t width;          // columns of a packed value
  int64_t saved_parts;    // that a thread may have to leave for another one

  explicit Plan(const QuirePagedAttention& op) {
    group = op.q_heads / op.kv_heads;
    tile_queries = at_least(TILE_ROWS / group, 1);
    rows = at_most(tile_queries, at_least(op.tokens, 1)) * group;
    query_steps = round_up(op.size, 2 * W);
    width = round_up(op.v_size, 2 * W);
    saved_parts = group <= SHARED_ROWS ? (op.longest + PART - 1) / PART : 0;
  }

  bool may_cut(const Tile& tile) const { return tile.queries * group <= SHARED_ROWS; }

  int64_t state_floats(int64_t count) const { return round_up(count * (width + 2), 16); }

  // In floats: queries, scores, packed keys or values, a part's state, the merged state, saved states, zeros.
  int64_t desk_floats() const {
    const int64_t packed = COLUMNS * (query_steps > width ? query_steps : width);
    const int64_t zeros = query_steps > width ? query_steps : width;
    return rows * query_steps + rows * PART + packed + 2 * state_floats(rows) + saved_parts * state_floats(SHARED_ROWS) +
           zeros;
  }

  Tile tile(const QuirePagedAttention& op, int64_t span, int64_t first) const {
    const int64_t last = op.starts[span + 1], length = op.lengths[span];
    const int64_t queries = at_most(last - first, tile_queries);
    const int64_t ends = length - (last - 1 - first);
    const int64_t high = at_least(ends + queries - 1, 0);
    const int64_t low = op.window > 0 ? at_most(at_least(ends - op.window, 0), high) : 0;
    return {span, first, queries, ends, low, high};
  }

  // In products of a row with a key, and what packing that is worth; the start of a unit counts as some keys.
  int64_t weight(const Tile& tile) const { return PACKING + tile.queries * group; }
  int64_t cost(const Tile& tile) const { return (tile.high - tile.low + 32) * weight(tile); }

  // What of it comes before a part.
  int64_t cost_before(const Tile& tile, int64_t part) const {
    return part == 0 ? 0 : ((tile.part_begin() + part) * PART - tile.low) * weight(tile);
  }

  // Parts of a unit that begin in [begin, end) of the whole cost, where the unit begins at `base`.
  Range parts(const Tile& tile, int64_t base, Range of) const {
    const int64_t count = tile.parts();
    const bool cuts = may_cut(tile);
    const auto first_from = [&](int64_t cost) {
      if (base >= cost) return int64_t{0};
      if (!cuts) return count;
      int64_t part = at_most((cost - base) / (PART * weight(tile)), count);  // a first guess, never too high
      while (part < count && base + cost_before(tile, part) < cost) ++part;
      return part;
    };
    return {first_from(of.begin), first_from(of.end)};
  }

  template <class Visit>
  void each_tile(const QuirePagedAttention& op, const Visit& visit) const {
    for (int64_t span = 0; span < op.spans; ++span)
      for (int64_t first = op.starts[span]; first < op.starts[span + 1]; first += tile_queries)
        visit(tile(op, span, first));
  }

  int64_t total_cost(const QuirePagedAttention& op) const {
    int64_t total = 0;
    each_tile(op, [&](const Tile& tile) { total += cost(tile) * op.kv_heads; });
    return total;
  }
};

// The softmax of some rows so far: exponents' peak (base 2), their total, and the values' weighted sum.
struct State {
  float* sums;  // [rows, width]
  float* peaks;
  float* totals;

  State(float* memory, int64_t rows, int64_t width)
      : sums(memory), peaks(memory + rows * width), totals(memory + rows * width + rows) {}
};

// Merge a part's state into that of the parts before it.
static void merge(const State& whole, const State& part, int64_t rows, int64_t columns, int64_t width) {
  for (int64_t row = 0; row < rows; ++row) {
    if (part.peaks[row] == -INFINITY) continue;  // it saw nothing there
    const float peak = whole.peaks[row] > part.peaks[row] ? whole.peaks[row] : part.peaks[row];
    const vf old_factor = exp2(all(whole.peaks[row] - peak)), factor = exp2(all(part.peaks[row] - peak));
    float factors[2][W];
    store(factors[0], old_factor);
    store(factors[1], factor);
    whole.totals[row] = whole.totals[row] * factors[0][0] + part.totals[row] * factors[1][0];
    whole.peaks[row] = peak;
    float* sums = whole.sums + row * width;
    const float* more = part.sums + row * width;
    for (int64_t i = 0; i < columns; i += W) store(sums + i, fma(load(sums + i), old_factor, load(more + i) * factor));
  }
}

// One thread at work: its memory, and the steps of a unit.
template <class Mode>
struct Desk {
  using Element = typename Mode::Element;

  const QuirePagedAttention& op;
  const Plan& plan;
  float* queries;
  float* scores;
  float* packed;
  float* part_memory;
  float* whole_memory;
  float* saved;
  Element* zeros;
  int64_t columns;  // of packed values that mean something

  Desk(const QuirePagedAttention& op, const Plan& plan, int index) : op(op), plan(plan) {
    queries = static_cast<float*>(op.scratch) + plan.desk_floats() * index;
    scores = queries + plan.rows * plan.query_steps;
    packed = scores + plan.rows * PART;
    part_memory = packed + COLUMNS * (plan.query_steps > plan.width ? plan.query_steps : plan.width);
    whole_memory = part_memory + plan.state_floats(plan.rows);
    saved = whole_memory + plan.state_floats(plan.rows);
    float* end = saved + plan.saved_parts * plan.state_floats(SHARED_ROWS);
    zeros = reinterpret_cast<Element*>(end);
    columns = round_up(op.v_size, Mode::INTERLEAVED);
  }

  void clear_zeros() {
    const int64_t floats = plan.query_steps > plan.width ? plan.query_steps : plan.width;
    memset(zeros, 0, floats * sizeof(float));
  }

  State whole(int64_t rows) const { return State(whole_memory, rows, plan.width); }
  State saved_part(int64_t rows, int64_t part) const {
    return State(saved + part * plan.state_floats(SHARED_ROWS), rows, plan.width);
  }

  // Keys that some query from `first` to `last` of a tile sees in a part, counted from the part's first.
  Range seen(const Tile& tile, int64_t first, int64_t last, int64_t part_first) const {
    const int64_t begin = op.window > 0 ? at_least(tile.ends + first - op.window - part_first, 0) : 0;
    const int64_t end = at_most(tile.ends + last - part_first, PART);
    return begin < end ? Range{begin, end} : Range{0, 0};
  }

  // The groups of COLUMNS keys that some of the rows from `row` on see, in keys counted from the part's first.
  Range groups(const Tile& tile, int64_t row, int64_t count, int64_t part_first) const {
    const Range keys = seen(tile, row / plan.group, (row + count - 1) / plan.group, part_first);
    return {keys.begin / COLUMNS * COLUMNS, round_up(keys.end, COLUMNS)};
  }

  // With zeros after the last element: vectors are read whole.
  template <class T>
  void take_queries(const Tile& tile, int64_t kv_head) {
    for (int64_t row = 0; row < tile.queries * plan.group; ++row) {
      const T* q = static_cast<const T*>(op.q) + (tile.first + row / plan.group) * op.q_token +
                   (kv_head * plan.group + row % plan.group) * op.q_head;
      float* steps = queries + row * plan.query_steps;
      for (int64_t at = 0; at < plan.query_steps; at += W)
        Mode::put(steps, at, at < op.size ? load_first(q + at, op.size - at) : zero());
    }
  }

  void take_queries(const Tile& tile, int64_t kv_head) {
    if (op.q_type == QUIRE_F32) return take_queries<float>(tile, kv_head);
    if (op.q_type == QUIRE_BF16) return take_queries<bf16>(tile, kv_head);
    take_queries<f16>(tile, kv_head);
  }

  // Where the COLUMNS keys from `key` on lie; zeros for those that nobody in the tile sees.
  void locate_keys(const Element** rows, const Tile& tile, int64_t kv_head, int64_t key) const {
    locate(rows, tile, key, static_cast<const Element*>(op.keys) + kv_head * op.k_head, op.k_block, op.k_slot);
  }

  void locate_values(const Element** rows, const Tile& tile, int64_t kv_head, int64_t key) const {
    locate(rows, tile, key, static_cast<const Element*>(op.values) + kv_head * op.v_head, op.v_block, op.v_slot);
  }

  void locate(const Element** rows, const Tile& tile, int64_t key, const Element* cache, int64_t block_stride,
              int64_t slot_stride) const {
    const int32_t* table = op.tables + tile.span * op.table_stride;
    int64_t block = key / op.block, slot = key % op.block;
    for (int i = 0; i < COLUMNS; ++i, ++key) {
      const bool is_seen = key >= tile.low && key < tile.high;
      rows[i] = is_seen ? cache + table[block] * block_stride + slot * slot_stride : zeros;
      if (++slot == op.block) {
        slot = 0;
        ++block;
      }
    }
  }

  // Scores of one row become weights, and those outside [seen] of [filled] zeros.
  void weigh(float* row, Range seen, Range filled, float& peak, float& total) const {
    constexpr float LOG2E = 1.44269504f;
    peak = -INFINITY;
    total = 0;
    const int64_t begin = seen.begin / W * W, end = round_up(seen.end, W);
    vf highest = all(-INFINITY);
    const vf factor = all(op.softcap > 0 ? 2 * op.scale / op.softcap : op.scale * LOG2E);
    for (int64_t i = begin; i < end; i += W) {
      vf score = load(row + i) * factor;
      if (op.softcap > 0) {  // c tanh(x / c), with tanh(y) = 1 - 2 / (e^2y + 1)
        const vf raised = exp(score) + all(1.0f);
        score = (all(1.0f) - all(2.0f) / raised) * all(op.softcap * LOG2E);
      }
      score = choose(between(seen.begin - i, seen.end - i), score, all(-INFINITY));
      store(row + i, score);
      highest = max(highest, score);
    }
    if (seen.begin < seen.end) peak = largest(highest);
    const vf base = all(peak);
    vf sums = zero();
    for (int64_t i = filled.begin; i < filled.end; i += W) {
      vf weight = zero();
      if (i >= begin && i < end) weight = exp2(load(row + i) - base);
      sums = sums + weight;
      Mode::put(row, i, weight);
    }
    total = sum(sums);
    if (total != total) peak = total;  // a score that is no number got lost among the largest, but must not be passed over
  }

  // One part of a unit, from its keys to its state. Memory is asked ahead of time for each group of keys and values, and
  // at last for the keys from `then` of `then_head` on, which the thread will want next.
  void attend(const Tile& tile, int64_t kv_head, int64_t part, const State& state, int64_t then_head, int64_t then) {
    const int64_t rows = tile.queries * plan.group, first = (tile.part_begin() + part) * PART;
    const int64_t low = at_least(tile.low - first, 0) / COLUMNS * COLUMNS;
    const int64_t high = at_most(tile.high - first, PART);
    const Element *here[COLUMNS], *next[COLUMNS];
    locate_keys(next, tile, kv_head, first + low);
    for (int64_t key = low; key < high; key += COLUMNS) {
      memcpy(here, next, sizeof here);
      if (key + COLUMNS < high)
        locate_keys(next, tile, kv_head, first + key + COLUMNS);
      else
        locate_values(next, tile, kv_head, first + low);
      score(tile, rows, key, first, here, next);
    }
    const int64_t block = in_place(rows) ? rows : ROWS;  // rows whose groups are multiplied together
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t top = row / block * block;
      const int64_t query = row / plan.group;
      weigh(scores + row * PART, seen(tile, query, query, first), groups(tile, top, at_most(rows - top, block), first),
            state.peaks[row], state.totals[row]);
    }
    for (int64_t key = low; key < high; key += COLUMNS) {
      memcpy(here, next, sizeof here);
      if (key + COLUMNS < high)
        locate_values(next, tile, kv_head, first + key + COLUMNS);
      else
        locate_keys(next, tile, then_head, then);
      gather(tile, rows, key, first, here, next, state);
    }
  }

  // Scores of all rows with the keys `here`, which are those from `key` on.
  void score(const Tile& tile, int64_t rows, int64_t key, int64_t first, const Element* const* here,
             const Element* const* next) const {
    Product of{scores + key, queries, packed, PART, plan.query_steps, COLUMNS, 0, false};
    if constexpr (READS_IN_PLACE<Mode>)
      if (in_place(rows)) return score_in_place(of, rows, here, next, op.size);
    pack_columns<Mode>(packed, here, next, op.size);
    of.steps = (op.size + Mode::DEPTH - 1) / Mode::DEPTH;
    for (int64_t row = 0; row < rows; row += ROWS) {
      const int64_t count = at_most(rows - row, ROWS);
      const Range filled = groups(tile, row, count, first);
      if (key >= filled.begin && key < filled.end) multiply<Mode>(of, count, COLUMNS);
      of.out += ROWS * of.out_stride;
      of.rows += ROWS * of.row_stride;
    }
  }

  // Sums of the values `here`, which are those from `key` on, by all rows' weights.
  void gather(const Tile& tile, int64_t rows, int64_t key, int64_t first, const Element* const* here,
              const Element* const* next, const State& state) const {
    Product of{state.sums, scores + key / Mode::DEPTH, packed, plan.width, PART, plan.width, COLUMNS / Mode::DEPTH, false};
    if constexpr (READS_IN_PLACE<Mode>)
      if (in_place(rows)) {
        of.add = key > groups(tile, 0, rows, first).begin;
        return add_in_place(of, rows, here, next, op.v_size);
      }
    pack_rows<Mode>(packed, here, next, op.v_size, plan.width);
    for (int64_t row = 0; row < rows; row += ROWS) {
      const int64_t count = at_most(rows - row, ROWS);
      const Range filled = groups(tile, row, count, first);
      of.add = key > filled.begin;
      if (key >= filled.begin && key < filled.end) multiply<Mode>(of, count, columns);
      of.out += ROWS * of.out_stride;
      of.rows += ROWS * of.row_stride;
    }
  }

  // Whether few rows are multiplied with keys and values where they lie; their sums have another order.
  bool in_place(int64_t rows) const { return READS_IN_PLACE<Mode> && !op.invariant && reads_in_place(rows, op.size); }

  // A sink is a score that came before all keys and has no value.
  void begin(const Tile& tile, int64_t kv_head, const State& state) const {
    const int64_t rows = tile.queries * plan.group;
    for (int64_t row = 0; row < rows; ++row) {
      const bool sinks = op.sinks != nullptr;
      state.peaks[row] = sinks ? op.sinks[kv_head * plan.group + row % plan.group] * 1.44269504f : -INFINITY;
      state.totals[row] = sinks ? 1.0f : 0.0f;
    }
    memset(state.sums, 0, rows * plan.width * sizeof(float));
  }

  template <class T>
  void finish(const Tile& tile, int64_t kv_head, const State& state) const {
    for (int64_t row = 0; row < tile.queries * plan.group; ++row) {
      T* out = static_cast<T*>(op.out) + (tile.first + row / plan.group) * op.out_token +
               (kv_head * plan.group + row % plan.group) * op.out_head;
      float* sums = state.sums + row * plan.width;
      Mode::order(sums, op.v_size);
      const vf factor = all(state.totals[row] > 0 ? 1.0f / state.totals[row] : 0.0f);
      for (int64_t i = 0; i < op.v_size; i += W) store_first(out + i, load(sums + i) * factor, op.v_size - i);
    }
  }

  void finish(const Tile& tile, int64_t kv_head, const State& state) const {
    if (op.out_type == QUIRE_F32) return finish<float>(tile, kv_head, state);
    if (op.out_type == QUIRE_BF16) return finish<bf16>(tile, kv_head, state);
    finish<f16>(tile, kv_head, state);
  }
};

// A unit that a thread began and others end.
struct Open {
  Tile tile;
  int64_t kv_head = -1, base = 0;
};

template <class Mode>
static void attend(const Share& share, const QuirePagedAttention& op) {
  const Plan plan(op);
  Desk<Mode> desk(op, plan, share.index);
  desk.clear_zeros();
  const int64_t total = plan.total_cost(op);
  const Range mine = share.of(total);
  Open open;
  int64_t base = 0;
  plan.each_tile(op, [&](const Tile& tile) {
    const int64_t cost = plan.cost(tile), rows = tile.queries * plan.group;
    if (base + cost * op.kv_heads <= mine.begin || base >= mine.end) {
      base += cost * op.kv_heads;
      return;
    }
    for (int64_t kv_head = 0; kv_head < op.kv_heads; ++kv_head, base += cost) {
      const Range parts = plan.parts(tile, base, mine);
      if (parts.begin >= parts.end) continue;
      const auto attend = [&](int64_t part, const State& state) {
        const bool goes_on = part + 1 < parts.end;
        const int64_t then_head = goes_on ? kv_head : at_most(kv_head + 1, op.kv_heads - 1);
        const int64_t then = goes_on ? (tile.part_begin() + part + 1) * PART : tile.low;
        desk.attend(tile, kv_head, part, state, then_head, then / COLUMNS * COLUMNS);
      };
      desk.take_queries(tile, kv_head);
      if (parts.begin > 0) {
        for (int64_t part = parts.begin; part < parts.end; ++part)
          attend(part, desk.saved_part(rows, part - parts.begin));
        continue;
      }
      const State whole = desk.whole(rows), state(desk.part_memory, rows, plan.width);
      desk.begin(tile, kv_head, whole);
      for (int64_t part = 0; part < parts.end; ++part) {
        attend(part, state);
        merge(whole, state, rows, desk.columns, plan.width);
      }
      if (parts.end < tile.parts())
        open = {tile, kv_head, base};
      else
        desk.finish(tile, kv_head, whole);
    }
  });
  share.meet();
  if (open.kv_head < 0) return;
  const int64_t rows = open.tile.queries * plan.group, count = open.tile.parts();
  const State whole = desk.whole(rows);
  for (int other = share.index + 1; other < share.count; ++other) {
    const Desk<Mode> theirs(op, plan, other);
    const Range parts = plan.parts(open.tile, open.base, Share{other, share.count, share.team}.of(total));
    for (int64_t part = parts.begin; part < parts.end; ++part)
      merge(whole, theirs.saved_part(rows, part - parts.begin), rows, desk.columns, plan.width);
    if (parts.end == count) break;
  }
  desk.finish(open.tile, open.kv_head, whole);
}

// Rows after the last span's.
static void clear_padding(const Share& share, const QuirePagedAttention& op) {
  const int64_t used = op.starts[op.spans];
  const Range rows = share.of(op.tokens - used);
  const int64_t bytes = element_bytes(op.out_type);
  for (int64_t row = used + rows.begin; row < used + rows.end; ++row)
    for (int64_t head = 0; head < op.q_heads; ++head)
      memset(static_cast<char*>(op.out) + (row * op.out_token + head * op.out_head) * bytes, 0, op.v_size * bytes);
}

static void paged_attention(const Share& share, const QuirePagedAttention& op) {
  clear_padding(share, op);
  if (op.kv_type == QUIRE_F32) return attend<Floats<float>>(share, op);
  if (op.kv_type == QUIRE_F16) return attend<Floats<f16>>(share, op);
#if defined(__AVX512BF16__)
  attend<Pairs>(share, op);
#else
  attend<Floats<bf16>>(share, op);
#endif
}

static int64_t paged_attention_scratch(const QuirePagedAttention& op, int threads) {
  return Plan(op).desk_floats() * threads * static_cast<int64_t>(sizeof(float));
}

}  // namespace QUIRE_ISA
}  // namespace quire
