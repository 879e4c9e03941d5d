// One step of a decoder-only language model, from token ids to logits, as one job of the team.
//
// The residual stream stays in float32. A layer is six phases with a meeting after each: normalise and project; rotate
// and store; attend; project back onto the residual; normalise and project up; project down onto the residual. Few
// rows are normalised by every thread for itself, which is quicker than to share them and meet.
#pragma once

#include "activations.h"
#include "attention.h"
#include "decoder_ops.h"
#include "heads.h"
#include "kernels.h"
#include "linear.h"
#include "simd.h"
#include "watch.h"

namespace quire {
namespace QUIRE_ISA {

// ---- rows -----------------------------------------------------------------------------------------------------------

// The factor and the shift that normalise a stretch: (x + shift) * factor.
struct Scaling {
  float shift, factor;
};

template <class T>
static Scaling measure(const T* x, int64_t size, const QuireNorm& norm) {
  float shift = 0;
  if (norm.kind == QUIRE_LAYER_NORM) {
    vf total = zero();
    for (int64_t i = 0; i < size; i += W) total = total + load_first(x + i, size - i);
    shift = -sum(total) / static_cast<float>(size);
  }
  vf squares = zero();
  for (int64_t i = 0; i < size; i += W) {
    vf value = load_first(x + i, size - i);
    if (norm.kind == QUIRE_LAYER_NORM) {
      value = value + all(shift);
      if (size - i < W) value = choose(first(size - i), value, zero());
    }
    squares = fma(value, value, squares);
  }
  return {shift, 1.0f / sqrtf(sum(squares) / static_cast<float>(size) + norm.eps)};
}

// One stretch; `at` is where it begins in its row, and so in weight and bias.
template <class To, class From>
static void normalise(To* out, const From* x, int64_t size, const QuireNorm& norm, int64_t at, Scaling scaling) {
  const vf shift = all(scaling.shift), factor = all(scaling.factor);
  for (int64_t i = 0; i < size; i += W) {
    vf value = (load_first(x + i, size - i) + shift) * factor;
    if (norm.weight != nullptr) value = value * load_first(norm.weight + at + i, size - i);
    if (norm.bias != nullptr) value = value + load_first(norm.bias + at + i, size - i);
    store_first(out + i, value, size - i);
  }
}

// A row as `norm` has it, or only converted.
template <class To>
static void normalise_row(To* out, const float* x, int64_t size, const QuireNorm& norm) {
  if (norm.kind != QUIRE_NO_NORM) return normalise(out, x, size, norm, 0, measure(x, size, norm));
  for (int64_t i = 0; i < size; i += W) store_first(out + i, load_first(x + i, size - i), size - i);
}

// residual += factor * norm(added)
static void join_row(float* residual, float* added, int64_t size, const QuireNorm& norm, float factor) {
  if (norm.kind != QUIRE_NO_NORM) normalise_row(added, added, size, norm);
  for (int64_t i = 0; i < size; i += W) {
    const vf total = fma(all(factor), load_first(added + i, size - i), load_first(residual + i, size - i));
    store_first(residual + i, total, size - i);
  }
}

template <class From>
static void scale_row(float* out, const From* x, int64_t size, float scale) {
  for (int64_t i = 0; i < size; i += W) store_first(out + i, load_first(x + i, size - i) * all(scale), size - i);
}

static vf tanh(vf x) {  // (1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x
  const vf magnitude = max(x, zero() - x);
  const vf e = exp(all(-2.0f) * magnitude);
  const vf result = (all(1.0f) - e) / (all(1.0f) + e);
  return result * (x / max(magnitude, all(1e-30f)));
}

// ---- phases ---------------------------------------------------------------------------------------------------------

template <class T>
struct DecoderRun {
  const Share& share;
  const QuireDecoder& decoder;
  const QuireDecoderStep& step;
  Watch watch{share};
  const QuireNorm* waiting_norm = nullptr;  // how `added` is to be joined to the residual, if it is
  float waiting_factor = 0;

