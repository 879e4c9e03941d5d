from quire_engine.config import SchedulingPolicy
from quire_engine.scheduling.policy import RANKS, Line
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

PARAMS = SamplingParams()


def sequences(*priorities: int) -> list[Sequence]:
    return [Sequence(i, 0, [1], 1, PARAMS, 0, priority=p, arrival=i) for i, p in enumerate(priorities)]


def line_of(policy: SchedulingPolicy, members: list[Sequence]) -> Line:
    line = Line(RANKS[policy])
    for sequence in members:
        line.join(sequence)
    return line


def handles(line: Line) -> list[int]:
    return [sequence.handle for sequence in line]


def test_first_come_first_served_goes_by_arrival_alone() -> None:
    assert handles(line_of("fcfs", sequences(3, 1, 2))) == [0, 1, 2]


def test_priority_serves_low_numbers_first_and_equals_by_arrival() -> None:
    assert handles(line_of("priority", sequences(1, 0, 1, -5, 0))) == [3, 1, 4, 0, 2]


def test_who_comes_back_takes_the_old_place() -> None:
    line = line_of("fcfs", sequences(0, 0, 0))
    second = next(s for s in line if s.handle == 1)
    line.leave(second)
    assert second not in line
    line.join(second)
    assert handles(line) == [0, 1, 2]
    assert second in line


def test_first_is_served_and_last_gives_way() -> None:
    line = line_of("priority", sequences(2, 0, 1))
    assert (line.first.handle, line.last.handle) == (1, 0)
