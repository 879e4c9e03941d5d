// Compiled once per instruction set: all kernels, and the table that names them.
#include "attention.h"
#include "decoder.h"
#include "draw.h"
#include "heads.h"
#include "kernels.h"
#include "linear.h"
#include "norms.h"
#include "pack.h"

#define QUIRE_TEXT_OF(name) #name
#define QUIRE_TEXT(name) QUIRE_TEXT_OF(name)

namespace quire {
namespace QUIRE_ISA {

extern const Kernels kernels = {
    QUIRE_TEXT(QUIRE_ISA),
    rms_norm,
    paged_attention,
    paged_attention_scratch,
    store_kv,
    rotary,
    gated,
    draw,
    draw_scratch,
    linear,
    pack_linear,
    decoder_step,
    decoder_step_scratch,
    decoder_logits,
};

}  // namespace QUIRE_ISA
}  // namespace quire
