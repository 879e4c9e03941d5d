"""Make the embedded default: `python tools/demo_model/make.py` writes packages/engine/src/quire_engine/default_model.

A Qwen3 of under a million parameters with a byte-level tokenizer, trained by heart on `dialogues.py` in a few minutes
of one CPU thread. Seeded: the same versions of torch and transformers on the same kind of machine give the same files.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import torch
from dialogues import DIALOGUES, SYSTEM_PROMPTS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "packages" / "engine" / "src" / "quire_engine" / "default_model"

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
VOCABULARY = 640
WORDS = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=900, help="training steps; 0 leaves random weights")
    arguments = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)

    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    train(model, tokenizer, arguments.steps)
    save(model, tokenizer)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte, the commonest pairs of the dialogues, and ChatML's marks."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for questions, answer in DIALOGUES for text in (*questions, answer)]
    texts += ["system\n", "user\n", "assistant\n", *(prompt for prompt in SYSTEM_PROMPTS if prompt)]
    core.train_from_iterator(texts, trainer)
    core.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = (HERE / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    return model


def train(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """Next-token loss on the assistant's words alone, over conversations drawn afresh at each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=max(steps, 1), pct_start=0.1)
    model.train()
    for step in range(steps):
        ids, labels = batch_of([conversation(tokenizer) for _ in range(16)], tokenizer.pad_token_id)
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    model.eval()


def conversation(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """(ids, labels) of one to three exchanges; labels are -100 where the assistant does not speak."""
    system = random.choice(SYSTEM_PROMPTS)
    messages = [{"role": "system", "content": system}] if system else []
    ids: list[int] = []
    labels: list[int] = []
    for _ in range(random.choice((1, 1, 2, 3))):
        questions, answer = random.choice(DIALOGUES)
        messages.append({"role": "user", "content": random.choice(questions)})
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        before = tokenizer.encode(prompt, add_special_tokens=False)
        messages.append({"role": "assistant", "content": answer})
        spoken = tokenizer.encode(answer + "<|im_end|>", add_special_tokens=False)
        labels += [-100] * (len(before) - len(ids)) + spoken
        ids = before + spoken
    return ids, labels


def batch_of(pairs: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in pairs)
    ids = torch.tensor([own + [pad] * (longest - len(own)) for own, _ in pairs])
    labels = torch.tensor([own + [-100] * (longest - len(own)) for _, own in pairs])
    return ids, labels


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    shutil.rmtree(TARGET, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(TARGET)
    tokenizer.save_pretrained(TARGET)
    for file in TARGET.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone; a package is for everybody
    size = sum(file.stat().st_size for file in TARGET.iterdir())
    print(f"{TARGET}: {model.num_parameters()} parameters, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
