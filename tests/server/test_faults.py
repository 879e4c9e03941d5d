"""Thirty-two clients at once, some of whom make steps fail: the others have the answers that they would have had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import httpx
import pytest
from tests.support.faults import PLACES, FaultyRunner, Where
from tests.support.served import MODEL, Served

from quire_engine.async_engine import AsyncEngine
from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.errors import RequestError
from quire_engine.link.thread import ThreadLink
from quire_engine.scheduling.batch import Batch
from quire_protocol import sse

CLIENTS = 32
FAILS, REFUSED = 1_000_000, 2_000_000
"""Seeds from which on a request fails, or is found to be wrong, as soon as it has as many tokens as they are above."""
WORDS = ("Once upon a time", "There was a dog", "The sun", "Lily and Tom went to the park", "A bird")


def rule(batch: Batch) -> Exception | None:
    for span in batch.spans:
        seed = span.sequence.params.seed or 0
        for base, error in ((REFUSED, RequestError("no such seed", param="seed")), (FAILS, RuntimeError("smoke"))):
            if seed >= base:
                if span.sequence.output_length >= seed - base:
                    return error
                break
    return None


@contextmanager
def faulty(where: Where) -> Iterator[Served]:
    def load(config: EngineConfig, *, progress: bool) -> Engine:
        own = Engine.load(config, progress=progress)
        return Engine(FaultyRunner(own.runner, rule, where), own.decisions, guides=own.guides)

    with asyncio.Runner() as loop:
        config = EngineConfig(dtype="float32", max_num_seqs=CLIENTS)
        engine = loop.run(AsyncEngine.start(config, partial(ThreadLink.start, factory=load)))
        try:
            yield Served(loop, engine)
        finally:
            loop.run(engine.close())


def bodies(draw: Random) -> list[dict[str, Any]]:
    """Greedy completions of all kinds, streamed and not."""
    kinds: list[dict[str, Any]] = [
        {},
        {"frequency_penalty": 1.0},
        {"stop": [" the", "."]},
        {"logprobs": 2},
        {"n": 2},
        {"structured_outputs": {"regex": "[a-z]{3,12}"}},
    ]
    return [
        {
            "model": MODEL,
            "prompt": draw.choice(WORDS) * (1 + number % 4),
            "temperature": 0,
            "seed": number,
            "max_tokens": 8 + number % 9,
            "stream": number % 2 == 0,
            **({"stream_options": {"include_usage": True}} if number % 2 == 0 else {}),
            **kinds[number % len(kinds)],
        }
        for number in range(CLIENTS)
    ]


def asked(served: Served, requests: list[dict[str, Any]]) -> list[httpx.Response]:
    """All at once."""
    app = served.api().app

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
            return await asyncio.gather(*(client.post("/v1/completions", json=body) for body in requests))

    return served.run(ask())


def told(answer: httpx.Response) -> Any:
    """What the client reads, but for what names this answer, and when it was made."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        texts: dict[int, str] = {}
        reasons, usage = {}, None
        for event in sse.decode(answer.text.splitlines(keepends=True)):
            chunk = event.json()
            for choice in chunk["choices"]:
                texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
                reasons[choice["index"]] = choice["finish_reason"]
            usage = chunk.get("usage") or usage
        return texts, reasons, tokens_of(usage)
    body = answer.json()
    texts = {choice["index"]: choice["text"] for choice in body["choices"]}
    return texts, {choice["index"]: choice["finish_reason"] for choice in body["choices"]}, tokens_of(body["usage"])


def tokens_of(usage: Any) -> tuple[int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.parametrize("where", PLACES)
def test_the_others_have_the_same_text_usage_and_reason(where: Where) -> None:
    draw = Random(where)
    with faulty(where) as served:
        requests = bodies(draw)
        wanted = [told(answer) for answer in asked(served, requests)]
        culprits = {number: draw.choice([FAILS, REFUSED]) for number in draw.sample(range(CLIENTS), 5)}
        for number, base in culprits.items():
            requests[number]["seed"] = base + draw.randrange(1, 4)
        answers = asked(served, requests)
        for number, (answer, well) in enumerate(zip(answers, wanted, strict=True)):
            if number not in culprits:
                assert (answer.status_code, told(answer)) == (200, well)
            elif not requests[number]["stream"]:
                assert answer.status_code == (500 if culprits[number] == FAILS else 400), answer.text
            else:
                assert '"error"' in answer.text
        assert served.engine.is_healthy
        assert served.engine.stats.running == 0
