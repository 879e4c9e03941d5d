// A decoder-only language model described by data, and one step of it. Filled in by Python (quire_kernels/decoder.py).
// Plain C, and the same for every instruction set. Sizes and strides count elements; rows are tokens.
#pragma once

#include "ops.h"

enum QuireNormKind { QUIRE_NO_NORM = 0, QUIRE_RMS_NORM = 1, QUIRE_LAYER_NORM = 2 };
enum QuirePlainActivation {
  QUIRE_PLAIN_SILU = 0,
  QUIRE_PLAIN_GELU = 1,
  QUIRE_PLAIN_GELU_TANH = 2,
  QUIRE_PLAIN_RELU_SQUARED = 3
};

// Of stretches of `size` elements, each on its own, in float32; a weight that a model adds to 1 comes with the 1 in it.
struct QuireNorm {
  const float* weight;  // as long as the row, however many stretches that has; null: ones
  const float* bias;    // the same; null: zeros
  int64_t size;
  float eps;
  int32_t kind;
};

// Rotary position embedding: element i of a head and element i + pairs turn together by position * frequencies[i].
struct QuireRotation {
  const float* frequencies;  // [pairs]
  int64_t pairs;             // the elements after the first 2 * pairs stay as they are
  float scale;               // of cosines and sines (yarn)
  int32_t unused;
};

struct QuireDecoderLayer {
  QuireNorm before_attention, q, k, after_attention, before_mlp, after_mlp;
  QuireLinear qkv, output, up, down;  // their x, out, rows and strides are filled in as the step goes
  const float* sinks;                 // [q_heads] or null
  int64_t q_heads, kv_heads, key_size, value_size;
  int64_t window;             // keys that a query sees; 0: all
  int64_t inner;              // elements between up and down
  float scale, softcap;       // of scores
  float clip;                 // of queries, keys and values, to its negative and itself; 0: none
  float residual_multiplier;  // of what attention and MLP add
  int32_t rotation;           // which of the decoder's; -1: positions are not told here
  int32_t norm_after_rotation;
  int32_t parallel;  // the MLP reads what attention reads; both are added
  int32_t gated;     // `up` holds gate and up, and ends in act(gate) * up; else it is plain
  int32_t plain_activation;
  int32_t unused;
};

struct QuireDecoder {
  const QuireDecoderLayer* layers;
  const QuireRotation* rotations;
  const void* embedding;  // [vocab, hidden]
  QuireNorm final_norm;
  QuireLinear head;
  int64_t layer_count, rotation_count, hidden, vocab;
  float embedding_scale;  // of rows of the table
  float given_scale;      // of rows that come as embeddings
  float logits_scale, logits_softcap;
  int32_t embedding_type;
  int32_t type;  // of activations and of the cache
  // The memory of a step, for up to `max_rows` rows; the step before it must be over.
  float* residual;     // [max_rows, hidden]
  float* added;        // [max_rows, hidden], where something is added only after a norm or a multiplier; else null
  void* normed;        // [max_rows, hidden]
  void* own;           // [threads, own_size]: the same for few rows, each thread for itself
  void* projected;     // [max_rows, the widest qkv]
  void* attended;      // [max_rows, the widest attention]
  void* inner;         // [max_rows, the widest MLP]
  float* turns;        // [rotations, max_rows, 2 * the most pairs]: cosines, then sines
  void* product_scratch;    // of `linear`; or null
  int64_t max_rows, threads, own_size, most_pairs;
};

// Where one layer's keys and values lie: [blocks, block, heads, size], by strides.
struct QuireCacheLayer {
  void* keys;
  void* values;
  int64_t key_block, key_token, key_head, value_block, value_token, value_head;
};

// Spans of tokens through all layers; then the logits of some of their rows.
struct QuireDecoderStep {
  const QuireDecoder* decoder;
  const QuireCacheLayer* cache;  // [layers]
  const int64_t* ids;            // [rows]
  const int64_t* given;          // [rows]: which of the given rows a row is, -1 if it is its id's; or null
  const float* given_rows;       // [given, hidden]
  const int64_t* positions;      // [rows]
  const int64_t* slots;          // [rows]: block * block_size + offset; below zero: stored nowhere
  const int32_t* starts;         // [spans + 1]
  const int32_t* lengths;        // [spans]
  const int32_t* tables;         // [spans, table_stride]
  const int64_t* chosen;         // [chosen_rows]
  float* logits;                 // [chosen_rows, vocab]
  int64_t rows, spans, table_stride, block_size, chosen_rows;
  int64_t longest;  // bound on lengths
  void* scratch;    // of quire_decoder_step_scratch(step, threads) bytes, 64-byte aligned
};

// The logits of more rows of the last step.
struct QuireDecoderLogits {
  const QuireDecoder* decoder;
  const int64_t* chosen;
  float* logits;
  int64_t chosen_rows;
};
