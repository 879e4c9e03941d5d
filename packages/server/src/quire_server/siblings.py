"""Who answers for the same engine: what they can only say or do together, any one may be asked. It knows no HTTP.

One process that has its engine to itself is Alone. Several ask each other through the hub of the process that started
them, which puts together what they answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from prometheus_client.metrics_core import Metric

from quire_engine.link.peer import Peer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from quire_engine.async_engine import AsyncEngine

CANCEL, LOAD, METRICS = "cancel", "load", "metrics"
"""What they ask each other, through the hub."""


class Collected(Protocol):
    """Metrics, as prometheus-client reads them from a registry."""

    def collect(self) -> Iterable[Metric]:
        """All of them."""


class Siblings(Protocol):
    """All who answer for one engine, this process among them."""

    async def cancel(self, request_ids: Collection[str], tenant: str | None) -> set[str]:
        """End requests by their ids, those of one tenant or anybody's; the ids of those that still ran."""

    async def load(self) -> int:
        """How many requests wait or are computed."""

    async def metrics(self) -> Collected:
        """What was counted and measured."""


Company: TypeAlias = "Callable[[AsyncEngine, CollectorRegistry], Siblings]"
"""Makes the Siblings of a process from its engine and its metrics."""


class Alone:
    """The Siblings of a process that has none."""

    def __init__(self, engine: AsyncEngine, registry: CollectorRegistry) -> None:
        self._engine = engine
        self._registry = registry

    async def cancel(self, request_ids: Collection[str], tenant: str | None) -> set[str]:
        """End requests by their ids, those of one tenant or anybody's; the ids of those that still ran."""
        return self._engine.cancel(request_ids, tenant)

    async def load(self) -> int:
        """How many requests wait or are computed."""
        return self._engine.num_requests

    async def metrics(self) -> Collected:
        """What was counted and measured."""
        return self._registry


class ThroughHub:
    """The Siblings of one process of several. Answers for its own part what the hub asks on the others' behalf."""

    def __init__(self, peer: Peer, engine: AsyncEngine, registry: CollectorRegistry) -> None:
        self._peer = peer
        self._engine = engine
        self._registry = registry
        peer.handlers |= {CANCEL: self._cancel, LOAD: self._load, METRICS: self._metrics}

    async def cancel(self, request_ids: Collection[str], tenant: str | None) -> set[str]:
        """End requests by their ids, those of one tenant or anybody's; the ids of those that still ran."""
        return set(json.loads(await self._peer.ask(CANCEL, json.dumps([[*request_ids], tenant]).encode())))

    async def load(self) -> int:
        """How many requests wait or are computed."""
        return int(await self._peer.ask(LOAD))

    async def metrics(self) -> Collected:
        """What was counted and measured, by all together."""
        return Told(await self._peer.ask(METRICS))

    async def _cancel(self, body: bytes) -> bytes:
        request_ids, tenant = json.loads(body)
        return json.dumps([*self._engine.cancel(request_ids, tenant)]).encode()

    async def _load(self, body: bytes) -> bytes:
        return str(self._engine.num_requests).encode()

    async def _metrics(self, body: bytes) -> bytes:
        return await asyncio.to_thread(written, self._registry.collect())


class Told:
    """Metrics that another process told."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def collect(self) -> list[Metric]:
        """All of them."""
        return read(self._body)


def written(families: Iterable[Metric]) -> bytes:
    """Metrics as they cross from process to process: JSON."""
    told: list[Any] = [
        (each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples])
        for each in families
    ]
    return json.dumps(told).encode()


def read(body: bytes) -> list[Metric]:
    """The metrics again."""
    families = []
    for name, about, kind, samples in json.loads(body):
        family = Metric(name, about, kind)
        for sample, labels, value in samples:
            family.add_sample(sample, labels, value)
        families.append(family)
    return families
