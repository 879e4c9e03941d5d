"""Ours: the engine, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from line import Answer, Asked, Refused, answer, observe

from quire_engine import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams

QUANTIZATION = {8: "int8", 4: "int4"}


def load(model: str, options: Asked) -> Answer:
    """The engine at its defaults, but for the room that the prompts need."""
    torch.set_num_threads(options["threads"])
    fields = {"model": model, "dtype": options["dtype"], "device": options["device"], "skip_tokenizer_init": True}
    if options["device"] == "cpu":
        fields["kv_cache_memory_bytes"] = options["cache_bytes"]
    if options["bits"] < 16:
        if "quantization" not in EngineConfig.model_fields:
            raise Refused(f"this engine has no weights of {options['bits']} bits")
        fields["quantization"] = QUANTIZATION[options["bits"]]
    engine = Engine.load(EngineConfig(**fields))
    handles = count()

    def step() -> Iterator[tuple[object, int]]:
        return ((emission.handle, len(emission.token_ids)) for emission in engine.step())

    def run(asked: Asked) -> Asked:
        params = SamplingParams(temperature=0, max_tokens=asked["output"], ignore_eos=True)
        requests = [GenerateRequest(token_ids=ids, sampling_params=params) for ids in asked["prompts"]]

        def first_step() -> Iterator[tuple[object, int]]:
            while requests:  # taking the requests in is timed, as it is for the others
                engine.add(Submission(next(handles), requests.pop(0)))
            return step()

        return observe(len(asked["prompts"]), asked["output"], first_step)

    return run


if __name__ == "__main__":
    answer(load)
