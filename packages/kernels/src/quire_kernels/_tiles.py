"""What Triton bodies share about tiles; knows Triton's interpreter and no op. To be imported where Triton is."""

import triton
import triton.language as tl

from quire_kernels._select import INTERPRETED

_INTERPRETED = tl.constexpr(INTERPRETED)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Product of two tiles, added to `acc` unless that is None, in float32."""
    if _INTERPRETED:  # its product would multiply the bit patterns of bfloat16
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)
