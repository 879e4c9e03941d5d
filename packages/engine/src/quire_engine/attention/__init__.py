"""The attention backends by name. To add one: write its file, and one line here."""

from __future__ import annotations

from quire_engine.attention.base import AttentionBackend, Layout
from quire_engine.attention.paged import InvariantPagedBackend, PagedBackend

BACKENDS: tuple[type[AttentionBackend], ...] = (PagedBackend, InvariantPagedBackend)

__all__ = ["BACKENDS", "AttentionBackend", "InvariantPagedBackend", "Layout"]
