"""What several processes have counted is one server's; and it crosses from one to the other as it is."""

from prometheus_client.metrics_core import Metric

from quire_server.siblings import Told, read, written
from quire_server.totals import Totals, added_up


def family(name: str, kind: str, *samples: tuple[str, dict[str, str], float]) -> Metric:
    made = Metric(name, "What it says.", kind)
    for sample in samples:
        made.add_sample(*sample)
    return made


def counter(value: float, **labels: str) -> Metric:
    return family("asked", "counter", ("asked_total", labels, value))


def values(families: list[Metric]) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(one.name, tuple(one.labels.values())): one.value for each in families for one in each.samples}


def test_what_is_counted_is_added_up_label_by_label() -> None:
    told = added_up([[counter(1, by="her")], [counter(2, by="her")], [counter(5, by="him")]])
    assert values(told) == {("asked_total", ("her",)): 3, ("asked_total", ("him",)): 5}
    assert (told[0].type, told[0].documentation) == ("counter", "What it says.")


def test_a_histogram_is_added_up_bound_by_bound() -> None:
    one = family("took", "histogram", ("took_bucket", {"le": "1.0"}, 1), ("took_bucket", {"le": "+Inf"}, 2))
    assert values(added_up([[one], [one]])) == {("took_bucket", ("1.0",)): 2, ("took_bucket", ("+Inf",)): 4}


def test_of_a_moment_the_first_word_counts_unless_it_is_what_processes_take_together() -> None:
    started = [family("process_start_time_seconds", "gauge", ("process_start_time_seconds", {}, at)) for at in (1, 2)]
    memory = [family("process_resident_memory_bytes", "gauge", ("process_resident_memory_bytes", {}, 3))] * 2
    told = values(added_up([[started[0], memory[0]], [started[1], memory[1]]]))
    assert told == {("process_start_time_seconds", ()): 1, ("process_resident_memory_bytes", ()): 6}


def test_what_a_process_had_counted_stays_when_it_is_gone() -> None:
    totals, gauge = Totals(), family("process_open_fds", "gauge", ("process_open_fds", {}, 7))
    for process in (1, 2):
        totals.hear(process, [counter(process), gauge])
    totals.keep({2})
    totals.hear(3, [counter(10)])
    totals.keep({2, 3})
    assert values(totals.so_far([])) == {("asked_total", ()): 13, ("process_open_fds", ()): 7}


def test_a_process_that_is_silent_for_once_counts_as_it_did() -> None:
    totals = Totals()
    totals.hear(1, [counter(1)])
    totals.hear(1, [counter(4)])
    totals.keep({1})
    assert values(totals.so_far([counter(2)])) == {("asked_total", ()): 6}


def test_metrics_cross_as_they_are() -> None:
    told = [counter(2.5, by="hér"), family("up", "gauge", ("up", {}, float("inf")))]
    assert read(written(told)) == told
    assert Told(written(told)).collect() == told
