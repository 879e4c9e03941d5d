"""What every handler needs: the engine, the settings, and the checks that each request passes before it is rendered."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, ParamSpec, TypeAlias, TypeVar

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from quire_engine.admission import check_answers
from quire_engine.async_engine import AsyncEngine, RequestOutputs
from quire_engine.errors import RequestError
from quire_engine.text.answers import Answers
from quire_engine.text.template import Renderer
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerateRequest,
    SamplingParams,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
    check_limits,
)
from quire_protocol.limits import LimitError
from quire_protocol.problems import shown
from quire_server.__about__ import __version__
from quire_server.accounts import account_of_this_request
from quire_server.closing import Closing
from quire_server.deadlines import deadline_of
from quire_server.errors import ModelNotFound
from quire_server.keys import ANYONE
from quire_server.logs import REQUEST
from quire_server.middleware import REQUEST_ID, WANTS_KEY, caller_of, handles_strictly, name_user
from quire_server.refusals import refuse_fields_not_built, report_fields_without_effect
from quire_server.replies.heading import Heading
from quire_server.settings import ServerSettings
from quire_server.siblings import Siblings
from quire_server.unknown import judged, strangers

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", ChatCompletionRequest, CompletionRequest, GenerateRequest)

ServedRequest: TypeAlias = (
    ChatCompletionRequest
    | CompletionRequest
    | GenerateRequest
    | TokenizeCompletionRequest
    | TokenizeChatRequest
    | DetokenizeRequest
)
"""Every request that the routes take."""

SHORT_BODY = 1024
"""Bytes of a body whose prompt is rendered on the event loop, in half a millisecond at most: the way to a thread and
back would cost about as much, and delay others no less."""

_SLOW = (
    "chat_template",
    "chat_template_kwargs",
    "tools",
    "response_format",
    "structured_outputs",
    "bad_words",
    "prompt_embeds",
)
"""Fields that may have much done for few bytes: programs, grammars, many texts to make tokens of, imports."""

AT_A_TIME = 16
"""Prompts of one body that are submitted while nobody else has a turn: a few milliseconds."""


@dataclass(frozen=True)
class Serving:
    """One model behind its names. Made once, when the application is; nobody changes it."""

    engine: AsyncEngine
    settings: ServerSettings
    names: tuple[str, ...]
    """The names the model is served under; answers carry the first."""
    root: str
    """Where the model came from, as it was asked for."""
    text: Renderer | None
    """Turns requests into prompts; None when the server runs without a tokenizer."""
    answers: Answers | None
    """Says how answers are read; None when the server runs without a tokenizer."""
    started: int
    """When the model was first served, in seconds since 1970."""
    siblings: Siblings
    """Who answers for the same engine, this process among them."""
    closing: Closing = field(default_factory=Closing)
    """Whether the server is about to end."""

    @property
    def renderer(self) -> Renderer:
        """What turns requests into prompts. RequestError on a server without a tokenizer."""
        return _or_refuse(self.text)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. RequestError on a server without one."""
        return _or_refuse(self.engine.tokenizer)

    def check_model(self, request: ServedRequest) -> None:
        """ModelNotFound unless the request names no model, or one that is served here."""
        if request.model and request.model not in self.names:
            raise self.not_served(request.model)

    def not_served(self, model: str) -> ModelNotFound:
        """What is wrong with asking for this model."""
        return ModelNotFound(f"There is no model {shown(model)} here, but {', '.join(self.names)}.", param="model")

    def admit(self, request: ServedRequest, http: Request) -> tuple[str, ...]:
        """Refuse what the request's fields forbid; return a sentence for each field that goes without effect.

        ShuttingDown once the server is about to end.
        """
        self.closing.check()
        deadline_of(http, self.settings.request_timeout, 0.0)  # which is refused before anything is rendered
        if isinstance(request, ChatCompletionRequest | CompletionRequest) and request.user:
            name_user(http, request.user)
        self.check_model(request)
        try:
            check_limits(request)
        except LimitError as error:
            raise RequestError(str(error), param=error.param) from error
        if isinstance(request, CompletionRequest):
            check_answers(request.prompt_count, request.n)
        strict = handles_strictly(http)
        unknown = judged(strangers(request, self.engine.decisions.xargs), self.settings.unknown_fields, strict=strict)
        refuse_fields_not_built(request)
        unread: list[str] = []
        if self.text is not None and isinstance(request, ChatCompletionRequest | TokenizeChatRequest):
            unread = self.text.unread(request)
        return unknown + report_fields_without_effect(
            request,
            self.engine.tokenizer,
            unread=unread,
            strict=strict,
            forces_usage=self.settings.enable_force_include_usage,
            reads_calls=self.answers is None or self.answers.tools is not None,
            tells_reasoning=self.answers is None or self.answers.reasoning is not None,
        )

    def heading(self, prefix: str, request_id: str, warnings: tuple[str, ...]) -> Heading:
        """How the answer to a request begins."""
        return Heading(f"{prefix}-{request_id}", int(time.time()), self.names[0], self.fingerprint, warnings)

    @cached_property
    def fingerprint(self) -> str:
        """Names this version and what it runs, as `system_fingerprint`."""
        decisions = self.engine.decisions
        told = f"{decisions.model_path} {decisions.dtype} {decisions.device} {decisions.attention_backend}"
        return f"quire-{__version__}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    async def submit(self, prompt: GenerateRequest, http: Request, own_id: str) -> RequestOutputs:
        """Have the engine answer a prompt, on the terms of who asks and under the id that the client knows."""
        account = account_of_this_request()
        arrived = time.monotonic() if account is None else account.began
        terms = caller_of(http).terms(deadline_of(http, self.settings.request_timeout, arrived))
        return await self.engine.submit(prompt.model_copy(update={"request_id": own_id}), terms)

    async def submit_all(self, prompts: Sequence[GenerateRequest], http: Request, own_id: str) -> list[RequestOutputs]:
        """Submit every prompt, or none: when one is refused, those before it end."""
        async with AsyncExitStack() as stack:
            outputs = []
            for place, each in enumerate(prompts, 1):
                outputs.append(await stack.enter_async_context(await self.submit(each, http, own_id)))
                if place % AT_A_TIME == 0:
                    await asyncio.sleep(0)  # a body may have thousands, and others wait for tokens meanwhile
            stack.pop_all()
        return outputs


