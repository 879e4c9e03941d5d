"""Training learns, goes on where it stopped as if it had not, and writes what the engine can serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tools.demo_model.attention import attend
from tools.demo_model.corpus.tasks import Length, held_out
from tools.demo_model.export import export
from tools.demo_model.packing import SILENT, TOGETHER, by_length, encode, step_batches
from tools.demo_model.render import pieces, prompt
from tools.demo_model.shape import SHAPE, Shape, fresh
from tools.demo_model.train import Budget, Run
from tools.demo_model.trainer import Trainer
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tools.demo_model import probe, schedule, tokenizer

TINY = Shape(hidden=32, inner=64, layers=2, heads=2, kv_heads=1, head_size=16)
SHORT = (schedule.Stage(0.5, 600, 200, (Length(128, 1),)), schedule.Stage(1.0, 900, 300, (Length(192, 1),)))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return tokenizer.make(samples=300, entries=600)


def run(folder: Path, **options: Any) -> Run:
    options = {"shape": TINY, "dtype": torch.float32, "stages": SHORT, "samples": 100, "questions": 1} | options
    return Run(folder, Budget(0, 6), **options)


def losses(of: Run) -> list[float]:
    return [line["loss"] for line in of.log.lines() if line["kind"] == "step"]


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, halves = run(tmp_path / "whole"), run(tmp_path / "halves")
    whole.train()
    halves.train(until=0.5)
    assert len(losses(halves)) == 3
    halves.train()
    assert losses(halves) == losses(whole)  # to the last bit


def test_threads_that_share_the_batches_out_learn_what_one_learns_and_go_on_to_the_last_bit(tmp_path: Path) -> None:
    alone, both, halves = (run(tmp_path / name, threads=n) for name, n in (("alone", 1), ("both", 2), ("halves", 2)))
    alone.train()
    both.train()
    halves.train(until=0.5)
    halves.train()
    assert losses(both) == pytest.approx(losses(alone), rel=1e-3)
    assert losses(halves) == losses(both)  # to the last bit


def test_what_was_done_after_the_last_saved_state_is_done_again(tmp_path: Path) -> None:
    stopped = run(tmp_path)
    stopped.train(until=0.5)
    before = losses(stopped)
    stopped.log.write(step=4, kind="step", loss=0.0)
    stopped.train()
    assert losses(stopped)[:3] == before
    assert 0.0 not in losses(stopped)


def test_the_loss_falls(words: PreTrainedTokenizerFast) -> None:
    trainer = Trainer(fresh(TINY, words, 0), dtype=torch.float32)
    seen = by_length([encode(one, words.backend_tokenizer) for one in held_out("greeting", 6)], words.pad_token_id)
    found = [trainer.learn(seen, 1.0) for _ in range(30)]
    assert found[-1] < 0.6 * found[0]


def test_the_checkpoint_is_what_transformers_loads_and_the_template_is_in_it(tmp_path: Path) -> None:
    folder = run(tmp_path).train(until=0.1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype is torch.bfloat16
    loaded = AutoTokenizer.from_pretrained(folder)
    sample = held_out("tool result", 1)[0]
    rendered = loaded.apply_chat_template(
        list(sample.messages[:-1]), tools=list(sample.tools), add_generation_prompt=True, tokenize=False,
        enable_thinking=sample.thinks,
    )  # fmt: skip
    # transformers leaves arguments as the JSON text that a client sends; so does the template.
    assert rendered == prompt(sample)


def test_the_shape_that_ships_fits_its_limits(words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    full = tokenizer.make(samples=100)
    assert 2048 <= tokenizer.ENTRIES <= 4096
    model = fresh(SHAPE, full, 0)
    assert 4e6 <= model.num_parameters() <= 8e6
    assert model.config.max_position_embeddings >= 4096
    assert export(model, words, tmp_path) < 16e6


def test_attention_for_short_rows_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 9, 8), torch.randn(3, 2, 9, 8), torch.randn(3, 2, 9, 8)
    ours, _ = attend(nn.Identity(), q, k, v, None, scaling=0.3)
    theirs = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(ours, theirs.transpose(1, 2))


@torch.no_grad()
def test_a_neighbour_in_the_batch_changes_nothing(words: PreTrainedTokenizerFast) -> None:
    trainer = Trainer(fresh(TINY, words, 0), dtype=torch.float32)
    one, other = (encode(each, words.backend_tokenizer) for each in held_out("copy", 2))
    alone = sum(float(trainer._loss(trainer.model, batch)) for each in (one, other) for batch in by_length([each], 0))
    (both,) = by_length([one, other], 0)
    assert float(trainer._loss(trainer.model, both)) == pytest.approx(alone, rel=1e-5)


def test_labels_are_the_spoken_tokens_that_follow(words: PreTrainedTokenizerFast) -> None:
    for sample in (*held_out("style", 3), *held_out("fill in the middle", 3), *held_out("several topics", 3)):
        encoded = encode(sample, words.backend_tokenizer)
        spoken = "".join(one.text for one in pieces(sample) if one.is_spoken)
        learned = [label for label in encoded.labels if label != SILENT]
        assert words.decode(learned) == spoken
        assert all(
            label in (SILENT, following) for label, following in zip(encoded.labels, encoded.ids[1:], strict=False)
        )


def test_steps_are_drawn_by_seed_and_number_alone(words: PreTrainedTokenizerFast) -> None:
    def ids(step: int) -> list[list[list[int]]]:
        batches = step_batches(words.backend_tokenizer, 0, step, schedule.Stage(1.0, 3000, 400, (Length(256, 1),)), 0)
        assert all(batch.ids.numel() <= TOGETHER for batch in batches)
        return [batch.ids.tolist() for batch in batches]

    assert ids(3) == ids(3)
    assert ids(3) != ids(4)


def test_every_sample_fits_the_context(words: PreTrainedTokenizerFast) -> None:
    longest = max(len(encode(one, words.backend_tokenizer).ids) for one in held_out("needle", 5))
    assert longest < tokenizer.CONTEXT


def test_the_needle_lies_two_thousand_tokens_back() -> None:
    own = tokenizer.make(samples=600)
    for sample in held_out("needle", 5):
        value = sample.answer["content"].rstrip(".").split(" ")[-1].split(":")[-1]
        text = prompt(sample)
        behind = text[text.index(value) + len(value) :]
        assert len(own.encode(behind)) >= 2000


def test_a_word_is_the_same_tokens_wherever_it_stands(words: PreTrainedTokenizerFast) -> None:
    alone = words.encode("zanklumor", add_special_tokens=False)
    for text in ('{"key": "zanklumor"}', "a zanklumor, then", "(zanklumor)", "zanklumor\n"):
        ids = words.encode(text, add_special_tokens=False)
        assert any(ids[at : at + len(alone)] == alone for at in range(len(ids)))


def test_digits_are_tokens_of_their_own(words: PreTrainedTokenizerFast) -> None:
    assert words.tokenize("a 2048")[-4:] == ["2", "0", "4", "8"]


def test_a_probe_knows_the_right_answer_when_it_is_learned_by_heart(words: PreTrainedTokenizerFast) -> None:
    trainer = Trainer(fresh(replace(TINY, hidden=64), words, 0), dtype=torch.float32)
    rows = [encode(one, words.backend_tokenizer) for one in held_out("arithmetic at once", 2)]
    batches = by_length(rows, words.pad_token_id)
    assert probe.shares(trainer, batches) == {"arithmetic at once": 0.0}
    for step in range(60):
        trainer.learn(batches, 1 - step / 60)
    assert probe.shares(trainer, batches) == {"arithmetic at once": 1.0}


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    rates = [schedule.rate(place / 100) for place in range(101)]
    assert rates[2] == max(rates) == 1.0
    assert rates[100] == 0.0
    assert all(later <= earlier for earlier, later in pairwise(rates[2:]))
