"""Guides in their threads: what is kept, what fails alone, what ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.guided import END, SIZE, constrained, ids, vocabulary
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.constraint import Thinking
from quire_engine.guidance import guides as module
from quire_engine.guidance.guide import AnswerGuide
from quire_engine.guidance.guides import Crew, Guides
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.sequence import Rendered
from quire_protocol import SamplingParams

PATIENCE = 30.0
"""Seconds that a test may wait."""
PARAMS = SamplingParams(temperature=0)


class Loads:
    """Gives a vocabulary, and counts how often it was asked for one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Vocabulary:
        self.count += 1
        return vocabulary()


def begun(guides: Guides, added: Rendered, params: SamplingParams, **fields: Any) -> AnswerGuide:
    """A guide whose answer's turn has come."""
    guide = guides.guide(added, params, **fields)
    guide.begin()
    return guide


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def guides(loads: Loads) -> Iterator[Guides]:
    own = Guides(loads, size=SIZE)
    yield own
    own.close()


def test_answers_of_one_form_share_its_grammar_and_all_share_the_vocabulary(guides: Guides, loads: Loads) -> None:
    made = [begun(guides, constrained(text), PARAMS, room=9) for text in ('start: "a"', 'start: "a"', 'start: "b"')]
    for guide, text in zip(made, "aab", strict=True):
        assert guide.wait(PATIENCE)
        assert guide.failure is None
        assert [*guide.take(ids(text)[0], 9)] == ids(text)
        assert guide.is_over
    assert len(guides._grammars) == 2
    assert loads.count == 1


def test_no_more_grammars_are_kept_than_are_used_lately(loads: Loads) -> None:
    guides = Guides(loads, size=SIZE, most_grammars=2)
    _use(guides, "abcab")
    assert len(guides._grammars) == 2
    made = [*guides._grammars.values()]
    _use(guides, "ab")
    assert [*guides._grammars.values()] == made
    _use(guides, "c")
    assert next(iter(guides._grammars.values())) == made[1]
    guides.close()


def test_no_more_of_grammars_is_kept_than_there_is_room_for(loads: Loads) -> None:
    guides = Guides(loads, size=SIZE, most_characters=len('start: "a"') + 1)
    _use(guides, "abc")
    assert len(guides._grammars) == 1
    guides.close()


def _use(guides: Guides, letters: str) -> None:
    for letter in letters:
        assert begun(guides, constrained(f'start: "{letter}"'), PARAMS, room=9).wait(PATIENCE)


def test_a_grammar_that_is_none_fails_alone_and_is_not_kept_as_such(guides: Guides) -> None:
    for _ in range(2):
        broken = begun(guides, constrained("start: missing"), PARAMS, room=9)
        sound = begun(guides, constrained('start: "a"'), PARAMS, room=9)
        assert broken.wait(PATIENCE)
        assert sound.wait(PATIENCE)
        assert "missing" in str(broken.failure)
        assert sound.failure is None


def test_a_tokenizer_that_cannot_be_held_to_a_form_says_so() -> None:
    own = Guides(lambda: Vocabulary(tokenizer_of("word-piece"), 500, [END]), size=500)
    guide = begun(own, constrained('start: "a"'), PARAMS, room=9)
    assert guide.wait(PATIENCE)
    assert "cannot be constrained" in str(guide.failure)
    own.close()


def test_a_budget_alone_needs_no_vocabulary(guides: Guides, loads: Loads) -> None:
    added = Rendered(thinking=Thinking(limit=1, begin=(), end=(7,), is_open=True))
    guide = begun(guides, added, PARAMS, room=9)
    assert guide.wait(PATIENCE)
    assert [*guide.take(5, 9)] == [5, 7]
    assert loads.count == 0


def test_the_vocabulary_may_be_read_before_it_is_needed(guides: Guides, loads: Loads) -> None:
    guides.improve()
    guides.improve()
    assert begun(guides, constrained('start: "a"'), PARAMS, room=9).wait(PATIENCE)
    assert loads.count == 1


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, "abc"),
        ({"allowed_token_ids": tuple(range(SIZE))}, "a"),
        ({"logit_bias": {5: 1.0}}, "a"),
        ({"logprobs": 0}, "a"),
    ],
    ids=["free", "allowed", "bias", "scored"],
)
def test_what_must_come_is_written_unless_the_request_wants_a_say(
    guides: Guides, fields: dict[str, Any], taken: str
) -> None:
    guide = begun(guides, constrained("start: /abc/", closes=False), SamplingParams(**fields), room=9)
    assert guide.wait(PATIENCE)
    first = ids("a")[0]
    assert guide.mask is not None
    assert b"".join(vocabulary().tokens.decode_bytes([token]) for token in guide.take(first, 9)).decode() == taken


def test_who_rests_is_woken_by_what_was_done() -> None:
    crew, done = Crew(2), []
    for number in range(20):
        crew.put(lambda number=number: done.append(number))  # type: ignore[misc]
    while len(done) < 20:
        crew.rest(PATIENCE)
    assert sorted(done) == [*range(20)]
    crew.close()


def test_a_vocabulary_that_could_not_be_read_is_read_again() -> None:
    tries = iter([OSError("the file is busy")])

    def load() -> Vocabulary:
        for error in tries:
            raise error
        return vocabulary()

    own = Guides(load, size=SIZE)
    failures = []
    for _ in range(2):
        guide = begun(own, constrained('start: "a"'), PARAMS, room=9)
        assert guide.wait(PATIENCE)
        failures.append(guide.failure)
    own.close()
    assert "the file is busy" in str(failures[0])
    assert failures[1] is None


class Panic(BaseException):
    """What the library's panics are to Python: no Exception."""


def test_a_crew_goes_on_after_whatever_a_job_raises() -> None:
    def panic() -> None:
        raise Panic

    crew, done = Crew(1), threading.Event()
    crew.put(panic)
    crew.put(done.set)
    assert done.wait(PATIENCE)
    crew.close()


def test_a_crew_starts_once_whoever_asks_first() -> None:
    crew, ready = Crew(3), threading.Barrier(8)
    before = threading.active_count()

    def ask() -> None:
        ready.wait(PATIENCE)
        crew.put(lambda: None)

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(PATIENCE)
    assert threading.active_count() == before + 3
    crew.close()
    assert threading.active_count() == before


def test_closing_waits_for_nobody_who_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTING", 0.0)
    crew, begun, go, gone = Crew(1), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(PATIENCE)
        gone.set()

    crew.put(work)
    assert begun.wait(PATIENCE)
    crew.close()
    assert not gone.is_set()
    go.set()
    assert gone.wait(PATIENCE)
    crew.put(lambda: pytest.fail("who comes after the end begins nothing"))
    assert crew._threads == []


def test_closing_ends_the_threads(loads: Loads) -> None:
    before = threading.active_count()
    own = Guides(loads, size=SIZE)
    assert begun(own, constrained('start: "a"'), PARAMS, room=9).wait(PATIENCE)
    assert threading.active_count() > before
    own.close()
    assert threading.active_count() == before
