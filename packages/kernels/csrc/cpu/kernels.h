// The table of kernels that every instruction set fills in. Each does one thread's share of an op.
#pragma once

#include "decoder_ops.h"
#include "ops.h"
#include "team.h"

namespace quire {

struct Kernels {
  const char* isa;
  void (*rms_norm)(const Share&, const QuireRmsNorm&);
  void (*paged_attention)(const Share&, const QuirePagedAttention&);
  int64_t (*paged_attention_scratch)(const QuirePagedAttention&, int threads);  // bytes
  void (*store_kv)(const Share&, const QuireStoreKv&);
  void (*rotary)(const Share&, const QuireRotary&);
  void (*gated)(const Share&, const QuireGated&);
  void (*draw)(const Share&, const QuireDraw&);
  int64_t (*draw_scratch)(const QuireDraw&, int threads);  // bytes
  void (*linear)(const Share&, const QuireLinear&);
  void (*pack_linear)(const Share&, const QuirePackLinear&);
  void (*decoder_step)(const Share&, const QuireDecoderStep&);
  int64_t (*decoder_step_scratch)(const QuireDecoderStep&, int threads);  // bytes
  void (*decoder_logits)(const Share&, const QuireDecoderLogits&);
};

namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512bf16 {
extern const Kernels kernels;
}
namespace amx_emulated {
extern const Kernels kernels;
}
namespace amx {
extern const Kernels kernels;
}

// The table in use.
const Kernels& chosen();

}  // namespace quire
