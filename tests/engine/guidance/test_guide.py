"""What a guide makes of drawn tokens."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from tests.support.guided import END, SIZE, THINK, Later, guide, ids, json_grammar, ready, text_of

from quire_engine.constraint import Constraint, Thinking
from quire_engine.guidance import guide as module
from quire_engine.guidance.form import Grammar, Place
from quire_engine.guidance.guide import LENGTHY, AnswerGuide, Demands

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
COMPACT = {"x-guidance": {"whitespace_flexible": False}}


def allowed(own: AnswerGuide) -> list[int]:
    assert own.mask is not None
    return np.unpackbits(own.mask.view(np.uint8), bitorder="little").nonzero()[0].tolist()


def grown(own: AnswerGuide, room: int, draws: Any) -> list[int]:
    """An answer to its end, for which `draws` chooses among the tokens that are allowed."""
    answer: list[int] = []
    while not own.is_over and len(answer) < room:
        assert own.failure is None, own.failure
        answer += own.take(int(draws(allowed(own))), room - len(answer))
    return answer[:room]


def test_only_what_the_grammar_allows_is_allowed() -> None:
    own = guide('start: "yes" | "no"')
    assert {text_of([token])[0] for token in allowed(own)} == {"y", "n"}
    assert own.take(ids("n")[0], 100)[0] == ids("n")[0]


def test_what_must_come_is_written_at_once() -> None:
    own = guide(json_grammar(PERSON | COMPACT))
    taken = own.take(ids("{")[0], 100)
    assert text_of([*taken]) == '{"name":"'


def test_what_must_come_is_drawn_one_by_one_where_every_token_has_a_score() -> None:
    at_once = guide(json_grammar(PERSON | COMPACT)).take(ids("{")[0], 100)
    own, singly = guide(json_grammar(PERSON | COMPACT), one_by_one=True), []
    for token in at_once:
        assert token in allowed(own)
        singly += own.take(token, 100 - len(singly))
    assert singly == [*at_once]
    assert len(allowed(own)) > 1


def test_what_must_come_is_left_to_requests_that_exclude_tokens_themselves() -> None:
    own = guide(json_grammar(PERSON | COMPACT), forces=False)
    assert own.take(ids("{")[0], 100) == ids("{")


def test_an_answer_is_over_when_nothing_may_follow_and_no_sooner() -> None:
    own = guide("start: /ab?c?/")
    assert [*own.take(ids("a")[0], 100)] == ids("a")
    assert not own.is_over
    assert END in allowed(own)
    own.take(ids("c")[0], 99)
    assert own.is_over


def test_the_end_of_sequence_ends_an_answer_that_may_end() -> None:
    own = guide("start: /a+/")
    own.take(ids("a")[0], 100)
    own.take(END, 99)
    assert own.is_over


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("room", range(19, 30))
def test_an_answer_is_led_to_an_end_in_whatever_room_it_has(room: int, one_by_one: bool) -> None:
    random = np.random.default_rng(room)
    own = guide(json_grammar(PERSON), room=room, one_by_one=one_by_one)
    answer = grown(own, room, random.choice)
    assert own.is_over
    assert len(answer) <= room
    assert json.loads(text_of(answer)).keys() == {"name", "age"}


LONG_ITEMS = {"type": "array", "items": {"type": "string", "minLength": 200}} | COMPACT


@pytest.mark.parametrize("length", range(1, 60, 6))
def test_an_item_that_must_be_long_is_not_begun_where_it_has_no_room(length: int) -> None:
    schema = {**LONG_ITEMS, "prefixItems": [{"type": "string"}]}
    own = guide(json_grammar(schema), room=245)
    wanted = ids('["') + ids("x") * length + ids('"') + ids(",") + ids('"') + ids("y") * 300
    left = iter(wanted)
    answer = grown(own, 245, lambda tokens: next((token for token in left if token in tokens), tokens[0]))
    assert own.failure is None
    assert own.is_over
    json.loads(text_of(answer))


def test_items_that_must_be_longer_than_a_search_are_closed_too() -> None:
    own = guide(json_grammar({"type": "array", "items": {"type": "string", "minLength": 600}} | COMPACT), room=700)
    left = iter(ids('["') + ids("x") * 2000)
    answer = grown(own, 700, lambda tokens: next((token for token in left if token in tokens), tokens[0]))
    assert own.is_over
    assert [text[:600] for text in json.loads(text_of(answer))] == ["x" * 600]


def test_a_token_that_leaves_no_way_out_gives_way_to_one_that_does() -> None:
    own = guide('start: "a" ("b" | "cdefgh")', room=2, forces=False)
    own.take(ids("a")[0], 2)
    assert text_of([*own.take(ids("c")[0], 1)]) == "b"
    assert own.is_over


def test_an_answer_that_might_go_on_ends_where_there_is_no_room_for_that() -> None:
    own = guide('start: "a" ("bcdefgh")?', room=2, forces=False)
    assert [*own.take(ids("a")[0], 2)] == ids("a")
    assert own.take(ids("b")[0], 1) == ()
    assert own.is_over
    assert own.is_cut
    assert own.failure is None


def test_an_answer_whose_shortest_end_does_not_fit_is_refused_with_what_it_needs() -> None:
    own = guide('start: "abcdefghijklmnopqrstuvwxyz"', room=3)
    assert own.failure is not None
    assert own.failure.param == "max_tokens"
    assert "may have 3 tokens" in str(own.failure)


def test_the_shortest_answer_of_a_grammar_is_searched_for_once() -> None:
    made = ready(json_grammar({"enum": ["hello world", "b", "hello"]})).result()
    first, second = Place(made), Place(made)
    assert first.shortest_way_out(1) == second.shortest_way_out(1) == ids('"b"')
    assert first._known is second._known


def test_without_closing_an_answer_may_be_cut() -> None:
    own = guide(json_grammar(PERSON), room=3, closes=False)
    answer = grown(own, 3, lambda tokens: tokens[0])
    assert len(answer) == 3
    assert own.failure is None


def test_where_there_is_no_telling_an_answer_may_be_cut_too() -> None:
    own = guide("start: /.*END/", room=3)
    assert len(grown(own, 3, lambda tokens: tokens[0])) == 3


def test_an_answer_that_was_broken_off_goes_on_where_it_was() -> None:
    own = guide("start: /abc/", emitted=ids("a") + ids("b"))
    assert allowed(own) == ids("c")


def test_what_was_emitted_and_is_no_part_of_the_form_is_an_error_of_this_answer() -> None:
    own = guide("start: /abc/", emitted=ids("x"))
    assert own.failure is not None
    assert own.failure.param == "response_format"


def test_who_is_asked_too_early_takes_nothing() -> None:
    later = Later()
    own = guide("start: /abc/", later=later, closes=False)
    assert not own.wait(0)
    assert own.is_late
    assert own.take(ids("a")[0], 100) == ()
    later.do()
    assert not own.is_late
    assert text_of([*own.take(ids("a")[0], 100)]) == "abc"


def test_nothing_is_done_before_an_answer_s_turn_has_come() -> None:
    later = Later()
    demands = Demands(Constraint("start: /abc/", "response_format", closes=False), None, room=9, size=SIZE)
    own = AnswerGuide(demands, ready("start: /abc/"), [], later.put)
    assert not later.jobs
    assert own.is_late
    own.begin()
    own.begin()
    assert len(later.jobs) == 1
    assert not own.is_late  # its grammar is ready, so it is worth waiting for
    later.do()
    assert text_of([*own.take(ids("a")[0], 9)]) == "abc"


def test_what_took_long_is_taken_to_take_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    later = Later()
    own = guide("start: /abc/", later=later, forces=False, closes=False)
    later.do()
    own.take(ids("a")[0], 9)
    monkeypatch.setattr(module, "LONG", 0.0)
    later.do()
    own.take(ids("b")[0], 8)
    assert own.is_late
    later.do()
    assert not own.is_late


def test_long_text_that_must_come_is_found_elsewhere() -> None:
    later = Later()
    text = "x" * 2 * LENGTHY
    own = guide(f'start: ("a" | "b") "{text}"', room=3 * LENGTHY, later=later)
    later.do()
    assert own.take(ids("a")[0], 3 * LENGTHY) == ()
    assert len(later.jobs) == 1
    later.do()
    assert text_of([*own.take(ids("a")[0], 3 * LENGTHY)]) == f"a{text}"
    assert own.is_over


def test_a_guide_is_late_once_it_was_waited_for_in_vain() -> None:
    later = Later()
    own = guide("start: /abc/", later=later, forces=False, closes=False)
    later.do()
    own.take(ids("a")[0], 100)
    assert not own.is_late
    assert not own.wait(0)
    assert own.is_late
    later.do()
    assert not own.is_late


def test_a_way_out_that_is_still_looked_for_is_waited_for_and_the_token_drawn_again() -> None:
    later = Later()
    own = guide('start: "a" ("b" | "cdefgh")', room=2, forces=False, later=later)
    later.do()
    assert own.take(ids("a")[0], 2) == ()
    later.do()
    assert [*own.take(ids("a")[0], 2)] == ids("a")


REASONING = Thinking(limit=3, begin=(THINK,), end=(1, 2))


def test_reasoning_that_has_used_its_budget_up_is_ended() -> None:
    own = guide(None, thinking=REASONING)
    assert own.mask is None
    assert own.take(THINK, 100) == [THINK]
    assert own.take(50, 99) == [50]
    assert own.take(51, 98) == [51]
    assert own.take(52, 97) == [52, 1, 2]
    assert own.take(53, 94) == [53]
    assert not own.is_over


def test_the_end_of_reasoning_is_drawn_one_by_one_where_every_token_has_a_score() -> None:
    own = guide(None, thinking=Thinking(limit=0, begin=(THINK,), end=(1, 2), is_open=True), one_by_one=True)
    for token in (1, 2):
        assert allowed(own) == [token]
        assert own.take(token, 100) == [token]
    assert own.mask is None


def test_reasoning_ends_where_the_grammar_has_its_mark() -> None:
    own = guide('start: /[a-z ]*/ <[1]> "yes"', thinking=Thinking(limit=2, begin=(), end=(1,), is_open=True))
    assert text_of([*own.take(ids("a")[0], 100)]) == "a"
    taken = own.take(ids("b")[0], 99)
    assert text_of([*taken]) == "byes"
    assert 1 in taken
    assert own.is_over


TOO_LONG = 'start: ("x" | "y") "' + "abcd" * 50_000 + '"'
"""The library reads this, and comes to one of its limits at the first token."""


def test_an_answer_that_comes_to_a_limit_of_the_library_is_an_error_and_not_over() -> None:
    own = guide(TOO_LONG, room=10_000_000, closes=False)
    own.take(ids("x")[0], 10_000_000)
    assert not own.is_over
    assert "too many expressions" in str(own.failure)


def guide_goes(own: AnswerGuide, later: Later, tokens: list[int], room: int) -> list[int]:
    """What comes of these draws, with all work done in between."""
    answer: list[int] = []
    for token in tokens:
        answer += own.take(token, room - len(answer))
        later.do()
    return answer


def test_a_look_that_is_not_asked_for_again_says_nothing_about_later_places() -> None:
    later = Later()
    own = guide("start: /[ab]+/", room=50, forces=False, later=later)
    later.do()
    a, b = ids("a")[0], ids("b")[0]
    own._certain_to = 50
    assert own.take(a, 50) == ()
    later.do()
    own._certain_to = 0  # another token comes instead, and needs no look
    answer = guide_goes(own, later, [b, a], 50)
    assert answer == [b, a]
    assert own._place is not None
    assert own._place._unspelled == (b, a)


class Panic(BaseException):
    """What the library's panics are to Python: no Exception."""


def test_a_panic_of_the_library_ends_one_answer() -> None:
    broken: Future[Grammar] = Future()
    broken.set_exception(Panic("index out of bounds"))
    demands = Demands(Constraint("", "response_format"), None, room=9, size=SIZE)
    own = AnswerGuide(demands, broken, [], lambda job: job())
    own.begin()
    assert own.wait(0)
    assert "index out of bounds" in str(own.failure)


def test_whatever_goes_wrong_when_a_token_is_taken_is_this_answers_failure() -> None:
    own = guide(None, thinking=Thinking(limit=0, begin=(), end=(1, 2), is_open=True), one_by_one=True)
    assert own.take(3, 9) == ()
    assert "AssertionError" in str(own.failure)
