"""An answer of /inference/v1/generate, token ids out: chunks have the answer's own shape, with what is new in each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from quire_engine.text.output import Output
from quire_protocol import (
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    GenerateRequest,
    GenerateResponse,
    GenerateResponseChoice,
    UsageInfo,
)
from quire_server.replies.heading import said_once, warnings_in, warnings_of
from quire_server.replies.outputs import Outputs, Taker, deliveries
from quire_server.replies.tokens import TokenNames, chat_logprobs, prompt_logprobs
from quire_server.replies.usage import UsageChunks, UsageCount
from quire_server.replies.wire import encode
from quire_server.settings import ServerSettings


class GenerateChunk(GenerateResponse):
    """What is new in each choice. The last chunk of a stream has the usage and no choices, when that was asked for."""

    usage: UsageInfo | None = None


class GenerateReply:
    """The answer to one prompt of token ids. Read it once, as chunks or complete."""

    def __init__(
        self, request: GenerateRequest, outputs: Outputs, settings: ServerSettings, warnings: Sequence[str] = ()
    ) -> None:
        self.request = request
        self.warnings = warnings
        self.outputs = outputs
        self.names = TokenNames(None)
        self.count = UsageCount([request], settings.enable_prompt_tokens_details)
        self.usage = UsageChunks(
            self.count, bool(request.stream), request.stream_options, settings.enable_force_include_usage
        )

    async def chunks(self) -> AsyncGenerator[list[GenerateChunk]]:
        """The answers as they come: all chunks that are there. AnswerFailed when the engine gives one up; closing this
        ends the request."""
        async with aclosing(deliveries([self.outputs])) as outputs:
            async for come in outputs:
                yield [self._chunk_of(output) for _, output in come]
        if self.usage.at_end:
            yield [self._chunk([], usage=self.count.info())]

    def offer_to(self, taker: Taker) -> None:
        """Let this one take deliveries before they become chunks."""
        self.outputs.taker = taker

    def take(self, output: Output) -> bytes:
        """The event of a delivery that was taken so."""
        return encode(self._chunk_of(output))

    async def complete(self) -> GenerateResponse:
        """The whole answer: the chunks, folded."""
        choices: dict[int, _Whole] = {}
        about_prompt = None
        warnings: list[str] = []
        async with aclosing(self.chunks()) as chunks:
            async for chunk in (each async for come in chunks for each in come):
                about_prompt = chunk.prompt_logprobs or about_prompt
                warnings += warnings_in(chunk)
                for delta in chunk.choices:
                    choices.setdefault(delta.index, _Whole()).add(delta)
        return GenerateResponse(
            request_id=self.request.request_id,
            choices=[whole.choice(index) for index, whole in sorted(choices.items())],
            prompt_logprobs=about_prompt,
            kv_transfer_params=None,
            **said_once(warnings),
        )

    def _chunk_of(self, output: Output) -> GenerateChunk:
        self.count.add(0, output)
        once = said_once((*self.warnings, *warnings_of(output)))
        self.warnings = ()
        if output.prompt_logprobs is not None:
            once["prompt_logprobs"] = prompt_logprobs(output.prompt_logprobs, self.names)
        return self._chunk([self._delta(output)], **once, **self.usage.so_far())

    def _chunk(self, choices: list[GenerateResponseChoice], **said: Any) -> GenerateChunk:
        return GenerateChunk(request_id=self.request.request_id, choices=choices, **said)

    def _delta(self, output: Output) -> GenerateResponseChoice:
        return GenerateResponseChoice(
            index=output.index,
            logprobs=chat_logprobs(output.logprobs, self.names) if output.logprobs else None,
            finish_reason=output.finish_reason,
            token_ids=list(output.token_ids),
        )


@dataclass(slots=True)
class _Whole:
    """One choice of the answer, growing."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[ChatCompletionLogProbsContent] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, delta: GenerateResponseChoice) -> None:
        self.token_ids += delta.token_ids or []
        if delta.logprobs is not None:
            self.logprobs += delta.logprobs.content or []
        self.finish_reason = delta.finish_reason

    def choice(self, index: int) -> GenerateResponseChoice:
        return GenerateResponseChoice(
            index=index,
            logprobs=ChatCompletionLogProbs(content=self.logprobs) if self.logprobs else None,
            finish_reason=self.finish_reason,
            token_ids=self.token_ids,
        )
