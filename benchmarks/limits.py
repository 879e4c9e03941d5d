"""What this machine allows: bytes read and operations done a second. Every other benchmark is held against it.

usage: python -m benchmarks.limits [--threads 2] [--device cpu|cuda] [--json auto]

Reading is the largest 32-bit integer of 512 MiB (the fastest of torch's reductions here), on plain pages and on huge
ones, with one thread and with all. Products are of square matrices, the best of a few sizes. Both are lower bounds of
what the machine can do: a share above 1 elsewhere says that something does better than torch. Best of several runs.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.bench import Row, arguments, finish
from torch import Tensor

READ = 512 << 20
HUGE_PAGE = 2 << 20
SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}


@dataclass(frozen=True)
class Limits:
    """Bytes and operations a second."""

    read: float
    products: float

    def seconds(self, bytes_read: float, operations: float = 0.0) -> float:
        """The time below which the work cannot be done."""
        return max(bytes_read / self.read, operations / self.products)


def measure(dtype: torch.dtype, device: str, threads: int) -> Limits:
    """The best that this machine does in one data type."""
    read = copy_rate() if device == "cuda" else max(read_rate(threads, huge=huge) for huge in (False, True))
    return Limits(read, product_rate(dtype, device, threads))


def read_rate(threads: int, *, huge: bool) -> float:
    """Bytes a second of main memory that so many threads read."""
    _set_threads(threads)
    memory = mmap.mmap(-1, READ + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    numbers = torch.frombuffer(memory, dtype=torch.int32, count=READ // 4).fill_(1)
    return READ / _best(numbers.max)


def copy_rate() -> float:
    """Bytes a second that a card copies, reading and writing counted."""
    source = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.zeros_like(source)
    return 2 * source.numel() / _best_on_card(lambda: target.copy_(source))


def product_rate(dtype: torch.dtype, device: str, threads: int) -> float:
    """Multiplications and additions a second in large products."""
    _set_threads(threads)
    best = _best_on_card if device == "cuda" else _best
    rates = []
    for side in SIDES[device]:
        matrix = torch.randn(side, side, device=device).to(dtype)
        rates.append(2 * side**3 / best(lambda matrix=matrix: matrix @ matrix))
    return max(rates)


def _set_threads(threads: int) -> None:
    torch.set_num_threads(threads)


def _best(run: Callable[[], Tensor], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _best_on_card(run: Callable[[], Tensor]) -> float:
    from triton.testing import do_bench

    return float(do_bench(run, return_mode="min")) / 1e3


def on_cpu(threads: int) -> list[Row]:
    """Rows for one thread and for all."""
    rows = []
    for each in sorted({1, threads}):
        for pages in ("plain", "huge"):
            what = {"what": f"read, {pages} pages", "threads": each}
            rows.append(Row(what, "GB/s", limit=read_rate(each, huge=pages == "huge") / 1e9))
        for dtype in (torch.bfloat16, torch.float32):
            what = {"what": f"products, {str(dtype).removeprefix('torch.')}", "threads": each}
            rows.append(Row(what, "TFLOP/s", limit=product_rate(dtype, "cpu", each) / 1e12))
    return rows


def on_card() -> list[Row]:
    """Rows for the card."""
    rows = [Row({"what": "copy"}, "GB/s", limit=copy_rate() / 1e9)]
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        what = {"what": f"products, {str(dtype).removeprefix('torch.')}"}
        rows.append(Row(what, "TFLOP/s", limit=product_rate(dtype, "cuda", 1) / 1e12))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    cuda = options.device == "cuda"
    rows = on_card() if cuda else on_cpu(options.threads)
    finish("limits", options, rows, card=torch.cuda.get_device_name() if cuda else None)


if __name__ == "__main__":
    main()
