"""An answer of /v1/chat/completions: deliveries become chunks, and the whole answer is the fold of the same chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from quire_engine.text.answers import PLAIN, Reading
from quire_engine.text.conversation import content_text
from quire_engine.text.output import Output
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    ChatMessage,
    DeltaMessage,
    DeltaToolCall,
    ErrorInfo,
    FunctionCall,
    GenerateRequest,
    Logprob,
    ToolCall,
    UsageInfo,
)
from quire_server.accounts import reads_of_this_request
from quire_server.reads import ChoiceReads
from quire_server.replies.heading import Heading, said_once, warnings_in, warnings_of
from quire_server.replies.message import Message
from quire_server.replies.outputs import Outputs, Taker, deliveries
from quire_server.replies.tokens import TokenNames, chat_logprobs, prompt_logprobs
from quire_server.replies.usage import UsageChunks, UsageCount
from quire_server.replies.wire import TextChunk, TextForm, encode
from quire_server.settings import ServerSettings

CHUNK: Final = "chat.completion.chunk"
NOTHING_ELSE: Mapping[str, Any] = dict.fromkeys(("logprobs", "finish_reason", "token_ids"))
"""What every delta says beside itself, unless there is something to say."""


class Chunk(ChatCompletionStreamResponse):
    """A chunk as it is sent. The first one also says what is said once about the prompt."""

    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


class ChatReply:
    """The answer to one conversation. Read it once, as chunks or complete."""

    def __init__(
        self,
        request: ChatCompletionRequest,
        prompt: GenerateRequest,
        outputs: Outputs,
        heading: Heading,
        tokenizer: Tokenizer,
        settings: ServerSettings,
        reading: Reading = PLAIN,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.outputs = outputs
        self.heading = heading
        self.names = TokenNames(
            tokenizer, bool(request.return_tokens_as_token_ids) or settings.return_tokens_as_token_ids
        )
        self.count = UsageCount([prompt], settings.enable_prompt_tokens_details)
        self.usage = UsageChunks(
            self.count, bool(request.stream), request.stream_options, settings.enable_force_include_usage
        )
        last = request.messages[-1]
        if reading.tells_reasoning:
            self.count.reasoning_tokens = 0
        reads = [self._reads(reading) for _ in range(prompt.sampling_params.n)]
        self.messages = [Message(request, reading.parser(), each) for each in reads]
        self.brings_only_text = all(message.is_plain for message in self.messages) and not (
            request.logprobs or request.return_token_ids or self.usage.on_each
        )
        """Whether a delivery that is not a choice's last brings its text as it is, and nothing else."""
        self.forms: dict[int, TextForm] = {}
        """How chunks of mere content are written, by choice."""
        self.begun = False
        self.role = settings.response_role if request.add_generation_prompt else str(last["role"])
        self.echo = content_text(last) if request.echo and last["role"] == self.role else ""

    async def chunks(self) -> AsyncGenerator[list[ChatCompletionStreamResponse | TextChunk]]:
        """The answer as it comes: all chunks that are there. AnswerFailed when the engine gives it up; closing this
        ends the request."""
        async with aclosing(deliveries([self.outputs])) as outputs:
            async for come in outputs:
                opening = [] if self.begun else self._opening(come[0][1])
                self.begun = True
                chunks = [chunk for _, output in come for chunk in self._chunks(output)]
                if opening or chunks:
                    yield [*opening, *chunks]
        if self.usage.at_end:
            yield [self._chunk([], {"usage": self.count.info()})]

    def offer_to(self, taker: Taker) -> None:
        """Let this one take deliveries before they become chunks."""
        self.outputs.taker = taker

    def take(self, output: Output) -> bytes | None:
        """The events of a delivery that was taken so; None for one that has to be left: the first."""
        if not self.begun:
            return None
        if self.brings_only_text:
            self.count.add(0, output)
            return self._form(output.index).event(output.text) if output.text else b""
        return b"".join(map(encode, self._chunks(output)))

    def _reads(self, reading: Reading) -> ChoiceReads | None:
        """What counts the reading of one choice for calls; None where there are none to be told apart."""
        streams = bool(self.request.stream)
        return ChoiceReads(reads_of_this_request(), streams=streams) if reading.tells_calls else None

    async def complete(self) -> ChatCompletionResponse:
        """The whole answer: the chunks, folded."""
        whole = Fold(self.heading)
        self.offer_to(partial(self._fold, whole))
        async with aclosing(self.chunks()) as chunks:
            async for come in chunks:
                for chunk in come:
                    whole.add(chunk)
        return whole.response()

    def _fold(self, whole: Fold, output: Output) -> bool:
        """A Taker, so that nobody is woken for a piece of a whole answer."""
        if self.begun:
            for chunk in self._chunks(output):
                whole.add(chunk)
        return self.begun

    def _opening(self, output: Output) -> list[ChatCompletionStreamResponse]:
        """One chunk per choice that names its role, the first with what is said once; then the echo."""
        once: dict[str, Any] = {
            "prompt_token_ids": self.prompt.token_ids if self.request.return_token_ids else None,
            **said_once((*self.heading.warnings, *warnings_of(output))),
        }
        if output.prompt_logprobs is not None:
            once["prompt_logprobs"] = prompt_logprobs(output.prompt_logprobs, self.names)
        places = range(self.prompt.sampling_params.n)
        roles = [[_opened(index, role=self.role, content="")] for index in places]
        echoes = [[_opened(index, content=self.echo)] for index in places if self.echo]
        usage = self.usage.so_far()
        return [
            self._chunk(roles[0], {**usage, **once}),
            *(self._chunk(choices, usage) for choices in roles[1:] + echoes),
        ]

    def _chunk(
        self, choices: list[ChatCompletionResponseStreamChoice], said: dict[str, Any]
    ) -> ChatCompletionStreamResponse:
        return Chunk(**self.heading.on_chunks, object=CHUNK, choices=choices, **said)

    def _chunks(self, output: Output) -> list[ChatCompletionStreamResponse | TextChunk]:
        """What this delivery adds to its choice, delta by delta; the last one also tells of its tokens and of the end.

        Empty while text is held back, because it could begin a stop string or a mark, and there is nothing else.
        """
        if self.brings_only_text and output.finish_reason is None:
            self.count.add(0, output)
            return [self._form(output.index).chunk(output.text)] if output.text else []
        message = self.messages[output.index]
        counted = message.reasoning_tokens
        deltas = message.deltas(output)
        self.count.add(0, output)
        if self.count.reasoning_tokens is not None:
            self.count.reasoning_tokens += message.reasoning_tokens - counted
        about = self._about_tokens(output)
        if output.finish_reason:
            about |= message.ending(output)
        if about and not deltas:
            deltas = [message.silence]
        last = len(deltas) - 1
        return [self._told(output.index, each, about if at == last else {}) for at, each in enumerate(deltas)]

    def _told(
        self, index: int, delta: DeltaMessage | str, about: dict[str, Any]
    ) -> ChatCompletionStreamResponse | TextChunk:
        """A delta, and what is told with it, as a chunk. One that brings content and nothing else has a form ready."""
        if about or self.usage.on_each or not isinstance(delta, str):
            return self._delta(index, delta, about)
        return self._form(index).chunk(delta)

    def _form(self, index: int) -> TextForm:
        form = self.forms.get(index)
        if form is None:
            form = self.forms[index] = TextForm(index, lambda text: self._delta(index, text, {}))
        return form

    def _delta(self, index: int, delta: DeltaMessage | str, about: dict[str, Any]) -> ChatCompletionStreamResponse:
        delta = DeltaMessage(content=delta) if isinstance(delta, str) else delta
        choice = ChatCompletionResponseStreamChoice(index=index, delta=delta, **{**NOTHING_ELSE, **about})
        return self._chunk([choice], self.usage.so_far())

    def _about_tokens(self, output: Output) -> dict[str, Any]:
        """What was asked to be told of a delivery's tokens."""
        about: dict[str, Any] = {}
        if self.request.logprobs and output.logprobs:
            about["logprobs"] = chat_logprobs(output.logprobs, self.names)
        if self.request.return_token_ids and output.token_ids:
            about["token_ids"] = list(output.token_ids)
        return about


