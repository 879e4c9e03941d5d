"""How long the parts of a request took, as its client is told: in `Server-Timing`, and in the answer when asked for.

It measures nothing itself: moments come from the engine's Timing, in seconds of time.monotonic().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from quire_engine.timing import Timing
from quire_protocol import PerRequestMetrics


def combined(timings: Sequence[Timing]) -> Timing | None:
    """Several prompts of one request as one: from the first that came to the last that ended; None of none."""
    if len(timings) < 2:
        return timings[0] if timings else None
    ends = [each.finished for each in timings]
    return Timing(
        arrived=min(each.arrived for each in timings),
        scheduled=_of_those(min, (each.scheduled for each in timings)),
        first_token=_of_those(min, (each.first_token for each in timings)),
        last_token=_of_those(max, (each.last_token for each in timings)),
        finished=None if None in ends else _of_those(max, ends),
        prompt_tokens=sum(each.prompt_tokens for each in timings),
        cached_tokens=sum(each.cached_tokens for each in timings),
        generation_tokens=sum(each.generation_tokens for each in timings),
        preemptions=sum(each.preemptions for each in timings),
    )


def server_timing(began: float, now: float, timing: Timing | None) -> str:
    """The header of that name (W3C Server Timing): what is known so far, in milliseconds.

    prepare   until the engine was asked: key, validation, template, tokens
    queue     in line
    prefill   from there to the first token
    decode    from there to the last one
    total     all of it

    A stream's header leaves with its first event, so its `decode` and `total` go no further than that.
    """
    parts: dict[str, float | None] = {}
    if timing is not None:
        parts = {
            "prepare": timing.arrived - began,
            "queue": timing.queued,
            "prefill": timing.prefill,
            "decode": timing.decode,
        }
    parts["total"] = now - began
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in parts.items() if seconds is not None)


def request_metrics(timing: Timing) -> PerRequestMetrics:
    """The `metrics` of an answer; null where a moment did not come."""
    spent = None if timing.scheduled is None or timing.last_token is None else timing.last_token - timing.scheduled
    return PerRequestMetrics(
        time_to_first_token_ms=_milliseconds(timing.to_first_token),
        generation_time_ms=_milliseconds(timing.decode),
        queue_time_ms=_milliseconds(timing.queued),
        mean_itl_ms=_milliseconds(timing.per_token),
        tokens_per_second=round(timing.generation_tokens / spent, 3) if spent else None,
    )


def _of_those(choose: Callable[[Iterable[float]], float], moments: Iterable[float | None]) -> float | None:
    there = [moment for moment in moments if moment is not None]
    return choose(there) if there else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
