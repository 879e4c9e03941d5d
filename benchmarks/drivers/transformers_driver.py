"""transformers: generate() over the whole batch, with torch's attention."""

from __future__ import annotations

from line import Answer, Asked, answer, clock


def load(model: str, options: Asked) -> Answer:
    """The model as transformers loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options["threads"])
    kind = getattr(torch, options["dtype"])
    llm = AutoModelForCausalLM.from_pretrained(model, dtype=kind, attn_implementation="sdpa").to(options["device"])
    llm.eval()

    @torch.inference_mode()
    def seconds(ids: torch.Tensor, output: int) -> float:
        began = clock()
        llm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=output,
            min_new_tokens=output,
            do_sample=False,
            pad_token_id=0,
        ).cpu()
        return clock() - began

    def run(asked: Asked) -> Asked:
        ids = torch.tensor(asked["prompts"], device=options["device"])
        first = seconds(ids, 1)
        rest = seconds(ids, asked["output"]) - first
        return {"first": first, "seconds": rest, "tokens": len(ids) * (asked["output"] - 1)}

    return run


if __name__ == "__main__":
    answer(load)
