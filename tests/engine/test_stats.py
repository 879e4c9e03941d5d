"""What one engine counted goes on where another takes its place."""

from quire_engine.stats import Stats


def test_counters_go_on_and_gauges_are_those_of_the_new_engine() -> None:
    ended = Stats(running=3, waiting=2, kv_usage=0.5, generation_tokens=7, steps=4, finished={"stop": 1, "length": 2})
    fresh = Stats(running=1, kv_usage=0.1, generation_tokens=2, steps=1, finished={"stop": 4})
    stands = fresh.after(ended)
    assert (stands.running, stands.waiting, stands.kv_usage) == (1, 0, 0.1)
    assert (stands.generation_tokens, stands.steps) == (9, 5)
    assert stands.finished == {"stop": 5, "length": 2}
