"""Answers held to a form, in tests: a vocabulary, a guide that works at once, and a model with random weights."""

from __future__ import annotations

import json
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.families import Family, build
from tests.support.tokenizer_kinds import byte_level_bpe, tokenizer_of, write_checkpoint

from quire_engine.constraint import Constraint, Thinking
from quire_engine.guidance.form import Grammar
from quire_engine.guidance.guide import AnswerGuide, Demands, Job
from quire_engine.guidance.thinking import ThinkingBudget
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.sequence import Rendered

SIZE = 416
"""Logits of the model, a few more than the tokenizer has tokens."""
END, THINK = 0, 400
"""Two marks of the vocabulary: the end of a sequence, and <think>."""


@cache
def vocabulary() -> Vocabulary:
    """Byte-level, with three special tokens and <think>."""
    return Vocabulary(tokenizer_of("byte-level"), SIZE, [END])


def ids(text: str) -> list[int]:
    """The text as the tokenizer cuts it."""
    return tokenizer_of("byte-level").encode(text, add_special_tokens=False)


def text_of(tokens: list[int]) -> str:
    """What these tokens say; special ones are left out."""
    return tokenizer_of("byte-level").decode(tokens)


def json_grammar(schema: dict[str, Any] | bool) -> str:
    """JSON that satisfies a schema, in the notation that the grammar library reads."""
    return f"start: %json {json.dumps(schema)}"


@cache
def ready(grammar: str) -> Future[Grammar]:
    """A grammar that is there already."""
    done: Future[Grammar] = Future()
    done.set_result(Grammar(vocabulary(), grammar))
    return done


class Later:
    """Puts work off until it is asked to do it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def put(self, job: Job) -> None:
        self.jobs.append(job)

    def do(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


def guide(
    grammar: str | None,
    *,
    room: int = 100,
    thinking: Thinking | None = None,
    closes: bool = True,
    emitted: list[int] | None = None,
    later: Later | None = None,
    **demands: Any,
) -> AnswerGuide:
    """A guide whose work is done at once, in the thread that asks; or `later`."""
    settled = Demands(
        constraint=None if grammar is None else Constraint(grammar, "response_format", closes),
        thinking=None if thinking is None else ThinkingBudget(thinking),
        room=room,
        size=SIZE,
        **demands,
    )
    put = (lambda job: job()) if later is None else later.put
    made = AnswerGuide(settled, None if grammar is None else ready(grammar), emitted or [], put)
    made.begin()
    return made


def constrained(grammar: str, *, closes: bool = True, thinking: Thinking | None = None) -> Rendered:
    """What the text side adds to a request whose answer is held to this grammar."""
    return Rendered(constraint=Constraint(grammar, "response_format", closes), thinking=thinking)


def save_model(folder: Path, seed: int = 0) -> str:
    """A checkpoint with random weights and the tokenizer above."""
    model = build(Family("llama", {"vocab_size": SIZE, "eos_token_id": END, "bos_token_id": 1}), seed)
    model.save_pretrained(folder)
    write_checkpoint(folder, byte_level_bpe(), eos_token="<|end|>")
    return str(folder)
