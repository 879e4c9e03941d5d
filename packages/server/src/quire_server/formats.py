"""In which formats the served model reasons and calls tools: those that are named, or that its template shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from quire_engine.config import Decisions
from quire_engine.errors import RequestError
from quire_engine.text.answers import Answers
from quire_engine.text.formats.reasoning import detect_reasoning_format, reasoning_format
from quire_engine.text.formats.tools import detect_tool_format, tool_format
from quire_engine.text.formats.tools.json_calls import JSON_CALLS
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.tokenizer import Tokenizer
from quire_server.settings import AUTO, NONE, ServerSettings


class Named(Protocol):
    """What formats of either kind have."""

    @property
    def name(self) -> str:
        """What the flag calls it."""


F = TypeVar("F", bound=Named)


def answers_of(tokenizer: Tokenizer, settings: ServerSettings, decisions: Decisions) -> Answers:
    """How answers of a model with this tokenizer are read. ConfigError for a format that there is not."""
    template = settings.read_chat_template() or _template_of(tokenizer)
    return Answers(
        tokenizer,
        tools=_picked(settings.tool_call_parser, partial(tool_format, template=template), detect_tool_format, template),
        reasoning=_picked(settings.reasoning_parser, reasoning_format, detect_reasoning_format, template),
        strictness=settings.tool_strictness,
        closing=settings.budget_closing,
        thinking_budget=settings.default_thinking_token_budget,
        generic=JSON_CALLS if settings.tool_call_parser == AUTO else None,
        grammars=Grammars.within(tokenizer, decisions),
    )


def described(answers: Answers, settings: ServerSettings) -> Iterator[tuple[str, str]]:
    """The formats as (label, text)."""
    yield "tools", _said(answers.tools, settings.tool_call_parser, "--tool-call-parser")
    yield "thinking", _said(answers.reasoning, settings.reasoning_parser, "--reasoning-parser")


def _picked(asked: str, named: Callable[[str], F], detect: Callable[[str], F | None], template: str) -> F | None:
    if asked == AUTO:
        return detect(template)
    return None if asked == NONE else named(asked)


def _template_of(tokenizer: Tokenizer) -> str:
    """The chat template that shows tools to the model; empty where there is none."""
    try:
        return tokenizer.template_for(tools=True)
    except RequestError:
        return ""


def _said(found: Named | None, asked: str, flag: str) -> str:
    if found is not None:
        return f"as {found.name} does, {f'which {flag} names' if asked != AUTO else 'as the chat template shows'}"
    if asked == NONE:
        return f"not told apart, as {flag} says"
    return f"the chat template shows no format that is known; {flag} names one"
