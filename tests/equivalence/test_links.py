"""An engine in a process of its own answers as one in a thread does, and both as the engine alone."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from tests.support.families import Checkpoints, family_named
from tests.support.loop import run
from tests.support.schedules import answer, roomy_config

from quire_engine import AsyncEngine, EngineConfig
from quire_engine.engine import Engine
from quire_protocol import GenerateRequest, SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [80], [3] * 17]
PARAMS = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


async def crowd(config: EngineConfig, link: Literal["process", "thread"]) -> list[list[int]]:
    """The answers to all prompts at once."""
    engine = await AsyncEngine.start(config, link)

    async def one(prompt: list[int]) -> list[int]:
        outputs = await engine.submit(GenerateRequest(token_ids=prompt, sampling_params=PARAMS))
        return [token async for output in outputs for token in output.token_ids]

    try:
        return await asyncio.gather(*map(one, PROMPTS))
    finally:
        await engine.close()


@pytest.mark.parametrize("link", ["process", "thread"])
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_the_link_never_changes_the_answer(
    checkpoints: Checkpoints, name: str, link: Literal["process", "thread"]
) -> None:
    config = roomy_config(model=str(checkpoints.path(family_named(name))), skip_tokenizer_init=True)
    wanted = answer(Engine.load(config), [(prompt, PARAMS) for prompt in PROMPTS])
    assert run(crowd(config, link)) == [own.tokens for own in wanted]
