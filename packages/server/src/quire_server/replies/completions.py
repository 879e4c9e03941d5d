"""An answer of /v1/completions: deliveries become chunks, and the whole answer is the fold of the same chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from quire_engine.sequence import FinishReason, TokenLogprobs, rendered
from quire_engine.text.output import Output
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    CompletionLogProbs,
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
    CompletionResponseStreamChoice,
    CompletionStreamResponse,
    GenerateRequest,
    Logprob,
    UsageInfo,
)
from quire_server.replies.heading import Heading, said_once, warnings_in, warnings_of
from quire_server.replies.outputs import Outputs, Taker, deliveries
from quire_server.replies.tokens import CompletionTokens, TokenNames, prompt_logprobs
from quire_server.replies.usage import UsageChunks, UsageCount
from quire_server.replies.wire import TextChunk, TextForm, encode
from quire_server.settings import ServerSettings

NOTHING_ELSE = dict.fromkeys(("logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"))
"""Fields that every piece of an answer has."""


class FirstDelta(CompletionResponseStreamChoice):
    """A choice's first delivery, which also says what is said once about its prompt."""

    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


class CompletionReply:
    """The answer to one or several prompts. Read it once, as chunks or complete."""

    def __init__(
        self,
        request: CompletionRequest,
        prompts: Sequence[GenerateRequest],
        outputs: Sequence[Outputs],
        heading: Heading,
        tokenizer: Tokenizer,
        settings: ServerSettings,
    ) -> None:
        self.outputs = outputs
        self.heading = heading
        self.warnings = list(heading.warnings)
        """Those that no chunk has told yet."""
        # With echo and no token to generate, the engine still generates one, as it needs a pass over the prompt.
        self.echo_only = bool(request.echo) and request.max_tokens == 0
        self.count = UsageCount(prompts, settings.enable_prompt_tokens_details)
        self.usage = UsageChunks(
            self.count, bool(request.stream), request.stream_options, settings.enable_force_include_usage
        )
        names = TokenNames(tokenizer, bool(request.return_tokens_as_token_ids) or settings.return_tokens_as_token_ids)
        echoes = [
            prompt_text(request, prompt, place, tokenizer) if request.echo else ""
            for place, prompt in enumerate(prompts)
        ]
        self.choices = [
            [Choice(request, prompt, place * prompt.sampling_params.n + index, echo, names) for index in choices]
            for place, (prompt, echo) in enumerate(zip(prompts, echoes, strict=True))
            for choices in [range(prompt.sampling_params.n)]
        ]
        self.forms: dict[int, TextForm] = {}
        """How the next chunks of a choice are written, once it is known that each brings text and nothing else."""

    async def chunks(self) -> AsyncGenerator[list[CompletionStreamResponse | TextChunk]]:
        """The answers as they come: all chunks that are there, one choice in a chunk. AnswerFailed when the engine
        gives one up; closing this ends every request."""
        async with aclosing(deliveries(self.outputs)) as outputs:
            async for come in outputs:
                found = [self._chunk_of(place, output) for place, output in come]
                chunks = [chunk for chunk in found if chunk is not None]
                if chunks:
                    yield chunks
        if self.usage.at_end:
            yield [self._chunk([], {"usage": self.count.info()})]

    def offer_to(self, taker: Taker) -> None:
        """Let this one take deliveries before they become chunks, where one request gives them all."""
        if len(self.outputs) == 1:
            self.outputs[0].taker = taker

    def take(self, output: Output) -> bytes | None:
        """The event of a delivery that was taken so, empty if it adds none; None for one that has to be left: a
        choice's first."""
        if (form := self.forms.get(output.index)) is not None:
            self.count.add(0, output)
            return form.event(output.text) if output.text else b""
        if not self.choices[0][output.index].begun:
            return None
        chunk = self._chunk_of(0, output)
        return b"" if chunk is None else encode(chunk)

    async def complete(self) -> CompletionResponse:
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
        has_begun = self.choices[0][output.index].begun
        if has_begun and (chunk := self._chunk_of(0, output)) is not None:
            whole.add(chunk)
        return has_begun

    def _chunk_of(self, place: int, generated: Output) -> CompletionStreamResponse | TextChunk | None:
        """What a delivery adds to its choice; None while its text is held back and there is nothing else."""
        output = without_answer(generated) if self.echo_only else generated
        self.count.add(place, output)
        if output.prompt_logprobs is not None:
            for choice in self.choices[place]:
                choice.about_prompt = output.prompt_logprobs
        choice = self.choices[place][output.index]
        if output.finish_reason is None and (form := self.forms.get(choice.index)) is not None:
            return form.chunk(output.text) if output.text else None
        self.warnings += warnings_of(output)
        delta = choice.delta(output)
        if delta is None:
            return None
        chunk = self._chunk([delta], {"usage": None, **self.usage.so_far(), **said_once(self.warnings)})
        self.warnings = []
        if output.finish_reason is None and choice.brings_only_text and not self.usage.on_each:
            self.forms[choice.index] = TextForm(choice.index, partial(self._text_chunk, choice))
        return chunk

    def _chunk(self, choices: list[CompletionResponseStreamChoice], said: dict[str, Any]) -> CompletionStreamResponse:
        return CompletionStreamResponse(**self.heading.on_chunks, object="text_completion", choices=choices, **said)

    def _text_chunk(self, choice: Choice, text: str) -> CompletionStreamResponse:
        return self._chunk([choice.piece(text)], {"usage": None})


