"""What one process of several tells of the engine is told by that process alone, and by no worker again."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.scripted import scripted_engine

from quire_engine.config import Decisions
from quire_engine.link.supervised import EngineState
from quire_engine.stats import Stats
from quire_server.metrics import ENGINE_METRICS, ENGINES_OWN, counting, engine_table
from quire_server.spreads import Spread

BUSY = Stats(**{name: {"stop": 3} if name == "finished" else 3 for name in Stats.__struct_fields__})


@dataclass
class Standing:
    """An engine as its hub knows it."""

    decisions: Decisions
    stats: Stats = Stats()  # noqa: RUF009 (it is frozen)
    state: EngineState = "ready"
    restarts: int = 0


def told(engine: Standing, stats: Stats) -> dict[str, list[object]]:
    """What a ledger tells of this engine after a step, by metric."""
    ledger, _ = counting(engine, "tiny")
    ledger.stepped(stats)
    values = {entry.name: entry.read(ledger) for entry in ENGINE_METRICS}
    return {name: [*value.counts] if isinstance(value, Spread) else value for name, value in values.items()}  # type: ignore[misc]


def test_what_changes_with_the_engine_is_marked_as_its_own() -> None:
    decisions = scripted_engine().decisions
    idle = told(Standing(decisions), Stats())
    busy = told(Standing(decisions, state="sleeping", restarts=2), BUSY)
    changed = {name for name in idle if idle[name] != busy[name]}
    constant = {"vllm:cache_config_info"}
    assert changed | constant == {entry.name for entry in ENGINE_METRICS if entry.is_engines}


def test_the_process_that_has_the_engine_tells_what_is_the_engines_and_nothing_of_requests() -> None:
    ledger, registry = counting(Standing(scripted_engine().decisions), "tiny")
    own = {family.name for family in registry.collect() if not family.name.startswith(("process_", "python_"))}
    assert own == ENGINES_OWN
    assert own < {family.name for family in engine_table(ledger, "tiny").collect()}
