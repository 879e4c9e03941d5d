"""What an answer may be and how it is read: a request's words, a model's formats and a grammar come together here.

The grammar and the parser of one answer are made of the same plan, so that nothing is constrained in one format and
read in another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field

from quire_engine.constraint import Constraint, Thinking
from quire_engine.errors import GrammarError, RequestError
from quire_engine.sequence import Rendered, RenderedRequest
from quire_engine.text.conversation import content_text
from quire_engine.text.formats.base import Parser, ReasoningFormat, Tool, ToolFormat
from quire_engine.text.formats.chain import Chain
from quire_engine.text.formats.either import FormOrCalls
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.grammar.forms import form, style_of
from quire_engine.text.grammar.json_schema import COMPACT, Document
from quire_engine.text.grammar.notation import GrammarText
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionNamedToolChoiceParam,
    ChatCompletionRequest,
    ChatCompletionToolsParam,
    CompletionRequest,
    GenerateRequest,
    SamplingParams,
    StructuredOutputsParams,
)
from quire_protocol.formats import constrain

_T = TypeVar("_T")

_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object"}
_BESIDE = ("a", ".", " ", "\n", "\n\n")
"""Text that a mark may stand beside."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one answer may have in it."""

    tools: ToolFormat | None = None
    """How it calls; None where it may not."""
    offered: tuple[Tool, ...] = ()
    """What it may call, with schemas that can be enforced."""
    given: tuple[Tool, ...] = ()
    """The same as the request has them: what text means as an argument is for their schemas to say in any case."""
    must_call: bool = False
    several: bool = False
    """Whether it may make more than one call."""
    is_strict: bool = False
    """Whether calls follow their schemas also where there need not be any."""
    insists: bool = False
    """Whether it is the request that wants a grammar, and not the server alone."""
    reasoning: ReasoningFormat | None = None
    is_open: bool = False
    """Whether the prompt has begun the reasoning."""
    asked: StructuredOutputsParams | None = None
    """The form of an answer that is no call; None where it is free."""
    param: str = "tools"
    """The request's field that constrains the answer."""

    is_verbatim: bool = False
    """Whether what follows the reasoning is told as it stands: newlines and marks belong to its form."""

    @property
    def is_free(self) -> bool:
        """Whether no grammar is needed."""
        return self.asked is None and not (self.tools and (self.must_call or self.is_strict))

    def parser(self) -> Parser | None:
        """A parser for one answer; None where all text is content."""
        calls = self._calls_parser(self.tools) if self.tools else None
        reasoning = self.reasoning and self.reasoning.parser(
            is_open=self.is_open, reads_calls=calls is not None, is_verbatim=self.is_verbatim
        )
        return Chain(reasoning, calls) if reasoning and calls else reasoning or calls

    def _calls_parser(self, tools: ToolFormat) -> Parser:
        opening = tools.opening()
        calls = tools.parser(self.given)
        return calls if self.asked is None or opening is None else FormOrCalls(calls, opening)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the text of a request's answers is read."""

    parser: Callable[[], Parser | None]
    """Makes the parser of one answer; None where all text is content."""
    tells_reasoning: bool
    """Whether reasoning is told apart, so that its tokens can be counted."""
    tells_calls: bool = False
    """Whether calls of tools are told apart."""


PLAIN = Reading(lambda: None, tells_reasoning=False)
"""All text is content."""


class ReadRequest(RenderedRequest):
    """A rendered request whose answers somebody reads."""

    reading: Annotated[Reading, Field(exclude=True, repr=False)]

    @classmethod
    def made(cls, request: GenerateRequest, rendered: Rendered, reading: Reading) -> Self:
        """The same request, with these added."""
        return cls.model_construct(**{**dict(request), "rendered": rendered, "reading": reading})


def reading_of(request: GenerateRequest) -> Reading:
    """How a request's answers are read: as mere text, where nobody has said."""
    return request.reading if isinstance(request, ReadRequest) else PLAIN


