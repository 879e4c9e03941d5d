"""Reasoning and calls in one answer."""

from hypothesis import given
from hypothesis import strategies as st

from quire_engine.text.formats.base import Tool
from quire_engine.text.formats.chain import Chain
from quire_engine.text.formats.events import (
    CallArguments,
    CallBegan,
    CallEnded,
    Content,
    Event,
    Reasoning,
    joined,
)
from quire_engine.text.formats.reasoning import reasoning_format
from quire_engine.text.formats.tools import tool_format

ANSWER = (
    "<think>\nA <tool_call>?\n</think>\n\nWell.\n"
    '<tool_call>\n{"name": "look", "arguments": {"at": "<think>"}}\n</tool_call>'
)
EVENTS = [
    Reasoning("A <tool_call>?"),
    Content("Well."),
    CallBegan(0, "look"),
    CallArguments(0, '{"at": "<think>"}'),
    CallEnded(0),
]


def read(*pieces: str) -> list[Event]:
    chain = Chain(
        reasoning_format("think_tags").parser(is_open=False),
        tool_format("hermes").parser([Tool("look", {"type": "object"})]),
    )
    return joined([*(event for piece in pieces for event in chain.push(piece)), *chain.finish()])


def test_marks_of_calls_in_reasoning_are_reasoning_and_the_other_way_round() -> None:
    assert read(ANSWER) == EVENTS


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8).map(sorted))
def test_any_cuts_give_the_same(cuts: list[int]) -> None:
    pieces = [ANSWER[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    assert read(*pieces) == EVENTS


def test_what_both_hold_back_comes_at_the_end() -> None:
    assert read("Yes <tool") == [Content("Yes <tool")]
