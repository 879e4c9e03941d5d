"""Reasoning between marks, in every format that marks it so: what it is, what the answer is, and where it is open."""

from __future__ import annotations

import random

import pytest
from tests.engine.text.formats.chunking import TEXTS, Example, check, check_any_cut
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import Content, Reasoning, joined
from quire_engine.text.formats.reasoning import REASONING_FORMATS
from quire_engine.text.formats.reasoning.gemma4 import GEMMA4
from quire_engine.text.formats.reasoning.granite import GRANITE
from quire_engine.text.formats.reasoning.marked import MarkedReasoning
from quire_engine.text.formats.reasoning.mistral import MISTRAL
from quire_engine.text.formats.reasoning.seed_oss import SEED_OSS
from quire_engine.text.formats.reasoning.think_tags import THINK_TAGS
from quire_engine.text.grammar.notation import GrammarText

MARKED = [known for known in REASONING_FORMATS if isinstance(known, MarkedReasoning)]
HOW = [Reasoning("How?"), Content("So.")]

BEGUN_BY_THE_MODEL = [
    Example("both marks", "<think>How?</think>So.", HOW),
    Example("newlines around", "<think>\nHow?\n</think>\n\nSo.\n", [Reasoning("How?"), Content("So.\n")]),
    Example("newlines before", "\n<think>How?</think>So.", HOW),
    Example("newlines within", "<think>\n\nHow?\n\nWhy?\n</think>So.", [Reasoning("How?\n\nWhy?"), Content("So.")]),
    Example("no reasoning", "So.", [Content("So.")]),
    Example("no reasoning, and newlines", "\n\nSo.\n", [Content("So.\n")]),
    Example("empty reasoning", "<think>\n\n</think>\n\nSo.", [Content("So.")]),
    Example("an end alone", "</think>\n\nSo.", [Content("So.")]),
    Example("no answer", "<think>How?</think>", [Reasoning("How?")]),
    Example("never ended", "<think>How? </thin", [Reasoning("How? </thin")]),
    Example("almost a mark", "<thinking>So.", [Content("<thinking>So.")]),
    Example("nothing", "", []),
    Example("marks in the answer", "So: <think>x</think>", [Content("So: <think>x</think>")]),
    Example("marks after reasoning", "<think>How?</think>So: <think>", [Reasoning("How?"), Content("So: <think>")]),
    Example("a mark within", "<think>How <think>?</think>So.", [Reasoning("How <think>?"), Content("So.")]),
]
BEGUN_BY_THE_PROMPT = [
    Example("its end", "How?</think>So.", HOW),
    Example("newlines around", "\nHow?\n</think>\n\nSo.", HOW),
    Example("begun again", "<think>How?</think>So.", HOW),
    Example("ended at once", "\n</think>\n\nSo.", [Content("So.")]),
    Example("never ended", "How?\n", [Reasoning("How?")]),
    Example("nothing", "", []),
]


@pytest.mark.parametrize("example", BEGUN_BY_THE_MODEL, ids=str)
def test_reasoning_that_the_model_begins_is_read(example):
    check(example, lambda: THINK_TAGS.parser(is_open=False))


@pytest.mark.parametrize("example", BEGUN_BY_THE_PROMPT, ids=str)
def test_reasoning_that_the_prompt_has_begun_is_read(example):
    check(example, lambda: THINK_TAGS.parser(is_open=True))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (MISTRAL, "[THINK]How?[/THINK]So."),
        (SEED_OSS, "<seed:think>How?</seed:think>So."),
        (GRANITE, "Here is my thought process:\nHow?\n\nHere is my response:\nSo."),
        (GRANITE, "Here's my thought process:How?Here's my response:So."),
        (GRANITE, "Here's my thought process:How?Here is my response:So."),
        (GEMMA4, "<|channel>thought\nHow?<channel|>So."),
        (GEMMA4, "<|channel>How?<channel|>So."),
    ],
)
def test_every_spelling_of_a_format_is_read(form, text):
    check(Example(form.name, text, HOW), lambda: form.parser(is_open=False))


