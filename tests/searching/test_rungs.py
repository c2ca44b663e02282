"""Climbing the rungs: who goes on, what travels with them, what is counted, what they tell."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.errors import ModelError
from evoprune.core.metrics import Table
from evoprune.core.protocols import Evaluation, Request
from evoprune.folder.journal import Journal, read_journal
from evoprune.searching.agreement import ENOUGH, agreements, in_words
from evoprune.searching.algorithms import Nsga2, Random
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Rung, per_candidate
from evoprune.searching.evop import Evop
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.surrogate import SurrogateNsga2, SurrogateStepper
from evoprune.searching.values import promoted, ranked
from evoprune.testing.synthetic import BLOCKS, FakeEvaluator, problem, run

SIZES = (3, 5, 12)
GROWING = (Rung(0, 0.5, label="3"), Rung(1, 0.5, grows=True, label="5"), Rung(-1, None, True, "12"))


class Rows(FakeEvaluator):
    """Measures a row an example: row i of a pattern is its harm times i + 1.

    Attributes:
        measured: for every evaluation the pattern, the rung and the rows that were measured.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.measured: list[tuple[str, int, range]] = []

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        self.begun = request.begun
        yield from super().evaluate(request)

    def _one(self, pattern, request):
        one = super()._one(pattern, request)
        if one.error:
            return one
        begun, size = self.begun.get(pattern.id, {}), SIZES[request.rung]
        done = len(begun["clean"]) if begun else 0
        rows = np.arange(done, size)
        self.measured.append((pattern.id, request.rung, range(done, size)))
        column = (rows + 1) * self.harm(pattern, -1)
        table = Table({"harm": column}, rows)
        if begun:
            table = Table.concat([begun["clean"], table])
        assert len(table) == size
        return Evaluation(
            pattern,
            request.split,
            request.rung,
            {"harm": float(table.columns["harm"].mean())},
            tokens=float(size),
            tables={"clean": table} if request.tables else {},
        )


def climb(made, path, evaluator=None, algorithm=None, **budget):
    evaluator = evaluator or Rows(made.space)
    budget = budget or {"n_eval": 40}
    return run(made, algorithm or Nsga2(pop_size=8), path, evaluator, rungs=GROWING, **budget)


def records(path):
    return sorted(map(str, read_journal(path / "journal.jsonl")[1]))


@given(st.integers(1, 60), st.sampled_from([0.1, 0.3, 0.7, 1 / 3, 1 / 16, 0.25]))
def test_the_number_that_goes_on_is_the_share_rounded_up(count, keep):
    F = np.random.default_rng(count).random((count, 2))
    chosen = promoted(F, np.zeros((count, 1)), keep)
    assert len(chosen) - 1 < keep * count + 1e-9 and len(chosen) >= keep * count - 1e-9


def _beaten(F, i):
    return any((row <= F[i]).all() and (row < F[i]).any() for row in F)


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_who_goes_on_does_not_depend_on_the_scale_of_objectives(count, objectives, seed):
    rng = np.random.default_rng(seed)
    F, G = rng.integers(0, 9, (count, objectives)).astype(float), np.zeros((count, 1))
    order = ranked(F, G)
    assert sorted(order.tolist()) == list(range(count))
    scale = 2.0 ** rng.integers(-3, 4, objectives)
    assert ranked(F * scale, G).tolist() == order.tolist()
    assert ranked(F, G, 3).tolist() == order.tolist()[:3]
    best = [i for i in range(count) if not _beaten(F, i)]
    assert set(order[: len(best)].tolist()) == set(best)


@settings(max_examples=20)
@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.9]), min_size=1, max_size=3), st.integers(4, 16))
def test_every_rung_takes_its_share_of_the_one_before(tmp_path_factory, keeps, count):
    made = problem(4)
    ladder = (*(Rung(i, keep) for i, keep in enumerate(keeps)), Rung(-1))
    folder = tmp_path_factory.mktemp("ladder")
    found, evaluator = run(made, Nsga2(pop_size=count), folder, rungs=ladder, n_gen=1)
    corners = {p.id for p in made.space.patterns(made.space.corners)}
    going, before = count, None
    for rung, keep in zip(ladder, (*keeps, 1.0), strict=True):
        here = {name for name, at in evaluator.asked if at == rung.index} - corners
        assert going - 2 <= len(here) <= going  # what spans the box is asked in any case
        assert before is None or here <= before
        before, going = here, math.ceil(round(keep * going, 9))
    assert len(found.climbs) == going
    assert {len(one) for one in found.climbs} == {len(ladder)}


