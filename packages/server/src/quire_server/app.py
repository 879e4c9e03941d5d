"""The application: an engine and settings become routes, middleware and error answers. Only `serve` imports this."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from quire_engine.async_engine import AsyncEngine
from quire_engine.text.answers import Answers
from quire_engine.text.template import Renderer
from quire_protocol.base import random_uuid
from quire_server.__about__ import __version__
from quire_server.access import AccessLog, log_request
from quire_server.accounts import Accounts, Reader, note_outputs
from quire_server.dependencies import Serving, admin_only
from quire_server.errors import Unforeseen, install_error_answers
from quire_server.formats import answers_of
from quire_server.hosts import Hosts
from quire_server.kept import KeptAnswers
from quire_server.keys import Keys
from quire_server.ledger import EngineLedger, HttpLedger
from quire_server.metrics import engine_table, registry_of
from quire_server.middleware import PUBLIC_PATHS, USER_HEADER, AnswerHeaders, BodyLimit, Guard, RequestIds
from quire_server.resume import REPLAYED, Resume
from quire_server.routes import ADMIN, routers
from quire_server.settings import ServerSettings
from quire_server.siblings import Alone, Company
from quire_server.streams import WARNINGS_HEADER
from quire_server.tracing import Tracer

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

EXPOSED = (
    "X-Request-Id",
    "Retry-After",
    "x-should-retry",
    "Server-Timing",
    WARNINGS_HEADER,
    USER_HEADER,
    "Preference-Applied",
    REPLAYED,
)
"""Headers of answers that the scripts of an allowed origin may read."""

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own tells of every request once more, where a process has OpenTelemetry set up."""


def build_app(settings: ServerSettings, new_name: Callable[[], str] = random_uuid) -> FastAPI:
    """An ASGI application that answers once `attach` has given it an engine; built apart, while the engine loads.

    `new_name` names each answer that is kept.
    """
    counted, keys = HttpLedger(), settings.read_keys()
    readers: list[Reader] = [counted]
    if settings.logs_access:
        readers.append(AccessLog(frozenset(settings.disable_access_log_for_endpoints)))
    app = FastAPI(
        title="Quire",
        version=__version__,
        description="The OpenAI API, served by Quire.",
        middleware=middleware(settings, readers, keys, kept_by(settings, new_name)),
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,  # it would answer with whatever Host a request names
        openapi_url=None if settings.disable_fastapi_docs else "/openapi.json",
    )
    app.state.registry = registry_of(counted)
    app.state.keys = keys
    app.state.readers = readers
    install_error_answers(app)
    for router in routers(settings):
        app.include_router(router)
    for router in ADMIN:
        app.include_router(router, dependencies=[Depends(admin_only)])
    build_schemas(app)
    return app


def attach(
    app: FastAPI, engine: AsyncEngine, settings: ServerSettings, model_name: str, company: Company = Alone
) -> Serving:
    """Let the application answer for this engine. `model_name` is what its model is called unless named otherwise.

    `company` says who else does. The engine stays the caller's: it is neither started nor closed here. ConfigError if
    the settings contradict it.
    """
    answers = None if engine.tokenizer is None else answers_of(engine.tokenizer, settings, engine.decisions)
    app.state.serving = serving = Serving(
        engine=engine,
        settings=settings,
        names=settings.names(model_name),
        root=model_name,
        text=renderer(engine, settings, answers),
        answers=answers,
        started=int(time.time()),
        siblings=company(engine, app.state.registry),
    )
    watch(app, engine, settings, serving.names[0])
    return serving


def build_schemas(app: FastAPI) -> None:
    """Build every schema now, rather than while the first request waits."""
    with warnings.catch_warnings():
        # FastAPI gives each body an alias, which pydantic finds without effect where the body is a union.
        warnings.filterwarnings("ignore", message="The 'alias' attribute")
        app.openapi()


def watch(app: FastAPI, engine: AsyncEngine, settings: ServerSettings, model: str) -> None:
    """Count, log and trace what becomes of this engine's requests. `model` is the name it is served under."""
    told = (note_outputs, log_request) if settings.enable_log_requests else (note_outputs,)
    engine.observer = ledger = EngineLedger(engine, told)
    app.state.readers.append(ledger.answered)
    app.state.registry.register(engine_table(ledger, model))
    if settings.otlp_traces_endpoint is not None:
        app.state.readers.append(Tracer.to(settings.otlp_traces_endpoint, model))


def kept_by(settings: ServerSettings, new_name: Callable[[], str]) -> KeptAnswers:
    """What this process may keep: of several that answer for one engine, each has its share."""
    share = settings.api_server_count
    most, most_bytes = max(settings.max_kept_answers // share, 1), settings.max_kept_bytes // share
    return KeptAnswers(settings.stream_grace, most, most_bytes, new_name)


def middleware(settings: ServerSettings, readers: list[Reader], keys: Keys, kept: KeptAnswers) -> list[Middleware]:
    """What a request passes, from the outside in."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=settings.allowed_methods,
        allow_headers=settings.allowed_headers,
        allow_credentials=settings.allow_credentials,
        expose_headers=EXPOSED,
    )
    public_paths = PUBLIC_PATHS.union(settings.public_paths)
    hosts = Hosts(settings.allowed_hosts) if settings.minds_hosts else None
    return [
        Middleware(Accounts, readers=readers, tells_metrics=settings.enable_per_request_metrics),
        Middleware(RequestIds),
        *([cors] if settings.allowed_origins else []),
        Middleware(AnswerHeaders),
        Middleware(Unforeseen),
        Middleware(Guard, keys=keys, public_paths=public_paths, hosts=hosts),
        Middleware(BodyLimit, limit=settings.max_body_bytes, patience=settings.timeout_body),
        *([Middleware(Resume, kept=kept)] if settings.stream_grace else []),
    ]


def renderer(engine: AsyncEngine, settings: ServerSettings, answers: Answers | None) -> Renderer | None:
    """What turns requests into prompts, with the settings' chat template; None for an engine without a tokenizer."""
    if engine.tokenizer is None:
        return None
    return Renderer(
        engine.tokenizer,
        engine.decisions,
        chat_template=settings.read_chat_template(),
        trust_request_chat_template=settings.trust_request_chat_template,
        hides_idle_tools=settings.exclude_tools_when_tool_choice_none,
        answers=answers,
    )
