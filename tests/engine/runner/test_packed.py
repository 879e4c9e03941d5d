"""Loading on a CPU: products are packed where that changes nothing, and rounded where that was asked for."""

from __future__ import annotations

import pytest
import torch
from tests.support.families import Family, save
from tests.support.requests import submission
from tests.support.schedules import roomy_config
from torch import nn

from quire_engine.engine import Engine
from quire_engine.errors import ConfigError
from quire_engine.model import packing
from quire_engine.runner.packed import settle_quantization
from quire_kernels.linear import is_native

pytestmark = pytest.mark.skipif(not is_native(), reason="quire-kernels was installed without its CPU library")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(Family("llama"), tmp_path_factory.mktemp("llama")))


def answer(engine: Engine) -> list[int]:
    engine.add(submission(0, list(range(20)), max_tokens=6))
    return [token for _ in range(9) for emission in engine.step() for token in emission.token_ids]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rounded_weights_answer_and_say_what_they_cost(checkpoint: str, kind: str, native: bool) -> None:
    engine = Engine.load(roomy_config(model=checkpoint, quantization=kind, native=native))
    quantized = engine.decisions.quantized
    assert quantized is not None
    assert quantized.kind == kind
    assert 0 < quantized.distance < 0.5
    assert 0 < quantized.agreement <= 1
    assert 0 < quantized.nbytes < quantized.weights * 4  # tiny rows are padded to 64
    assert len(answer(engine)) == 6
    engine.close()


def test_nothing_is_rounded_unless_it_is_asked_for(checkpoint: str) -> None:
    engine = Engine.load(roomy_config(model=checkpoint, native=False))
    assert engine.decisions.quantized is None
    assert not [note for note in engine.decisions.notes if "packed" in note]
    engine.close()


def test_a_model_that_reads_its_weights_itself_keeps_torchs_products(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Engine.load(roomy_config(model=checkpoint, native=False))
    wanted = answer(plain)
    plain.close()
    monkeypatch.setattr(packing.PackedProduct, "forward", lambda self, x: nn.functional.linear(x, self.weight))
    engine = Engine.load(roomy_config(model=checkpoint, native=False))
    assert [note for note in engine.decisions.notes if "reads the weights itself" in note]
    assert answer(engine) == wanted
    engine.close()
    with pytest.raises(ConfigError, match="quantization is int8, but LlamaForCausalLM reads the weights"):
        Engine.load(roomy_config(model=checkpoint, quantization="int8", native=False))


def test_other_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="quantization is int4, which is the CPU's"):
        settle_quantization("int4", torch.device("cuda"))


def test_without_the_library_rounding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quire_engine.runner.packed.is_native", lambda: False)
    with pytest.raises(ConfigError, match="int8, which is the CPU library's"):
        settle_quantization("int8", torch.device("cpu"))
