"""Ask the held-out questions through a real server with the openai client, at temperature 0; print exact match by task.

usage: python -m tools.demo_model.evaluate [CHECKPOINT] [--flags=FLAGS] [--each N] [--task NAME …] [--json FILE]

CHECKPOINT is a folder; without one, the model that comes with the package is asked. The dtype is float32, unless the
flags say something else: `--flags="--dtype bfloat16 --quantization int8"`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openai
from tools.demo_model.corpus.sample import Completion, Dialogue, Message, Sample
from tools.demo_model.corpus.tasks import TASKS, held_out
from tools.demo_model.score import is_right
from tqdm import tqdm

EACH = 50
AT_ONCE = 8
"""Questions that are with the server at the same time."""
ANSWER = 320
"""Tokens that an answer may take, thoughts included."""
SERVER_FLAGS = ("--dtype=float32", "--port=0", f"--max-num-seqs={AT_ONCE}")


@dataclass(frozen=True, slots=True)
class Score:
    """How one task went."""

    task: str
    asked: int
    right: int
    refused: int
    """Questions that the server answered with an error."""
    goal: float | None
    first_miss: str
    """The first wrong answer, or error, to be read."""

    @property
    def share(self) -> float:
        """Exact answers, of all that was asked."""
        return self.right / self.asked

    @property
    def verdict(self) -> str:
        """Whether the goal is reached; nothing where there is none."""
        return "" if self.goal is None else "reached" if self.share >= self.goal else "missed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one question."""

    is_right: bool
    is_refused: bool
    told: str


class Questioner:
    """Asks one server."""

    def __init__(self, base_url: str, model: str | None = None, *, holds_to_schema: bool = False) -> None:
        self._client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", timeout=300, max_retries=0)
        self._holds_to_schema = holds_to_schema
        self._model = model or self._client.models.list().data[0].id

    def score(self, task: str, count: int, seed: int = 0) -> Score:
        """Ask so many held-out questions of this task."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = list(pool.map(self.ask, held_out(task, count, seed)))
        miss = next((one.told for one in asked if not one.is_right), "")
        right, refused = sum(one.is_right for one in asked), sum(one.is_refused for one in asked)
        return Score(task, len(asked), right, refused, TASKS[task].goal, miss)

    def ask(self, sample: Sample) -> Asked:
        """One question. A server that refuses it has not answered it."""
        try:
            return self._completion(sample) if isinstance(sample, Completion) else self._dialogue(sample)
        except openai.APIStatusError as error:
            return Asked(False, True, f"refused with {error.status_code}: {error.message}")

    def _completion(self, sample: Completion) -> Asked:
        options = {} if sample.suffix is None else {"suffix": sample.suffix}
        answer = self._client.completions.create(
            model=self._model, prompt=sample.prompt, max_tokens=ANSWER, temperature=0, **options
        )
        text = answer.choices[0].text
        return Asked(text == sample.answer, False, f"{text!r} instead of {sample.answer!r}")

    def _dialogue(self, sample: Dialogue) -> Asked:
        options: dict[str, Any] = {"tools": list(sample.tools)} if sample.tools else {}
        if self._holds_to_schema and sample.schema is not None:
            form = {"name": "answer", "schema": dict(sample.schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": form}
        if not sample.thinks:
            options["extra_body"] = {"chat_template_kwargs": {"enable_thinking": False}}
        answer = self._client.chat.completions.create(
            model=self._model,
            messages=[as_sent(message) for message in sample.messages[:-1]],  # type: ignore[misc]
            max_tokens=ANSWER,
            temperature=0,
            **options,
        )
        message = answer.choices[0].message.model_dump()
        told = f"{message.get('content')!r} {message.get('tool_calls') or ''} instead of {sample.answer}"
        return Asked(is_right(sample, message), False, told)


def as_sent(message: Message) -> Message:
    """The message as a client sends it back: earlier thoughts are not among what the API's types know."""
    return {name: value for name, value in message.items() if name != "reasoning_content"}


@contextmanager
def serving(checkpoint: Path | None, flags: list[str]) -> Iterator[str]:
    """The address of a `quire serve` with this checkpoint, or with the embedded model, and these flags."""
    served = [str(checkpoint)] if checkpoint else []
    command = [sys.executable, "-m", "quire_server", "serve", *served, *SERVER_FLAGS, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            ready = next((line.split()[-1] for line in server.stdout if line.startswith("ready")), None)
            if ready is None:
                raise SystemExit(f"the server ended with exit code {server.wait()} before it was ready")
            yield ready
        finally:
            server.terminate()
            server.wait(60)


def table(scores: list[Score]) -> Iterator[str]:
    """A line for each task, and one for all."""
    yield f"{'task':24} {'asked':>5} {'right':>5} {'share':>7} {'goal':>5}"
    for one in scores:
        goal = "" if one.goal is None else f"{one.goal:.0%}"
        yield f"{one.task:24} {one.asked:5} {one.right:5} {one.share:7.1%} {goal:>5} {one.verdict}"
    asked, right = sum(one.asked for one in scores), sum(one.right for one in scores)
    yield f"{'all':24} {asked:5} {right:5} {right / asked:7.1%}"


def main() -> None:
    """Ask and print."""
    names = [name for name, task in TASKS.items() if task.asked]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, help="a checkpoint folder; the embedded model when absent")
    parser.add_argument("--base-url", metavar="URL", help="a running server, without /v1")
    parser.add_argument("--flags", type=shlex.split, default=[], help="further flags of quire serve, in one word")
    parser.add_argument("--each", type=int, default=EACH, help=f"questions of each task ({EACH})")
    parser.add_argument("--task", action="append", choices=names, help="only this task; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores here too")
    parser.add_argument("--schema", action="store_true", help="hold answers in JSON to their schemas")
    parser.add_argument("--misses", action="store_true", help="print the first wrong answer of each task")
    options = parser.parse_args()
    if options.base_url and (options.checkpoint or options.flags):
        parser.error("--base-url names a server that runs already: leave the checkpoint and --flags out")
    if options.each < 1:
        parser.error(f"--each is {options.each}: ask at least one question of each task")
    with nullcontext(options.base_url) if options.base_url else serving(options.checkpoint, options.flags) as url:
        questioner = Questioner(url, holds_to_schema=options.schema)
        scores = [questioner.score(name, options.each) for name in tqdm(options.task or names, unit="task")]
    print(*table(scores), sep="\n")
    if options.misses:
        print(*(f"{one.task}: {one.first_miss}" for one in scores if one.first_miss), sep="\n")
    if options.json is not None:
        written = [asdict(one) | {"share": one.share, "verdict": one.verdict} for one in scores]
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
