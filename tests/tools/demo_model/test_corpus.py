"""The corpus says what is right, in a form that the server writes and reads, and keeps its held-out part to itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest
from jsonschema import Draft202012Validator
from tools.demo_model.corpus import arithmetic
from tools.demo_model.corpus.part import HELD_OUT, Part, is_held_out
from tools.demo_model.corpus.sample import Completion, Dialogue, Sample
from tools.demo_model.corpus.tasks import TASKS, Length, held_out, training
from tools.demo_model.render import END_OF_TEXT, END_OF_TURN, NO_THOUGHT, TEMPLATE, pieces, prompt
from tools.demo_model.score import is_right

from quire_engine.text.formats.base import Tool
from quire_engine.text.formats.events import CallArguments, CallBegan
from quire_engine.text.formats.reasoning import detect_reasoning_format
from quire_engine.text.formats.tools import detect_tool_format

ROOMS = (192, 512, 2048)


def drawn(name: str, *, held: bool, count: int = 8) -> Iterator[Sample]:
    for room in ROOMS:
        part = Part(Random(f"{name} {room}"), held_out=held, room=room)
        yield from (TASKS[name].make(part) for _ in range(count))


def dialogues(name: str, *, held: bool = False) -> list[Dialogue]:
    return [one for one in drawn(name, held=held) if isinstance(one, Dialogue)]


def asked(sample: Sample) -> str:
    """What the model is told before its last answer."""
    return prompt(sample) if isinstance(sample, Dialogue) else "".join(one.text for one in pieces(sample)[:-1])


def test_every_draw_belongs_to_its_part() -> None:
    for held in (False, True):
        part = Part(Random(7), held_out=held)
        draws = (
            part.name,
            part.city,
            part.thing,
            part.made_up,
            part.code,
            part.scribble,
            lambda part=part: part.number(4),
        )
        texts = [draw() for draw in draws for _ in range(50)]
        assert {is_held_out(text) for text in texts} == {held}


def test_phrasings_are_held_out_too() -> None:
    form = "{please |now |}{copy|repeat|echo} {this|these}: $text"
    said = {held: {Part(Random(place), held).say(form, text="x") for place in range(200)} for held in (False, True)}
    assert said[False]
    assert said[True]
    assert not said[False] & said[True]


def test_about_one_text_of_eight_is_held_out() -> None:
    share = sum(is_held_out(str(number)) for number in range(8000)) / 8000
    assert share == pytest.approx(1 / HELD_OUT, rel=0.1)


def test_a_part_that_has_nothing_to_offer_says_so() -> None:
    only = next(text for text in map(str, range(100)) if not is_held_out(text))
    with pytest.raises(ValueError, match="held-out part: offer more to draw from"):
        Part(Random(0), held_out=True).pick([only])


@pytest.mark.parametrize("name", TASKS)
def test_no_held_out_question_is_ever_trained_on(name: str) -> None:
    known = {asked(sample) for sample in drawn(name, held=False, count=20)}
    assert not known & {asked(sample) for sample in drawn(name, held=True, count=20)}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("held", [False, True], ids=["training", "held out"])
def test_every_sample_renders_with_its_answers_spoken_and_its_questions_read(name: str, held: bool) -> None:
    for sample in drawn(name, held=held):
        found = pieces(sample)
        assert [one.is_spoken for one in found[-2:]] == [False, True]
        assert found[-1].text.endswith((END_OF_TURN, END_OF_TEXT))
        assert not any(
            one.text.endswith(END_OF_TURN) and not one.is_spoken for one in found[:-1] if sample_learns_all(sample)
        )


def sample_learns_all(sample: Sample) -> bool:
    return isinstance(sample, Dialogue) and not sample.last_only


@pytest.mark.parametrize("name", TASKS)
def test_the_expected_answer_is_right_and_silence_is_not(name: str) -> None:
    for sample in dialogues(name, held=True):
        assert is_right(sample, sample.answer)
        assert not is_right(sample, {"role": "assistant", "content": ""})


def test_samples_depend_on_seed_and_place_alone() -> None:
    lengths = (Length(256, 3), Length(1024, 1))
    first, again, other = (list(islice(training(seed, 4, lengths), 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert held_out("copy", 5) == held_out("copy", 9)[:5]


@pytest.mark.parametrize("maker", ["arithmetic", "two-digit arithmetic", "arithmetic at once"])
def test_arithmetic_is_right(maker: str) -> None:
    for sample in dialogues(maker):
        left, sign, right, _, value = sample.answer["content"].split()
        assert {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(left), int(right)) == int(value)


@pytest.mark.parametrize("sign", "+-*")
def test_each_step_of_a_thought_is_right_and_the_last_is_the_result(sign: str) -> None:
    random = Random(3)
    for _ in range(300):
        left, right = random.randint(0, 999), random.randint(0, 99)
        sum_ = arithmetic.Sum(left, sign, right)
        thought = arithmetic.thought(sum_)
        for step in re.findall(r"([\d+*-]+)=(\d+)", thought):
            assert eval(step[0]) == int(step[1]), thought  # digits and signs alone
        assert re.findall(r"-?\d+", thought)[-1] == str(sum_.value)


def test_extracted_json_satisfies_its_schema_and_stands_in_the_text() -> None:
    for sample in dialogues("extraction"):
        assert sample.schema is not None
        value = json.loads(sample.answer["content"])
        Draft202012Validator.check_schema(sample.schema)
        Draft202012Validator(sample.schema).validate(value)
        text = sample.messages[-2]["content"]
        for one in value.values():
            assert all(
                str(word) in text for word in (one if isinstance(one, list) else [one]) if not isinstance(word, bool)
            )


@pytest.mark.parametrize("name", ["tool choice", "several calls", "tool result"])
def test_calls_name_a_tool_that_is_there_with_arguments_as_it_wants_them(name: str) -> None:
    for sample in dialogues(name):
        tools = {one["function"]["name"]: one["function"]["parameters"] for one in sample.tools}
        assert len(tools) == len(sample.tools)
        calls = [call["function"] for message in sample.messages for call in message.get("tool_calls", ())]
        assert calls
        for call in calls:
            Draft202012Validator(tools[call["name"]]).validate(json.loads(call["arguments"]))


def test_calls_are_written_in_hermes_form() -> None:
    for sample in dialogues("several calls"):
        written = pieces(sample)[-1].text
        blocks = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", written, re.DOTALL)
        expected = [call["function"] for call in sample.answer["tool_calls"]]
        assert [json.loads(block) for block in blocks] == [
            {"name": one["name"], "arguments": json.loads(one["arguments"])} for one in expected
        ]


def test_the_engine_finds_out_the_formats_by_the_template() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    tools, reasoning = detect_tool_format(template), detect_reasoning_format(template)
    assert tools is not None
    assert reasoning is not None
    assert (tools.name, reasoning.name) == ("hermes", "think_tags")


def test_the_engine_reads_calls_as_they_are_learned() -> None:
    form = detect_tool_format(TEMPLATE.read_text(encoding="utf-8"))
    assert form is not None
    for sample in dialogues("several calls"):
        functions = [one["function"] for one in sample.tools]
        parser = form.parser([Tool(one["name"], one["parameters"]) for one in functions])
        written = pieces(sample)[-1].text.removesuffix(END_OF_TURN)
        events = [*parser.push(written.removeprefix(NO_THOUGHT)), *parser.finish()]
        names = [event.name for event in events if isinstance(event, CallBegan)]
        arguments = ["" for _ in names]
        for event in events:
            if isinstance(event, CallArguments):
                arguments[event.index] += event.text
        expected = [call["function"] for call in sample.answer["tool_calls"]]
        assert names == [one["name"] for one in expected]
        assert list(map(json.loads, arguments)) == [json.loads(one["arguments"]) for one in expected]


def test_where_no_tool_fits_none_is_called() -> None:
    for sample in dialogues("no tool fits"):
        assert sample.tools
        assert not any(message.get("tool_calls") for message in sample.messages)


def test_code_runs() -> None:
    for name in ("code", "fill in the middle"):
        for sample in drawn(name, held=False):
            assert isinstance(sample, Completion)
            compile(sample.prompt + sample.answer + (sample.suffix or ""), "sample", "exec")


def test_facts_are_stated_before_they_are_asked_for() -> None:
    for sample in dialogues("needle"):
        text, answer = sample.messages[0]["content"], sample.answer["content"]
        value = re.split(r" is | on | lies | belongs to |: ", answer, maxsplit=1)[1].rstrip(".")
        assert value in text.split("\n\n")[0]
