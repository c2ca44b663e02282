"""The pool's decisions, with made-up workers: who is given what, and what becomes of the dead."""

from collections import Counter

import numpy as np
import pytest
from crews import START, MadeCrew
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import EvopruneError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Request
from evoprune.evaluation.pool import DEATHS_IN_A_ROW, Pool
from evoprune.evaluation.queue import Queue


def patterns(count: int) -> list[Pattern]:
    return [Pattern((i,)) for i in range(count)]


def seconds(pattern: Pattern) -> float:
    """Returns what a pattern takes: up to ten times as long as another."""
    return 0.2 + 1.8 * (pattern.choices[0] * 37 % 24) / 23


def pool_of(crew: MadeCrew, timeout: float | None = None, say=lambda line: None) -> Pool:
    def costs(some):
        return np.array([crew.seconds(pattern) for pattern in some])

    return Pool(crew, costs, timeout, say, crew.clock)


def evaluate(crew: MadeCrew, count: int = 24, **options) -> list:
    return list(pool_of(crew, **options).evaluate(Request(patterns(count))))


@given(
    count=st.integers(1, 40),
    workers=st.integers(1, 5),
    batch=st.integers(1, 8),
    deaths=st.lists(st.floats(3.0, 60.0), max_size=12).map(sorted),
    bad=st.sets(st.integers(0, 39), max_size=3),
)
def test_every_candidate_comes_back_once_whoever_dies(count, workers, batch, deaths, bad):
    asked = patterns(count)
    killers = frozenset(asked[i] for i in bad if i < count)
    crew = MadeCrew(seconds, killers, list(deaths), room=lambda now: workers, batch=batch)
    found = evaluate(crew, count)
    assert Counter(e.pattern for e in found) == Counter(asked)
    assert max(Counter(crew.finished).values(), default=1) == 1, "what is finished is not repeated"
    failed = {e.pattern for e in found if e.error}
    assert killers <= failed
    assert all(e.failure == "transient" and e.cause == "crash" for e in found if e.error)
    if not deaths:
        assert failed == killers, "only what dies alone fails"


@given(st.lists(st.floats(3.0, 30.0), max_size=12).map(sorted))
def test_a_lost_node_is_nobody_s_fault(deaths):
    crew = MadeCrew(seconds, deaths=list(deaths), lost=True)
    assert not any(e.error for e in evaluate(crew))


def test_what_was_in_flight_at_two_deaths_runs_last_and_alone():
    killer = Pattern((5,))
    crew = MadeCrew(seconds, frozenset({killer}))
    lines = []
    found = evaluate(crew, say=lines.append)
    assert found[-1].pattern == killer and found[-1].cause == "crash"
    assert [e.pattern for e in found if e.error] == [killer]
    at, _, last = crew.begun[-1]
    assert last == (killer,)
    assert len(crew.finished) == 23 and all(begun[0] <= at for begun in crew.begun)
    assert sum(killer in begun for _, _, begun in crew.begun) == 3
    assert any("run last, alone" in line for line in lines)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_workers_idle_little_where_some_candidates_cost_ten_times_others(workers, seed):
    rng = np.random.default_rng(seed)
    cost = dict(zip(patterns(48), rng.uniform(0.1, 1.0, 48), strict=True))
    crew = MadeCrew(cost.__getitem__, room=lambda now: workers, batch=4)
    assert len(evaluate(crew, 48)) == 48
    idle = 1 - sum(cost.values()) / (workers * (crew.now - START))
    assert idle <= 0.1


def test_the_costliest_begin_first_and_a_second_waits_at_a_worker_only_while_there_is_plenty():
    crew = MadeCrew(seconds)
    evaluate(crew)
    begun = [begun[0] for _, _, begun in crew.begun]
    assert begun == sorted(begun, key=seconds, reverse=True)
    first, last = crew.begun[:4], crew.begun[-4:]
    assert Counter(number for _, number, _ in first) == {1: 2, 2: 2}
    assert all(at > START for at, _, _ in last)


