"""Let schemathesis ask a real `quire serve` whatever its own OpenAPI document admits, and much that it does not.

usage: python -m tools.fuzz [--max-examples N] [--seed N] [further flags of `schemathesis run`]

Wanted is that no answer is a 5xx, and that the server is well and idle afterwards. The run is bounded: N examples (30)
for each route and way of making them. The server needs keys, which schemathesis is given, so that routes for
administration are asked too; sleeping and waking are left out, since others would wait for them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence

from tests.support.processes import quire_serve

KEY = "fuzz"
FLAGS = ("--dtype", "float32", "--api-key", KEY, "--admin-key", KEY, "--enable-tokenizer-info-endpoint")
LEFT_OUT = r"^/(sleep|wake_up)$"


def main(words: Sequence[str]) -> int:
    """Exit status: 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--max-examples", type=int, default=30)
    parser.add_argument("--seed", type=int, default=6)
    asked, further = parser.parse_known_args(words)
    with quire_serve(*FLAGS) as server:
        command = (
            *("schemathesis", "run", f"{server.address}/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {KEY}", "--exclude-path-regex", LEFT_OUT),
            *("--checks", "not_a_server_error", "--mode", "all", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(asked.max_examples), "--seed", str(asked.seed), "--request-timeout", "60"),
            *("--suppress-health-check", "all", *further),
        )
        status = subprocess.run(command, check=False).returncode
        load = told(f"{server.address}/load")
        print(f"afterwards: {load}, process {'gone' if server.process.poll() is not None else 'there'}")
        if server.process.poll() is not None or any(load.values()):
            return 1
    return status


def told(url: str) -> dict[str, int]:
    """What a route says."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, int] = json.load(answer)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