  void begin() {
    const Range rows = share.of(step.rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      embed(row);
      for (int64_t which = 0; which < decoder.rotation_count; ++which) find_turn(which, row);
    }
    watch.meet(EMBED);
  }

  void embed(int64_t row) const {
    float* out = decoder.residual + row * decoder.hidden;
    const int64_t given = step.given == nullptr ? -1 : step.given[row];
    const int64_t at = step.ids[row] * decoder.hidden;
    if (given >= 0)
      scale_row(out, step.given_rows + given * decoder.hidden, decoder.hidden, decoder.given_scale);
    else if (decoder.embedding_type == QUIRE_F32)
      scale_row(out, static_cast<const float*>(decoder.embedding) + at, decoder.hidden, decoder.embedding_scale);
    else if (decoder.embedding_type == QUIRE_BF16)
      scale_row(out, static_cast<const bf16*>(decoder.embedding) + at, decoder.hidden, decoder.embedding_scale);
    else
      scale_row(out, static_cast<const f16*>(decoder.embedding) + at, decoder.hidden, decoder.embedding_scale);
  }

  float* turn(int64_t which, int64_t row) const {
    return decoder.turns + (which * decoder.max_rows + row) * 2 * decoder.most_pairs;
  }

  // Once for all layers: cosines and sines of a row's position.
  void find_turn(int64_t which, int64_t row) const {
    const QuireRotation& rotation = decoder.rotations[which];
    float* cosines = turn(which, row);
    float* sines = cosines + rotation.pairs;
    const float position = static_cast<float>(step.positions[row]);
    for (int64_t i = 0; i < rotation.pairs; ++i) {
      const float angle = position * rotation.frequencies[i];
      cosines[i] = cosf(angle) * rotation.scale;
      sines[i] = sinf(angle) * rotation.scale;
    }
  }

  void join_waiting(int64_t row) const {
    const int64_t at = row * decoder.hidden;
    join_row(decoder.residual + at, decoder.added + at, decoder.hidden, *waiting_norm, waiting_factor);
  }

  // The rows that the next product reads: the residual stream, with what waits joined to it, normalised.
  const T* enter(const QuireNorm& norm) {
    const int64_t size = decoder.hidden;
    if (waiting_norm == nullptr && step.rows * size <= decoder.own_size && share.count <= decoder.threads) {
      T* own = static_cast<T*>(decoder.own) + share.index * decoder.own_size;
      for (int64_t row = 0; row < step.rows; ++row)
        normalise_row(own + row * size, decoder.residual + row * size, size, norm);
      return own;
    }
    T* normed = static_cast<T*>(decoder.normed);
    const Range rows = share.of(step.rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      if (waiting_norm != nullptr) join_waiting(row);
      normalise_row(normed + row * size, decoder.residual + row * size, size, norm);
    }
    waiting_norm = nullptr;
    share.meet();
    return normed;
  }

  // out = x times a weight; `in` and `width` are the lengths of rows of x and out.
  template <class To>
  void product(const QuireLinear& weight, const T* x, int64_t in, To* out, int64_t width, int64_t rows,
               bool accumulate = false) const {
    QuireLinear op = weight;
    op.x = x;
    op.x_stride = in;
    op.out = out;
    op.out_stride = width;
    op.rows = rows;
    op.x_type = decoder.type;
    op.out_type = type_of(static_cast<To*>(nullptr));
    op.accumulate = accumulate;
    op.scratch = decoder.product_scratch;
    linear(share, op);
  }

  static int32_t type_of(float*) { return QUIRE_F32; }
  static int32_t type_of(bf16*) { return QUIRE_BF16; }
  static int32_t type_of(f16*) { return QUIRE_F16; }

