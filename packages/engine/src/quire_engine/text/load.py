"""The text side of a configuration: which tokenizer belongs to it."""

from __future__ import annotations

from quire_engine.checkpoint import resolve
from quire_engine.config import EngineConfig
from quire_engine.text.tokenizer import Tokenizer


def load_tokenizer(config: EngineConfig) -> Tokenizer | None:
    """The tokenizer that `config` names, else the model's own; None if it wants none. ConfigError if it is no use."""
    if config.skip_tokenizer_init:
        return None
    trust = config.trust_remote_code
    if config.tokenizer is not None:
        return Tokenizer.load(config.tokenizer, revision=config.tokenizer_revision, trust_remote_code=trust)
    return Tokenizer.load(config.model or resolve(None), revision=config.revision, trust_remote_code=trust)
