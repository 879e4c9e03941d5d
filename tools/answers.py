"""Answers under JSON Schemas by a model with random weights: whether each is whole, and satisfies its schema.

usage: python -m tools.answers [--suite FOLDER] [--schemas 600] [--seeds 3] [--lengths 16 48 160] [-v]

The schemas are drawn at random, as the tests draw them; with FOLDER, JSON-Schema-Test-Suite's `tests`, also every
schema of drafts 7 and 2020-12. A model that knows nothing takes every turn that a grammar leaves it. Each answer is
judged by jsonschema. What counts:

    valid      whole, and satisfying its schema
    short      refused before it began, as `max_tokens` are fewer than the shortest answer found
    truncated  cut by its length
    invalid    read, and not satisfying its schema
    failed     given up in the middle

Schemas that cannot be enforced are refused, with the reason. Any that is truncated, invalid or failed ends this with 1.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator
from tests.support.guided import save_model
from tests.support.random_schemas import random_schema

from quire_engine import LLM, CompletionOutput, GrammarError
from quire_protocol import SamplingParams, StructuredOutputsParams

JUDGES = {"draft7": Draft7Validator, "draft2020-12": Draft202012Validator}
FAULTS = ("truncated", "invalid", "failed")
"""What no answer may come to."""
AT_ONCE = 256
"""Answers that are asked for in one call."""
PROMPTS = ([5, 9, 11, 3], [80], [3] * 17, [200, 7])


@dataclass(frozen=True, eq=False)
class Case:
    """One schema, and who says what it means."""

    name: str
    schema: dict[str, Any]
    draft: str = "draft2020-12"

    def judged(self, answer: CompletionOutput) -> str:
        """What became of an answer."""
        if answer.finish_reason == "error":
            return "short" if "it has at least" in str(answer.error) else "failed"
        try:
            value = json.loads(answer.text)
        except ValueError:
            return "truncated" if answer.finish_reason == "length" else "invalid"
        judge = JUDGES[self.draft]
        return "valid" if judge(self.schema, format_checker=judge.FORMAT_CHECKER).is_valid(value) else "invalid"


@dataclass(frozen=True)
class Ask:
    """One answer that is asked for."""

    case: Case
    length: int
    """Its `max_tokens`."""
    seed: int


def drawn(count: int) -> Iterator[Case]:
    """Schemas at random."""
    for seed in range(count):
        yield Case(f"random {seed}", random_schema(random.Random(seed)))


def of_suite(folder: Path) -> Iterator[Case]:
    """The schemas of JSON-Schema-Test-Suite that are objects, each once."""
    seen: set[str] = set()
    for draft in JUDGES:
        for file in sorted((folder / draft).glob("*.json")):
            for place, group in enumerate(json.loads(file.read_text("utf-8"))):
                text = json.dumps(group["schema"])
                if isinstance(group["schema"], dict) and text not in seen:
                    seen.add(text)
                    yield Case(f"{draft}/{file.stem} {place}", group["schema"], draft)


def asked(schema: dict[str, Any], length: int, seed: int) -> SamplingParams:
    """JSON that satisfies the schema, in so many tokens at most."""
    return SamplingParams(
        structured_outputs=StructuredOutputsParams(json=schema), max_tokens=length, seed=seed, temperature=1.0
    )


def refusal(llm: LLM, case: Case) -> str | None:
    """Why a schema is refused; None if it is not."""
    try:
        llm.generate([5], asked(case.schema, 1, 0), use_tqdm=False)
    except GrammarError as error:
        return str(error)
    return None


def answered(llm: LLM, asks: Sequence[Ask]) -> Iterator[tuple[Ask, CompletionOutput]]:
    """The answers, many at a time."""
    for start in range(0, len(asks), AT_ONCE):
        some = asks[start : start + AT_ONCE]
        prompts = [PROMPTS[each.seed % len(PROMPTS)] for each in some]
        params = [asked(each.case.schema, each.length, each.seed) for each in some]
        for ask, output in zip(some, llm.generate(prompts, params, use_tqdm=False), strict=True):
            yield ask, output.outputs[0]


def keyword_of(why: str) -> str:
    """A refusal without the place and the values that it names."""
    return re.sub(r"/\S*|\d+|'[^']*'|\"[^\"]*\"", "…", why)[:100]


def main() -> int:
    """Ask, judge, count."""
    options = _options()
    began = time.perf_counter()
    cases = [*(of_suite(options.suite) if options.suite else ()), *drawn(options.schemas)]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        llm = LLM(save_model(Path(folder)), progress=False, dtype="float32", kv_cache_memory_bytes=2**28)
        refusals = {case: refusal(llm, case) for case in cases}
        held = [case for case, why in refusals.items() if why is None]
        asks = [Ask(case, size, seed) for case in held for size in options.lengths for seed in range(options.seeds)]
        for ask, answer in answered(llm, asks):
            judged = ask.case.judged(answer)
            counts[judged] += 1
            if options.v and judged in FAULTS:
                told = answer.error or repr(answer.text)
                print(f"{judged}: {ask.case.name}, {ask.length} tokens, seed {ask.seed}: {told}")
        llm.close()
    for why, count in Counter(keyword_of(why) for why in refusals.values() if why).most_common():
        if options.v:
            print(f"refused: {count:4} {why}")
    seconds = time.perf_counter() - began
    print(f"{len(cases)} schemas: {len(held)} held, {len(cases) - len(held)} refused")
    told = ", ".join(f"{counts[name]} {name}" for name in ("valid", "short", *FAULTS))
    print(f"{len(asks)} answers in {seconds:.0f} s: {told}")
    return int(any(counts[name] for name in FAULTS))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, help="JSON-Schema-Test-Suite's folder of tests")
    parser.add_argument("--schemas", type=int, default=600, help="schemas drawn at random")
    parser.add_argument("--seeds", type=int, default=3, help="answers of each length to each schema")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 48, 160], help="max_tokens")
    parser.add_argument("-v", action="store_true", help="print what is not valid, and why schemas are refused")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
