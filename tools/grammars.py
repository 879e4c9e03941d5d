"""Libraries that hold an answer to a JSON Schema, measured: what they enforce, what they refuse, how long they take.

usage: python tools/grammars.py --suite FOLDER [--library quire|llguidance|xgrammar] [-v]

FOLDER is JSON-Schema-Test-Suite's `tests`, with a folder for each draft: the source distribution of jsonschema has it
as `json/tests`. Every schema of drafts 7 and 2020-12 is compiled, and every instance beside it is written as JSON on
one line and put through the grammar. What counts:

    held       no instance that is invalid passes
    unsound    an instance passes that is invalid: what no user could know of
    refused    the schema is refused: an error that says so
    narrower   valid instances that do not pass: other orders of keys, other spellings of numbers

Times are of a vocabulary of 100 000 words, which are the most frequent ones of Python's own library. Run it by the
interpreter that has the library: `quire` is llguidance behind the checks of `quire_engine.text.grammar`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

DRAFTS = ("draft7", "draft2020-12")
WORDS = 100_000
ROUNDS = 3


class Matcher(Protocol):
    """The state of one answer."""

    def mask(self) -> None:
        """Work out which tokens may come next."""

    def take(self, token: int) -> bool:
        """Go on with a token, if it may."""

    def may_end(self) -> bool:
        """Whether the answer may end here."""


class Library(Protocol):
    """One library, made for one vocabulary."""

    def compile(self, schema: Any) -> Matcher:
        """A matcher at the beginning. Refused for a schema that it does not take."""


class Refused(Exception):
    """A library does not take a schema."""


class Guidance:
    """llguidance, asked for JSON on one line."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        import llguidance

        self._tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary))
        self._matcher = llguidance.LLMatcher

    def compile(self, schema: Any) -> Matcher:
        options = {"item_separator": ",", "key_separator": ":", "whitespace_flexible": False}
        keywords = schema if isinstance(schema, dict) else {} if schema else {"not": {}}
        return self._compiled({**keywords, "x-guidance": options})

    def _compiled(self, schema: Mapping[str, Any]) -> Matcher:
        grammar = f"%llguidance {{}}\nstart: %json {json.dumps(schema)}"
        matcher = self._matcher(self._tokenizer, self._matcher.grammar_from_lark(grammar), log_level=0)
        if matcher.is_error():
            raise Refused(matcher.get_error().splitlines()[0])
        return _OfGuidance(matcher)


class Quire(Guidance):
    """llguidance as Quire asks it."""

    def compile(self, schema: Any) -> Matcher:
        from quire_engine.errors import GrammarError
        from quire_engine.text.grammar.json_schema import JsonStyle, as_enforced

        try:
            return self._compiled(as_enforced(schema, JsonStyle(",", ":")))
        except GrammarError as error:
            raise Refused(str(error)) from error


class _OfGuidance:
    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self) -> None:
        self._matcher.compute_bitmask()

    def take(self, token: int) -> bool:
        return bool(self._matcher.validate_tokens([token]) == 1 and self._matcher.consume_token(token))

    def may_end(self) -> bool:
        return bool(self._matcher.is_accepting())


class Xgrammar:
    """xgrammar, asked for JSON on one line, and for what JSON Schema says where a schema is silent."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        import xgrammar

        tokenizer = xgrammar.TokenizerInfo(vocabulary.tokens, stop_token_ids=[vocabulary.eos_token_id])
        self._compiler = xgrammar.GrammarCompiler(tokenizer, cache_enabled=False)
        self._mask = xgrammar.allocate_token_bitmask(1, len(vocabulary.tokens))
        self._matcher = xgrammar.GrammarMatcher
        self._stop = vocabulary.eos_token_id

    def compile(self, schema: Any) -> Matcher:
        options = {"any_whitespace": False, "separators": (",", ":"), "strict_mode": False}
        try:
            compiled = self._compiler.compile_json_schema(json.dumps(schema), **options)
        except Exception as error:  # it raises what its C++ throws
            raise Refused(str(error).strip().splitlines()[0]) from error
        return _OfXgrammar(self._matcher(compiled), self._mask, self._stop)


class _OfXgrammar:
    def __init__(self, matcher: Any, mask: Any, stop: int) -> None:
        self._matcher, self._bits, self._stop = matcher, mask, stop

    def mask(self) -> None:
        self._matcher.fill_next_token_bitmask(self._bits)

    def take(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token))

    def may_end(self) -> bool:
        return bool(self._matcher.fork().accept_token(self._stop))


LIBRARIES = {"quire": Quire, "llguidance": Guidance, "xgrammar": Xgrammar}


class Vocabulary:
    """Bytes, and words where there are some. Texts are cut greedily. It is what llguidance wraps, too."""

    bos_token_id = None

    def __init__(self, words: int = 0) -> None:
        self.tokens = [bytes([byte]) for byte in range(256)]
        self.tokens += [word.encode() for word in _words(words) if len(word.encode()) > 1]
        self.tokens.append(b"<end of answer>")
        self.eos_token_id = len(self.tokens) - 1
        self.special_token_ids = [self.eos_token_id]
        self._ids = {token: place for place, token in enumerate(self.tokens[:-1])}
        self._longest = max(map(len, self._ids))

    def __call__(self, text: bytes | str) -> list[int]:
        rest = text.encode() if isinstance(text, str) else text
        ids = []
        while rest:
            length = next(n for n in range(min(self._longest, len(rest)), 0, -1) if rest[:n] in self._ids)
            ids.append(self._ids[rest[:length]])
            rest = rest[length:]
        return ids


def _words(count: int) -> list[str]:
    """The most frequent words of Python's library, with the space in front of them."""
    found: Counter[str] = Counter()
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")) if count else ():
        text = file.read_text("utf-8", errors="ignore")
        found.update(word[:16] for word in re.findall(r" ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]{1,4}|\s+", text))
    return [word for word, _ in found.most_common(count)]


