"""vLLM's own beam search."""

from __future__ import annotations

from line import Answer, Asked, answer, clock


def load(model: str, options: Asked) -> Answer:
    """vLLM's offline engine; threads and memory are set by the environment (see benchmarks/environments.py)."""
    from vllm import LLM
    from vllm.sampling_params import BeamSearchParams

    width, output = options["width"], options["output"]
    llm = LLM(
        model,
        dtype=options["dtype"],
        max_model_len=options["longest"],
        max_logprobs=max(20, 2 * width),
        disable_log_stats=True,
    )
    params = BeamSearchParams(beam_width=width, max_tokens=output, ignore_eos=True)

    def run(asked: Asked) -> Asked:
        prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
        began = clock()
        found = llm.beam_search(prompts, params)
        return {"seconds": clock() - began, "best": [each.sequences[0].tokens[-output:] for each in found]}

    return run


if __name__ == "__main__":
    answer(load)
