"""Metrics of several processes as one server's: counted by each, told once. It knows no metric's meaning.

What is counted is added up, and what a process had counted before it ended stays in the sum: counters never go down. Of
what is measured at one moment (a gauge), the first process counts that tells it, but for what processes take together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client.metrics_core import Metric

TAKEN_TOGETHER = frozenset({"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"})
"""Gauges of each process that are added up."""


class Totals:
    """What the processes of a server have told, and what those had told that are gone. Processes are numbers here."""

    def __init__(self) -> None:
        self._told: dict[int, list[Metric]] = {}
        self._past: list[Metric] = []

    def hear(self, process: int, families: Iterable[Metric]) -> None:
        """What a process has counted so far."""
        self._told[process] = [*families]

    def keep(self, processes: Collection[int]) -> None:
        """All others are gone: what they had counted stays."""
        for gone in self._told.keys() - processes:
            counted = [each for each in self._told.pop(gone) if each.type != "gauge"]
            self._past = added_up([self._past, counted])

    def so_far(self, own: Iterable[Metric]) -> list[Metric]:
        """What all have counted together; `own` is what the process tells that adds up, and goes first."""
        return added_up([own, *self._told.values(), self._past])


def added_up(told: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Families of one name as one, in the order in which they first come."""
    sums: dict[str, Metric] = {}
    for families in told:
        for family in families:
            before = sums.get(family.name)
            sums[family.name] = family if before is None else _sum(before, family)
    return [*sums.values()]


def _sum(one: Metric, other: Metric) -> Metric:
    """Two families as one, sample by sample."""
    adds = one.type != "gauge" or one.name in TAKEN_TOGETHER
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in (*one.samples, *other.samples):
        key = (sample.name, tuple(sorted(sample.labels.items())))
        values[key] = values[key] + sample.value if adds and key in values else values.get(key, sample.value)
    total = Metric(one.name, one.documentation, one.type)
    for (name, labels), value in values.items():
        total.add_sample(name, dict(labels), value)
    return total