@dataclass
class Tally:
    """What became of the schemas of one draft."""

    counts: Counter[str] = field(default_factory=Counter)
    unsound: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def conformance(library: Library, vocabulary: Vocabulary, folder: Path) -> Tally:
    """Every schema in a folder of the suite."""
    tally = Tally()
    for name, case in _cases(folder):
        try:
            library.compile(case["schema"])
        except Refused as refusal:
            tally.counts["refused"] += 1
            tally.refused[re.sub(r"[\"'/].*", "…", str(refusal))[:80]] += 1
            continue
        is_sound = True
        for test in case["tests"]:
            passes = _takes(library, case["schema"], vocabulary(_written(test["data"])))
            tally.counts["narrower"] += test["valid"] and not passes
            if passes and not test["valid"]:
                is_sound = False
                tally.unsound.append(f"{name}: {case['description']}: {test['description']}")
        tally.counts["held" if is_sound else "unsound"] += 1
    return tally


def _cases(folder: Path) -> Iterator[tuple[str, Any]]:
    for file in sorted([*folder.glob("*.json"), *folder.glob("optional/format/*.json")]):
        for case in json.loads(file.read_text("utf-8")):
            yield file.stem, case


def _takes(library: Library, schema: Any, ids: list[int]) -> bool:
    matcher = library.compile(schema)
    return all(matcher.take(token) for token in ids) and matcher.may_end()


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _answers() -> Iterator[tuple[str, Any, Any]]:
    """Schemas as they are asked for, and an answer to each: (name, schema, answer)."""
    text, whole = {"type": "string"}, {"type": "integer"}
    person = _object(name=text, age=whole, mails={"type": "array", "items": text})
    ada = {"name": "Ada Lovelace", "age": 36, "mails": ["ada@example.org", "lovelace@example.org"]}
    yield "flat", person, ada
    sku = {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}
    line = _object(sku=sku, note={"anyOf": [text, {"type": "number"}, {"type": "null"}]})
    lines = [{"sku": "ABC-1234", "note": "as soon as possible"}, {"sku": "XYZ-0001", "note": 2.5}]
    yield "nested", _object(by=person, lines={"type": "array", "items": line}), {"by": ada, "lines": lines}
    node = _object(value=whole, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
    leaf = {"value": 2, "children": []}
    yield "recursive", {"$defs": {"node": node}, "$ref": "#/$defs/node"}, {"value": 1, "children": [leaf, leaf]}
    yield "any object", {"type": "object"}, {"a": [1, 2, {"b": "some text of a few words"}], "c": {"d": None}}
    yield "enum of 1000", {"enum": [f"value number {place}" for place in range(1000)]}, "value number 777"
    told = {"type": "string", "description": "A sentence that tells what this property is for, at length."}
    wide = {f"property_number_{place}": told for place in range(400)}
    yield "50 kB", _object(**wide), dict.fromkeys(wide, "text")


def speed(library: Library, vocabulary: Vocabulary) -> None:
    """Times of compiling, with the first mask, and of the masks of an answer."""
    print(f"\n{'schema':14}{'compiled, first mask':>22}{'mask p50':>12}{'p99':>10}{'most':>10}{'tokens':>8}   (ms, µs)")
    for name, schema, answer in _answers():
        ids = vocabulary(_written(answer))[:2000]
        if not _takes(library, schema, vocabulary(_written(answer))):
            print(f"{name:14}the answer is not taken")
            continue
        compiled, masks = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            matcher = library.compile(schema)
            matcher.mask()
            compiled.append(time.perf_counter() - began)
            for token in ids:
                began = time.perf_counter()
                matcher.mask()
                masks.append(time.perf_counter() - began)
                matcher.take(token)
        masks.sort()
        at = [masks[int(len(masks) * share)] * 1e6 for share in (0.5, 0.99)] + [masks[-1] * 1e6]
        print(f"{name:14}{min(compiled) * 1e3:22.2f}{at[0]:12.1f}{at[1]:10.1f}{at[2]:10.1f}{len(ids):8}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--library", choices=sorted(LIBRARIES), default="quire")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="list what is unsound, and why schemas are refused"
    )
    options = parser.parse_args()
    make, of_bytes = LIBRARIES[options.library], Vocabulary()
    is_sound = True
    for draft in DRAFTS:
        tally = conformance(make(of_bytes), of_bytes, options.suite / draft)
        print(
            f"{options.library} {draft}: "
            + ", ".join(f"{count} {what}" for what, count in sorted(tally.counts.items()))
        )
        is_sound &= not tally.unsound
        for line in tally.unsound if options.verbose else ():
            print("  unsound:", line)
        for reason, count in tally.refused.most_common() if options.verbose else ():
            print(f"  refused: {count:3} {reason}")
    of_words = Vocabulary(WORDS)
    speed(make(of_words), of_words)
    sys.exit(not is_sound)


if __name__ == "__main__":
    main()
