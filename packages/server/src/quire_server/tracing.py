"""A span for each request that generates, sent to an OpenTelemetry collector; only this module knows OpenTelemetry.

Names are those of OpenTelemetry's semantic conventions for generative AI, and vLLM's for how long the parts took. A
span goes under the client's own, where the request brings `traceparent`. What OpenTelemetry's environment variables say
(sampler, headers, resource) holds here too. Prompts and answers are never part of a span.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from quire_engine.errors import ConfigError
from quire_engine.timing import Timing
from quire_protocol import SamplingParams
from quire_server.__about__ import __version__
from quire_server.accounts import Account

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/inference/v1/generate": "text_completion",
}
"""Routes that generate, with what the conventions call it."""

_NEEDED = "--otlp-traces-endpoint needs OpenTelemetry, which is not installed: pip install 'quire-server[otel]'."


class Tracer:
    """Sends a span for each request that generates. A Reader of accounts; closed, or at exit, it sends what is left."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        """`model` is the name that the model is served under."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("quire_server", __version__)
        self._callers = TraceContextTextMapPropagator()
        self._model = model

    @classmethod
    def to(cls, endpoint: str, model: str) -> Tracer:
        """A tracer that sends to this URL, in batches, by OTLP over HTTP. ConfigError without OpenTelemetry."""
        check_tracing(endpoint)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        own = Resource.create({SERVICE_NAME: "quire", SERVICE_VERSION: __version__})
        provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        return cls(provider, model)

    def __call__(self, account: Account) -> None:
        """Send one request's span, once it is over."""
        operation = OPERATIONS.get(account.route)
        if operation is None:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        span = self._tracer.start_span(
            f"{operation} {self._model}",
            context=self._callers.extract(dict(account.headers)),
            kind=SpanKind.SERVER,
            start_time=account.began_at,
            attributes={**_of_request(account, operation, self._model), **_of_answer(account, self._model)},
        )
        timing = account.timing
        for name, moment in _events(timing).items():
            span.add_event(name, timestamp=account.wall_clock(moment))
        if account.status >= HTTPStatus.INTERNAL_SERVER_ERROR or account.has_failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(account.wall_clock(account.began + account.total))

    def close(self) -> None:
        """Send what has not been sent yet, for some seconds at most."""
        self._provider.shutdown()


def check_tracing(endpoint: str) -> None:
    """ConfigError unless spans can be sent to this URL."""
    if not endpoint.startswith(("http://", "https://")):
        reason = "it must be a URL for OTLP over HTTP, such as http://localhost:4318/v1/traces"
        raise ConfigError(f"--otlp-traces-endpoint {endpoint} cannot be used: {reason}.")
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise ConfigError(_NEEDED) from error


def _of_request(account: Account, operation: str, model: str) -> dict[str, Any]:
    """What was asked for."""
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "quire",
        "gen_ai.request.model": model,
        "http.request.method": account.method,
        "http.route": account.route,
        "gen_ai.request.id": account.request_id,
    }
    if account.caller:
        told["user.name"] = account.caller
    if account.outputs:
        told |= _of_params(account.outputs[0].request.sampling_params)
    return told


def _of_params(params: SamplingParams) -> dict[str, Any]:
    """How tokens are drawn, as far as the request or the model's defaults say."""
    told: dict[str, Any] = {
        "gen_ai.request.choice.count": params.n,
        "gen_ai.request.n": params.n,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k or None,
        "gen_ai.request.frequency_penalty": params.frequency_penalty or None,
        "gen_ai.request.presence_penalty": params.presence_penalty or None,
        "gen_ai.request.seed": params.seed,
    }
    return {name: value for name, value in told.items() if value is not None}


def _of_answer(account: Account, model: str) -> dict[str, Any]:
    """What came of it."""
    told: dict[str, Any] = {"http.response.status_code": account.status}
    if account.status >= HTTPStatus.BAD_REQUEST or account.has_failed or account.reason is not None:
        status = max(account.status, HTTPStatus.INTERNAL_SERVER_ERROR) if account.has_failed else account.status
        told["error.type"] = account.reason or str(int(status))
    timing = account.timing
    if timing is None:
        return told
    told |= {
        "gen_ai.response.model": model,
        "gen_ai.response.id": account.request_id,
        "gen_ai.response.finish_reasons": [
            reason for each in account.outputs for _, reason in sorted(each.finish_reasons.items())
        ],
        "gen_ai.usage.input_tokens": timing.prompt_tokens,
        "gen_ai.usage.output_tokens": timing.generation_tokens,
        "gen_ai.usage.cache_read.input_tokens": timing.cached_tokens,
        "gen_ai.latency.time_in_queue": timing.queued,
        "gen_ai.latency.time_to_first_token": timing.to_first_token,
        "gen_ai.latency.time_in_model_prefill": timing.prefill,
        "gen_ai.latency.time_in_model_decode": timing.decode,
        "gen_ai.latency.e2e": timing.total,
    }
    return {name: value for name, value in told.items() if value is not None}


def _events(timing: Timing | None) -> dict[str, float]:
    """Moments of a request, in seconds of time.monotonic()."""
    if timing is None:
        return {}
    moments = {
        "quire.queued": timing.arrived,
        "quire.scheduled": timing.scheduled,
        "quire.first_token": timing.first_token,
        "quire.last_token": timing.last_token,
    }
    return {name: moment for name, moment in moments.items() if moment is not None}
