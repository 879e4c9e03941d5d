"""From a checkpoint folder to a transformers model on its device. It knows files and dtypes, no requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from quire_engine.errors import ModelNotSupported
from quire_engine.model.spec import DTYPES, ModelSpec


def load_model(
    spec: ModelSpec, *, dtype: str, device: torch.device, trust_remote_code: bool, progress: bool
) -> PreTrainedModel:
    """The model in eval mode, weights from safetensors only, none of them missing or made up."""
    with quiet(progress):
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                spec.path,
                dtype=DTYPES[dtype],
                attn_implementation="eager",  # what the proof compares with; the seam takes over afterwards
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # so that they are reported like missing ones, and refused below
                output_loading_info=True,
            )
        except Exception as error:  # safetensors, transformers and a model's own code each have their own
            reason = " ".join(str(error).split())
            raise ModelNotSupported(f"{spec.architecture} cannot be loaded from {spec.path}: {reason}") from error
    model, info = loaded
    _require_every_weight(spec, info)
    return cast(PreTrainedModel, model.requires_grad_(False).to(device))


def _require_every_weight(spec: ModelSpec, info: dict[str, Any]) -> None:
    """transformers makes up weights that a checkpoint lacks; an answer from made-up weights is a wrong answer."""
    for problem in ("missing_keys", "mismatched_keys"):
        names = sorted(name if isinstance(name, str) else str(name[0]) for name in info[problem])
        if names:
            raise ModelNotSupported(
                f"{spec.path} does not hold all of {spec.architecture}: {len(names)} {problem.replace('_', ' ')}, "
                f"first {names[0]!r}; is the download complete, and is it a causal language model?"
            )


@contextmanager
def quiet(progress: bool) -> Iterator[None]:
    """transformers' own bar when one is asked for; no advice meant for people who train."""
    verbosity, had_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    _show_bar(progress)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        _show_bar(had_bar)


def _show_bar(shown: bool) -> None:
    switch: Callable[[], None] = (
        transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar
    )
    switch()