def test_a_time_out_ends_the_worker_and_fails_the_candidate_alone():
    slow = Pattern((7,))
    crew = MadeCrew(lambda pattern: 1e9 if pattern == slow else 0.5, batch=4)
    pool = Pool(crew, lambda some: np.ones(len(some)), 10.0, clock=crew.clock)
    found = list(pool.evaluate(Request(patterns(24))))
    assert Counter(e.pattern for e in found) == Counter(patterns(24))
    assert [(e.pattern, e.failure, e.cause) for e in found if e.error] == [
        (slow, "transient", "timeout")
    ]
    assert crew.now < 200


def test_a_node_that_joins_is_used_and_one_that_leaves_is_not_waited_for():
    crew = MadeCrew(room=lambda now: 1 if now < 10 else 3)
    evaluate(crew)
    assert {number for _, number, _ in crew.begun} == {1, 2, 3}
    crew = MadeCrew(room=lambda now: 3 if now < 5 else 1, deaths=[5.5, 5.6], lost=True)
    assert len(evaluate(crew)) == 24
    assert crew.started == 3


def test_workers_that_cannot_start_stop_the_search():
    with pytest.raises(EvopruneError, match=r"could not start: it was killed.*backend=local"):
        evaluate(MadeCrew(startable=lambda number: False))


def test_a_place_where_none_can_start_rests_while_others_work():
    crew = MadeCrew(startable=lambda number: number != 2, seconds=lambda pattern: 4.0)
    assert len(evaluate(crew)) == 24
    assert crew.started <= 4


def test_workers_that_die_one_after_the_other_stop_the_search():
    crew = MadeCrew(kills=frozenset(patterns(200)))
    with pytest.raises(EvopruneError, match="workers in a row died"):
        evaluate(crew, 200)
    assert crew.started <= DEATHS_IN_A_ROW + 8


def test_nothing_new_is_begun_once_the_search_shall_stop():
    crew, done = MadeCrew(seconds), []
    request = Request(patterns(24), stopping=lambda: len(done) >= 3)
    for evaluation in pool_of(crew).evaluate(request):
        done.append(evaluation)
    assert 3 <= len(done) <= 3 + 4
    assert len(crew.finished) == len(done), "what was begun is not thrown away"


def test_a_request_that_is_given_up_leaves_no_worker_behind_on_it():
    crew = MadeCrew(seconds)
    pool = pool_of(crew)
    next(iter(pool.evaluate(Request(patterns(24)))))
    found = list(pool.evaluate(Request(patterns(6), "report")))
    assert {e.split for e in found} == {"report"} and len(found) == 6


def test_the_table_of_workers_says_what_they_did():
    lines = []
    crew = MadeCrew(seconds, frozenset({Pattern((5,))}))
    pool = pool_of(crew, say=lines.append)
    list(pool.evaluate(Request(patterns(24))))
    before = len(lines)
    pool.close()
    assert sum(slot.work.candidates for slot in pool.slots) == 23
    assert sum(slot.work.restarts for slot in pool.slots) == 3
    table = [line.split() for line in lines[before:]]
    assert table[0][1:3] == ["worker", "candidates"] and "restarts" in table[0]
    assert [int(row[2]) for row in table[1:3]] == [s.work.candidates for s in pool.slots]


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 6))
def test_a_queue_hands_everything_out_in_ever_smaller_batches(count, batch, workers):
    asked = patterns(count)
    queue = Queue(asked, np.array([seconds(p) for p in asked]), batch)
    given_out = []
    while (one := queue.take(workers)) is not None:
        assert one.cost == pytest.approx(sum(map(seconds, one.patterns)))
        given_out.append(one)
    assert sorted(p.choices for one in given_out for p in one.patterns) == [
        p.choices for p in asked
    ]
    assert queue.cost == pytest.approx(0) and not len(queue)
    assert all(len(one.members) <= batch for one in given_out)
    # What stands together in a request begins alike.
    assert all(m == tuple(range(m[0], m[-1] + 1)) for m in (one.members for one in given_out))


def test_workers_that_want_all_at_once_get_equal_shares():
    crew = MadeCrew(batch=256, whole=True, room=lambda now: 3)
    pool = pool_of(crew)
    for _ in range(2):  # the second time all of them are there from the start
        crew.begun.clear()
        assert len(list(pool.evaluate(Request(patterns(24))))) == 24
    assert sorted(len(some) for _, _, some in crew.begun) == [8, 8, 8]
