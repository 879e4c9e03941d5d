from __future__ import annotations

from tests.support.schedules import answer
from transformers import AutoTokenizer

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_protocol import SamplingParams


def test_the_embedded_default_answers_a_greeting() -> None:
    engine = Engine.load(EngineConfig(device="cpu", max_model_len=256, max_num_seqs=4))
    tokenizer = AutoTokenizer.from_pretrained(engine.decisions.model_path)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=False
    )
    (own,) = answer(engine, [(ids, SamplingParams(temperature=0, max_tokens=80))])
    assert own.finish_reason == "stop"
    assert tokenizer.decode(own.tokens, skip_special_tokens=True).startswith("Hello!")
