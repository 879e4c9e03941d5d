"""Run a test's coroutine on an event loop of its own, within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that any one test may wait."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result; TimeoutError when patience ends."""
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))
