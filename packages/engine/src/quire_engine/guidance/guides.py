"""The guides of an engine: who needs one, the grammars that are kept for them, and the threads that they work in."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Thread

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import RequestError
from quire_engine.guidance.form import Grammar
from quire_engine.guidance.guide import AnswerGuide, Job, Terms
from quire_engine.guidance.thinking import ThinkingBudget
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.sequence import Rendered
from quire_engine.text.load import load_tokenizer
from quire_protocol import SamplingParams

MOST_GRAMMARS = 128
"""Grammars that are kept ready."""
WORKERS = range(4, 9)
"""Threads that guides work in: some even on few cores, as one slow grammar is not to hold up the others."""
NAP = 0.005
"""Seconds after which an engine with nothing else to do looks around again."""


class Crew:
    """Threads that do what is put in line for them, one after the other. They begin with the first job."""

    def __init__(self, size: int) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._size = size
        self._done = Event()

    def put(self, job: Job) -> None:
        """Have it done; it must not raise."""
        if not self._threads:
            self._threads = [Thread(target=self._work, name="quire-guides", daemon=True) for _ in range(self._size)]
            for thread in self._threads:
                thread.start()
        self._jobs.put(job)

    def rest(self, seconds: float) -> None:
        """Wait until a job is done, or was done since this was called last; for so long at most."""
        self._done.wait(seconds)
        self._done.clear()

    def close(self) -> None:
        """Send the threads home, after what they are at."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._done.set()


class Guides:
    """Makes the guides of one engine. Owns its grammars and their threads.

    The vocabulary is read when it is first needed, or in an idle moment; reading it and making grammars ready take long
    and are done by builders. What guides do for every token is short, and done by a crew.
    """

    def __init__(self, load: Callable[[], Vocabulary], *, size: int) -> None:
        """`size` is the number of logits."""
        self._load = load
        self._size = size
        self._crew = Crew(min(max(WORKERS.start, (os.cpu_count() or 1) // 2), WORKERS.stop - 1))
        self._builders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="quire-grammars")
        self._vocabulary: Future[Vocabulary] | None = None
        self._grammars: OrderedDict[str, Future[Grammar]] = OrderedDict()

    @classmethod
    def of(cls, config: EngineConfig, decisions: Decisions) -> Guides:
        """For an engine with the tokenizer that `config` names."""

        def load() -> Vocabulary:
            tokenizer = load_tokenizer(config)
            if tokenizer is None:
                raise RequestError("Answers can be constrained only where there is a tokenizer.")
            return Vocabulary(tokenizer, decisions.vocab_size, decisions.eos_token_ids)

        return cls(load, size=decisions.vocab_size)

    def guide(
        self, rendered: Rendered, params: SamplingParams, *, room: int, emitted: Sequence[int] = ()
    ) -> AnswerGuide:
        """The guide of one answer of at most `room` tokens, of which those `emitted` are there already."""
        terms = Terms(
            constraint=rendered.constraint,
            thinking=None if rendered.thinking is None else ThinkingBudget(rendered.thinking),
            room=room,
            size=self._size,
            one_by_one=params.logprobs is not None,
            forces=not _excludes(params),
        )
        grammar = None if rendered.constraint is None else self._grammar(rendered.constraint.grammar)
        return AnswerGuide(terms, grammar, emitted, self._crew.put)

    def improve(self) -> None:
        """Have the vocabulary read, if nobody has yet."""
        self._read()

    def rest(self) -> None:
        """Wait a little, until some guide gets on."""
        self._crew.rest(NAP)

    def close(self) -> None:
        """End the threads."""
        self._builders.shutdown(cancel_futures=True)
        self._crew.close()

    def _grammar(self, text: str) -> Future[Grammar]:
        """Ready or being made ready, and kept for as long as there is nothing newer to keep."""
        known = self._grammars.get(text)
        if known is None or (known.done() and known.exception() is not None):
            vocabulary = self._read()
            known = self._grammars[text] = self._builders.submit(lambda: Grammar(vocabulary.result(), text))
        self._grammars.move_to_end(text)
        if len(self._grammars) > MOST_GRAMMARS:
            self._grammars.popitem(last=False)
        return known

    def _read(self) -> Future[Vocabulary]:
        if self._vocabulary is None:
            self._vocabulary = self._builders.submit(self._load)
        return self._vocabulary


def _excludes(params: SamplingParams) -> bool:
    """Whether a request says itself which tokens may not come: then no others are written without asking."""
    return bool(params.allowed_token_ids or params.bad_words_token_ids or params.logit_bias or params.logits_processors)