def test_a_higher_rung_measures_the_rows_after_those_of_the_one_before(tmp_path):
    made = problem(4)
    found, evaluator = climb(made, tmp_path)
    corners = {p.id for p in made.space.patterns(made.space.corners)}
    for name, rung, rows in evaluator.measured:
        if name not in corners:
            assert rows == range((0, *SIZES)[rung % 3], SIZES[rung])
    afresh = Rows(made.space)
    (tmp_path / "afresh").mkdir()
    flat = tuple(Rung(r.index, r.keep, label=r.label) for r in GROWING)
    other, _ = run(made, Nsga2(pop_size=8), tmp_path / "afresh", afresh, rungs=flat, n_eval=40)
    assert {rows.start for _, _, rows in afresh.measured} == {0}
    assert other.F.tolist() == found.F.tolist()
    assert records(tmp_path) == records(tmp_path / "afresh")
    assert "tables" not in (tmp_path / "journal.jsonl").read_text()
    assert found.tokens < other.tokens


def test_every_row_of_a_pattern_is_counted_once(tmp_path):
    made = problem(4)
    found, _ = climb(made, tmp_path, n_gen=3)
    assert (found.n_eval, len(found.climbs)) == (24, 6)
    assert found.tokens == 24 * 3 + 12 * (5 - 3) + 6 * (12 - 5)
    assert per_candidate(GROWING, SIZES) * 24 == found.tokens


@settings(max_examples=15)
@given(k=st.integers(1, 70), budget=st.sampled_from([{"n_eval": 40}, {"tokens": 150.0}]))
def test_tokens_and_journal_do_not_depend_on_a_kill(tmp_path_factory, k, budget):
    made = problem(4)
    calm_folder, folder = (tmp_path_factory.mktemp(name) for name in ("calm", "killed"))
    calm, whole = climb(made, calm_folder, **budget)
    killed = Rows(made.space)
    killed.stop_after = min(k, len(whole.asked) - 1)
    with pytest.raises(RuntimeError, match="killed"):
        climb(made, folder, killed, **budget)
    again, _ = climb(made, folder, **budget)
    assert (again.tokens, again.n_eval) == (calm.tokens, calm.n_eval)
    assert again.F.tolist() == calm.F.tolist() and again.climbs == calm.climbs
    assert records(folder) == records(calm_folder)


def test_who_learns_from_lower_rungs_is_resumed_to_the_same(tmp_path):
    made = problem(6)
    surrogate = SurrogateNsga2(initial=16, batch=8)
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    calm, _ = climb(made, tmp_path / "calm", algorithm=surrogate, n_eval=64)
    killed = Rows(made.space)
    killed.stop_after = 61
    with pytest.raises(RuntimeError, match="killed"):
        climb(made, tmp_path / "killed", killed, algorithm=surrogate, n_eval=64)
    again, _ = climb(made, tmp_path / "killed", algorithm=surrogate, n_eval=64)
    assert again.F.tolist() == calm.F.tolist()
    assert records(tmp_path / "killed") == records(tmp_path / "calm")


def test_a_listener_hears_what_each_lower_rung_saw_before_it_is_told(tmp_path, monkeypatch):
    heard = []
    hear, tell = SurrogateStepper.hear, SurrogateStepper.tell
    monkeypatch.setattr(
        SurrogateStepper,
        "hear",
        lambda self, rung, X, F, G: (heard.append((rung, len(X))), hear(self, rung, X, F, G))[1],
    )
    monkeypatch.setattr(
        SurrogateStepper,
        "tell",
        lambda self, X, F, G: (heard.append(("top", len(X))), tell(self, X, F, G))[1],
    )
    climb(problem(6), tmp_path, algorithm=SurrogateNsga2(initial=16, batch=8), n_eval=30)
    assert heard == [(0, 16), (1, 8), ("top", 16), (0, 8), (1, 4), ("top", 8), (0, 6), (1, 3)]