  // What attention or an MLP adds: at once, or once it has been normalised or multiplied.
  void leave(const QuireLinear& weight, const T* x, int64_t in, const QuireNorm& after, float factor) {
    const bool is_direct = after.kind == QUIRE_NO_NORM && factor == 1.0f;
    product(weight, x, in, is_direct ? decoder.residual : decoder.added, decoder.hidden, step.rows, is_direct);
    if (is_direct) return;
    waiting_norm = &after;
    waiting_factor = factor;
  }

  void run_layer(const QuireDecoderLayer& layer, const QuireCacheLayer& cache) {
    T* projected = static_cast<T*>(decoder.projected);
    T* attended = static_cast<T*>(decoder.attended);
    T* inner = static_cast<T*>(decoder.inner);
    const int64_t row_size = projected_size(layer);
    const T* x = enter(layer.before_attention);
    watch.look(NORM);
    product(layer.qkv, x, decoder.hidden, projected, row_size, step.rows);
    watch.meet(QKV);
    rotate_and_store(layer, cache);
    watch.meet(ROTATE);
    attend(layer, cache);
    watch.meet(ATTENTION);
    leave(layer.output, attended, layer.q_heads * layer.value_size, layer.after_attention, layer.residual_multiplier);
    watch.meet(OUTPUT);
    if (!layer.parallel) x = enter(layer.before_mlp);
    watch.look(NORM);
    product(layer.up, x, decoder.hidden, inner, layer.inner, step.rows);
    watch.meet(UP);
    if (!layer.gated) {
      activate(layer);
      watch.meet(ACTIVATION);
    }
    leave(layer.down, inner, layer.inner, layer.after_mlp, layer.residual_multiplier);
    watch.meet(DOWN);
  }

  static int64_t projected_size(const QuireDecoderLayer& layer) {
    return (layer.q_heads + layer.kv_heads) * layer.key_size + layer.kv_heads * layer.value_size;
  }

  // ---- queries, keys and values ----

  // Rows are shared head by head, unless a norm spans a whole row of them.
  void rotate_and_store(const QuireDecoderLayer& layer, const QuireCacheLayer& cache) const {
    const bool whole_rows = layer.q.size > layer.key_size || layer.k.size > layer.key_size;
    const Range items = share.of(step.rows * layer.kv_heads, whole_rows ? layer.kv_heads : 1);
    for (int64_t item = items.begin; item < items.end; ++item) {
      const int64_t row = item / layer.kv_heads, head = item % layer.kv_heads;
      T* const q = static_cast<T*>(decoder.projected) + row * projected_size(layer);
      T* const k = q + layer.q_heads * layer.key_size;
      T* const v = k + layer.kv_heads * layer.key_size;
      if (whole_rows && head == 0) {
        clip_all(q, projected_size(layer), layer.clip);
        normalise_heads(q, layer.q_heads * layer.key_size, layer.q);
        normalise_heads(k, layer.kv_heads * layer.key_size, layer.k);
      }
      prepare_group(layer, cache, row, head, q, k, v, whole_rows);
    }
  }

  static void normalise_heads(T* x, int64_t size, const QuireNorm& norm) {
    if (norm.kind == QUIRE_NO_NORM) return;
    for (int64_t at = 0; at < size; at += norm.size)
      normalise(x + at, x + at, norm.size, norm, at, measure(x + at, norm.size, norm));
  }

  static void clip_all(T* x, int64_t size, float limit) {
    if (limit <= 0) return;
    for (int64_t i = 0; i < size; i += W)
      store_first(x + i, min(all(limit), max(all(-limit), load_first(x + i, size - i))), size - i);
  }

