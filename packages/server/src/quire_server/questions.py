"""What one worker is asked and all of them have to answer, put together in the process that has the hub."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import TYPE_CHECKING

from quire_engine.link.gated import GatedLink
from quire_engine.link.hub import Hub, Member
from quire_server.siblings import CANCEL, LOAD, METRICS, read, written
from quire_server.totals import Totals

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PATIENCE = 2.0
"""Seconds in which a worker should have answered; then the others' answers are all there is."""


class Questions:
    """Answers for all workers of a hub. Owns what they have counted together."""

    def __init__(self, hub: Hub, model: str) -> None:
        """`model` is the name that the engine's model is served under."""
        self._hub = hub
        self._model = model
        self._totals = Totals()
        self._turn = asyncio.Lock()
        self._own: CollectorRegistry | None = None
        """What this process has counted; None until the engine is there."""
        self._engines_own: frozenset[str] = frozenset()
        """Metrics that this process tells and that workers, who see their part of each step, tell in vain."""
        hub.questions |= {CANCEL: self._cancel, LOAD: self._load, METRICS: self._metrics}

    async def begin(self, link: GatedLink) -> None:
        """Share this engine, and count from now on what it does."""
        metrics = await asyncio.to_thread(import_module, "quire_server.metrics")  # which takes its time
        self._hub.open(link)
        ledger, self._own = metrics.counting(self._hub, self._model)
        self._engines_own = metrics.ENGINES_OWN
        self._hub.on_step = ledger.stepped

    async def _cancel(self, member: Member, body: bytes) -> bytes:
        told = await self._ask_all(CANCEL, body)
        return json.dumps(sorted({name for _, names in told for name in json.loads(names)})).encode()

    async def _load(self, member: Member, body: bytes) -> bytes:
        told = await self._ask_all(LOAD)
        return str(sum(int(number) for _, number in told)).encode()

    async def _metrics(self, member: Member, body: bytes) -> bytes:
        async with self._turn:  # who asks later hears no less
            told = {each.number: text for each, text in await self._ask_all(METRICS)}
            present = {each.number for each in self._hub.members}
            return await asyncio.to_thread(self._summed_up, told, present)

    async def _ask_all(self, topic: str, body: bytes = b"") -> list[tuple[Member, bytes]]:
        """What the workers say that answer requests; one that is being started has nothing to say."""
        ready = [member for member in self._hub.members if member.is_ready]
        return await self._hub.ask_all(topic, body, patience=PATIENCE, of=ready)

    def _summed_up(self, told: dict[int, bytes], present: set[int]) -> bytes:
        """In a thread: it is thousands of numbers, and the engine's tokens pass here."""
        for number, text in told.items():
            self._totals.hear(number, (each for each in read(text) if each.name not in self._engines_own))
        self._totals.keep(present)
        assert self._own is not None, "who asks has been told that the engine is there"
        return written(self._totals.so_far(self._own.collect()))
