"""What a run has before it, and how far it is."""

import pytest

import evoprune.session
from evoprune.config.schema import load_config
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation
from evoprune.planning.plan import plan
from evoprune.progress.course import Course
from evoprune.progress.forecast import Forecast, Phase, Rate, Splits, Work
from evoprune.searching.algorithms import Nsga2
from evoprune.searching.budget import Rung
from evoprune.testing.synthetic import BLOCKS, problem

SPLITS = Splits((100.0,), 200.0, 300.0)
# A second for a dense pass over the calibration set.
RATE = Rate(0.005, 0.005)


@pytest.fixture
def forecast(tiny_config):
    """Returns a function that foretells a search of twelve blocks with such bounds."""

    def make(controls=(), picks=(), **bounds):
        settings = tiny_config(
            search=bounds, controls=list(controls), export={"picks": list(picks)}
        )
        made, algorithm = problem(12, (BLOCKS,)), Nsga2(pop_size=10)
        return Forecast(load_config(settings), made, algorithm, (Rung(-1),), SPLITS)

    return make


@pytest.mark.parametrize(
    ("bounds", "n_eval", "why"),
    [
        ({"n_eval": 60}, 60, "n_eval=60"),
        ({"n_gen": 4}, 40, "n_gen=4"),
        ({"n_eval": 10**6}, 4096, "the whole space"),
        ({"n_eval": 1000, "tokens": 900.0}, 20, "tokens=900"),
        ({"n_eval": 1000, "seconds": 20.0}, 30, "seconds=20"),
        ({"n_eval": 15, "seconds": 9999.0, "tokens": 1e9}, 15, "n_eval=15"),
    ],
)
def test_the_first_bound_ends_a_search(forecast, bounds, n_eval, why):
    ends = forecast(**bounds).ends(RATE)
    assert (ends.n_eval, ends.why, ends.open) == (n_eval, why, False)


def test_patience_alone_has_no_foreseeable_end(forecast):
    ends = forecast(patience=3).ends(RATE)
    assert (ends.n_eval, ends.why, ends.open) == (30, "patience=3", True)


def test_every_phase_of_a_run_is_there_in_order(forecast):
    phases = forecast(["uniform", "greedy", "random"], ["knee"], n_eval=60).phases(RATE)
    names = ["search", "uniform", "greedy", "random", "score", "export", "verify", "report"]
    assert [phase.name for phase in phases] == names
    search, *controls = phases[:4]
    assert search.work.n_eval == 60 and search.work.read == 6000
    assert all(0 < one.work.tokens <= search.work.tokens for one in controls)
    assert phases[4].work.read > 2 * 200 + 2 * 300  # the corners of the box, and points
    assert [p.name for p in forecast(n_eval=60).phases()] == ["search", "score", "report"]


def test_what_a_search_came_to_replaces_what_was_foretold(forecast):
    made = forecast(["random"], n_eval=60)
    found = Phase("search", Work(60, 1000.0, 6000.0), points=4)
    search, random, score, _ = made.phases(RATE, found)
    assert search.work == found.work and random.work.tokens <= 1000.0
    assert score.work.n_eval < made.phases(RATE)[2].work.n_eval


def evaluation(number: int) -> Evaluation:
    values = {"kl": 0.0}
    pattern = Pattern((number,))
    return Evaluation(pattern, "search", -1, values, 1.0, 50.0, model_seconds=0.25)


def test_a_course_reckons_with_what_evaluations_took():
    now = [0.0]
    course = Course(clock=lambda: now[0])
    foretold = [Phase("search", Work(10, 500.0, 1000.0)), Phase("report", seconds=3.0)]
    course.expect(lambda rate: foretold, SPLITS)
    course.begin("search")
    assert course.left is None and course.words() == ""
    for number in range(5):
        now[0] += 1.0
        course.heard(evaluation(number), True)
    assert course.left == pytest.approx(5.0 + 3.0)
    assert course.words() == "38% done, about 8 s left"
    course.heard(evaluation(4), False)  # asked for again
    assert course.left == pytest.approx(8.0)
    assert course.end() == 5.0
    course.begin("report")
    now[0] += 1.0
    assert course.left == pytest.approx(2.0)


def test_a_replay_knows_nothing_of_what_is_left():
    course = Course(clock=lambda: 0.0)
    course.expect(lambda rate: [Phase("search", Work(10, 500.0, 1000.0))], SPLITS)
    course.begin("search")
    course.heard(evaluation(1), False)
    assert course.rate is None and course.words() == ""


def test_a_phase_that_did_not_come_is_left_out():
    course = Course(clock=lambda: 0.0)
    course.expect(lambda rate: [Phase("export"), Phase("report", seconds=2.0)], SPLITS)
    course.begin("report")
    assert course.current == Phase("report", seconds=2.0)


def test_a_plan_adds_up(tiny_config):
    controls = ["uniform", "greedy", "random"]
    rows = dict(plan(tiny_config(controls=controls, space="decoder/subblocks")))
    assert rows["evaluations"] == "12 (n_eval=12 ends the search)"
    for name in ("prepare", "workers", "search", "score", "report"):
        assert rows[name].startswith("about")
    assert {f"control {name}" for name in controls} <= set(rows) and "export" not in rows
    assert rows["TOTAL"].endswith("on this machine")
    assert not [name for name in rows if "such worker" in name or "GPU" in name]


def test_a_plan_shows_the_evaluations_that_its_bounds_allow(tiny_config):
    settings = tiny_config(search={"n_eval": 1024, "tokens": 2000.0}, space="decoder/subblocks")
    rows = dict(plan(settings))
    count = int(rows["evaluations"].split()[0])
    assert "tokens=2,000 ends the search" in rows["evaluations"] and count < 100
    tokens = float(rows["dense-equivalent tokens"].split()[0].replace(",", ""))
    # The generation of four that reaches the bound is finished.
    assert 2000 <= tokens < 2000 + 4.5 * tokens / count
    assert rows["search"].split(": ")[1].startswith(f"{count} evaluations")


def test_a_plan_starts_no_more_workers_than_fit(tiny_config, monkeypatch):
    asked = []
    real = evoprune.session.evaluator_for

    def noted(config, *rest):
        asked.append(config.workers.count)
        return real(config, *rest)

    monkeypatch.setattr("evoprune.session.evaluator_for", noted)
    monkeypatch.setattr("evoprune.evaluation.workers.fitting", lambda config: 1)
    rows = plan(tiny_config(workers={"count": 64}))
    assert asked == [1]
    assert any("workers.count=64 asks for more" in text for _, text in rows)