class Choice:
    """One choice while it is generated: what its first delivery must say, and where its tokens stand in its text."""

    def __init__(
        self, request: CompletionRequest, prompt: GenerateRequest, index: int, echo: str, names: TokenNames
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.index = index
        self.names = names
        self.echo = echo
        """The prompt's text, if it is to be echoed."""
        self.about_prompt: Sequence[TokenLogprobs | None] | None = None
        """The prompt's log-probabilities, once the first delivery has brought them."""
        self.tokens = CompletionTokens(names, prompt.sampling_params.skip_special_tokens)
        self.begun = False

    @property
    def brings_only_text(self) -> bool:
        """Whether all deliveries between the first and the last add text alone."""
        return self.request.logprobs is None and not self.request.return_token_ids

    def delta(self, output: Output) -> CompletionResponseStreamChoice | None:
        """What this delivery adds; None while it adds nothing that was asked for."""
        text, token_ids = output.text, list(output.token_ids)
        first, return_ids = not self.begun, bool(self.request.return_token_ids)
        parts = []
        said_once: dict[str, Any] = {}
        if first and self.request.echo:
            text = self.echo + text
            parts += self._echoed_logprobs()
        if first and self.about_prompt is not None:
            said_once["prompt_logprobs"] = prompt_logprobs(self.about_prompt, self.names)
        if self.request.logprobs is not None and output.logprobs:
            parts.append(self.tokens.add(token_ids, output.logprobs))
        if not (text or parts or said_once or output.finish_reason or (return_ids and token_ids)):
            return None
        self.begun = True
        return self.piece(
            text,
            logprobs=joined(parts) if parts else None,
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            prompt_token_ids=sent_ids(self.prompt) if first and return_ids else None,
            token_ids=token_ids if return_ids else None,
            **said_once,
        )

    def piece(self, text: str, **said: Any) -> CompletionResponseStreamChoice:
        """New text, and what else there is to say of it."""
        return FirstDelta(index=self.index, text=text, **{**NOTHING_ELSE, **said})

    def _echoed_logprobs(self) -> list[CompletionLogProbs]:
        if self.request.logprobs is None or self.about_prompt is None:
            return []
        part = self.tokens.add(self.prompt.token_ids, self.about_prompt, text=self.echo)
        self.tokens.begin_at(len(self.echo))
        return [part]


class Fold:
    """Chunks put together. The result depends on nothing else, so a client can do the same."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self.choices: dict[int, _Whole] = {}
        self.usage = UsageInfo()
        self.warnings: list[str] = []

    def add(self, chunk: CompletionStreamResponse | TextChunk) -> None:
        """Take in the next chunk."""
        if isinstance(chunk, TextChunk):
            self.choices[chunk.choice].texts.append(chunk.text)  # which a first chunk has begun
            return
        self.warnings += warnings_in(chunk)
        if chunk.usage is not None:
            self.usage = chunk.usage
        for delta in chunk.choices:
            self.choices.setdefault(delta.index, _Whole()).add(delta)

    def response(self) -> CompletionResponse:
        """The answer, once the last chunk is in."""
        return CompletionResponse(
            **self.heading.on_chunks,
            choices=[whole.choice(index) for index, whole in sorted(self.choices.items())],
            service_tier=None,
            system_fingerprint=self.heading.fingerprint,
            usage=self.usage,
            kv_transfer_params=None,
            **said_once(self.warnings),
        )


@dataclass(slots=True)
class _Whole:
    """One choice of the answer, growing."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[CompletionLogProbs] = field(default_factory=list)
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    said_once: dict[str, Any] = field(default_factory=lambda: {"prompt_logprobs": None, "prompt_token_ids": None})

    def add(self, delta: CompletionResponseStreamChoice) -> None:
        self.texts.append(delta.text)
        if delta.logprobs is not None:
            self.logprobs.append(delta.logprobs)
        if delta.token_ids is not None:
            self.token_ids = self.token_ids or []
            self.token_ids += delta.token_ids
        if delta.prompt_token_ids is not None:
            self.said_once["prompt_token_ids"] = delta.prompt_token_ids
        if isinstance(delta, FirstDelta) and delta.prompt_logprobs is not None:
            self.said_once["prompt_logprobs"] = delta.prompt_logprobs
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_reason = delta.stop_reason if delta.stop_reason is not None else self.stop_reason

    def choice(self, index: int) -> CompletionResponseChoice:
        return CompletionResponseChoice(
            index=index,
            text="".join(self.texts),
            logprobs=joined(self.logprobs) if self.logprobs else None,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            token_ids=self.token_ids,
            **self.said_once,
        )


def joined(parts: Sequence[CompletionLogProbs]) -> CompletionLogProbs:
    """The four lists of several deliveries as four lists."""
    return CompletionLogProbs(
        text_offset=[offset for part in parts for offset in part.text_offset],
        token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
        tokens=[token for part in parts for token in part.tokens],
        top_logprobs=[candidates for part in parts for candidates in part.top_logprobs],
    )


def without_answer(output: Output) -> Output:
    """A delivery to somebody who asked for no token: as if the engine had generated none."""
    reason: FinishReason | None = "length" if output.finish_reason == "stop" else output.finish_reason
    return output.changed(text="", token_ids=(), logprobs=(), finish_reason=reason, stop_reason=None)


def sent_ids(prompt: GenerateRequest) -> list[int] | None:
    """A prompt's token ids; None if it came as embeddings."""
    return None if rendered(prompt).embeds else prompt.token_ids


def prompt_text(request: CompletionRequest, prompt: GenerateRequest, place: int, tokenizer: Tokenizer) -> str:
    """A prompt as it is echoed: as it was sent, or decoded when it was sent as ids or truncated."""
    several = request.prompt if isinstance(request.prompt, list) and not isinstance(request.prompt[0], int) else None
    sent = request.prompt if several is None else several[place]
    if request.truncate_prompt_tokens is not None:
        sent = prompt.token_ids
    return sent if isinstance(sent, str) else tokenizer.decode(cast("list[int]", sent), skip_special_tokens=False)