def test_what_fails_at_a_rung_is_measured_whole_at_the_next(tmp_path):
    made = problem(3)
    reference, _ = climb(made, tmp_path, algorithm=Random(batch=8), n_eval=16)
    broken = [p.id for p in reference.patterns if p != made.space.dense][:1]
    (tmp_path / "b").mkdir()

    class Once(Rows):
        def _one(self, pattern, request):
            self._fail = set(broken) if request.rung == 0 else set()
            return super()._one(pattern, request)

    ladder = (Rung(0, 0.99), *GROWING[1:])
    evaluator = Once(made.space)
    run(made, Random(batch=2), tmp_path / "b", evaluator, rungs=ladder, n_eval=16)
    rows = [rows for name, rung, rows in evaluator.measured if name in broken and rung == 1]
    assert all(one.start == 0 for one in rows)


def test_a_rung_at_which_the_dense_model_has_no_value_is_refused(tmp_path):
    made = problem(3)

    class Short(Rows):
        def _one(self, pattern, request):
            one = super()._one(pattern, request)
            return replace(one, values={"harm": math.nan}) if request.rung == 0 else one

    message = r"cannot be scored at the rung of 3: harm is nan. Give that rung more samples"
    with pytest.raises(ModelError, match=message):
        climb(made, tmp_path, Short(made.space))


def test_tables_are_held_by_nobody_but_who_asked(tmp_path):
    made = problem(3)
    with Journal.open(tmp_path / "journal.jsonl", {}) as journal:
        archive = Archive(journal, lambda: Rows(made.space))
        (first,) = archive.get([made.space.dense], rung=0, carry=True)
        (second,) = archive.get([made.space.dense], rung=0, carry=True)
    assert len(first.tables["clean"]) == 3 and second.tables == {}
    assert second.values == first.values


@pytest.mark.parametrize("algorithm", [OnePlusLambda(), Evop(pop_size=16, share=0.25)])
def test_who_knows_one_objective_promotes_by_it(tmp_path, algorithm):
    made = problem(24, (BLOCKS,))
    rungs = (Rung(0, 1 / 16), Rung(-1))
    _, evaluator = run(made, algorithm, tmp_path, rungs=rungs, n_gen=1)
    harm = {p: evaluator.harm(q, 0) for p, q in patterns_of(tmp_path).items()}
    corners = {p.id for p in made.space.patterns(made.space.corners)}
    low = [name for name, rung in evaluator.asked if rung == 0 and name not in corners]
    top = {name for name, rung in evaluator.asked if rung == -1} - corners
    best = sorted(harm[name] for name in low)[: len(top)]
    assert sorted(harm[name] for name in top) == best


def patterns_of(path):
    found = [r for r in read_journal(path / "journal.jsonl")[1] if r["type"] == "evaluation"]
    return {r["id"]: Evaluation.from_json(r).pattern for r in found}


def test_evopress_compares_its_parent_with_top_rung_values_only(tmp_path):
    """The lower rung's values are all better than the parent's, and are never told."""
    made = problem(24, (BLOCKS,))

    class Flattering(FakeEvaluator):
        def harm(self, pattern, rung):
            return super().harm(pattern, -1) - 1000.0 * (rung >= 0)

    steppers = []

    class Kept(OnePlusLambda):
        def begin(self, *args):
            steppers.append(super().begin(*args))
            return steppers[-1]

    evaluator, rungs = Flattering(made.space), (Rung(0, 1 / 16), Rung(-1))
    found, _ = run(made, Kept(), tmp_path, evaluator, rungs=rungs, n_eval=64 + 10 * 32)
    assert len(found.patterns) == 4 + 10 * 2
    # The last generation ends the search and is not told.
    assert steppers[0]._value == found.F[:-2, 0].min() > -100