class Fold:
    """Chunks put together. The result depends on nothing else, so a client can do the same."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self.choices: dict[int, _Choice] = {}
        self.said_once: dict[str, Any] = {"prompt_logprobs": None, "prompt_token_ids": None}
        self.usage: UsageInfo = UsageInfo()
        self.warnings: list[str] = []

    def add(self, chunk: ChatCompletionStreamResponse | TextChunk) -> None:
        """Take in the next chunk."""
        if isinstance(chunk, TextChunk):
            self.choices[chunk.choice].texts.append(chunk.text)  # which the chunk with its role has begun
            return
        if chunk.prompt_token_ids is not None:
            self.said_once["prompt_token_ids"] = chunk.prompt_token_ids
        if isinstance(chunk, Chunk) and chunk.prompt_logprobs is not None:
            self.said_once["prompt_logprobs"] = chunk.prompt_logprobs
        if chunk.usage is not None:
            self.usage = chunk.usage
        self.warnings += warnings_in(chunk)
        for choice in chunk.choices:
            self.choices.setdefault(choice.index, _Choice()).add(choice)

    def response(self) -> ChatCompletionResponse:
        """The answer, once the last chunk is in."""
        return ChatCompletionResponse(
            **self.heading.on_chunks,
            object="chat.completion",
            choices=[whole.choice(index) for index, whole in sorted(self.choices.items())],
            service_tier=None,
            system_fingerprint=self.heading.fingerprint,
            usage=self.usage,
            **self.said_once,
            kv_transfer_params=None,
            **said_once(self.warnings),
        )


@dataclass(slots=True)
class _Choice:
    """One choice of the answer, growing."""

    role: str = "assistant"
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    logprobs: list[ChatCompletionLogProbsContent] | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    error: ErrorInfo | None = None

    def add(self, choice: ChatCompletionResponseStreamChoice) -> None:
        self.role = choice.delta.role or self.role
        self.texts.append(choice.delta.content or "")
        self.reasoning.append(choice.delta.reasoning or "")
        for call in choice.delta.tool_calls:
            self.calls.setdefault(call.index, _Call()).add(call)
        if choice.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += choice.logprobs.content or []
        if choice.token_ids is not None:
            self.token_ids = self.token_ids or []
            self.token_ids += choice.token_ids
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.stop_reason = choice.stop_reason if choice.stop_reason is not None else self.stop_reason
        self.error = choice.error or self.error

    def choice(self, index: int) -> ChatCompletionResponseChoice:
        reasoning = "".join(self.reasoning) or None
        says_otherwise = bool(self.calls or reasoning)
        message = ChatMessage(
            role=self.role,
            content="".join(self.texts) or (None if says_otherwise else ""),
            reasoning=reasoning,
            tool_calls=[call.whole() for _, call in sorted(self.calls.items())],
        )
        return ChatCompletionResponseChoice(
            index=index,
            message=message,
            logprobs=None if self.logprobs is None else ChatCompletionLogProbs(content=self.logprobs),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            token_ids=self.token_ids,
            error=self.error,
        )


@dataclass(slots=True)
class _Call:
    """One call of a message, growing."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, delta: DeltaToolCall) -> None:
        self.id = delta.id or self.id
        if delta.function is not None:
            self.name = delta.function.name or self.name
            self.arguments.append(delta.function.arguments or "")

    def whole(self) -> ToolCall:
        return ToolCall(id=self.id, function=FunctionCall(name=self.name, arguments="".join(self.arguments)))


def _opened(index: int, **fields: Any) -> ChatCompletionResponseStreamChoice:
    """A choice before its first token."""
    return ChatCompletionResponseStreamChoice(
        index=index, delta=DeltaMessage(**fields), logprobs=None, finish_reason=None
    )
