"""Shares of tenants: of tokens in the long run, of seats at once, and never at the price of anybody's answer."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from tests.support.invariants import check_invariants
from tests.support.requests import submission
from tests.support.scripted import VOCABULARY, ScriptedRunner, count_up, scripted_engine

from quire_engine.engine import Engine
from quire_engine.scheduling.fairness import MOST_CREDIT, Fair, Ledger
from quire_engine.sequence import Sequence, Submission, Terms


def fair_engine(**decisions: int) -> Engine:
    return scripted_engine(count_up, scheduling_policy="fair", **decisions)


def ask(handle: int, tenant: str, length: int = 2, weight: float = 1.0, **fields: int) -> Submission:
    prompt = [(7 * handle + i) % VOCABULARY for i in range(length)]
    return submission(handle, prompt, terms=Terms(tenant, weight), **{"max_tokens": 8} | fields)


def spans(engine: Engine) -> list[tuple[int, int, int]]:
    """Handle, start and length of each span of the next step, which is computed and committed."""
    engine.step()
    check_invariants(engine.scheduler)
    assert isinstance(engine.runner, ScriptedRunner)
    return [(handle, start, length) for handle, _, start, length in engine.runner.batches[-1]]


def handles(engine: Engine) -> list[int]:
    return [handle for handle, _, _ in spans(engine)]


def jain(shares: list[float]) -> float:
    """1 where all are equal, 1 / n where one has all (Jain et al. 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


class Crowd:
    """Tenants who each keep as many requests going as they like, and what was generated for them."""

    def __init__(self, engine: Engine, outstanding: dict[str, int], weights: dict[str, float] | None = None) -> None:
        self.engine = engine
        self.outstanding = outstanding
        self.weights = weights or {}
        self.draw = Random(1)
        self.owners: dict[int, str] = {}
        self.waiting_for: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.asked_at: dict[int, int] = {}
        self.first_token: dict[str, list[int]] = {tenant: [] for tenant in outstanding}
        """By tenant: steps from asking to the first token."""

    def step(self, now: int) -> None:
        for tenant, count in self.outstanding.items():
            while self.waiting_for[tenant] < count:
                self._ask(tenant, now)
        for emission in self.engine.step():
            tenant = self.owners[emission.handle]
            self.served[tenant] += len(emission.token_ids)
            if emission.handle in self.asked_at:
                self.first_token[tenant].append(now - self.asked_at.pop(emission.handle))
            self.waiting_for[tenant] -= emission.finish_reason is not None
        check_invariants(self.engine.scheduler)

    def _ask(self, tenant: str, now: int) -> None:
        handle = len(self.owners)
        self.owners[handle], self.asked_at[handle] = tenant, now
        self.waiting_for[tenant] += 1
        weight = self.weights.get(tenant, 1.0)
        length, most = self.draw.randint(4, 20), self.draw.randint(8, 24)
        self.engine.add(ask(handle, tenant, length, weight, max_tokens=most))


# --- the account


def test_who_comes_anew_begins_at_the_least_of_those_who_are_there() -> None:
    ledger = Ledger()
    ledger.enter(Terms("a"))
    ledger.enter(Terms("b"))
    ledger.charge("a", 100)
    ledger.charge("b", 30)
    ledger.enter(Terms("c"))
    assert ledger.served("c") == 30


@pytest.mark.parametrize("waiting", [("b", "c"), ()], ids=["in line", "who left the line last"])
def test_who_joins_the_line_is_not_far_behind(waiting: tuple[str, ...]) -> None:
    ledger = Ledger()
    for tenant in ("a", "b", "c"):
        ledger.enter(Terms(tenant))
    for tenant, tokens in (("a", 1), ("c", 3 * MOST_CREDIT), ("b", 2 * MOST_CREDIT)):
        ledger.began(tenant, tokens)
    ledger.enter(Terms("a"), waiting)  # which runs, and asks for more
    assert ledger.served("a") == MOST_CREDIT


def test_who_stands_in_line_stays_as_it_is() -> None:
    ledger = Ledger()
    for tenant, tokens in (("a", 1), ("b", 2 * MOST_CREDIT)):
        ledger.enter(Terms(tenant))
        ledger.began(tenant, tokens)
    ledger.enter(Terms("a"), waiting=("a", "b"))
    assert ledger.served("a") == 1


def test_who_leaves_and_comes_back_still_has_what_was_served() -> None:
    ledger = Ledger()
    ledger.enter(Terms("a"))
    ledger.enter(Terms("b"))
    ledger.charge("a", 100)
    ledger.leave(Terms("a"))
    ledger.enter(Terms("a"))
    assert ledger.served("a") == 100


def test_when_nobody_is_there_all_is_forgotten() -> None:
    ledger = Ledger()
    ledger.enter(Terms("a"))
    ledger.charge("a", 100)
    ledger.leave(Terms("a"))
    ledger.enter(Terms("b"))
    ledger.enter(Terms("a"))
    assert ledger.served("a") == ledger.served("b") == 0


def test_tenants_who_come_once_do_not_fill_the_memory() -> None:
    ledger = Ledger()
    ledger.enter(Terms("who stays"))
    ledger.charge("who stays", 10**6)
    for number in range(1000):
        ledger.enter(Terms(f"passing {number}"))
        ledger.leave(Terms(f"passing {number}"))
    assert len(ledger._served) < 100


def test_twice_the_weight_is_half_the_account() -> None:
    ledger = Ledger()
    ledger.enter(Terms("a", weight=1))
    ledger.enter(Terms("b", weight=2))
    ledger.charge("a", 100)
    ledger.charge("b", 100)
    assert (ledger.served("a"), ledger.served("b")) == (100, 50)


# --- the line


def test_who_was_served_least_is_next() -> None:
    engine = fair_engine(max_num_seqs=1)
    for handle, tenant in enumerate(("a", "a", "b")):
        engine.add(ask(handle, tenant, max_tokens=1))
    assert [handles(engine) for _ in range(3)] == [[0], [2], [1]]


def test_within_one_step_prompts_are_let_in_in_view_of_each_other() -> None:
    engine = fair_engine(max_num_seqs=3)
    for handle, tenant in enumerate(("a", "a", "b", "c")):
        engine.add(ask(handle, tenant))
    assert handles(engine) == [0, 2, 3]


def test_prompts_from_the_cache_count_little() -> None:
    engine = fair_engine(max_num_seqs=1)
    engine.add(submission(0, [*range(1, 42)], max_tokens=1, terms=Terms("a")))
    spans(engine)
    for handle, tenant in enumerate(("a", "b"), start=1):  # what a brings now is what b brings, but for the cache
        engine.add(submission(handle, [*range(1, 42)] if tenant == "a" else [*range(50, 91)], terms=Terms(tenant)))
    spans(engine)
    spans(engine)
    order = engine.scheduler.order
    assert isinstance(order, Fair)
    assert order.ledger.served("a") < 10


def test_the_rest_of_a_prompt_waits_for_the_prompt_of_who_was_served_less() -> None:
    engine = fair_engine(max_num_batched_tokens=8)
    engine.add(ask(0, "a", length=30))
    assert spans(engine) == [(0, 0, 8)]
    engine.add(ask(1, "b", length=5))
    assert spans(engine) == [(1, 0, 5), (0, 8, 3)]


# --- seats


def test_a_newcomer_takes_a_seat_from_a_tenant_that_holds_two_more() -> None:
    engine = fair_engine(max_num_seqs=2)
    for handle in range(2):
        engine.add(ask(handle, "a"))
    spans(engine)
    engine.add(ask(2, "b"))
    assert sorted(handles(engine)) == [0, 2]
    assert engine.stats().preemptions == 1


def test_a_seat_is_not_taken_from_who_holds_one_more() -> None:
    engine = fair_engine(max_num_seqs=1)
    engine.add(ask(0, "a"))
    spans(engine)
    engine.add(ask(1, "b"))
    assert handles(engine) == [0]
    assert engine.stats().preemptions == 0


def test_several_newcomers_take_their_seats_in_one_step() -> None:
    engine = fair_engine(max_num_seqs=8)
    for handle in range(8):
        engine.add(ask(handle, "a"))
    spans(engine)
    for handle in range(8, 11):
        engine.add(ask(handle, "bcd"[handle - 8]))
    assert sorted(handles(engine)) == [0, 1, 2, 3, 4, 8, 9, 10]


def test_nobody_gives_way_in_vain() -> None:
    engine = fair_engine(num_blocks=12)
    for handle in range(2):
        engine.add(ask(handle, "a", length=20))
    spans(engine)
    engine.add(ask(2, "b", length=40))  # ten blocks, and one of the others' places would not do
    assert sorted(handles(engine)) == [0, 1]
    assert engine.stats().preemptions == 0


def test_seats_go_by_weight() -> None:
    engine = fair_engine(max_num_seqs=8)
    for handle in range(8):
        engine.add(ask(handle, "a", max_tokens=100))
    spans(engine)
    for handle in range(8, 16):
        engine.add(ask(handle, "b", weight=3, max_tokens=100))
    for _ in range(20):
        running = handles(engine)
    assert sum(handle >= 8 for handle in running) == 6


def test_answers_do_not_depend_on_who_gives_way() -> None:
    answers = {}
    for policy in ("fcfs", "fair"):
        engine = scripted_engine(scheduling_policy=policy, max_num_seqs=4, num_blocks=24)
        told: dict[int, list[int]] = {}
        for handle in range(24):
            engine.add(ask(handle, "abc"[handle % 3] if handle > 7 else "a", length=9, max_tokens=12))
            for emission in engine.step():
                told.setdefault(emission.handle, []).extend(emission.token_ids)
        while engine.has_work:
            for emission in engine.step():
                told.setdefault(emission.handle, []).extend(emission.token_ids)
        answers[policy] = told
    assert engine.stats().preemptions > 0
    assert answers["fair"] == answers["fcfs"]


def test_who_only_goes_on_by_a_token_is_not_compared_with_those_in_line() -> None:
    engine = fair_engine(max_num_seqs=8, num_blocks=1024)
    for handle in range(8):
        engine.add(ask(handle, "ab"[handle % 2], max_tokens=100))
    spans(engine)
    for handle in range(8, 28):
        engine.add(ask(handle, f"tenant {handle}", max_tokens=100))
    for _ in range(5):
        spans(engine)
    order = engine.scheduler.order
    assert isinstance(order, Fair)
    asked: list[Sequence] = []
    place = order.waiting.place

    def counted(sequence: Sequence) -> tuple[float, ...]:
        asked.append(sequence)
        return place(sequence)

    order.waiting.place = counted
    assert len(order.waiting.of) >= 10
    batch = engine.scheduler.schedule()
    assert len(batch.spans) == 8
    assert len(asked) <= 3 * len(order.waiting.of)


# --- in the long run


def test_one_tenant_is_served_as_it_comes() -> None:
    batches = []
    for policy in ("fcfs", "fair"):
        engine = scripted_engine(scheduling_policy=policy, max_num_seqs=4, num_blocks=16, max_num_batched_tokens=12)
        crowd = Crowd(engine, {"a": 12})
        for now in range(300):
            crowd.step(now)
        assert engine.stats().preemptions > 0
        batches.append(engine.runner.batches)  # type: ignore[attr-defined]
    assert batches[0] == batches[1]


@pytest.mark.parametrize("blocks", [1024, 60], ids=["short of seats", "short of blocks"])
def test_a_noisy_tenant_gets_no_more_than_the_quiet_ones(blocks: int) -> None:
    engine = fair_engine(max_num_seqs=20, num_blocks=blocks)
    quiet = {f"quiet {number}": 2 for number in range(9)}
    crowd = Crowd(engine, {"noisy": 50, **quiet})
    for now in range(500):
        crowd.step(now)
    assert jain([crowd.served[tenant] for tenant in crowd.outstanding]) >= 0.95


def test_tokens_go_by_weight() -> None:
    engine = fair_engine(max_num_seqs=12, num_blocks=1024)
    crowd = Crowd(engine, {"a": 30, "b": 30, "c": 30}, {"b": 2.0, "c": 3.0})
    for now in range(600):
        crowd.step(now)
    shares = [crowd.served[tenant] / weight for tenant, weight in (("a", 1), ("b", 2), ("c", 3))]
    assert jain(shares) >= 0.99


def test_quiet_tenants_are_let_in_as_if_nobody_else_were_there() -> None:
    engine = fair_engine(max_num_seqs=20, num_blocks=1024, max_num_batched_tokens=256)
    quiet = {f"quiet {number}": 2 for number in range(9)}
    crowd = Crowd(engine, {"noisy": 50, **quiet})
    for now in range(400):
        crowd.step(now)
    waits = sorted(wait for tenant in quiet for wait in crowd.first_token[tenant])
    assert waits[len(waits) // 2] == 0


@pytest.mark.parametrize("others", [0, 1])
def test_who_asks_for_little_saves_up_no_more_than_some_shares(others: int) -> None:
    engine = fair_engine(max_num_seqs=20, num_blocks=1024)
    trickles = {f"trickle {number}": 1 for number in range(1 + others)}
    crowd = Crowd(engine, {**trickles, "noisy": 50})
    for now in range(1000):
        crowd.step(now)
    crowd.outstanding["trickle 0"] = 50
    for now in range(1000, 1200):  # 8192 tokens at about 55 in a step
        crowd.step(now)
    before = crowd.served.copy()
    for now in range(1200, 1500):
        crowd.step(now)
    served = crowd.served - before
    assert jain([served["trickle 0"], served["noisy"]]) >= 0.95


def test_giving_way_does_not_eat_up_what_is_computed() -> None:
    computed = {}
    for policy in ("fcfs", "fair"):
        engine = scripted_engine(count_up, scheduling_policy=policy, max_num_seqs=20, num_blocks=1024)
        crowd = Crowd(engine, {"noisy": 50, **{f"quiet {number}": 2 for number in range(9)}})
        for now in range(300):
            crowd.step(now)
        computed[policy] = crowd.served.total()
    assert computed["fair"] >= 0.97 * computed["fcfs"]
    assert engine.stats().preemptions < len(crowd.owners)
