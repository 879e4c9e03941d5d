"""Read answers with Quire's parsers of reasoning and with those of an installed vLLM, and count where they agree.

usage: python -m tools.formats.reasoning PYTHON [-v] [--rounds N]

PYTHON is an interpreter with vllm. The answers are N for each format: text from the tests, with reasoning or without,
whole and cut. Counted are those that are told apart in the same way, those where that is so but for newlines at the
ends of the two texts, those that differ, and those that vLLM itself reads in two ways. It has no parser of text for
harmony.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engine.text.formats.chunking import TEXTS, read, text_of
from tests.support.tokenizer_kinds import byte_level_bpe
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from quire_engine.text.formats.base import ReasoningFormat
from quire_engine.text.formats.events import Reasoning
from quire_engine.text.formats.reasoning import REASONING_FORMATS

PEERS = {
    "gemma4": "gemma4",
    "granite": "granite",
    "mistral": "mistral",
    "seed_oss": "seed_oss",
    "think_tags": "deepseek_r1",
}
"""What vLLM calls the formats that it reads as text."""
WANTED = ("[TOOL_CALLS]", "<tool_call>", "</tool_call>", "<|tool_call>", "<tool_call|>", "<seed:tool_call>")
"""Tokens that its parsers ask for beside the marks."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", metavar="PYTHON", help="an interpreter that has vllm")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every difference")
    parser.add_argument("--rounds", type=int, default=100, help="answers for each format (100)")
    options = parser.parse_args()
    for form in [form for form in REASONING_FORMATS if form.name in PEERS]:
        texts = list(written(form, options.rounds))
        counts: Counter[str] = Counter()
        for text, theirs in zip(texts, asked(options.python, form, texts), strict=True):
            ours = read_here(form, text)
            verdict = compared(ours, theirs)
            counts[verdict] += 1
            if options.verbose and verdict not in ("same", "same but for newlines"):
                print(f"{form.name}: {verdict}\n  text   {text!r}\n  quire  {ours}\n  vllm   {theirs}")
        print(f"{form.name:12}", "  ".join(f"{verdict}: {count}" for verdict, count in sorted(counts.items())))
    return 0


def written(form: ReasoningFormat, rounds: int) -> Iterator[str]:
    """Answers as models write them: with reasoning, without, with newlines around it, and cut."""
    for seed in range(rounds):
        rng = random.Random(seed)
        thought, answer = ("".join(rng.choices(TEXTS, k=3)) for _ in range(2))
        newline = rng.choice(["", "\n"])
        text = f"{form.begin}{newline}{thought}{newline}{form.end}{newline * 2}{answer}"
        yield rng.choice([text, text, answer, text[: rng.randrange(len(text))]])


def read_here(form: ReasoningFormat, text: str) -> list[str]:
    """The reasoning and the content that Quire finds."""
    events = read(form.parser(is_open=False), [text])
    return ["".join(event.text for event in events if isinstance(event, Reasoning)), text_of(events)]


def compared(ours: list[str], theirs: dict[str, Any]) -> str:
    """One of the verdicts that are counted."""
    whole, streamed = theirs["whole"], theirs["streamed"]
    if "error" in whole or "error" in streamed:
        return "vllm raises"
    if [text.strip("\n") for text in whole] != [text.strip("\n") for text in streamed]:
        return "vllm reads it in two ways"
    if whole == ours == streamed:
        return "same"
    return (
        "same but for newlines"
        if [text.strip("\n") for text in whole] == [text.strip("\n") for text in ours]
        else "differs"
    )


def asked(python: str, form: ReasoningFormat, texts: list[str]) -> list[dict[str, Any]]:
    """What vLLM makes of them."""
    with tempfile.TemporaryDirectory() as folder:
        backend = byte_level_bpe()
        backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in sorted({*form.marks, *WANTED})])
        PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
        answers = [{"tokenizer": folder, "parser": PEERS[form.name], "text": text} for text in texts]
        command = [python, str(Path(__file__).with_name("reasoning_peer.py"))]
        done = subprocess.run(command, input=json.dumps(answers), text=True, stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
