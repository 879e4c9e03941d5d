"""How long from exec to the first token: a real `quire serve` of the embedded default, asked once over HTTP.

usage: python benchmarks/startup.py [--runs N] [--model MODEL] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request

from results import machine, table, write

LIMIT = 6.0  # seconds, PERFORMANCE.md asks 3 once start-up is cached; the first landing asks 6


def first_token(model: list[str]) -> tuple[float, float]:
    """Seconds from exec to the ready line, and to the first streamed token."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "quire_server", "serve", *model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        url = next(line.split()[-1] for line in server.stdout if line.startswith("ready"))
        ready = time.perf_counter() - began
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "stream": True}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            next(line for line in answer if b'"delta"' in line and b'"role"' not in line)
        token = time.perf_counter() - began
        server.terminate()
        server.wait(timeout=30)
    return ready, token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", nargs="*", default=[])
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    runs = [first_token(options.model) for _ in range(options.runs)]
    ready, token = (statistics.median(column) for column in zip(*runs, strict=True))
    rows = [
        {"what": "exec to ready", "ours (s)": ready, "limit (s)": None},
        {"what": "exec to first token", "ours (s)": token, "limit (s)": LIMIT, "share of limit": token / LIMIT},
    ]
    print(table(rows))
    write(options.json, "startup", {"machine": machine(), "runs": runs, "rows": rows})


if __name__ == "__main__":
    main()
