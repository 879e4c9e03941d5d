from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.families import Family, save
from tests.support.requests import submission
from tests.support.schedules import roomy_config
from transformers import masking_utils

from quire_engine.engine import Engine


def test_no_mask_is_ever_built_while_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family("gemma3_text", {"head_dim": 16, "sliding_window": 6})
    engine = Engine.load(roomy_config(model=str(save(family, tmp_path))))

    def refuse(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("a mask was built")

    for name in ("sdpa_mask", "eager_mask", "flash_attention_mask", "flex_attention_mask"):
        monkeypatch.setattr(masking_utils, name, refuse)
    monkeypatch.setattr(
        masking_utils.AttentionMaskInterface,
        "_global_mapping",
        dict.fromkeys(masking_utils.AttentionMaskInterface._global_mapping, refuse),
    )
    engine.add(submission(0, list(range(20)), max_tokens=3))
    emissions = [emission for _ in range(4) for emission in engine.step()]
    assert [emission.error for emission in emissions] == [None] * 3
