"""How much memory the KV cache may take: measured facts, no policy. It knows the device, not the model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Machine:
    """The device as it was found, with the model on it."""

    device: str
    """cpu, or cuda and the card's name."""
    memory_bytes: int
    """All of the device's memory; on a CPU, what this process may use."""
    free_bytes: int
    """What is left for the KV cache at most, with weights loaded and the largest step's activations set aside."""

    @property
    def is_cpu(self) -> bool:
        """Whether the model runs on a CPU."""
        return self.device == "cpu"


def measure_cpu() -> Machine:
    """What this process may still use: of the machine, or of the container if less; page cache counts as free."""
    total, free = _machine_memory()
    limit, used = _container_memory()
    if limit is not None:
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return Machine("cpu", total, free)


def measure_cuda(device: torch.device, peak_bytes: int) -> Machine:
    """What the card has left after its largest step, which took `peak_bytes` on top of what was allocated before it."""
    free, total = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    name = torch.cuda.get_device_name(device)
    return Machine(f"cuda {name}", total, max(free + cached - peak_bytes, 0))


def _machine_memory() -> tuple[int, int]:
    """(all, available) bytes of this machine."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: no count of what is available, so half of it all
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total // 2
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024


def _container_memory() -> tuple[int | None, int]:
    """(limit, bytes in use that cannot be dropped) of the control group; no limit outside a container."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None, 0
    if limit == "max":
        return None, 0
    return int(limit), used - int(stat["inactive_file"]) - int(stat["active_file"])
