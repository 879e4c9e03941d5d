"""SIGHUP has everything read again, and ends nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from quire_server.reread import Reread


def test_the_signal_has_everybody_read_again() -> None:
    read: list[str] = []

    async def scenario() -> None:
        reread, done = Reread(), asyncio.Event()
        for name in ("keys", "certificate"):
            reread.add(lambda name=name: read.append(name))  # type: ignore[misc]
        reread.add(done.set)
        with reread.on_signal():
            os.kill(os.getpid(), signal.SIGHUP)
            await done.wait()

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert read == ["keys", "certificate"]


def test_where_there_is_nothing_to_read_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Reread()()
    assert "nothing to read again" in caplog.text