  // One head of keys and values into the cache, and the queries that share it, where they are.
  void prepare_group(const QuireDecoderLayer& layer, const QuireCacheLayer& cache, int64_t row, int64_t head, T* q, T* k,
                     T* v, bool is_normed) const {
    const int64_t group = layer.q_heads / layer.kv_heads;
    for (int64_t h = head * group; h < (head + 1) * group; ++h) {
      T* const own = q + h * layer.key_size;
      prepare_head(own, own, layer, layer.q, row, h, is_normed);
    }
    const int64_t slot = step.slots[row];
    if (slot < 0) return;
    const int64_t block = slot / step.block_size, token = slot % step.block_size;
    T* const keys = static_cast<T*>(cache.keys) + block * cache.key_block + token * cache.key_token;
    T* const values = static_cast<T*>(cache.values) + block * cache.value_block + token * cache.value_token;
    prepare_head(keys + head * cache.key_head, k + head * layer.key_size, layer, layer.k, row, head, is_normed);
    T* const own = v + head * layer.value_size;
    if (!is_normed) clip_all(own, layer.value_size, layer.clip);
    memcpy(values + head * cache.value_head, own, layer.value_size * sizeof(T));
  }

  // Clip, normalise, rotate; in float32 throughout, rounded once.
  void prepare_head(T* out, const T* x, const QuireDecoderLayer& layer, const QuireNorm& norm, int64_t row,
                    int64_t head, bool is_normed) const {
    const int64_t size = layer.key_size;
    float work[WIDEST_HEAD];
    scale_row(work, x, size, 1.0f);
    const bool normalises = norm.kind != QUIRE_NO_NORM && !is_normed;
    if (layer.clip > 0 && !is_normed)
      for (int64_t i = 0; i < size; i += W)
        store_first(work + i, min(all(layer.clip), max(all(-layer.clip), load_first(work + i, size - i))), size - i);
    if (normalises && !layer.norm_after_rotation)
      normalise(work, work, size, norm, head * size, measure(work, size, norm));
    if (layer.rotation >= 0) {
      const int64_t pairs = decoder.rotations[layer.rotation].pairs;
      const float* cosines = turn(layer.rotation, row);
      turn_pairs(work, work, pairs, cosines, cosines + pairs);
    }
    if (normalises && layer.norm_after_rotation)
      normalise(work, work, size, norm, head * size, measure(work, size, norm));
    for (int64_t i = 0; i < size; i += W) store_first(out + i, load_first(work + i, size - i), size - i);
  }

  void attend(const QuireDecoderLayer& layer, const QuireCacheLayer& cache) const {
    paged_attention(share, attention(decoder, step, layer, cache));
  }

  static QuirePagedAttention attention(const QuireDecoder& decoder, const QuireDecoderStep& step,
                                       const QuireDecoderLayer& layer, const QuireCacheLayer& cache) {
    QuirePagedAttention op = {};
    op.q = decoder.projected;
    op.out = decoder.attended;
    op.keys = cache.keys;
    op.values = cache.values;
    op.tables = step.tables;
    op.starts = step.starts;
    op.lengths = step.lengths;
    op.sinks = layer.sinks;
    op.scratch = step.scratch;
    op.tokens = step.rows;
    op.spans = step.spans;
    op.q_heads = layer.q_heads;
    op.kv_heads = layer.kv_heads;
    op.size = op.q_head = layer.key_size;
    op.v_size = op.out_head = layer.value_size;
    op.block = step.block_size;
    op.q_token = projected_size(layer);
    op.out_token = layer.q_heads * layer.value_size;
    op.k_block = cache.key_block;
    op.k_slot = cache.key_token;
    op.k_head = cache.key_head;
    op.v_block = cache.value_block;
    op.v_slot = cache.value_token;
    op.v_head = cache.value_head;
    op.table_stride = step.table_stride;
    op.longest = step.longest;
    op.window = layer.window;
    op.scale = layer.scale;
    op.softcap = layer.softcap;
    op.q_type = op.kv_type = op.out_type = decoder.type;
    op.invariant = layer.qkv.invariant;
    return op;
  }

  // ---- an MLP without a gate ----

  void activate(const QuireDecoderLayer& layer) const {
    const int64_t size = layer.inner;
    const Range rows = share.of(step.rows * size, W);
    T* const x = static_cast<T*>(decoder.inner);
    for (int64_t i = rows.begin; i < rows.end; i += W)
      store_first(x + i, activated(load_first(x + i, rows.end - i), layer.plain_activation), rows.end - i);
  }