def _or_refuse(part: T | None) -> T:
    if part is None:
        raise RequestError(
            "This server runs without a tokenizer (--skip-tokenizer-init): send token ids to /inference/v1/generate."
        )
    return part


async def serving(request: Request) -> Serving:
    """The application's Serving."""
    found: Serving = request.app.state.serving
    return found


ServingDep = Annotated[Serving, Depends(serving)]


async def admin_only(http: HTTPConnection, serving: ServingDep) -> None:
    """Refuse whoever brings no admin key: with 401 a request without a key, else with 403."""
    caller = caller_of(http)
    if caller.is_admin:
        return
    if not serving.settings.admin_key:
        raise HTTPException(HTTPStatus.FORBIDDEN, "This route is closed: start the server with --admin-key to open it.")
    if caller is ANYONE:
        raise HTTPException(HTTPStatus.UNAUTHORIZED, NEEDS_ADMIN, WANTS_KEY)
    raise HTTPException(HTTPStatus.FORBIDDEN, NEEDS_ADMIN)


NEEDS_ADMIN = "This route needs an admin key: send it as `Authorization: Bearer <key>`."


_IN_GENERATE = {
    **{each.name: f"sampling_params.{each.name}" for each in fields(SamplingParams)},
    "prompt": "token_ids",
    "use_beam_search": "beam_search",
    "length_penalty": "beam_search.length_penalty",
}
"""Where a GenerateRequest has what the engine speaks of."""


@contextmanager
def in_fields_of(request: ServedRequest) -> Iterator[None]:
    """Within, a RequestError that names a field of what the engine speaks names the request's own field instead."""
    own: dict[str, str] = {}
    if isinstance(request, GenerateRequest):
        own = _IN_GENERATE
    elif isinstance(request, ChatCompletionRequest):
        own = {"prompt": "messages", "logprobs": "top_logprobs", "bad_words_token_ids": "bad_words"}
        if request.max_completion_tokens is not None:
            own["max_tokens"] = "max_completion_tokens"
    try:
        yield
    except RequestError as error:
        if error.param is None or error.param not in own:
            raise
        name, message = own[error.param], str(error)
        if message.startswith(f"{error.param} "):
            message = name + message.removeprefix(error.param)
        raise type(error)(message, param=name) from error


def request_id(http: Request, body_id: str) -> str:
    """The id of a request: its X-Request-Id header's, else its body's, which the answer's header then carries too."""
    if http.state.request_id_given:
        return str(http.state.request_id)
    if REQUEST_ID.fullmatch(body_id):  # a body may hold what no header may: line ends, for one
        http.state.request_id = body_id
        REQUEST.set(body_id)
    return body_id


async def rendered(work: Callable[[R], T], request: R, http: Request) -> T:
    """What a Renderer makes of a request: at once where that is little work, else in a thread."""
    if len(await http.body()) <= SHORT_BODY and is_quick(request):
        return work(request)
    return await off_loop(work, request)


def is_quick(request: ChatCompletionRequest | CompletionRequest | GenerateRequest) -> bool:
    """Whether rendering takes no longer than the length of the body says: for one prompt, and nothing to compile."""
    if isinstance(request, CompletionRequest) and request.prompt_count > 1:
        return False
    asked = request.sampling_params if isinstance(request, GenerateRequest) else request
    return not any(getattr(asked, field, None) for field in _SLOW)


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread: templates and tokenizers may take long, and must not hold up everybody's streams."""
    return await asyncio.to_thread(work, *args, **kwargs)
