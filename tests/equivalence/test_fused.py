"""A model with everything fused that is proven answers as it does by itself, under every schedule."""

from __future__ import annotations

import pytest
from tests.support.families import FAMILIES, Checkpoints, Family
from tests.support.schedules import CROWD, SCHEDULES, roomy_config, serve

from quire_engine.engine import Engine
from quire_protocol import SamplingParams

SHARED = [5, 9, 11, 3, 7, 7, 2, 40]  # one block, for prefix hits
PROMPTS = [[*SHARED, 41, 42], [*SHARED, 41, 13, 14], [80], [3] * 17, [*SHARED, 1]]
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=2)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # GPT-BigCode up to 5.17
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_fusion_never_changes_the_answer(checkpoints: Checkpoints, family: Family) -> None:
    plain, fused = (
        Engine.load(roomy_config(model=str(checkpoints.path(family)), native=False, fusion=asked))
        for asked in (False, True)
    )
    assert plain.decisions.fusion == ()
    requests = [(prompt, GREEDY) for prompt in PROMPTS]
    wanted = serve(plain, CROWD, requests)
    for schedule in SCHEDULES:
        answers = serve(fused, schedule, requests)
        assert [own.tokens for own in answers] == [own.tokens for own in wanted], schedule
        for own, reference in zip(answers, wanted, strict=True):
            for told, known in zip(own.logprobs, reference.logprobs, strict=True):
                assert told.top_logprobs == pytest.approx(known.top_logprobs, abs=1e-4)
