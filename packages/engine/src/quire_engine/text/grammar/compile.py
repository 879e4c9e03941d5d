"""Grammars are tried out before a request goes on: the library reads them, and finds a first character for them.

This takes milliseconds for most, a second for the largest: it belongs into a thread beside the event loop. It drops the
interpreter's lock. The library bounds most of its work (`llguidance.LLParserLimits`), but not what comes of patterns
that are held together: `conjunctions` does. It has no limit of time and cannot be broken off. So texts are bounded, and
what takes too long is left behind in its thread, of which there are few.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from hashlib import blake2b
from typing import Self

import llguidance
from llguidance import LLMatcher, LLTokenizer

from quire_engine.config import Decisions
from quire_engine.errors import GrammarError
from quire_engine.text.grammar.json_schema import Document
from quire_engine.text.tokenizer import Tokenizer

MAX_SIZE = 4_000_000
"""Characters of a grammar's text."""
KEPT = 256
"""Grammars that are remembered to be sound, or not."""
SECONDS = 10.0
"""For which one may be tried out."""
MOST_AT_ONCE = 8
"""Grammars that are tried out at a time, those that were given up among them."""
_PATIENCE = 1.0
"""Seconds to look for the part of a schema that is at fault."""


class Grammars:
    """Grammars for the vocabulary of one tokenizer, and what was found of them. Any thread may ask."""

    def __init__(
        self, tokenizer: Tokenizer, *, max_size: int = MAX_SIZE, kept: int = KEPT, seconds: float = SECONDS
    ) -> None:
        """The longest text of a grammar in characters, how many are remembered, and how long trying one may take."""
        self._tokenizer = tokenizer
        self._max_size = max_size
        self._seconds = seconds
        self._free = threading.Semaphore(MOST_AT_ONCE)
        """Threads that may be started."""
        self._kept = kept
        self._found: OrderedDict[bytes, str | None] = OrderedDict()
        """What is wrong with a grammar, or None. By digest: a grammar may have megabytes."""
        self._lock = threading.Lock()

    @classmethod
    def within(cls, tokenizer: Tokenizer, decisions: Decisions) -> Self:
        """With the limits of an engine."""
        return cls(
            tokenizer,
            max_size=decisions.max_grammar_size,
            kept=2 * decisions.max_cached_grammars,
            seconds=decisions.max_grammar_seconds,
        )

    def check(self, grammar: str, param: str) -> str:
        """The same grammar. GrammarError, which names this field of the request, for one that cannot be used."""
        self._once(grammar, param, lambda: self._try(grammar))
        return grammar

    def check_schema(self, document: Document, param: str) -> None:
        """GrammarError, with the JSON pointer, for a schema that the library cannot enforce."""
        grammar = _of_schema(document.enforced)

        def located() -> str | None:
            problem = self._try(grammar)
            return None if problem is None else self._located(document, problem)

        self._once(grammar, param, located, pointer=document.pointer)

    def first_bytes(self, grammar: str) -> bytes:
        """The bytes that an answer may begin with; of tokens that are no text there are none."""
        mask = self._matcher(grammar).compute_bitmask()
        return bytes(byte for byte, token in enumerate(self._bytes.ids) if mask[token // 8] >> token % 8 & 1)

    def _once(self, grammar: str, param: str, attempt: Callable[[], str | None], *, pointer: str = "") -> None:
        """GrammarError with the problem that this attempt comes to, or came to before. Problems name the `pointer`."""
        if len(grammar) > self._max_size:
            problem = f"The grammar has {len(grammar)} characters; {self._max_size} is the most. Make it smaller."
            raise GrammarError(problem, param=param)
        digest = blake2b(f"{pointer}\n{grammar}".encode(), digest_size=32).digest()
        with self._lock:
            is_known, found = digest in self._found, self._found.get(digest)
        if not is_known:
            found = self._timed(attempt, param)
        with self._lock:
            self._found[digest] = found
            self._found.move_to_end(digest)
            while len(self._found) > self._kept:
                self._found.popitem(last=False)
        if found is not None:
            raise GrammarError(found, param=param)

    def _timed(self, attempt: Callable[[], str | None], param: str) -> str | None:
        """What an attempt comes to: that it took too long, where it is not over in time."""
        if not self._free.acquire(timeout=self._seconds):
            problem = f"{MOST_AT_ONCE} other grammars are being tried out, each for long. Ask again later."
            raise GrammarError(f"The grammar could not be tried out: {problem}", param=param)
        result: Future[str | None] = Future()

        def work() -> None:
            try:
                result.set_result(attempt())
            except BaseException as error:  # the library's panics are no Exceptions
                result.set_exception(error)
            finally:
                self._free.release()

        threading.Thread(target=work, name="quire-grammar", daemon=True).start()
        try:
            return result.result(self._seconds)
        except TimeoutError:
            return f"The grammar takes longer than {self._seconds:g} s to make ready. Make it simpler."

    def _try(self, grammar: str) -> str | None:
        """What is wrong with it."""
        matcher = self._matcher(grammar)
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            return f"The grammar cannot be used: {_told(matcher.get_error())}."
        if not any(mask) and not matcher.is_accepting():
            return "The grammar has no answers: it contradicts itself."
        return None

    def _located(self, document: Document, problem: str) -> str:
        """The problem of a schema with the JSON pointer of the innermost part that has one on its own."""
        shared: dict[str, object] = {
            name: document.enforced[name] for name in ("$defs", "definitions") if name in document.enforced
        }
        end = time.monotonic() + _PATIENCE
        for place, part in document.places.items():
            if time.monotonic() > end:
                break
            if place and isinstance(part, dict):
                matcher = self._matcher(_of_schema({**shared, **part, "x-guidance": document.style.options}))
                if matcher.is_error():
                    return f"The schema at {document.pointer + place}: {_told(matcher.get_error())}."
        return problem.replace("The grammar", f"The schema at {document.pointer or '/'}", 1)

    def _matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self._bytes.library, LLMatcher.grammar_from_lark(grammar), log_level=0)

    @cached_property
    def _bytes(self) -> _Bytes:
        return _Bytes(self._tokenizer)


class _Bytes:
    """A vocabulary of the same marks under the same ids, and for the rest of single bytes: quick to look through."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        marks = tokenizer.marks
        size = max(tokenizer.vocab_size, 256 + len(marks) + 1) + 256 + 1
        taken = set(marks.values())
        free = (token for token in range(size) if token not in taken)
        self.ids = [next(free) for _ in range(256)]
        """The token of each byte."""
        self.tokens = [b""] * size
        for byte, token in enumerate(self.ids):
            self.tokens[token] = bytes((byte,))
        for mark, token in marks.items():
            self.tokens[token] = mark.encode(errors="replace")
        self.eos_token_id = size - 1
        self.tokens[-1] = b"<end of answer>"
        self.bos_token_id = None
        self.special_token_ids = [*taken, size - 1]
        self.library = LLTokenizer(llguidance.TokenizerWrapper(self))

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text."""
        return [self.ids[byte] for byte in (text if isinstance(text, bytes) else text.encode())]


def _of_schema(schema: dict[str, object]) -> str:
    return f"%llguidance {{}}\nstart: %json {json.dumps(schema, ensure_ascii=False)}\n"


def _told(error: str) -> str:
    """The library's error in one line, without what only its authors need."""
    line = error.strip().splitlines()[0] if error.strip() else "the library does not say why"
    _, _, told = line.rpartition("failed to compile JSON schema: ")
    if "coerce_one_of" in told:
        return "oneOf cannot be enforced unless its cases plainly exclude one another: use anyOf"
    if told.startswith("NoExtension"):
        return "it has no answers, as parts of it contradict one another"
    if "Unable to determine if regex is empty" in told:
        return "its regular expressions cannot be held together: write one pattern for them"
    return told[:300].rstrip(".:")