def told(low, top, sizes=None):
    """Returns how a rung's values agree with the top rung's, of patterns of one size or several."""
    climbs = [({"kl": a}, {"kl": b}) for a, b in zip(low, top, strict=True)]
    sizes = np.ones(len(climbs)) if sizes is None else sizes
    return agreements(climbs, sizes, ("low", "top"), ["kl"])[0]


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=30, unique=True))
def test_a_rung_that_ranks_alike_agrees(values):
    top = np.exp(np.array(values, dtype=float) / 10)
    alike, turned = told(values, top), told(values, -top)
    assert (alike.correlation, alike.n, alike.misleads) == (1.0, len(values), False)
    assert turned.correlation == -1.0 and turned.misleads == (len(values) >= ENOUGH)
    assert in_words([alike])[0].startswith("rungs     low: rank correlation")


def test_a_warning_says_what_to_do_and_needs_enough_patterns():
    rng = np.random.default_rng(0)
    low, top = rng.random(ENOUGH), np.arange(ENOUGH)
    few, enough = told(low[1:], top[1:]), told(low, top)
    assert few.correlation < 0.5 and enough.correlation < 0.5
    assert len(in_words([few])) == 1
    warning = in_words([enough])[1]
    assert warning.startswith("warning   the rung of low misleads about kl")
    assert "Give it more samples" in warning


def test_a_rung_that_only_sees_the_size_misleads():
    rng = np.random.default_rng(0)
    size = np.repeat(np.arange(6.0), 10)
    top, noise = size + rng.normal(0, 0.3, 60), size + rng.normal(0, 0.3, 60)
    blind, sharp = told(noise, top, size), told(top + rng.normal(0, 0.05, 60), top, size)
    assert blind.correlation > 0.9 and abs(blind.given_size) < 0.3 and blind.misleads
    assert sharp.given_size > 0.7 and not sharp.misleads
    assert "given the size" in in_words([blind])[0]


@given(st.integers(0, 2**32 - 1), st.integers(4, 40))
def test_the_partial_correlation_is_that_of_the_ranks_residuals(seed, count):
    rng = np.random.default_rng(seed)
    size = rng.permutation(count).astype(float)
    low, top = (np.argsort(np.argsort(size + rng.normal(0, 9, count))) for _ in range(2))
    lines = [np.polyval(np.polyfit(size, ranks, 1), size) for ranks in (low, top)]
    a, b = low - lines[0], top - lines[1]
    if min(a.std(), b.std()) > 1e-6:
        expected = float(np.corrcoef(a, b)[0, 1])
        assert told(low, top, size).given_size == pytest.approx(expected, abs=1e-6)


def test_a_rung_that_tells_nothing_apart_misleads_and_one_of_equals_does_not():
    flat, rising = np.zeros(ENOUGH), np.arange(ENOUGH)
    blind, equal = told(flat, rising), told(rising, flat)
    assert (blind.correlation, blind.misleads) == (0.0, True)
    assert math.isnan(equal.correlation) and not equal.misleads
    assert equal.to_json()["correlation"] is None


def test_what_has_no_value_is_left_out():
    made = [({"kl": float(i)}, {"kl": float(i)}) for i in range(3)]
    made += [({}, {"kl": 1.0}), ({"kl": math.inf}, {"kl": 1.0})]
    (found,) = agreements(made, [1.0] * 5, ("low", "top"), ["kl"])
    assert (found.n, found.correlation) == (3, 1.0)
    assert agreements([], [], ("low", "top"), ["kl"])[0].n == 0


def test_a_search_says_how_its_rungs_ranked(tmp_path):
    found, _ = climb(problem(4), tmp_path, n_gen=10)
    assert [(a.rung, a.objective, a.n) for a in found.agreements] == [
        ("3", "harm", 20),
        ("5", "harm", 20),
    ]
    assert all(a.correlation == 1.0 for a in found.agreements)
    assert sum(note.startswith("rungs") for note in found.notes) == 2


def test_a_search_without_rungs_says_nothing_of_them(tmp_path):
    found, _ = run(problem(3), Random(batch=8), tmp_path, n_eval=16)
    assert found.agreements == [] and found.notes == ()
