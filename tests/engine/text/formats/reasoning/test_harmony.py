"""Answers of gpt-oss: reasoning and text are told apart by their channels, and calls are left for who reads calls."""

from __future__ import annotations

import random
from functools import partial

import pytest
from tests.engine.text.formats.chunking import (
    TEXTS,
    TOOLS,
    Example,
    call,
    check,
    check_any_cut,
    random_arguments,
    read,
    told,
)
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content, Reasoning, joined
from quire_engine.text.formats.reasoning.harmony import HARMONY
from quire_engine.text.formats.tools.harmony import HARMONY as CALLS
from quire_engine.text.grammar.notation import GrammarText

ANALYSIS = "<|channel|>analysis<|message|>How?<|end|>"
FINAL = "<|channel|>final<|message|>So."
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Kyoto"}<|call|>'
NEXT = "<|start|>assistant"
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

NO_CALLS = [
    Example("an answer", FINAL, [Content("So.")]),
    Example("reasoning and an answer", ANALYSIS + NEXT + FINAL, [Reasoning("How?"), Content("So.")]),
    Example("its end", f"{ANALYSIS}{NEXT}{FINAL}<|return|>", [Reasoning("How?"), Content("So.")]),
    Example("reasoning twice", ANALYSIS + NEXT + ANALYSIS, [Reasoning("How?\nHow?")]),
    Example(
        "text for the user before",
        f"<|channel|>commentary<|message|>First.<|end|>{NEXT}{FINAL}",
        [Content("First.\nSo.")],
    ),
    Example(
        "an end that was forgotten",
        ANALYSIS.removesuffix("<|end|>") + NEXT + FINAL,
        [Reasoning("How?"), Content("So.")],
    ),
    Example("a form of the answer", FINAL.replace("final", "final <|constrain|>json"), [Content("So.")]),
    Example("no channel", f"<|message|>So.{NEXT}{FINAL}", [Content("<|message|>So.So.")]),
    Example("no messages", "So.", [Content("So.")]),
    Example("cut in a header", f"{ANALYSIS}{NEXT}<|channel|>fin", [Reasoning("How?")]),
    Example("cut in the form of the answer", "<|channel|>final <|constrain|>js", []),
    Example("no end of its header", "<|channel|>final Hello there", [Content("Hello there")]),
    Example("no end of its reasoning's header", "<|channel|>analysis How?", [Reasoning("How?")]),
    Example(
        "no end of its last header",
        f"<|channel|>commentary<|message|>First.<|end|>{NEXT}<|channel|>final So.",
        [Content("First.\nSo.")],
    ),
    Example("a tool of its own", ANALYSIS.replace("analysis", "analysis to=python code"), [Reasoning("How?")]),
    Example("nothing", "", []),
]
WITH_CALLS = [
    Example("a call", CALL, WEATHER),
    Example("no end, which is no text", CALL.removesuffix("<|call|>"), WEATHER),
    Example("another end", CALL.replace("<|call|>", "<|end|>"), WEATHER),
    Example("after reasoning", ANALYSIS + NEXT + CALL, [Reasoning("How?"), *WEATHER]),
    Example(
        "after text for the user",
        f"<|channel|>commentary<|message|>First.<|end|>{NEXT}{CALL}",
        [Content("First."), *WEATHER],
    ),
    Example(
        "the recipient first",
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Kyoto"}<|call|>',
        WEATHER,
    ),
    Example(
        "the recipient first, later",
        f'{ANALYSIS}{NEXT} to=functions.get_weather<|channel|>commentary json<|message|>{{"city": "Kyoto"}}',
        [Reasoning("How?"), *WEATHER],
    ),
    Example("no prefix", CALL.replace("functions.", ""), WEATHER),
    Example(
        "a name that tools of its own have",
        CALL.replace("get_weather", "python"),
        call(0, "python", '{"city": "Kyoto"}'),
    ),
    Example(
        "a name that begins as theirs",
        CALL.replace("get_weather", "browser.open"),
        call(0, "browser.open", '{"city": "Kyoto"}'),
    ),
    Example("in the channel of reasoning", CALL.replace("commentary", "analysis"), WEATHER),
    Example("two calls", CALL + NEXT + CALL, [*WEATHER, *call(1, "get_weather", {"city": "Kyoto"})]),
    Example("no arguments", "<|channel|>commentary to=functions.now<|message|><|call|>", call(0, "now", "{}")),
    Example("a mark in a string", CALL.replace("Kyoto", "<|end|>"), call(0, "get_weather", {"city": "<|end|>"})),
    Example(
        "cut in its arguments",
        CALL.removesuffix('oto"}<|call|>'),
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example("cut before its arguments", CALL.partition("{")[0], [CallBegan(0, "get_weather"), CallBroken(0, "")]),
    Example("cut in its header", f"{ANALYSIS}{NEXT}{CALL[:40]}", [Reasoning("How?"), CallBroken(0, "")]),
    Example(
        "text for arguments",
        CALL.replace("{", "Kyoto {"),
        [CallBegan(0, "get_weather"), CallBroken(0, "")],
    ),
    Example(
        "text behind its arguments",
        CALL.replace("}", "} So."),
        [*WEATHER[:2], CallBroken(0, "")],
    ),
]


class Chained:
    """Both parsers, one behind the other, as an answer's text goes through them."""

    def __init__(self) -> None:
        self._reasoning = HARMONY.parser(is_open=False)
        self._calls = CALLS.parser(TOOLS)

    def push(self, text):
        return self._passed(self._reasoning.push(text))

    def finish(self):
        return [*self._passed(self._reasoning.finish()), *self._calls.finish()]

    def _passed(self, events):
        for event in events:
            yield from self._calls.push(event.text) if isinstance(event, Content) else [event]


READERS = [partial(CALLS.parser, TOOLS), Chained]


@pytest.mark.parametrize("example", NO_CALLS, ids=str)
@pytest.mark.parametrize("parser", [partial(HARMONY.parser, is_open=False), *READERS])
def test_reasoning_and_text_are_told_apart(example, parser):
    check(example, parser)


@pytest.mark.parametrize("example", WITH_CALLS, ids=str)
@pytest.mark.parametrize("parser", READERS)
def test_calls_are_read_from_whole_answers_and_from_what_the_parser_of_reasoning_leaves(example, parser):
    if parser is Chained:  # events of two parsers are joined differently only where texts meet
        whole = [told(event) for event in read(parser(), [example.text])]
        assert whole == [told(event) for event in joined(example.events)]
    check(example, parser)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (CALL, [Content('{"city": "Kyoto"}')]),
        (ANALYSIS + NEXT + CALL, [Reasoning("How?"), Content('{"city": "Kyoto"}')]),
        (CALL[:40], []),
    ],
)
def test_calls_that_nobody_reads_are_text_without_marks(text, events):
    check(Example("", text, events), partial(HARMONY.parser, is_open=False, reads_calls=False))


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("parser", READERS)
def test_any_call_with_any_text_before_is_read(seed, parser):
    rng = random.Random(seed)
    reasoning, text, arguments = rng.choice(TEXTS), rng.choice(TEXTS), random_arguments(rng)
    example = Example(
        str(seed),
        f"<|channel|>analysis<|message|>{reasoning}<|end|>{NEXT}<|channel|>commentary<|message|>{text}<|end|>{NEXT}"
        + CALL.partition("{")[0]
        + call(0, "", arguments)[1].text,
        [Reasoning(reasoning), Content(text), *call(0, "get_weather", arguments)],
    )
    assert check_any_cut(example.text, parser, times=10) == example.events


