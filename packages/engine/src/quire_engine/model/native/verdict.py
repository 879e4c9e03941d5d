"""Whether the native decoder serves a checkpoint, and if not, why: asked, remembered or proven. It loads no model."""

from __future__ import annotations

import struct
from pathlib import Path

from quire_engine.config import EngineConfig, cache_folder
from quire_engine.errors import ConfigError
from quire_engine.model.native.describe import NotDescribed
from quire_engine.model.native.memory import Known, key_of, recall, remember
from quire_engine.model.native.weights import Checkpoint
from quire_engine.model.spec import ModelSpec, read_config, read_json, read_sampling_defaults, read_spec
from quire_kernels.decoder import is_available

UNSTATED_CONTEXT = 2048
"""Context length at which to prove a model whose configuration states none."""

NO_LIBRARY = (
    "quire-kernels was installed without its CPU library (no C++ compiler, or not Linux on x86-64), so that ops run in "
    "plain torch, several times slower; with a compiler at hand, install quire-kernels anew"
)


def verdict(path: Path, config: EngineConfig) -> Known | str:
    """What is known of a checkpoint that is to be computed natively, or why it is not to be.

    ConfigError where `native` was asked for in vain.
    """
    found = _verdict(path, config)
    if config.native and isinstance(found, str):
        raise ConfigError(f"native is asked for, but cannot be had: {found}; without it transformers' model serves")
    return found


def _verdict(path: Path, config: EngineConfig) -> Known | str:
    if config.native is False:
        return "it was not asked for"
    if not is_available():
        return NO_LIBRARY
    if config.trust_remote_code and "auto_map" in read_json(path / "config.json"):
        return "the checkpoint brings code of its own"
    known = _known(path, config)
    if isinstance(known, str):
        return known
    if known.description is None:
        return known.reason
    if config.enable_prompt_embeds and not known.takes_embeds:
        return "prompts that are embeddings were not proven to be computed alike"
    return known


def spec_from(known: Known, path: Path, config: EngineConfig) -> ModelSpec:
    """What read_spec would say, from memory."""
    return ModelSpec(
        path,
        known.architecture,
        known.dtype,
        known.vocab_size,
        known.context,
        known.eos_token_ids,
        read_sampling_defaults(path, config.generation_config),
    )


def _known(path: Path, config: EngineConfig) -> Known | str:
    """Remembered, or proven now. A reason where not even that can be done."""
    folder = cache_folder(config) / "proofs"
    try:
        key = key_of(path)
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # transformers' way says what is wrong with them
        return "its files cannot be read"
    known = recall(folder, key)
    if known is None:
        known, is_final = _proven(path, config)
        if is_final:
            remember(folder, key, known)
    return known


def _proven(path: Path, config: EngineConfig) -> tuple[Known, bool]:
    """Read, describe, prove; and whether it would come to the same again. What cannot be served at all is refused."""
    from quire_engine.model.load import quiet
    from quire_engine.model.native.describe import describe
    from quire_engine.model.native.proof import prove_description
    from quire_engine.model.native.rope import rope_of

    with quiet(progress=False):
        spec = read_spec(path, config)
        description, takes_embeds, reason, is_final = None, False, "", True
        try:
            transformers_config = read_config(path)
            described = describe(transformers_config.to_dict(), rope_of(transformers_config))
            context = spec.context.tokens if spec.context else UNSTATED_CONTEXT
            takes_embeds = prove_description(described, transformers_config, Checkpoint(path), context=context)
            description = described
        except NotDescribed as error:
            reason = str(error)
        except Exception as error:  # a model's own code may fail in any way, or memory run short: the other way serves
            is_final = False
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    known = Known(
        spec.architecture,
        spec.dtype,
        spec.vocab_size,
        spec.context,
        spec.eos_token_ids,
        description,
        takes_embeds,
        reason,
    )
    return known, is_final
