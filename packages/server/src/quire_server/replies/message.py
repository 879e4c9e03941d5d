"""One chat answer as it grows: its text becomes events, events become deltas. It knows no format and no wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quire_engine.text.formats.base import Parser
from quire_engine.text.formats.events import (
    CallArguments,
    CallBegan,
    CallBroken,
    CallEnded,
    Content,
    Event,
    Reasoning,
    joined,
)
from quire_engine.text.output import Output
from quire_protocol import (
    ChatCompletionNamedToolChoiceParam,
    ChatCompletionRequest,
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ErrorInfo,
    make_tool_call_id,
)
from quire_server.reads import ChoiceReads

BROKEN_CALL = "InvalidToolCall"
"""The `type` of the error of an answer with a call that could not be completed."""


class Message:
    """One choice of an answer. Its owner feeds it deliveries, in order, and sends the deltas."""

    def __init__(self, request: ChatCompletionRequest, parser: Parser | None, reads: ChoiceReads | None = None) -> None:
        """Without a parser, all text is content. `reads` counts what is read for calls, where there may be any."""
        self._parser = parser
        self._reads = reads
        self._tells_reasoning = request.include_reasoning
        self._most_calls = 1 if request.parallel_tool_calls is False else None
        self._names_call = isinstance(request.tool_choice, ChatCompletionNamedToolChoiceParam)
        self._count = ReasoningCount()
        self._calls: list[str] = []
        """The calls that began, by name."""
        self._has_called = False
        self._broken: CallBroken | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all text is content."""
        return self._parser is None

    @property
    def silence(self) -> DeltaMessage:
        """A delta that adds nothing, where something else is to be told."""
        return DeltaMessage(content="") if self._parser is None else DeltaMessage()

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of reasoning so far."""
        return self._count.tokens

    def deltas(self, output: Output) -> list[DeltaMessage | str]:
        """What a delivery adds, in order; content is mere text. No delta has two kinds of things, or two of a call."""
        if self._parser is None:
            return [output.text] if output.text else []
        events = joined(self._read(self._parser, output))
        if self._reads is not None and not (events and all(isinstance(event, Reasoning) for event in events)):
            calls = any(isinstance(event, CallBegan | CallArguments) for event in events)
            self._reads.add(calls=calls, is_last=output.finish_reason is not None)
        found = (self._delta(event) for event in events)
        return [delta for delta in found if delta is not None]

    def ending(self, output: Output) -> dict[str, Any]:
        """What the last delivery says of the end: why it came, and what is wrong with the answer, if anything is."""
        reason: str | None = output.finish_reason
        said: dict[str, Any] = {"stop_reason": output.stop_reason}
        if self._broken is not None:
            said["error"] = self._error(self._broken)
            reason = "error" if reason == "stop" else reason
        elif self._has_called and reason == "stop" and not self._names_call:  # a named call ends with stop, as OpenAI's
            reason = "tool_calls"
        return {"finish_reason": reason, **said}

    def _read(self, parser: Parser, output: Output) -> list[Event]:
        """The events of a delivery, token by token, as tokens are counted by what they turn out to be."""
        events: list[Event] = []
        for piece in output.pieces:
            found = parser.push(piece)
            self._count.add(found, tokens=1 if output.token_ids else 0)
            events += found
        if output.finish_reason is not None:
            found = parser.finish()
            self._count.add(found, tokens=0)
            events += found
        return events

    def _delta(self, event: Event) -> DeltaMessage | str | None:
        """An event as it is to be sent; None for what is not."""
        match event:
            case Content(text):
                return text
            case Reasoning(text):
                return DeltaMessage(reasoning=text) if self._tells_reasoning else None
            case CallBegan(index) | CallArguments(index) | CallEnded(index) | CallBroken(index):
                return self._call_delta(event) if self._most_calls is None or index < self._most_calls else None

    def _call_delta(self, event: CallBegan | CallArguments | CallEnded | CallBroken) -> DeltaMessage | None:
        match event:
            case CallBegan(index, name, call_id):
                self._calls.append(name)
                began = DeltaFunctionCall(name=name, arguments="")
                call = DeltaToolCall(index=index, id=call_id or make_tool_call_id(), type="function", function=began)
                return DeltaMessage(tool_calls=[call])
            case CallArguments(index, text):
                more = DeltaFunctionCall(arguments=text)
                return DeltaMessage(tool_calls=[DeltaToolCall(index=index, function=more)])
            case CallEnded():
                self._has_called = True
            case CallBroken():
                self._broken = event
        return None

    def _error(self, broken: CallBroken) -> ErrorInfo:
        """What is wrong with the answer, by the place of its call."""
        place = f"tool_calls.{broken.index}"
        message = f"A tool call could not be completed: {broken.reason}"
        if broken.index < len(self._calls):  # in a stream nothing can be taken back, so it stands in whole answers too
            what = f"so {place} is no call and its arguments may not parse: leave it out"
            message = f"The call of {self._calls[broken.index]} could not be completed, {what}. {broken.reason}"
        return ErrorInfo(message=message, type=BROKEN_CALL, param=place, code=500)


class ReasoningCount:
    """Counts tokens whose text is reasoning, and not the marks around it, however long their text was held back.

    A token that releases nothing is one of reasoning if the text before it and the next text are, as are marks between
    two stretches of reasoning.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._is_reasoning = False
        self._held = 0
        """Tokens since the last event."""

    def add(self, events: Sequence[Event], *, tokens: int) -> None:
        """Count these tokens, after which a parser gave these events."""
        self._held += tokens
        if not events:
            return
        went_on, self._is_reasoning = self._is_reasoning, isinstance(events[-1], Reasoning)
        if self._is_reasoning:
            self.tokens += self._held if went_on else min(self._held, 1)
        self._held = 0
