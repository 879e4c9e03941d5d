"""OpenVINO GenAI: its continuous batching, step by step, from a model exported by optimum-intel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from line import Answer, Asked, answer, observe

PRECISION = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}


def load(model: str, options: Asked) -> Answer:
    """The exported model, compiled for so many threads."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    folder = exported(model, options)
    room = genai.SchedulerConfig()
    room.enable_prefix_caching = False
    room.max_num_seqs = options["sequences"]
    room.max_num_batched_tokens = 2048
    room.cache_size = max(1, -(-options["cache_bytes"] // 2**30))
    asked_of_cpu = {
        "INFERENCE_PRECISION_HINT": PRECISION[options["dtype"]],
        "KV_CACHE_PRECISION": PRECISION[options["dtype"]],
        "INFERENCE_NUM_THREADS": options["threads"],
    }
    pipe = genai.ContinuousBatchingPipeline(str(folder), room, "CPU", asked_of_cpu)
    names = count()

    def run(asked: Asked) -> Asked:
        params = genai.GenerationConfig()
        params.max_new_tokens, params.ignore_eos, params.do_sample = asked["output"], True, False
        waiting = [openvino.Tensor(np.array([ids], dtype=np.int64)) for ids in asked["prompts"]]
        handles: list[genai.GenerationHandle] = []

        def step() -> Iterator[tuple[object, int]]:
            while waiting:
                handles.append(pipe.add_request(next(names), waiting.pop(0), params))
            pipe.step()
            for number, handle in enumerate(handles):
                if handle.can_read():
                    yield number, sum(len(each.generated_ids) for each in handle.read().values())

        return observe(len(asked["prompts"]), asked["output"], step)

    return run


def exported(model: str, options: Asked) -> Path:
    """The folder with the model in OpenVINO's own format; made once."""
    folder = Path(options["cache"]) / "openvino" / f"{Path(model).name}-{options['bits']}"
    if not (folder / "complete").exists():
        from optimum.intel import OVModelForCausalLM

        made = OVModelForCausalLM.from_pretrained(model, export=True, compile=False, load_in_8bit=options["bits"] == 8)
        made.save_pretrained(folder)
        (folder / "complete").write_text(time.strftime("%F"))
    return folder


if __name__ == "__main__":
    answer(load, exported)
