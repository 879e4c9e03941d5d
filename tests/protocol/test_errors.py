"""The envelope of every error."""

from http import HTTPStatus

import pytest

from quire_protocol import ERROR_REASONS, ERROR_TYPES, ErrorInfo, ErrorResponse


def test_an_error_survives_json() -> None:
    info = ErrorInfo(message="n must be at least 1, got 0.", type="BadRequestError", param="n", code=400)
    body = ErrorResponse(error=info)
    assert ErrorResponse.model_validate_json(body.model_dump_json()) == body


def test_a_reason_is_told_where_there_is_one_and_else_left_out() -> None:
    fields = {"message": "The line is full.", "type": "RateLimitError", "param": None, "code": 429}
    assert ErrorInfo(**fields).model_dump() == fields
    told = ErrorInfo(**fields, reason="queue_full")
    assert told.model_dump() == {**fields, "reason": "queue_full"}
    assert ErrorInfo.model_validate_json(told.model_dump_json()) == told
    assert "reason" in ErrorInfo.model_json_schema(mode="serialization")["properties"]


def test_every_reason_is_a_word_and_a_sentence() -> None:
    assert all(word.replace("_", "").isalpha() and said.endswith(".") for word, said in ERROR_REASONS.items())


def test_every_type_belongs_to_one_status_that_is_an_error() -> None:
    assert len({*ERROR_TYPES.values()}) == len(ERROR_TYPES)
    assert all(400 <= HTTPStatus(status) < 600 for status in ERROR_TYPES)


def test_the_types_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ERROR_TYPES[418] = "TeapotError"  # type: ignore[index]
