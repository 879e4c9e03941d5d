"""An answer of /v1/chat/completions: deliveries become chunks, and the whole answer is the fold of the same chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

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
    GenerateRequest,
    Logprob,
    UsageInfo,
)
from quire_server.replies.heading import Heading, said_once, warnings_in, warnings_of
from quire_server.replies.outputs import Outputs, deliveries
from quire_server.replies.tokens import TokenNames, chat_logprobs, prompt_logprobs
from quire_server.replies.usage import UsageChunks, UsageCount
from quire_server.settings import ServerSettings

CHUNK: Final = "chat.completion.chunk"


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
        self.role = settings.response_role if request.add_generation_prompt else str(last["role"])
        self.echo = content_text(last) if request.echo and last["role"] == self.role else ""

    async def chunks(self) -> AsyncGenerator[ChatCompletionStreamResponse]:
        """The answer as it comes. AnswerFailed when the engine gives it up; closing this ends the request."""
        begun = False
        async with aclosing(deliveries([self.outputs])) as outputs:
            async for _, output in outputs:
                if not begun:
                    begun = True
                    for chunk in self._opening(output):
                        yield chunk
                self.count.add(0, output)
                if self._tells(output):
                    yield self._chunk([self._delta(output)], self.usage.so_far())
        if self.usage.at_end:
            yield self._chunk([], {"usage": self.count.info()})

    async def complete(self) -> ChatCompletionResponse:
        """The whole answer: the chunks, folded."""
        whole = Fold(self.heading)
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                whole.add(chunk)
        return whole.response()

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

    def _tells(self, output: Output) -> bool:
        """Whether a chunk has anything to say: text may be held back while it could begin a stop string."""
        return bool(
            output.text
            or output.finish_reason
            or output.logprobs
            or (self.request.return_token_ids and output.token_ids)
        )

    def _delta(self, output: Output) -> ChatCompletionResponseStreamChoice:
        """What this delivery adds to its choice."""
        logprobs = chat_logprobs(output.logprobs, self.names) if self.request.logprobs and output.logprobs else None
        ended: dict[str, Any] = {"stop_reason": output.stop_reason} if output.finish_reason else {}
        return ChatCompletionResponseStreamChoice(
            index=output.index,
            delta=DeltaMessage(content=output.text),
            logprobs=logprobs,
            finish_reason=output.finish_reason,
            token_ids=list(output.token_ids) if self.request.return_token_ids else None,
            **ended,
        )


class Fold:
    """Chunks put together. The result depends on nothing else, so a client can do the same."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self.messages: dict[int, _Message] = {}
        self.said_once: dict[str, Any] = {"prompt_logprobs": None, "prompt_token_ids": None}
        self.usage: UsageInfo = UsageInfo()
        self.warnings: list[str] = []

    def add(self, chunk: ChatCompletionStreamResponse) -> None:
        """Take in the next chunk."""
        if chunk.prompt_token_ids is not None:
            self.said_once["prompt_token_ids"] = chunk.prompt_token_ids
        if isinstance(chunk, Chunk) and chunk.prompt_logprobs is not None:
            self.said_once["prompt_logprobs"] = chunk.prompt_logprobs
        if chunk.usage is not None:
            self.usage = chunk.usage
        self.warnings += warnings_in(chunk)
        for choice in chunk.choices:
            self.messages.setdefault(choice.index, _Message()).add(choice)

    def response(self) -> ChatCompletionResponse:
        """The answer, once the last chunk is in."""
        return ChatCompletionResponse(
            **self.heading.on_chunks,
            object="chat.completion",
            choices=[message.choice(index) for index, message in sorted(self.messages.items())],
            service_tier=None,
            system_fingerprint=self.heading.fingerprint,
            usage=self.usage,
            **self.said_once,
            kv_transfer_params=None,
            **said_once(self.warnings),
        )


@dataclass(slots=True)
class _Message:
    """One choice of the answer, growing."""

    role: str = "assistant"
    texts: list[str] = field(default_factory=list)
    logprobs: list[ChatCompletionLogProbsContent] | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def add(self, choice: ChatCompletionResponseStreamChoice) -> None:
        self.role = choice.delta.role or self.role
        self.texts.append(choice.delta.content or "")
        if choice.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += choice.logprobs.content or []
        if choice.token_ids is not None:
            self.token_ids = self.token_ids or []
            self.token_ids += choice.token_ids
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.stop_reason = choice.stop_reason if choice.stop_reason is not None else self.stop_reason

    def choice(self, index: int) -> ChatCompletionResponseChoice:
        return ChatCompletionResponseChoice(
            index=index,
            message=ChatMessage(role=self.role, content="".join(self.texts)),
            logprobs=None if self.logprobs is None else ChatCompletionLogProbs(content=self.logprobs),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            token_ids=self.token_ids,
        )


def _opened(index: int, **fields: Any) -> ChatCompletionResponseStreamChoice:
    """A choice before its first token."""
    return ChatCompletionResponseStreamChoice(
        index=index, delta=DeltaMessage(**fields), logprobs=None, finish_reason=None
    )