@pytest.mark.parametrize("form", MARKED, ids=lambda form: form.name)
@pytest.mark.parametrize("seed", range(25))
def test_any_text_is_read_as_what_it_stands_for(form, seed):
    rng = random.Random(seed)
    reasoning, answer = ("".join(rng.choices(TEXTS, k=rng.randrange(4))).strip("\n") for _ in range(2))
    is_open = rng.random() < 0.5
    text = f"{'' if is_open else form.begin}{reasoning}\n{form.end}\n\n{answer}"
    events = check_any_cut(text, lambda: form.parser(is_open=is_open), times=10)
    assert events == joined([Reasoning(reasoning), Content(answer)])


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<｜Assistant｜><think>", True),
        ("]~b]ai\n<think>\n", True),
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<｜Assistant｜></think>", False),
        ("<|im_start|>assistant\n<think>\nSo far", False),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n<think>\n", True),
        ("What is <think>? Answer:", False),
        ("USER: hi ASSISTANT: yes</s>USER: what does <think> mean? ASSISTANT:", False),
        ("", False),
    ],
)
def test_the_end_of_the_prompt_says_whether_reasoning_is_open(prompt, is_open):
    assert THINK_TAGS.is_open(prompt) is is_open


@pytest.mark.parametrize(
    ("before", "continued", "is_open"),
    [
        ("<|im_start|>assistant\n", "<think>\nSo far", True),
        ("<|im_start|>assistant\n", "<think>\nI see [TODO] and <s> here", True),
        ("<|im_start|>assistant\n", "<think>\nSo far, \n", True),
        ("<|im_start|>assistant\n<think>\n", "So far", True),
        ("<|im_start|>assistant\n<think>\n", "So far</think>And", False),
        ("<|im_start|>assistant\n", "<think>\nSo far</think>And", False),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", "It is a tag", False),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", "", False),
    ],
)
@pytest.mark.parametrize("trims", [False, True])
def test_reasoning_in_the_message_that_is_continued_is_open(before, continued, is_open, trims):
    prompt = before + continued
    assert THINK_TAGS.is_open(prompt.rstrip() if trims else prompt, continued) is is_open


@pytest.mark.parametrize(
    ("form", "prompt"),
    [
        (GEMMA4, "<|turn>model\n<|channel>thought\n"),
        (GEMMA4, "<|turn>model\n<|channel>"),
        (SEED_OSS, "<seed:bos>assistant\n<seed:think>\n"),
        (MISTRAL, "[INST]Why?[/INST][THINK]"),
        (GRANITE, "<|start_of_role|>assistant<|end_of_role|>Here's my thought process:"),
    ],
)
def test_every_format_knows_its_own_prompt(form, prompt):
    assert form.is_open(prompt)
    assert not form.is_open(prompt + form.end)


@pytest.mark.parametrize("form", MARKED, ids=lambda form: form.name)
def test_the_grammar_asks_for_reasoning_to_be_closed_before_the_answer(form):
    notation = GrammarText(vocabulary().tokenizer)
    answer = notation.regex("[0-9]+")
    opened = notation.whole(f"{form.span(notation, is_open=True)} {answer}")
    assert takes(opened, f"How? <b>\n{form.end}\n\n12")
    assert takes(opened, f"{form.end}12")
    assert not takes(opened, "12")
    closed = notation.whole(f"{form.span(notation, is_open=False)} {answer}")
    assert takes(closed, f"{form.begin}How?\n{form.end}\n\n12")
    assert takes(closed, f"\n{form.begin}How?{form.end}12")
    assert takes(closed, "12")
    assert takes(closed, "\n\n12")
    assert not takes(closed, f"How?{form.end}12")


def test_the_grammar_and_the_parser_agree_on_where_the_answer_begins():
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(f"{GRANITE.span(notation, is_open=False)} {notation.regex('[0-9]+')}")
    assert takes(grammar, "Here is my thought process:How?Here's my response:12")
    assert not takes(grammar, "Here is my thought process:How?Here's my response:x Here is my response:12")
