// The library's C interface: choose an instruction set, size the team, run an op. No function here throws.
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels.h"
#include "watch.h"

namespace quire {
namespace {

constexpr int64_t SMALL = 1 << 14;  // elements that one thread has done before a second one has woken up

// The kernel gives a process AMX's tile registers on request only (Linux 5.16).
bool may_use_tiles() {
  constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

bool has_amx() {
  unsigned a, b, c, d;
  __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  const bool tiles = (d >> 24 & 1) && (d >> 22 & 1) && (d >> 25 & 1);  // tiles, bf16 and int8 products of tiles
  return tiles && has_avx512bf16() && may_use_tiles();
}

struct Isa {
  const Kernels& kernels;
  bool (*is_here)();
};

// The best last. The first one is for tests: AMX's code on processors that have everything but the tiles.
const Isa ISAS[] = {
    {amx_emulated::kernels, has_avx512bf16},
    {avx2::kernels, has_avx2},
    {avx512::kernels, has_avx512},
    {avx512bf16::kernels, has_avx512bf16},
    {amx::kernels, has_amx},
};

const Kernels* best() {
  __builtin_cpu_init();
  const Kernels* found = nullptr;
  for (const Isa& isa : ISAS)
    if (isa.is_here()) found = &isa.kernels;
  return found;
}

const Kernels* in_use = best();

// Share an op that touches so many elements among the team, or do it here if that is not worth it.
template <class Op>
void run_op(void (*kernel)(const Share&, const Op&), const Op& op, int64_t elements) {
  const auto job = [&](const Share& share) { kernel(share, op); };
  if (elements < SMALL)
    run_alone(job);
  else
    run(job);
}

}  // namespace

const Kernels& chosen() { return *in_use; }

int64_t spent[PHASES];

}  // namespace quire

extern "C" {
#pragma GCC visibility push(default)

// The instruction set in use; null where the processor has none of them.
const char* quire_isa() { return quire::in_use == nullptr ? nullptr : quire::in_use->isa; }

// Use this one from now on: 0 if that was done, -1 if the processor lacks it.
int quire_use_isa(const char* name) {
  for (const quire::Isa& isa : quire::ISAS)
    if (strcmp(isa.kernels.isa, name) == 0 && isa.is_here()) {
      quire::in_use = &isa.kernels;
      return 0;
    }
  return -1;
}

int quire_threads() { return quire::threads(); }
void quire_set_threads(int count) { quire::set_threads(count); }

// The size of an op's struct, for callers that lay it out themselves; 0 for an op that is not here.
int64_t quire_size_of(const char* op) {
  if (strcmp(op, "rms_norm") == 0) return sizeof(QuireRmsNorm);
  if (strcmp(op, "paged_attention") == 0) return sizeof(QuirePagedAttention);
  if (strcmp(op, "store_kv") == 0) return sizeof(QuireStoreKv);
  if (strcmp(op, "rotary") == 0) return sizeof(QuireRotary);
  if (strcmp(op, "gated") == 0) return sizeof(QuireGated);
  if (strcmp(op, "draw") == 0) return sizeof(QuireDraw);
  if (strcmp(op, "linear") == 0) return sizeof(QuireLinear);
  if (strcmp(op, "pack_linear") == 0) return sizeof(QuirePackLinear);
  if (strcmp(op, "decoder_step") == 0) return sizeof(QuireDecoderStep);
  if (strcmp(op, "decoder_logits") == 0) return sizeof(QuireDecoderLogits);
  if (strcmp(op, "decoder") == 0) return sizeof(QuireDecoder);
  if (strcmp(op, "decoder_layer") == 0) return sizeof(QuireDecoderLayer);
  return 0;
}

void quire_rms_norm(const QuireRmsNorm* op) {
  quire::run_op(quire::chosen().rms_norm, *op, op->rows * op->size);
}

int64_t quire_paged_attention_scratch(const QuirePagedAttention* op, int threads) {
  return quire::chosen().paged_attention_scratch(*op, threads);
}

void quire_paged_attention(const QuirePagedAttention* op) {
  int64_t keys = op->tokens;
  for (int64_t span = 0; span < op->spans; ++span) keys += op->lengths[span];
  quire::run_op(quire::chosen().paged_attention, *op, keys * op->kv_heads * (op->size + op->v_size));
}

void quire_store_kv(const QuireStoreKv* op) {
  quire::run_op(quire::chosen().store_kv, *op, op->tokens * op->heads * (op->size + op->v_size));
}

void quire_rotary(const QuireRotary* op) {
  quire::run_op(quire::chosen().rotary, *op, op->tokens * (op->q_heads + op->k_heads) * op->size);
}

void quire_gated(const QuireGated* op) { quire::run_op(quire::chosen().gated, *op, op->rows * op->size); }

int64_t quire_draw_scratch(const QuireDraw* op, int threads) { return quire::chosen().draw_scratch(*op, threads); }

void quire_draw(const QuireDraw* op) { quire::run_op(quire::chosen().draw, *op, op->rows * op->size); }

void quire_linear(const QuireLinear* op) {
  quire::run_op(quire::chosen().linear, *op, op->rows + quire_blocks(op->n, op->gate) * 16 * op->k);
}

// Bytes of scratch that the op needs: for rows in the type and the length that the weight's kind wants.
int64_t quire_linear_scratch(const QuireLinear* op, int) { return quire_scratch_bytes(op); }

void quire_pack_linear(const QuirePackLinear* op) {
  quire::run_op(quire::chosen().pack_linear, *op, op->n * op->k);
}

int64_t quire_decoder_step_scratch(const QuireDecoderStep* op, int threads) {
  return quire::chosen().decoder_step_scratch(*op, threads);
}

void quire_decoder_step(const QuireDecoderStep* op) {
  const QuireDecoderLayer& layer = op->decoder->layers[0];
  const int64_t weights = layer.qkv.n * layer.qkv.k + layer.up.n * layer.up.k;
  quire::run_op(quire::chosen().decoder_step, *op, op->rows * weights);
}

// Nanoseconds by phase, so far; returns how many phases there are. Null asks for their number only.
int quire_decoder_spent(int64_t* nanoseconds) {
  for (int phase = 0; nanoseconds != nullptr && phase < quire::PHASES; ++phase)
    nanoseconds[phase] = __atomic_load_n(&quire::spent[phase], __ATOMIC_RELAXED);
  return quire::PHASES;
}

void quire_decoder_logits(const QuireDecoderLogits* op) {
  quire::run_op(quire::chosen().decoder_logits, *op, op->chosen_rows * op->decoder->vocab * op->decoder->hidden);
}

#pragma GCC visibility pop
}  // extern "C"
