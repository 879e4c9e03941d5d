"""Read answers with Quire's parsers of tool calls and with those of an installed vLLM, and count where they agree.

usage: python -m tools.formats PYTHON [-v] [--rounds N]

PYTHON is an interpreter with vllm. The answers are the examples of the tests, and N for each format that its grammar
leads to at random, whole and cut. Both read each answer at once and token by token. Counted are the answers whose calls
and content are the same (white space beside calls aside), those that differ, those that are broken calls here, and
those that vLLM itself reads in two ways. What vLLM's server mends at the end of a stream is not asked.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tests.engine.text.formats.tools as test_modules
from tests.engine.text.formats.chunking import TOOLS, Example, calls_of, read, text_of
from tests.engine.text.formats.constrained import OFFERED, grammar_of, random_answer
from tests.support.tokenizer_kinds import byte_level_bpe
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from quire_engine.text.formats.base import Tool, ToolFormat
from quire_engine.text.formats.events import CallBroken
from quire_engine.text.formats.tools import TOOL_FORMATS
from quire_engine.text.formats.tools.mistral import ARGS, MISTRAL

PEERS = {
    "deepseek_v3": "deepseek_v3",
    "deepseek_v31": "deepseek_v31",
    "glm4": "glm45",
    "glm47": "glm47",
    "granite": "granite",
    "hermes": "hermes",
    "internlm": "internlm",
    "kimi_k2": "kimi_k2",
    "llama3_json": "llama3_json",
    "llama4_pythonic": "llama4_pythonic",
    "minimax": "minimax_m2",
    "mistral": "mistral",
    "mistral_args": "mistral",
    "phi4_mini": "phi4_mini_json",
    "pythonic": "pythonic",
    "qwen3_xml": "qwen3_xml",
    "seed_oss": "seed_oss",
}
"""What vLLM calls the formats that it has a parser of its own for."""


@dataclass(frozen=True)
class Answer:
    """What a model may have written."""

    format: ToolFormat
    kind: str
    text: str
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Read:
    """What a parser made of it."""

    calls: list[tuple[str, Any]]
    content: str
    is_broken: bool = False

    def same(self, calls: list[list[str]], content: str | None) -> bool:
        """Whether another parser made the same of it."""
        theirs = [(name, as_object(arguments)) for name, arguments in calls]
        return theirs == self.calls and (content or "").strip() == self.content.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", metavar="PYTHON", help="an interpreter that has vllm")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every difference")
    parser.add_argument("--rounds", type=int, default=40, help="random answers for each format (40)")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    answers = [*examples(), *drawn(options.rounds)]
    for answer, theirs in zip(answers, asked(options.python, answers), strict=True):
        ours = read_here(answer)
        verdict = compared(ours, theirs)
        counts[answer.format.name, verdict] += 1
        if options.verbose and verdict != "same":
            print(f"{answer.format.name}, {answer.kind}: {verdict}\n  text   {answer.text!r}\n  quire  {ours}")
            print(f"  vllm   {json.dumps(theirs, ensure_ascii=False)}")
    verdicts = sorted({verdict for _, verdict in counts})
    for name in sorted({name for name, _ in counts}):
        print(f"{name:16}", "  ".join(f"{verdict}: {counts[name, verdict]}" for verdict in verdicts))
    return 0


def compared(ours: Read, theirs: dict[str, Any]) -> str:
    """One of the verdicts that are counted."""
    whole, streamed = theirs["whole"], theirs["streamed"]
    if "error" in whole or "error" in streamed:
        return "vllm raises"
    at_once, in_pieces = ours.same(**whole), ours.same(**streamed)
    if at_once and in_pieces:
        return "same"
    if at_once or in_pieces:
        return f"vllm's {'stream' if at_once else 'whole'} differs"
    return "broken here" if ours.is_broken else "differs"


def examples() -> Iterator[Answer]:
    """The examples of the tests."""
    for module_info in pkgutil.iter_modules(test_modules.__path__):
        module = importlib.import_module(f"{test_modules.__name__}.{module_info.name}")
        offered = tuple(getattr(module, "TOOLS", TOOLS))
        own = [value for value in vars(module).values() if value in TOOL_FORMATS and value.name in PEERS]
        for value in (each for name, each in vars(module).items() if name.isupper() and isinstance(each, list)):
            for entry in value:
                parts = entry if isinstance(entry, tuple) else (entry,)
                formats = [part for part in parts if part in own] or own
                for example in (part for part in parts if isinstance(part, Example)):
                    for format in formats:
                        if format is formats[0] or (format.opening() or "") in example.text:
                            yield Answer(format, example.name, example.text, offered)


def drawn(rounds: int) -> Iterator[Answer]:
    """What grammars lead to, whole, with text before, and cut."""
    for format in TOOL_FORMATS:
        if format.name not in PEERS:
            continue
        grammar = grammar_of(format)
        for seed in range(rounds):
            rng = random.Random(seed)
            text = random_answer(grammar, rng, format.marks)
            yield Answer(format, "drawn", text, OFFERED)
            if format.opening():
                yield Answer(format, "drawn after text", f"Let me look.\n{text}", OFFERED)
            yield Answer(format, "drawn and cut", text[: rng.randrange(1, len(text))], OFFERED)


def read_here(answer: Answer) -> Read:
    """What Quire makes of it."""
    events = read(answer.format.parser(answer.tools), [answer.text])
    return Read(calls_of(events), text_of(events), any(isinstance(event, CallBroken) for event in events))


def asked(python: str, answers: list[Answer]) -> list[dict[str, Any]]:
    """What vLLM makes of them."""
    with tempfile.TemporaryDirectory() as folder:
        for format in {answer.format.name: answer.format for answer in answers}.values():
            write_tokenizer(Path(folder, format.name), format)
        asked_for = [
            {
                "tokenizer": str(Path(folder, answer.format.name)),
                "parser": PEERS[answer.format.name],
                "text": answer.text,
                "tools": [asdict(tool) for tool in answer.tools],
            }
            for answer in answers
        ]
        command = [python, str(Path(__file__).with_name("peer.py"))]
        done = subprocess.run(command, input=json.dumps(asked_for), text=True, stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_tokenizer(folder: Path, format: ToolFormat) -> None:
    """A tokenizer that has a format's marks as tokens."""
    marks = {*format.marks, "<|python_tag|>"} - ({ARGS} if format is MISTRAL else set())  # which vLLM tells versions by
    backend = byte_level_bpe()
    backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in sorted(marks)])
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)


def as_object(text: str) -> Any:
    """Arguments as what they mean, or as they are where they mean nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    raise SystemExit(main())
