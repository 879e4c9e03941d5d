"""vLLM on a CPU: its engine, step by step, compiled, without prefix cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from line import Answer, Asked, answer, observe


def load(model: str, options: Asked) -> Answer:
    """vLLM's offline engine; threads and memory are set by the environment (see benchmarks/environments.py)."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine = LLM(
        model,
        dtype=options["dtype"],
        max_model_len=options["longest"],
        max_num_seqs=options["sequences"],
        enable_prefix_caching=False,
        disable_log_stats=True,
    ).llm_engine
    names = map(str, count())

    def step() -> Iterator[tuple[object, int]]:
        return ((each.request_id, len(each.outputs[0].token_ids)) for each in engine.step())

    def run(asked: Asked) -> Asked:
        params = SamplingParams(
            temperature=0,
            max_tokens=asked["output"],
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        waiting = [{"prompt_token_ids": ids} for ids in asked["prompts"]]

        def first_step() -> Iterator[tuple[object, int]]:
            while waiting:
                engine.add_request(next(names), waiting.pop(0), params)
            return step()

        return observe(len(asked["prompts"]), asked["output"], first_step)

    return run


if __name__ == "__main__":
    answer(load)
