"""Chat templates: compiled in a sandbox, cached, and asked what they expect of a message's content.

Templates come with checkpoints, so they run as transformers runs them: Jinja's immutable sandbox, plain data in,
text out. It knows Jinja; it does not know requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes as nodes
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quire_engine.errors import RequestError

_HERE = "\U000f8a3d"
"""Marks where the final message ends, in a template that would close it: a private-use character, so no user's."""


class ChatTemplate:
    """One compiled template. Immutable; may render in many threads at once."""

    def __init__(self, source: str) -> None:
        environment = _environment()
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(tree)
        except jinja2.TemplateError as error:
            raise RequestError(f"The chat template does not compile: {error}", param="chat_template") from error
        self.variables = frozenset(find_undeclared_variables(tree))
        """The variables that it reads."""
        iterates, tests_string = _content_uses(tree)
        self.iterates_content = iterates
        """Whether the template loops over the parts of a message's content, so that it is to be given parts."""
        self.takes_strings = tests_string or not iterates
        """Whether the template also takes a content that is a string."""

    @staticmethod
    @lru_cache(maxsize=64)
    def of(source: str) -> ChatTemplate:
        """The compiled template. RequestError if the source is no template."""
        return ChatTemplate(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None,
        documents: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
    ) -> str:
        """The prompt. RequestError, param "messages", when the template refuses this conversation."""
        context = {
            **variables,
            "messages": _left_open(messages) if continue_final_message else messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            prompt = self._template.render(context)
        except jinja2.TemplateError as error:
            raise RequestError(f"The chat template refuses these messages: {error}", param="messages") from error
        except Exception as error:  # a template is a program: it can fail in as many ways
            kind = type(error).__name__
            raise RequestError(
                f"The chat template fails on these messages: {kind}: {error}", param="messages"
            ) from error
        return _cut_open_end(prompt) if continue_final_message else prompt


def _left_open(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with a mark at the end of the last one's text."""
    *earlier, last = messages
    content = last.get("content")
    # The blank behind the mark tells afterwards whether the template trims.
    if isinstance(content, str):
        return [*earlier, {**last, "content": content + _HERE + " "}]
    parts = list(content or ())
    if not parts or "text" not in parts[-1]:
        raise RequestError(
            "continue_final_message needs a final message that ends in text; this one has none to continue.",
            param="continue_final_message",
        )
    parts[-1] = {**parts[-1], "text": parts[-1]["text"] + _HERE + " "}
    return [*earlier, {**last, "content": parts}]


def _cut_open_end(prompt: str) -> str:
    """The prompt up to the mark."""
    end = prompt.rfind(_HERE)
    if end < 0:
        raise RequestError(
            "The chat template leaves the final message out, so it cannot be continued.", param="continue_final_message"
        )
    trims = prompt[end + 1 : end + 2] != " "
    return prompt[:end].rstrip() if trims else prompt[:end]


class _Generation(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`, which marks an assistant's words for training: here, just its body."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = lambda *args, **kwargs: dict(*args, **kwargs)  # the type itself stays outside
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which a model never saw in training."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _content_uses(tree: nodes.Template) -> tuple[bool, bool]:
    """Whether a template loops over a message's content, and whether it asks if the content is a string.

    Follows `message.content` through assignments and macro arguments, by name and without regard to scope.
    """
    names = _names_of_content(tree)
    iterates = any(_is_content(loop.iter, names) for loop in tree.find_all(nodes.For))
    asks = any(test.name == "string" and _is_content(test.node, names) for test in tree.find_all(nodes.Test))
    return iterates, asks


def _names_of_content(tree: nodes.Template) -> frozenset[str]:
    """The variables and macro parameters that hold a message's content."""
    bindings = [*_assignments(tree), *_arguments(tree)]
    names: frozenset[str] = frozenset()
    while True:
        found = names | {name for name, value in bindings if _is_content(value, names)}
        if found == names:
            return names
        names = found


def _assignments(tree: nodes.Template) -> Iterator[tuple[str, nodes.Node]]:
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name):
            yield assignment.target.name, assignment.node


def _arguments(tree: nodes.Template) -> Iterator[tuple[str, nodes.Node]]:
    parameters = {macro.name: [argument.name for argument in macro.args] for macro in tree.find_all(nodes.Macro)}
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in parameters:
            yield from zip(parameters[call.node.name], call.args, strict=False)
            yield from ((argument.key, argument.value) for argument in call.kwargs)


def _is_content(expression: nodes.Node | None, names: frozenset[str]) -> bool:
    """Whether an expression is a message's content, possibly filtered, sliced or with a fallback."""
    match expression:
        case nodes.Name(name=name):
            return name in names
        case nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=name)):
            return name == "content"
        case nodes.Filter(node=inner) | nodes.Getitem(node=inner, arg=nodes.Slice()):
            return _is_content(inner, names)
        case nodes.CondExpr(expr1=first, expr2=second) | nodes.Or(left=first, right=second):
            return _is_content(first, names) or _is_content(second, names)
        case _:
            return False