  static vf activated(vf x, int32_t kind) {
    if (kind == QUIRE_PLAIN_SILU) return silu(x);
    if (kind == QUIRE_PLAIN_GELU) return gelu(x);
    if (kind == QUIRE_PLAIN_GELU_TANH) return gelu_tanh(x);
    const vf positive = max(zero(), x);  // in this order, what is no number stays none
    return positive * positive;
  }

  void run() {
    begin();
    for (int64_t layer = 0; layer < decoder.layer_count; ++layer) run_layer(decoder.layers[layer], step.cache[layer]);
    if (waiting_norm == nullptr) return;
    const Range rows = share.of(step.rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) join_waiting(row);
    watch.meet(NORM);
  }
};

// What attention needs at most, in any layer.
static int64_t decoder_step_scratch(const QuireDecoderStep& step, int threads) {
  int64_t most = 0;
  for (int64_t layer = 0; layer < step.decoder->layer_count; ++layer) {
    const QuirePagedAttention op =
        DecoderRun<float>::attention(*step.decoder, step, step.decoder->layers[layer], step.cache[layer]);
    const int64_t size = paged_attention_scratch(op, threads);
    most = size > most ? size : most;
  }
  return most;
}

// The final norm of chosen rows, and their logits.
template <class T>
static void decoder_logits_of(const Share& share, const QuireDecoder& decoder, const int64_t* chosen, int64_t count,
                              float* logits) {
  if (count == 0) return;
  Watch watch(share);
  const int64_t size = decoder.hidden;
  T* normed = static_cast<T*>(decoder.normed);
  const Range rows = share.of(count);
  for (int64_t row = rows.begin; row < rows.end; ++row)
    normalise_row(normed + row * size, decoder.residual + chosen[row] * size, size, decoder.final_norm);
  watch.meet(NORM);
  QuireLinear op = decoder.head;
  op.x = normed;
  op.x_stride = size;
  op.rows = count;
  op.out = logits;
  op.out_stride = decoder.vocab;
  op.x_type = decoder.type;
  op.out_type = QUIRE_F32;
  op.scratch = decoder.product_scratch;
  linear(share, op);
  watch.meet(HEAD);
  const float scale = decoder.logits_scale, cap = decoder.logits_softcap;
  if (scale == 1.0f && cap == 0.0f) return;
  const Range part = share.of(count * decoder.vocab, W);
  for (int64_t i = part.begin; i < part.end; i += W) {
    vf value = load_first(logits + i, part.end - i) * all(scale);
    if (cap > 0) value = all(cap) * tanh(value / all(cap));
    store_first(logits + i, value, part.end - i);
  }
  watch.meet(HEAD);
}

template <class T>
static void decoder_step_of(const Share& share, const QuireDecoderStep& step) {
  DecoderRun<T>{share, *step.decoder, step}.run();
  decoder_logits_of<T>(share, *step.decoder, step.chosen, step.chosen_rows, step.logits);
}

static void decoder_step(const Share& share, const QuireDecoderStep& step) {
  if (step.decoder->type == QUIRE_F32) return decoder_step_of<float>(share, step);
  if (step.decoder->type == QUIRE_BF16) return decoder_step_of<bf16>(share, step);
  decoder_step_of<f16>(share, step);
}

static void decoder_logits(const Share& share, const QuireDecoderLogits& op) {
  const QuireDecoder& decoder = *op.decoder;
  const auto logits = decoder.type == QUIRE_F32    ? decoder_logits_of<float>
                      : decoder.type == QUIRE_BF16 ? decoder_logits_of<bf16>
                                                   : decoder_logits_of<f16>;
  logits(share, decoder, op.chosen, op.chosen_rows, op.logits);
}

}  // namespace QUIRE_ISA
}  // namespace quire
