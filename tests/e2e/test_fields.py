"""Every field of the generating requests, on a real server: it takes effect, is refused by name, or is reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tools.fields.matrix import FINE, Matrix, own_servers
from tools.fields.probes import ROUTES, Facts, probes

import quire_protocol

NAMES = [(probe.request, probe.field) for probe in probes(Facts("", "text", [0] * 4, "text", [0] * 4, 0, 0, [0]))]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with own_servers() as (url, steered), closing(Matrix(url, steered=steered)) as each:
        yield each


def test_every_field_has_one_probe() -> None:
    fields = [(request, field) for request in ROUTES for field in getattr(quire_protocol, request).model_fields]
    assert sorted(NAMES) == sorted(fields)


@pytest.mark.parametrize(("request_name", "field"), NAMES, ids=map(".".join, NAMES))
def test_a_field_is_honoured_refused_or_reported(matrix: Matrix, request_name: str, field: str) -> None:
    verdict = matrix.judge(matrix.probe(request_name, field))
    assert verdict.kind in FINE, verdict.evidence


@pytest.mark.parametrize(("request_name", "field"), NAMES, ids=map(".".join, NAMES))
def test_the_probe_would_see_it_if_the_field_were_dropped(matrix: Matrix, request_name: str, field: str) -> None:
    probe = matrix.probe(request_name, field)
    verdict = matrix.judge(probe, probe.dropped_body)
    assert verdict.kind != "honoured"


@pytest.mark.parametrize("request_name", ["CompletionRequest", "ChatCompletionRequest"])
@pytest.mark.parametrize("field", ["logits_processors", "vllm_xargs"])
def test_installed_code_is_seen_at_work(matrix: Matrix, request_name: str, field: str) -> None:
    assert matrix.judge(matrix.probe(request_name, field)).kind == "honoured"
