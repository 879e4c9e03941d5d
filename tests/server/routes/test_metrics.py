"""GET /metrics: what Prometheus is told, under the names that dashboards ask for."""

from __future__ import annotations

import math

import pytest
from tests.support.scraped import of, scraped
from tests.support.served import Api, Served

from quire_server.metrics import ENGINE_METRICS, HTTP_METRICS, NOT_HERE

ASK = {"prompt": "Hello", "max_tokens": 6, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def fresh(engine: Served) -> Api:
    """An application that has counted nothing yet."""
    return engine.api()


@pytest.fixture(scope="module")
def told(engine: Served) -> str:
    """All that is told after one answer."""
    api = engine.api()
    api.post("/v1/completions", **ASK)
    answer: str = api.get("/metrics").text
    return answer


@pytest.mark.parametrize("name", [entry.name for entry in (*ENGINE_METRICS, *HTTP_METRICS)])
def test_every_metric_of_the_table_is_given(told: str, name: str) -> None:
    assert f"\n{name}" in told


def test_engine_metrics_name_the_model_and_the_engine(fresh: Api) -> None:
    names = {entry.name.removesuffix("_total") for entry in ENGINE_METRICS if entry.kind != "histogram"}
    for sample, labels in scraped(fresh):
        if sample.removesuffix("_total") in names:
            assert dict(labels).items() >= {"model_name": "tiny", "engine": "0"}.items()


def test_an_answer_is_counted(fresh: Api) -> None:
    prompt = len(fresh.post("/tokenize", prompt="Hello")["tokens"])
    fresh.post("/v1/completions", **ASK)
    assert of(fresh, "vllm:request_success_total", finished_reason="length") == 1
    assert of(fresh, "vllm:request_success_total", finished_reason="stop") == 0
    assert of(fresh, "vllm:request_prompt_tokens_sum") == prompt
    assert of(fresh, "vllm:request_generation_tokens_sum") == 6
    assert of(fresh, "vllm:request_params_max_tokens_sum") == 6
    assert of(fresh, "vllm:request_params_n_sum") == 1
    assert of(fresh, "vllm:e2e_request_latency_seconds_count") == 1
    assert of(fresh, "vllm:time_to_first_token_seconds_count") == 1
    assert of(fresh, "vllm:inter_token_latency_seconds_count") == 5
    assert of(fresh, "quire:tenant_generation_tokens_total", tenant="") == 6


def test_the_parts_of_a_request_add_up(fresh: Api) -> None:
    fresh.post("/v1/completions", **ASK)
    total = of(fresh, "vllm:e2e_request_latency_seconds_sum")
    queue, prefill, decode, inference = (
        of(fresh, f"vllm:request_{part}_time_seconds_sum") for part in ("queue", "prefill", "decode", "inference")
    )
    assert prefill + decode == pytest.approx(inference)
    assert queue + inference <= total
    assert min(queue, prefill, decode) > 0


def test_a_stop_string_ends_a_choice_with_stop(fresh: Api) -> None:
    text = fresh.post("/v1/completions", **ASK)["choices"][0]["text"]
    fresh.post("/v1/completions", **ASK, stop=text[len(text) // 2 :])
    assert of(fresh, "vllm:request_success_total", finished_reason="stop") == 1


def test_choices_are_counted_apart_and_their_prompt_once(fresh: Api) -> None:
    fresh.post("/v1/completions", **ASK, n=3)
    assert of(fresh, "vllm:request_success_total", finished_reason="length") == 3
    assert of(fresh, "vllm:request_params_n_sum") == 3
    assert of(fresh, "vllm:request_generation_tokens_sum") == 18
    assert of(fresh, "vllm:request_max_num_generation_tokens_sum") == 6
    assert of(fresh, "vllm:request_prompt_tokens_count") == 1


def test_counters_of_the_engine_only_rise(fresh: Api) -> None:
    before = {key: value for key, value in scraped(fresh).items() if key[0].endswith(("_total", "_count", "_bucket"))}
    fresh.post("/v1/completions", **ASK)
    after = scraped(fresh)
    assert [key for key, value in before.items() if after[key] < value] == []


def test_steps_and_their_tokens_are_counted(fresh: Api) -> None:
    steps, computed = of(fresh, "quire:engine_steps_total"), of(fresh, "quire:computed_tokens_total")
    fresh.post("/v1/completions", **ASK)
    assert of(fresh, "quire:engine_steps_total") - steps == of(fresh, "vllm:iteration_tokens_total_count") == 6
    assert of(fresh, "quire:computed_tokens_total") - computed == of(fresh, "vllm:iteration_tokens_total_sum")


def test_a_client_that_goes_away_is_counted_as_an_abort(fresh: Api, engine: Served) -> None:
    with engine.aborting(1):
        fresh.leave("/v1/completions", {**ASK, "max_tokens": 400, "stream": True}, after=2)
    assert of(fresh, "vllm:request_success_total", finished_reason="abort") == 1
    assert of(fresh, "quire:tokens_after_disconnect_total") <= 2


def test_http_requests_are_counted_by_method_status_and_route(fresh: Api) -> None:
    fresh.post("/v1/completions", **ASK)
    fresh.refusal("/v1/completions", prompt=7)
    fresh.get("/v1/models/tiny")
    assert of(fresh, "http_requests_total", method="POST", status="2xx", handler="/v1/completions") == 1
    assert of(fresh, "http_requests_total", method="POST", status="4xx", handler="/v1/completions") == 1
    assert of(fresh, "http_request_duration_seconds_count", method="POST", handler="/v1/completions") == 2
    assert of(fresh, "http_response_size_bytes_sum", handler="/v1/completions") > 100
    assert of(fresh, "http_request_duration_highr_seconds_count") == 3


def test_routes_are_counted_by_their_pattern_and_what_is_none_together(fresh: Api) -> None:
    fresh.get("/v1/models/tiny")
    fresh.get("/v1/models/another")
    for place in range(3):
        fresh.request("BREW" if place else "GET", f"/no/such/place/{place}")
    assert of(fresh, "http_requests_total", handler="/v1/models/{model:path}") == 2
    assert of(fresh, "http_requests_total", handler="none", method="other") == 2
    assert of(fresh, "http_requests_total", handler="none", method="GET") == 1


def test_scrapes_and_probes_are_not_counted(fresh: Api) -> None:
    for path in ("/health", "/livez", "/metrics"):
        fresh.get(path)
    assert "http_requests_total{" not in fresh.get("/metrics").text


def test_refusals_that_say_why_are_counted_by_that_word(fresh: Api) -> None:
    assert of(fresh, "quire:requests_refused_total", reason="queue_full") == 0


@pytest.mark.parametrize(
    "name",
    [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:num_preemptions_total",
        "vllm:request_success_total",
        "vllm:cache_config_info",
        "vllm:engine_sleep_state",
    ],
)
def test_what_autoscalers_ask_for_is_there_before_the_first_request(fresh: Api, name: str) -> None:
    assert not math.isnan(of(fresh, name))


def test_nothing_is_both_given_and_said_to_be_missing() -> None:
    given = {entry.name for entry in (*ENGINE_METRICS, *HTTP_METRICS)}
    missing = {word.strip("`").removesuffix("*") for names in NOT_HERE for word in names.split(", ")}
    assert [name for name in given if any(name.startswith(each) for each in missing)] == []


def test_openmetrics_is_given_to_those_who_ask_for_it(api: Api) -> None:
    answer = api.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_process_is_told_of_too(api: Api) -> None:
    assert of(api, "process_resident_memory_bytes") > 1e6