def test_reasoning_that_the_prompt_has_begun_is_read():
    check(
        Example("open", f"How?<|end|>{NEXT}{FINAL}", [Reasoning("How?"), Content("So.")]),
        partial(HARMONY.parser, is_open=True),
    )


def test_the_prompt_says_whether_reasoning_is_open():
    assert HARMONY.is_open("<|start|>assistant<|channel|>analysis<|message|>So far")
    assert not HARMONY.is_open("<|start|>assistant")
    assert not HARMONY.is_open("<|channel|>analysis<|message|>So<|end|><|start|>assistant")


@pytest.fixture
def notation() -> GrammarText:
    return GrammarText(vocabulary().tokenizer)


def test_the_grammar_has_reasoning_before_an_answer_with_its_heading(notation):
    answer = f"{notation.text(HARMONY.heading)} {notation.regex('[0-9]+')}"
    grammar = notation.whole(f"{HARMONY.span(notation, is_open=False)} {answer}")
    assert takes(grammar, "<|channel|>final<|message|>12")
    assert takes(grammar, f"{ANALYSIS}{NEXT}<|channel|>final<|message|>12")
    assert takes(grammar, f"{ANALYSIS}{NEXT}{ANALYSIS}{NEXT}<|channel|>final<|message|>12")
    assert not takes(grammar, "12")
    assert not takes(grammar, f"{ANALYSIS}<|channel|>final<|message|>12")


def test_the_grammar_of_open_reasoning_has_it_closed(notation):
    grammar = notation.whole(f"{HARMONY.span(notation, is_open=True)} {notation.text('12')}")
    assert takes(grammar, f"How?<|end|>{NEXT}12")
    assert not takes(grammar, "12")


@pytest.mark.parametrize("before", ["<|channel|>commentary to=functions.now", " to=functions.now<|channel|>commentary"])
@pytest.mark.parametrize("kind", [" <|constrain|>json", " json"])
def test_the_grammar_has_calls_as_models_write_them(notation, before, kind):
    grammar = notation.whole(CALLS.calls(TOOLS, notation, several=True))
    assert takes(grammar, f"{before}{kind}<|message|>{{}}")
    assert takes(grammar, f"<|channel|>commentary<|message|>First.<|end|>{NEXT}{before}{kind}<|message|>{{}}")
    assert not takes(grammar, f"{before}{kind}<|message|>[]")
    assert not takes(grammar, f"{before.replace('now', 'then')}{kind}<|message|>{{}}")
