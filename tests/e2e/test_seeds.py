"""A seeded request over HTTP says the same alone and in a crowd of 64."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from tests.support.processes import Server

SEEDED: dict[str, Any] = {
    "prompt": "Tell me a story.",
    "max_tokens": 40,
    "seed": 11,
    "ignore_eos": True,
    "return_token_ids": True,
    "top_p": 0.95,
    "frequency_penalty": 0.4,
    "logprobs": 2,
}
PATIENCE = 120


def tokens(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["choices"][0]["token_ids"]
    return ids


def test_a_seeded_request_says_the_same_alone_and_in_a_crowd_of_64(server: Server) -> None:
    async def ask() -> tuple[list[int], list[list[int]]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.api, timeout=PATIENCE, limits=limits) as client:
            alone = tokens(await client.post("/completions", json=SEEDED))
            others = (
                client.post("/completions", json={"prompt": f"{number}. ", "max_tokens": 10 + number, "temperature": 1})
                for number in range(60)
            )
            seeded = (client.post("/completions", json=SEEDED) for _ in range(4))
            answers = await asyncio.gather(*others, *seeded)
            return alone, [tokens(answer) for answer in answers[60:]]

    alone, crowd = asyncio.run(ask())
    assert len(set(alone)) > 5
    assert crowd == [alone] * 4
