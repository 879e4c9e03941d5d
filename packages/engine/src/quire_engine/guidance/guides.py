"""The guides of an engine: who needs one, the grammars that are kept for them, and the threads that they work in."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from hashlib import blake2b
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, TypeVar

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import RequestError
from quire_engine.guidance.form import Grammar
from quire_engine.guidance.guide import AnswerGuide, Demands, Job
from quire_engine.guidance.thinking import ThinkingBudget
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.sequence import Rendered
from quire_engine.text.load import load_tokenizer
from quire_protocol import SamplingParams

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_GRAMMARS = 128
"""Grammars that are kept ready, unless it is said how many."""
MOST_CHARACTERS = 32_000_000
"""And the length of their texts, taken together. Grammars in use stay with those who use them."""
LARGEST = 8
"""How many of the largest grammars there is room for."""
WORKERS = range(4, 9)
"""Threads that guides work in: some even on few cores, as one slow grammar is not to hold up the others."""
BUILDERS = 2
"""Threads that make grammars ready."""
PARTING = 1.0
"""Seconds that threads are given to end when all ends: what the library is at cannot be broken off."""
NAP = 0.005
"""Seconds after which an engine with nothing else to do looks around again."""


class Crew:
    """Threads that do what is put in line for them, one after the other. They begin with the first job."""

    def __init__(self, size: int, name: str = "quire-guides") -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._size = size
        self._name = name
        self._done = Event()
        self._starting = Lock()
        self._is_closed = False

    def put(self, job: Job) -> None:
        """Have it done, whichever thread asks. What it raises is logged, and keeps nobody from the next job."""
        with self._starting:
            if not self._threads and not self._is_closed:
                self._threads = [Thread(target=self._work, name=self._name, daemon=True) for _ in range(self._size)]
                for thread in self._threads:
                    thread.start()
        self._jobs.put(job)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done; what comes of it, be it an error."""
        result: Future[T] = Future()

        def job() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # the library's panics are no Exceptions
                result.set_exception(error)

        self.put(job)
        return result

    def rest(self, seconds: float) -> None:
        """Wait until a job is done, or was done since this was called last; for so long at most."""
        self._done.wait(seconds)
        self._done.clear()

    def close(self) -> None:
        """Send the threads home, after what they are at; what is in line is forgotten, and who takes long is left."""
        until = monotonic() + PARTING
        with self._starting:
            self._is_closed = True
            with suppress(Empty):
                while True:
                    self._jobs.get_nowait()
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join(max(0.0, until - monotonic()))
            self._threads = []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException:  # the library's panics are no Exceptions
                logger.exception("A guide's work failed.")
            self._done.set()


class Guides:
    """Makes the guides of one engine. Owns its grammars and their threads.

    The vocabulary is read when it is first needed, or in an idle moment; reading it and making grammars ready take long
    and are done by builders. What guides do for every token is short, and done by a crew.
    """

    def __init__(
        self,
        load: Callable[[], Vocabulary],
        *,
        size: int,
        most_grammars: int = MOST_GRAMMARS,
        most_characters: int = MOST_CHARACTERS,
    ) -> None:
        """`size` is the number of logits."""
        self._load = load
        self._size = size
        self._most_grammars = most_grammars
        self._most_characters = most_characters
        self._crew = Crew(min(max(WORKERS.start, (os.cpu_count() or 1) // 2), WORKERS.stop - 1))
        self._builders = Crew(BUILDERS, "quire-grammars")
        self._vocabulary: Future[Vocabulary] | None = None
        self._grammars: OrderedDict[bytes, tuple[Future[Grammar], int]] = OrderedDict()
        """By digest of their texts, and how long these are; the newest last."""

    @classmethod
    def of(cls, config: EngineConfig, decisions: Decisions) -> Guides:
        """For an engine with the tokenizer that `config` names."""

        def load() -> Vocabulary:
            tokenizer = load_tokenizer(config)
            if tokenizer is None:
                raise RequestError("Answers can be constrained only where there is a tokenizer.")
            return Vocabulary(tokenizer, decisions.vocab_size, decisions.eos_token_ids)

        return cls(
            load,
            size=decisions.vocab_size,
            most_grammars=decisions.max_cached_grammars,
            most_characters=LARGEST * decisions.max_grammar_size,
        )

    def guide(
        self, rendered: Rendered, params: SamplingParams, *, room: int, emitted: Sequence[int] = ()
    ) -> AnswerGuide:
        """The guide of one answer of at most `room` tokens, of which those `emitted` are there already."""
        demands = Demands(
            constraint=rendered.constraint,
            thinking=None if rendered.thinking is None else ThinkingBudget(rendered.thinking),
            room=room,
            size=self._size,
            one_by_one=params.logprobs is not None,
            forces=not _excludes(params),
        )
        grammar = None if rendered.constraint is None else self._grammar(rendered.constraint.grammar)
        return AnswerGuide(demands, grammar, emitted, self._crew.put)

    def improve(self) -> None:
        """Have the vocabulary read, if nobody has yet."""
        self._read()

    def rest(self) -> None:
        """Wait a little, until some guide gets on."""
        self._crew.rest(NAP)

    def close(self) -> None:
        """End the threads."""
        self._builders.close()
        self._crew.close()

    def _grammar(self, text: str) -> Future[Grammar]:
        """Ready or being made ready, and kept for as long as there is nothing newer to keep."""
        digest = blake2b(text.encode(), digest_size=32).digest()
        known, _ = self._grammars.get(digest, (None, 0))
        if known is None or _has_failed(known):
            vocabulary = self._read()
            known = self._builders.submit(lambda: Grammar(vocabulary.result(), text))
            self._grammars[digest] = known, len(text)
        self._grammars.move_to_end(digest)
        while len(self._grammars) > max(1, self._most_grammars if self._characters <= self._most_characters else 1):
            self._grammars.popitem(last=False)
        return known

    @property
    def _characters(self) -> int:
        return sum(size for _, size in self._grammars.values())

    def _read(self) -> Future[Vocabulary]:
        if self._vocabulary is None or _has_failed(self._vocabulary):
            self._vocabulary = self._builders.submit(self._load)
        return self._vocabulary


def _has_failed(future: Future[Any]) -> bool:
    return future.done() and future.exception() is not None


def _excludes(params: SamplingParams) -> bool:
    """Whether a request says itself which tokens may not come: then no others are written without asking."""
    return bool(params.allowed_token_ids or params.bad_words_token_ids or params.logit_bias or params.logits_processors)
