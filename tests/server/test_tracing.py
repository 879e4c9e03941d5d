"""Each request that generates is a span at an OpenTelemetry collector, under its client's own."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest
from tests.support.processes import quire_serve
from tests.support.served import Api, Served

from quire_engine.errors import ConfigError
from quire_server.tracing import OPERATIONS, Tracer, check_tracing

ASK = {"prompt": "Hello", "max_tokens": 3, "temperature": 0.5, "seed": 7, "ignore_eos": True}

needs_opentelemetry = pytest.mark.skipif(
    find_spec("opentelemetry.sdk") is None if find_spec("opentelemetry") else True,
    reason="needs the extra quire-server[otel]",
)


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, and keeps them."""

    daemon_threads = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def spans(self) -> list[Any]:
        """Every span that came so far."""
        return [span for resource in self._resources() for scope in resource.scope_spans for span in scope.spans]

    def service(self) -> dict[str, Any]:
        """What the sender says of itself."""
        return _attributes(self._resources()[0].resource)

    def _resources(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [each for body in self.bodies for each in ExportTraceServiceRequest.FromString(body).resource_spans]


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def traced(engine: Served, collector: Collector) -> Api:
    return engine.api(otlp_traces_endpoint=collector.endpoint)


def sent(api: Api, collector: Collector) -> list[Any]:
    """The spans, once the application has sent all it has."""
    for reader in api.app.state.readers:
        if isinstance(reader, Tracer):
            reader.close()
    return collector.spans()


def _attributes(of: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        found = getattr(value, kind)
        return [plain(each) for each in found.values] if kind == "array_value" else found

    return {each.key: plain(each.value) for each in of.attributes}


@needs_opentelemetry
def test_an_answer_is_a_span_with_what_was_asked_and_what_it_took(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    answer = api.request("POST", "/v1/completions", json=ASK, headers={"X-Request-Id": "my-own"})
    (span,) = sent(api, collector)
    told = _attributes(span)
    assert span.name == "text_completion tiny"
    assert told["gen_ai.operation.name"] == "text_completion"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "tiny"
    assert (told["gen_ai.request.max_tokens"], told["gen_ai.request.temperature"]) == (3, 0.5)
    assert told["gen_ai.request.seed"] == 7
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert told["gen_ai.usage.output_tokens"] == 3
    assert told["gen_ai.usage.input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert told["gen_ai.request.id"] == "my-own"
    assert told["http.response.status_code"] == 200
    assert told["gen_ai.latency.time_to_first_token"] > 0


@needs_opentelemetry
def test_its_moments_are_in_order_within_it(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    api.post("/v1/completions", **ASK)
    (span,) = sent(api, collector)
    moments = [event.time_unix_nano for event in span.events]
    assert [event.name for event in span.events] == [
        "quire.queued",
        "quire.scheduled",
        "quire.first_token",
        "quire.last_token",
    ]
    assert [span.start_time_unix_nano, *moments, span.end_time_unix_nano] == sorted(
        [span.start_time_unix_nano, *moments, span.end_time_unix_nano]
    )


@needs_opentelemetry
def test_it_stands_under_the_span_that_its_client_names(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    api.request("POST", "/v1/completions", json=ASK, headers={"traceparent": f"00-{trace}-{parent}-01"})
    (span,) = sent(api, collector)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)


@needs_opentelemetry
def test_a_client_that_does_not_trace_gets_no_span(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    api.request("POST", "/v1/completions", json=ASK, headers={"traceparent": header})
    assert sent(api, collector) == []


@needs_opentelemetry
def test_a_refusal_is_a_span_with_its_status(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    api.refusal("/v1/completions", prompt="Hello", max_tokens=-1)
    (span,) = sent(api, collector)
    assert (_attributes(span)["http.response.status_code"], _attributes(span)["error.type"]) == (400, "400")


@needs_opentelemetry
def test_other_routes_are_no_spans(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    for path in ("/v1/models", "/health", "/metrics", "/nowhere"):
        api.get(path)
    assert sent(api, collector) == []


@needs_opentelemetry
def test_prompts_and_answers_are_in_no_span(engine: Served, collector: Collector) -> None:
    api = traced(engine, collector)
    text = api.post("/v1/completions", **ASK | {"prompt": "Rumpelstiltskin", "max_tokens": 12})["choices"][0]["text"]
    sent(api, collector)
    everything = b"".join(collector.bodies)
    assert b"Rumpelstiltskin" not in everything
    assert text.encode() not in everything


@needs_opentelemetry
def test_the_sender_is_called_as_the_environment_says(
    engine: Served, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-service")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    api = traced(engine, collector)
    api.post("/v1/completions", **ASK)
    sent(api, collector)
    told = collector.service()
    assert (told["service.name"], told["deployment.environment.name"]) == ("my-service", "staging")


def test_the_framework_adds_no_spans_of_its_own(engine: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    asked: list[Any] = []

    class Global(trace.TracerProvider):  # type: ignore[misc, name-defined]
        def get_tracer(self, *names: Any, **options: Any) -> Any:
            asked.append(names)
            return trace.NoOpTracer()

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Global())
    assert engine.api().get("/health").status_code == 200
    assert not asked


def test_every_operation_is_a_route(api: Api) -> None:
    assert OPERATIONS.keys() <= api.get("/openapi.json").json()["paths"].keys()


@needs_opentelemetry
def test_a_server_sends_what_is_left_when_it_stops(collector: Collector) -> None:
    with quire_serve("--served-model-name", "tiny", "--otlp-traces-endpoint", collector.endpoint) as server:
        body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}).encode()
        request = urllib.request.Request(
            f"{server.address}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).read()
    assert [span.name for span in collector.spans()] == ["chat tiny"]


def test_without_opentelemetry_the_flag_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )  # as if it were not installed
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'quire-server\[otel\]'"):
        check_tracing("http://localhost:4318/v1/traces")


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="--otlp-traces-endpoint localhost:4317 cannot be used: it must be a URL"):
        check_tracing("localhost:4317")
