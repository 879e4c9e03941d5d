"""Formats of reasoning are found by their names, by the seed system's names, and by their models' chat templates."""

from __future__ import annotations

from itertools import chain

import pytest

from quire_engine.errors import ConfigError
from quire_engine.text.formats.reasoning import REASONING_FORMATS, detect_reasoning_format, reasoning_format


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("qwen3", "think_tags"),
        ("deepseek_r1", "think_tags"),
        ("openai_gptoss", "harmony"),
        *((known.name, known.name) for known in REASONING_FORMATS),
    ],
)
def test_a_format_is_found_by_each_of_its_names(name, known_as):
    assert reasoning_format(name).name == known_as


def test_no_two_formats_share_a_name():
    names = list(chain.from_iterable((known.name, *known.aliases) for known in REASONING_FORMATS))
    assert len(names) == len(set(names))


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"reasoning_parser is thought.*choose one of gemma4, .*or auto"):
        reasoning_format("thought")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{%- set content = content.split('</think>')[-1].lstrip('\\n') %}", "think_tags"),
        ("{{ '<|im_start|>assistant\\n<think>\\n' }}", "think_tags"),
        ("{{ '<seed:think>' + reasoning + '</seed:think>' }}", "seed_oss"),
        ("{{ '[THINK]' + block['thinking'] + '[/THINK]' }}", "mistral"),
        ("{{ '<|channel>thought\\n' }}{%- set parts = text.split('<channel|>') %}", "gemma4"),
        ("{{ '<|start|>assistant<|channel|>final<|message|>' }}", "harmony"),
        ("Write your thoughts after 'Here is my thought process:' and your answer after …", "granite"),
        ("{{ '<|im_start|>' + message.role }}", None),
    ],
)
def test_a_format_is_found_by_the_chat_template(template, name):
    found = detect_reasoning_format(template)
    assert (found and found.name) == name


@pytest.mark.parametrize("known", REASONING_FORMATS, ids=lambda known: known.name)
def test_what_a_format_says_of_itself_fits_its_parser(known):
    parser = known.parser(is_open=False)
    events = [*parser.push(f"{known.begin}Why?{known.end}"), *parser.finish()]
    assert "".join(event.text for event in events) == "Why?"
    assert known.is_open(known.begin)
    assert not known.is_open(known.begin + known.end)
