// What happens to rows of heads and of gates between products: rotary embedding, storing into the cache, gating.
#pragma once

#include "activations.h"
#include "kernels.h"
#include "simd.h"

namespace quire {
namespace QUIRE_ISA {

constexpr int64_t WIDEST_HEAD = 1024;  // elements: a head at work lies on the stack; Python checks

// x /= sqrt(mean(x^2) + eps), times weight + offset, in place.
template <class U>
static void norm_head(float* x, const U* weight, int64_t size, float eps, float offset) {
  vf squares = zero();
  for (int64_t i = 0; i < size; i += W) {
    const vf part = load_first(x + i, size - i);
    squares = fma(part, part, squares);
  }
  const vf factor = all(1.0f / sqrtf(sum(squares) / static_cast<float>(size) + eps));
  for (int64_t i = 0; i < size; i += W)
    store_first(x + i, load_first(x + i, size - i) * factor * (load_first(weight + i, size - i) + all(offset)), size - i);
}

// Pairs of a head's elements, i and i + pairs, turn; out may be x.
template <class T>
static void turn_pairs(T* out, const float* x, int64_t pairs, const float* cosines, const float* sines) {
  for (int64_t i = 0; i < pairs; i += W) {
    const int64_t left = pairs - i;
    const vf a = load_first(x + i, left), b = load_first(x + pairs + i, left);
    const vf c = load_first(cosines + i, left), s = load_first(sines + i, left);
    store_first(out + i, a * c - b * s, left);
    store_first(out + pairs + i, b * c + a * s, left);
  }
}

template <class T>
static void rotate_heads(T* heads, int64_t count, int64_t stride, const T* weight, const float* cosines,
                         const float* sines, const QuireRotary& op) {
  const int64_t size = op.size, half = op.half;
  float x[WIDEST_HEAD];
  for (int64_t head = 0; head < count; ++head) {
    T* own = heads + head * stride;
    for (int64_t i = 0; i < size; i += W) store_first(x + i, load_first(own + i, size - i), size - i);
    if (weight != nullptr) norm_head(x, weight, size, op.eps, op.offset);
    turn_pairs(own, x, half, cosines, sines);
    if (weight == nullptr) continue;
    for (int64_t i = 2 * half; i < size; i += W) store_first(own + i, load_first(x + i, size - i), size - i);
  }
}

template <class T>
static void rotate_tokens(const Share& share, const QuireRotary& op) {
  const Range tokens = share.of(op.tokens);
  for (int64_t token = tokens.begin; token < tokens.end; ++token) {
    const float *c = op.cos + token * op.cos_token, *s = op.sin + token * op.sin_token;
    rotate_heads(static_cast<T*>(op.q) + token * op.q_token, op.q_heads, op.q_head, static_cast<const T*>(op.q_weight),
                 c, s, op);
    rotate_heads(static_cast<T*>(op.k) + token * op.k_token, op.k_heads, op.k_head, static_cast<const T*>(op.k_weight),
                 c, s, op);
  }
}

static void rotary(const Share& share, const QuireRotary& op) {
  if (op.type == QUIRE_F32) return rotate_tokens<float>(share, op);
  if (op.type == QUIRE_BF16) return rotate_tokens<bf16>(share, op);
  rotate_tokens<f16>(share, op);
}

static void store_kv(const Share& share, const QuireStoreKv& op) {
  const int64_t bytes = op.type == QUIRE_F32 ? 4 : 2;
  const Range tokens = share.of(op.tokens);
  const auto copy = [&](void* cache, const void* rows, int64_t to, int64_t head_to, int64_t from, int64_t head_from,
                        int64_t size) {
    for (int64_t head = 0; head < op.heads; ++head)
      memcpy(static_cast<char*>(cache) + (to + head * head_to) * bytes,
             static_cast<const char*>(rows) + (from + head * head_from) * bytes, size * bytes);
  };
  for (int64_t token = tokens.begin; token < tokens.end; ++token) {
    const int64_t slot = op.slots[token];
    if (slot < 0) continue;
    const int64_t block = slot / op.block, offset = slot % op.block;
    copy(op.keys, op.key, block * op.k_block + offset * op.k_slot, op.k_head, token * op.key_token, op.key_head, op.size);
    copy(op.values, op.value, block * op.v_block + offset * op.v_slot, op.v_head, token * op.value_token, op.value_head,
         op.v_size);
  }
}

template <class T>
static void gate_rows(const Share& share, const QuireGated& op) {
  const int64_t parts = (op.size + W - 1) / W;
  const Range mine = share.of(op.rows * parts);
  for (int64_t part = mine.begin; part < mine.end; ++part) {
    const int64_t row = part / parts, i = part % parts * W, left = op.size - i;
    const T* gate = static_cast<const T*>(op.gate_up) + row * op.stride + i;
    store_first(static_cast<T*>(op.out) + row * op.size + i,
                gate_of(load_first(gate, left), op.gate) * load_first(gate + op.size, left), left);
  }
}

static void gated(const Share& share, const QuireGated& op) {
  if (op.type == QUIRE_F32) return gate_rows<float>(share, op);
  if (op.type == QUIRE_BF16) return gate_rows<bf16>(share, op);
  gate_rows<f16>(share, op);
}

}  // namespace QUIRE_ISA
}  // namespace quire
