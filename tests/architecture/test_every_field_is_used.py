"""Every field of a generating request is read by the code that serves it, or stands in the refusals table.

The list of fields not honoured yet is quire_server.refusals.REFUSALS: it may only shrink, so its size is held here.
"""

import ast

import pytest
from tests.architecture.source import modules

import quire_protocol
from quire_server.refusals import REFUSALS, REPORTS

REQUESTS = (
    "ChatCompletionRequest",
    "CompletionRequest",
    "GenerateRequest",
    "TokenizeCompletionRequest",
    "TokenizeChatRequest",
    "DetokenizeRequest",
)
HOLDERS = (
    "quire_engine",
    "quire_server",
    "quire_protocol.chat",
    "quire_protocol.completions",
    "quire_protocol.generate",
)


def read_names() -> set[str]:
    """Names of all attributes that the serving code loads."""
    return {
        node.attr
        for name, tree in modules().items()
        if name.startswith(HOLDERS) and name != "quire_server.refusals"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


FIELDS = [(model, field) for model in REQUESTS for field in getattr(quire_protocol, model).model_fields]


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=[f"{model}.{field}" for model, field in FIELDS])
def test_a_field_takes_effect_or_is_refused(model: str, field: str) -> None:
    assert field in read_names() or (model, field) in REFUSALS or (model, field) in REPORTS


def test_refusals_name_real_fields_and_give_a_reason() -> None:
    fields = {(model, field) for model in REQUESTS for field in getattr(quire_protocol, model).model_fields}
    assert {*REFUSALS, *REPORTS} <= fields
    assert all(len(str(reason)) > 20 for reason in (*REFUSALS.values(), *REPORTS.values()))
