"""How the engine's process ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit
from quire_engine.link.child import leave
atexit.register(lambda: leave(3))
atexit.register(lambda: print("the last word", end=""))
"""


def test_a_process_that_is_not_taken_apart_still_calls_who_asked_for_it_and_writes_what_was_printed() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("the last word", "", 3)
