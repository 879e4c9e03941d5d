"""Ways to start an engine without a model at the other end of a link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from tests.support import scripted

from quire_engine.link.base import Link
from quire_engine.link.process import ProcessLink
from quire_engine.link.thread import ThreadLink

Start = Callable[..., Awaitable[Link]]


def in_a_process(load: str = "load_scripted") -> Start:
    """In a process of its own."""
    return partial(ProcessLink.start, factory=f"tests.support.scripted:{load}")


def in_a_thread(load: str = "load_scripted") -> Start:
    """In a thread of this process."""
    return partial(ThreadLink.start, factory=getattr(scripted, load))


each_kind = pytest.mark.parametrize("kind", [in_a_process, in_a_thread])
