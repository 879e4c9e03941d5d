"""One key with fifty requests under way and nine with two each, on a real server: who gets what, and who waits.

usage: python -m benchmarks.fairness [--seconds 30] [--rounds 2] [--seats 20] [--json auto]

Two servers, one that serves keys in turn (fair) and one that serves whoever comes first (fcfs), are asked by turns.
What must hold: tokens are shared among the ten keys with a Jain index of at least 0.95; a quiet key waits for its first
tokens at most 1.3 times as long, in the median, as where it and its equals are alone on the server; and all together
have at least 97 % of the tokens that they have where nobody is held back. Exit status 1 and the reasons if anything
does not hold.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.servers import Server, quire
from benchmarks.streams import stream

MODEL = "served"
VOCABULARY = range(10, 600)
NOISY, QUIET = "noisy", tuple(f"quiet-{number}" for number in range(1, 10))
JAIN, WAIT, SPEED = 0.95, 1.3, 0.97
"""What must hold."""


@dataclass
class Window:
    """What keys were given in some seconds, between two moments of one clock."""

    began: float
    ended: float
    tokens: dict[str, int] = field(default_factory=dict)
    """By key, those that arrived within."""
    waits: list[float] = field(default_factory=list)
    """Seconds to the first tokens of quiet keys' requests that were asked within."""
    problems: list[str] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Tokens a second, of all keys."""
        return sum(self.tokens.values()) / (self.ended - self.began)

    @property
    def jain(self) -> float:
        """1 where all keys have the same, 1 / n where one of n has all (Jain et al. 1984)."""
        shares = list(self.tokens.values())
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@dataclass(frozen=True)
class Crowd:
    """Clients with keys, who ask again as soon as they are answered."""

    prompt: int
    answer: int
    warm: float
    """Seconds before the window."""
    seconds: float

    async def meet(self, address: str, clients: dict[str, int], seed: int) -> Window:
        """Let so many clients of each key ask for a while."""
        began = time.perf_counter() + self.warm
        window = Window(began, began + self.seconds, dict.fromkeys(clients, 0))
        draw = Random(seed)
        await asyncio.gather(
            *(self._ask(address, key, window, draw) for key, count in clients.items() for _ in range(count))
        )
        return window

    async def _ask(self, address: str, key: str, window: Window, draw: Random) -> None:
        while time.perf_counter() < window.ended and not window.problems:
            body: dict[str, Any] = {
                "model": MODEL,
                "prompt": draw.choices(VOCABULARY, k=self.prompt),
                "max_tokens": draw.randint(self.answer // 2, self.answer * 3 // 2),
                "temperature": 0,
                "ignore_eos": True,
            }
            try:
                told = await stream(address, body, headers={"Authorization": f"Bearer secret-{key}"})
            except (OSError, TimeoutError, ValueError, IndexError) as error:
                window.problems.append(repr(error))
                return
            if told.status != 200 or not told.complete:
                window.problems.append(f"{told.status}: {told.events[-1:]}")
            window.tokens[key] += sum(window.began <= when <= window.ended for when in told.arrivals)
            if key != NOISY and told.arrivals and told.began >= window.began:
                window.waits.append(told.arrivals[0] - told.began)


def verdict(fair: list[Window], fcfs: list[Window], alone: list[Window]) -> tuple[list[Row], list[str]]:
    """The figures of all rounds, and what does not hold."""
    waits = {
        name: median(wait for window in windows for wait in window.waits)
        for name, windows in (("fair", fair), ("fcfs", fcfs), ("alone", alone))
    }
    jain, unfair = (median(window.jain for window in windows) for windows in (fair, fcfs))
    speed, most = (median(window.speed for window in windows) for windows in (fair, fcfs))
    rows = [
        Row({"what": "Jain index of tokens, keys in turn"}, "index", jain, goal=JAIN),
        Row({"what": "Jain index of tokens, first come"}, "index", unfair),
        Row({"what": "quiet keys' first token, alone"}, "ms", 1000 * waits["alone"]),
        Row(
            {"what": "quiet keys' first token, keys in turn"},
            "ms",
            1000 * waits["fair"],
            goal=1000 * WAIT * waits["alone"],
        ),
        Row({"what": "quiet keys' first token, first come"}, "ms", 1000 * waits["fcfs"]),
        Row({"what": "all keys, keys in turn"}, "tok/s", speed, goal=SPEED * most),
        Row({"what": "all keys, first come"}, "tok/s", most),
    ]
    checks = (
        (jain < JAIN, f"the Jain index is {jain:.3f}, not {JAIN}"),
        (waits["fair"] > WAIT * waits["alone"], f"quiet keys wait {waits['fair'] / waits['alone']:.2f} times as long"),
        (speed < SPEED * most, f"all keys have {speed / most:.1%} of the tokens, not {SPEED:.0%}"),
    )
    problems = [each for window in [*fair, *fcfs, *alone] for each in window.problems]
    return rows, [*problems[:5], *(reason for holds_not, reason in checks if holds_not)]


def main() -> None:
    """Let them ask, print, write."""
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--seconds", type=float, default=30, help="of each window")
    parser.add_argument("--seats", type=int, default=20, help="sequences that run together at most")
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--answer", type=int, default=96, help="tokens, on average")
    options = parser.parse_args()
    crowd = Crowd(options.prompt, options.answer, warm=options.seconds / 5, seconds=options.seconds)
    quiet = dict.fromkeys(QUIET, 2)
    everybody = {NOISY: 50, **quiet}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        keys = Path(folder, "keys")
        keys.write_text("".join(f"{name}:secret-{name}\n" for name in everybody))
        keys.chmod(0o600)
        flags = ("--api-key-file", str(keys), "--served-model-name", MODEL, "--max-model-len", "1024")
        servers = {
            policy: stack.enter_context(
                Server(
                    quire(*flags, "--max-num-seqs", str(options.seats), "--scheduling-policy", policy),
                    {"OMP_NUM_THREADS": str(options.threads)},
                )
            )
            for policy in ("fair", "fcfs")
        }

        def window(policy: str, clients: dict[str, int], turn: int) -> Window:
            return asyncio.run(crowd.meet(servers[policy].address, clients, turn))

        taken = turns(
            options.rounds,
            {
                "fair": lambda turn: window("fair", everybody, turn),
                "fcfs": lambda turn: window("fcfs", everybody, turn),
                "alone": lambda turn: window("fair", quiet, turn),
            },
        )
    rows, problems = verdict(taken["fair"], taken["fcfs"], taken["alone"])
    finish("fairness", options, rows)
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
