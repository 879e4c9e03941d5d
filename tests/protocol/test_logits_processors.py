"""Names of logits processors lead to installed code that the server allows, and to nothing else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from quire_protocol import CompletionRequest, LogitsProcessorConstructor, get_logits_processors

MODULE = """
def halve(ids, logits):
    return logits / 2

class Scale:
    def __init__(self, by, *, offset=0):
        self.by, self.offset = by, offset

def broken():
    raise RuntimeError("no model for this")
"""
ENTRY_POINTS = """
[quire.logits_processors]
shop.halve = shop_processors:halve
shop.Scale = shop_processors:Scale
shop.broken = shop_processors:broken
shop.missing = shop_processors:missing
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers processors."""
    (tmp_path / "shop_processors.py").write_text(MODULE)
    metadata = tmp_path / "shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


def refusal_of(processors: list[str | LogitsProcessorConstructor], pattern: str | None) -> str:
    with pytest.raises(ValidationError) as refusal:
        get_logits_processors(processors, pattern)
    (error,) = refusal.value.errors()
    assert error["loc"] == ("logits_processors",)
    return error["msg"]


def test_no_processors_are_none() -> None:
    assert get_logits_processors(None, None) is None
    assert get_logits_processors([], r"shop\.") is None


def test_a_registered_and_allowed_name_is_the_callable() -> None:
    (processor,) = get_logits_processors(["shop.halve"], r"shop\.") or []
    assert processor([], 8) == 4


def test_a_constructor_is_called_with_its_arguments() -> None:
    asked = LogitsProcessorConstructor(qualname="shop.Scale", args=[3], kwargs={"offset": 1})
    (processor,) = get_logits_processors([asked], r"shop\.") or []
    assert (processor.by, processor.offset) == (3, 1)


def test_without_a_pattern_they_are_off() -> None:
    assert "--logits-processor-pattern" in refusal_of(["shop.halve"], None)


def test_a_name_that_the_pattern_does_not_match_is_refused() -> None:
    assert "does not allow" in refusal_of(["shop.halve"], "other")


def test_a_name_that_nobody_registered_is_never_imported() -> None:
    said = refusal_of(["os.system"], ".*")
    assert "no installed package registers" in said
    assert "shop.halve" in said


@pytest.mark.parametrize("name", ["shop.missing", "shop.broken"])
def test_a_processor_that_cannot_be_made_is_the_request_s_error(name: str) -> None:
    assert "could not be made" in refusal_of([LogitsProcessorConstructor(qualname=name)], ".*")


def test_a_constructor_knows_its_fields() -> None:
    with pytest.raises(ValidationError) as refusal:
        CompletionRequest(prompt="Hi", logits_processors=[{"qualname": "shop.Scale", "arguments": []}])
    (error,) = refusal.value.errors()
    assert error["loc"] == ("logits_processors", 0, "arguments")


def test_parameters_hold_names_and_arguments_so_that_they_can_be_sent_on() -> None:
    asked = ["shop.halve", {"qualname": "shop.broken", "kwargs": {"offset": 1}}]
    params = CompletionRequest(prompt="Hi", logits_processors=asked).to_sampling_params(16, r"shop\.")
    assert params.logits_processors == ("shop.halve", LogitsProcessorConstructor(**asked[1]))


@pytest.mark.parametrize(("name", "pattern"), [("shop.halve", None), ("shop.halve", "other"), ("os.system", ".*")])
def test_a_request_for_others_has_no_parameters(name: str, pattern: str | None) -> None:
    with pytest.raises(ValidationError, match="logits_processors"):
        CompletionRequest(prompt="Hi", logits_processors=[name]).to_sampling_params(16, pattern)
