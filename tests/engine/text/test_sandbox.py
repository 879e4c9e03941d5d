"""Chat templates render as transformers renders them, stay in their sandbox, and fail in words."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from quire_engine.errors import RequestError
from quire_engine.text.sandbox import ChatTemplate

PLAIN = """{% for message in messages %}<|{{ message.role }}|>{{ message['content'] }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
TRIMMING = """{{ bos_token }}{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('no role ' + message.role) }}
    {%- endif %}
    {{- '<|' + message.role + '|>' + message.content | trim + '<|end|>' }}
{%- endfor %}"""
TOOLS = """{%- if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}{% continue %}{% endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '<call>' + call.function.name + (call.function.arguments | tojson(indent=2)) + '</call>' }}
    {%- endfor %}
    {%- generation %}{{ message.content }}{% endgeneration %}
    {%- if loop.index > 20 %}{% break %}{% endif %}
{%- endfor %}{{ documents }}{{ reasoning_effort or 'none' }}"""
PARTS = """{%- macro show(content) %}{% if content is string %}{{ content }}{% else %}
    {%- for part in content %}{{ part.text }};{% endfor %}{% endif %}{% endmacro %}
{%- for message in messages %}{{ message.role }}:{{ show(message.content) }}{% endfor %}"""
ONLY_PARTS = "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
TALK = [
    {"role": "system", "content": "Be <b>brief</b> & kind."},
    {"role": "user", "content": "Grüße & 日本語 "},
    {"role": "assistant", "content": "Sure: "},
]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def render(source: str, messages: list[dict[str, object]] = TALK, **options: object) -> str:
    known = {"tools": None, "documents": None, "add_generation_prompt": False, "continue_final_message": False}
    given = {name: options.pop(name, default) for name, default in known.items()}
    return ChatTemplate.of(source).render(messages, **given, variables=options)


@pytest.mark.parametrize("source", [PLAIN, TRIMMING, TOOLS, PARTS])
@pytest.mark.parametrize(
    "options",
    [
        {"bos_token": "<s>"},
        {
            "bos_token": "<s>",
            "add_generation_prompt": True,
            "tools": [TOOL],
            "documents": [{"title": "t", "text": "x"}],
        },
        {"bos_token": "<s>", "continue_final_message": True, "reasoning_effort": "high"},
    ],
)
def test_a_template_renders_as_in_transformers(source, options):
    [expected], _ = render_jinja_template([TALK], chat_template=source, **options)
    assert render(source, **options) == expected


def test_parts_render_as_in_transformers_also_when_the_last_is_left_open():
    messages = [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b "}]}]
    for options in ({}, {"continue_final_message": True}):
        [expected], _ = render_jinja_template([messages], chat_template=PARTS, **options)
        assert render(PARTS, messages, **options) == expected


def test_tool_calls_render_as_in_transformers():
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "ß", "n": 1}}}
    messages = [*TALK, {"role": "assistant", "content": "", "tool_calls": [call]}]
    [expected], _ = render_jinja_template([messages], chat_template=TOOLS)
    assert render(TOOLS, messages) == expected


def test_the_final_message_is_left_open_with_its_own_spaces_unless_the_template_trims():
    assert render(PLAIN, continue_final_message=True).endswith("<|assistant|>Sure: ")
    assert render(TRIMMING, bos_token="", continue_final_message=True).endswith("<|assistant|>Sure:")


def test_a_final_message_without_text_or_left_out_cannot_be_continued():
    empty = [*TALK, {"role": "assistant", "content": [{"type": "image"}]}]
    with pytest.raises(RequestError, match="ends in text") as refused:
        render(PARTS, empty, continue_final_message=True)
    assert refused.value.param == "continue_final_message"
    with pytest.raises(RequestError, match="leaves the final message out"):
        render("{{ messages[0].content }}", continue_final_message=True)


def test_strftime_now_tells_the_date():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", render("{{ strftime_now('%Y-%m-%d') }}"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{{ messages[99].content.upper() }}", "no element 99"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "TypeError"),
    ],
)
def test_a_template_that_refuses_or_fails_names_the_messages(source, says):
    with pytest.raises(RequestError, match=says) as refused:
        render(source)
    assert refused.value.param == "messages"


def test_a_template_that_does_not_compile_is_refused_as_one():
    with pytest.raises(RequestError, match="does not compile") as refused:
        ChatTemplate.of("{% for %}")
    assert refused.value.param == "chat_template"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ dict.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% for i in range(1000000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source):
    with pytest.raises(RequestError):
        render(source)


@pytest.mark.parametrize(
    ("source", "iterates", "takes_strings"),
    [
        (PLAIN, False, True),
        (TRIMMING, False, True),
        (PARTS, True, True),
        (ONLY_PARTS, True, False),
        ("{% for m in messages %}{% set c = m.content %}{% for p in c %}{{ p }}{% endfor %}{% endfor %}", True, False),
        ("{% for m in messages %}{% for p in m.content | list %}{{ p }}{% endfor %}{% endfor %}", True, False),
        ("{% for m in messages %}{% for p in m.content[1:] %}{{ p }}{% endfor %}{% endfor %}", True, False),
        ("{% for m in messages %}{% for t in m.tool_calls %}{{ t }}{% endfor %}{% endfor %}", False, True),
        (
            "{% macro s(c=none) %}{% for p in c %}{{ p.text }}{% endfor %}{% endmacro %}"
            "{% for m in messages %}{{ s(c=m.content) }}{% endfor %}",
            True,
            False,
        ),
    ],
)
def test_what_a_template_expects_of_contents_is_read_from_its_loops(source, iterates, takes_strings):
    template = ChatTemplate.of(source)
    assert (template.iterates_content, template.takes_strings) == (iterates, takes_strings)


def test_a_template_is_compiled_once():
    assert ChatTemplate.of(PLAIN) is ChatTemplate.of(PLAIN)


def test_one_template_renders_in_many_threads():
    def talk(number: int) -> str:
        return render(PLAIN, [{"role": "user", "content": str(number)}], add_generation_prompt=True)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(talk, range(200))) == [f"<|user|>{n}<|end|>\n<|assistant|>" for n in range(200)]