class Answers:
    """The formats of one model, put to use for requests. Any thread may ask."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: ToolFormat | None,
        reasoning: ReasoningFormat | None,
        *,
        strictness: bool = True,
        closing: bool = True,
        thinking_budget: int | None = None,
        grammars: Grammars | None = None,
        generic: ToolFormat | None = None,
    ) -> None:
        """`strictness`: calls that begin follow their schemas though nobody asked. `closing`: answers that come near
        their longest length are led to an end. `thinking_budget`: tokens of reasoning, where a request says nothing.
        `generic`: how calls are written that a request insists on, where `tools` is None.
        """
        self.tools = tools
        """How the model writes calls; None where they are not read."""
        self.reasoning = reasoning
        """How the model writes its reasoning; None where it is not told apart."""
        self._generic = generic
        self._tokenizer = tokenizer
        self._strictness = strictness
        self._closing = closing
        self._thinking_budget = thinking_budget
        self._grammars = grammars or Grammars(tokenizer)

    def planned(self, request: ChatCompletionRequest | CompletionRequest, prompt: str = "") -> tuple[Rendered, Reading]:
        """What goes to the engine beside a request whose prompt is (or ends in) this text, and how answers are read.

        RequestError, GrammarError among them, for what cannot be done. It may take long: not for an event loop.
        """
        plan = self._plan(request, prompt)
        rendered = Rendered(
            constraint=self._constraint(plan), thinking=self._thinking(request, plan), shown_ids=self._shown(plan)
        )
        return rendered, Reading(
            plan.parser, tells_reasoning=self.reasoning is not None, tells_calls=plan.tools is not None
        )

    def rendered(self, request: ChatCompletionRequest | CompletionRequest, prompt: str = "") -> Rendered:
        """The first of the two alone: for those who read the answers as mere text."""
        rendered, _ = self.planned(request, prompt)
        return rendered

    def rendered_params(self, params: SamplingParams) -> Rendered:
        """The same for a request of token ids, whose answers are read by nobody here."""
        asked = params.structured_outputs
        has_form = asked is not None and bool(asked.constraints)
        plan = Plan(asked=asked, param="structured_outputs", insists=True) if has_form else Plan()
        return Rendered(constraint=self._constraint(plan))

    def _plan(self, request: ChatCompletionRequest | CompletionRequest, prompt: str) -> Plan:
        """What an answer to this request may have in it."""
        asked = constrain(request.structured_outputs, request.response_format)
        has_form = asked is not None and bool(asked.constraints)
        is_format = request.response_format is not None and request.response_format.type != "text"
        param = "response_format" if is_format else "structured_outputs"
        plan = Plan(asked=asked, param=param, insists=True) if has_form else Plan()
        if not isinstance(request, ChatCompletionRequest):
            return plan
        if self.reasoning is not None:
            continued = _continued(request)
            is_open = self.reasoning.is_open(prompt, continued)
            if is_open or not continued.strip():  # marks and newlines in an answer that has begun are text
                plan = replace(plan, reasoning=self.reasoning, is_open=is_open, is_verbatim=self._is_verbatim(plan))
        return self._with_tools(plan, request)

    def _with_tools(self, plan: Plan, request: ChatCompletionRequest) -> Plan:
        choice = request.tool_choice
        if not request.tools or choice in (None, "none"):
            return plan
        must_call = choice != "auto"
        written = self.tools or (self._generic if must_call else None)
        if written is None:
            if must_call:
                problem = "calls of this model cannot be read: name their format with --tool-call-parser."
                raise RequestError(f"tool_choice: {problem}", param="tool_choice")
            return plan
        is_strict = any(tool.function.strict for tool in request.tools)
        named = choice.function.name if isinstance(choice, ChatCompletionNamedToolChoiceParam) else None
        offered = [(at, tool) for at, tool in enumerate(request.tools) if named in (None, tool.function.name)]
        return replace(
            Plan(reasoning=plan.reasoning, is_open=plan.is_open) if must_call else plan,  # a call has a form of its own
            tools=written,
            offered=tuple(
                self._checked_tool(at, tool, must_call or bool(tool.function.strict)) for at, tool in offered
            ),
            given=tuple(_tool(tool) for _, tool in offered),
            must_call=must_call,
            several=named is None and request.parallel_tool_calls is not False,
            is_strict=self._strictness or is_strict,
            insists=plan.insists or must_call or is_strict,
        )

    def _checked_tool(self, place: int, tool: ChatCompletionToolsParam, must_follow: bool) -> Tool:
        """A tool with its schema, if that can be enforced; else, where nobody asked for it, with that of any object."""
        param = f"tools.{place}.function.parameters"
        offered = _tool(tool)
        try:
            document = _located(param, lambda: Document(offered.parameters, COMPACT, ""))
            if offered.parameters.get("type", "object") != "object":
                raise GrammarError("The schema of a function's arguments is that of an object.", param=param)
            self._grammars.check_schema(document, param)
            if self.tools is not None:  # formats that write arguments one by one can hold to less
                self.tools.calls((offered,), GrammarText(self._tokenizer), several=False)
        except GrammarError:
            if must_follow:
                raise
            return Tool(offered.name, _ANY_ARGUMENTS)
        return offered

    def _constraint(self, plan: Plan) -> Constraint | None:
        """The grammar of the whole answer; None where it is free."""
        if plan.is_free:
            return None
        if self._tokenizer.pieces is None:
            if not plan.insists:
                return None
            problem = "what a token of this model's tokenizer adds to a text depends on the tokens beside it"
            raise RequestError(f"{plan.param} cannot be held to: {problem}. Leave it out.", param=plan.param)
        grammar = _located(plan.param, lambda: self._grammar(plan))
        return Constraint(self._grammars.check(grammar, plan.param), plan.param, closes=self._closing)

    def _grammar(self, plan: Plan) -> str:
        notation = GrammarText(self._tokenizer, style=style_of(plan.asked) if plan.asked else COMPACT)
        asked = form(plan.asked, notation) if plan.asked else None
        for document in notation.documents:
            self._grammars.check_schema(document, plan.param)
        body = self._body(plan, notation, asked)
        if plan.reasoning is not None:
            span = plan.reasoning.span(notation, is_open=plan.is_open, is_verbatim=plan.is_verbatim)
            body = f"({span}) ({body})"
        return notation.whole(body)

    def _body(self, plan: Plan, notation: GrammarText, asked: str | None) -> str:
        """The answer behind its reasoning. `asked` is what it has to be where it is no call."""
        heading = notation.text(plan.reasoning.heading) if plan.reasoning else '""'
        if plan.tools is None:
            return f"{heading} ({asked})"
        calls = notation.rule(plan.tools.calls(plan.offered, notation, several=plan.several))
        if plan.must_call:
            return calls
        if asked is not None:
            return f"{heading} ({asked}) | {calls}"
        opening = plan.tools.opening()
        if opening is None:
            return f"{heading} {self._no_call(plan, notation)} | {calls}"
        if plan.reasoning and plan.reasoning.heading:
            return f"{heading} {notation.any_text(but=[opening])} | {calls}"
        free = notation.any_text(but=[opening, *plan.tools.marks])  # parsers take some calls without their opening too
        return f"{free} ({calls} {free}){'*' if plan.several else '?'}"

    def _is_verbatim(self, plan: Plan) -> bool:
        """Whether a form may begin with a newline, which otherwise belongs to the reasoning; or end a message."""
        assert self.reasoning is not None, "only behind reasoning it matters"
        asked = plan.asked
        if asked is None or self.reasoning.heading:
            return asked is not None
        if asked.json is not None or asked.json_object:
            return False
        notation = GrammarText(self._tokenizer)
        body = _located(plan.param, lambda: form(asked, notation))
        return b"\n" in self._grammars.first_bytes(notation.whole(body))

    def _no_call(self, plan: Plan, notation: GrammarText) -> str:
        """Text that does not begin as calls do, and has no mark of them: there is no opening to tell them by."""
        assert plan.tools is not None
        alone = GrammarText(self._tokenizer)
        calls = alone.whole(plan.tools.calls(plan.offered, alone, several=plan.several))
        taken = {*self._grammars.first_bytes(calls), *(ord(mark[0]) for mark in plan.tools.marks)}
        first = "".join(f"\\x{{{code:x}}}" for code in sorted(taken) if 0x20 < code < 0x80)
        beginning = notation.regex(rf"\s*[^\s{first}]")
        return f"({beginning} {notation.any_text(but=plan.tools.marks)})?"

    def _thinking(self, request: ChatCompletionRequest | CompletionRequest, plan: Plan) -> Thinking | None:
        """The limit of the answer's reasoning; None for none."""
        asked = request.thinking_token_budget if isinstance(request, ChatCompletionRequest) else None
        if self.reasoning is None and asked is not None and asked >= 0:
            problem = "this model's reasoning cannot be told apart: name its format with --reasoning-parser."
            raise RequestError(f"thinking_token_budget: {problem}", param="thinking_token_budget")
        if plan.reasoning is None:
            return None
        marks = self._thinking_marks
        if marks is None:
            if asked is None or asked < 0:
                return None
            problem = f"where {plan.reasoning.end!r} ends is not seen in this model's tokens"
            raise RequestError(f"thinking_token_budget: {problem}. Leave it out.", param="thinking_token_budget")
        default = None if request.use_beam_search else self._thinking_budget  # which would refuse all beam searches
        limit = default if asked is None else asked
        if limit is None or limit < 0:
            return None
        begin, end = marks
        return Thinking(limit, begin, end, is_open=plan.is_open)

    @cached_property
    def _thinking_marks(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The tokens of what begins and ends reasoning; None if these are others in one text than in another."""
        assert self.reasoning is not None, "only its marks are asked for"
        begin = self._ids_of(self.reasoning.begin.removesuffix(self.reasoning.label))
        end = self._ids_of(self.reasoning.end)
        return (begin, end) if begin and end else None

    def _ids_of(self, mark: str) -> tuple[int, ...] | None:
        """The tokens of a mark; None if they are others in one text than in another."""
        ids = self._tokenizer.encode(mark, False)
        texts = (self._tokenizer.encode(before + mark + after, False) for before in _BESIDE for after in _BESIDE)
        return tuple(ids) if all(_stands_in(text, ids) for text in texts) else None

    def _shown(self, plan: Plan) -> frozenset[int]:
        """The special tokens that the parsers of an answer have to see."""
        marks = [mark for part in (plan.tools, plan.reasoning) if part is not None for mark in part.marks]
        tokens = {token for name, token in self._tokenizer.marks.items() if any(name in mark for mark in marks)}
        return frozenset(tokens & self._tokenizer.special_ids)


def _continued(request: ChatCompletionRequest) -> str:
    """The text that the answer goes on with; empty where it begins anew."""
    return content_text(request.messages[-1]) if request.continue_final_message else ""


def _stands_in(ids: list[int], part: list[int]) -> bool:
    """Whether these ids have that part, one after the other."""
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))


def _located(param: str, make: Callable[[], _T]) -> _T:
    """What this makes. An error of a schema or a grammar, which knows of no request, gets the field it is in."""
    try:
        return make()
    except GrammarError as error:
        if error.param is not None:
            raise
        raise GrammarError(str(error), param=param) from error


def _tool(tool: ChatCompletionToolsParam) -> Tool:
    """A tool as formats take it."""
    parameters = tool.function.parameters
    if parameters is None:
        return Tool(tool.function.name, _NO_ARGUMENTS)
    kinds = parameters.get("type", "object")
    if isinstance(kinds, list) and "object" in kinds:  # arguments are an object, whatever else the schema allows
        kinds = "object"
    return Tool(tool.function.name, {**parameters, "type": kinds})
