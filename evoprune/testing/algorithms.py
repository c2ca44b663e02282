"""What every algorithm promises, on a problem without a network."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.genes import GeneSpec
from evoprune.searching.algorithm import WORST, Algorithm
from evoprune.searching.budget import Rung
from evoprune.searching.problem import Problem
from evoprune.testing.synthetic import (
    BLOCKS,
    LOWER,
    PARTS,
    WIDTHS,
    FakeEvaluator,
    problem,
    run,
)

NESTED = (BLOCKS, *PARTS, WIDTHS[0])
SPACES: Mapping[str, tuple[GeneSpec, ...]] = {
    "blocks": (BLOCKS,),
    "nested": NESTED,
    "bits": (GeneSpec("channels", bits=True),),
}
EVALUATIONS = 20


def check_algorithm(algorithm: Algorithm, *, walks: bool = False, exhausts: bool = True) -> None:
    """Checks an algorithm.

    Args:
        algorithm: made with its options.
        walks: it goes step by step from the dense model, so it may ask for what breaks a budget
            on its way there.
        exhausts: given time, it asks for every candidate.

    Raises:
        AssertionError: it does not keep what algorithms promise.
    """
    for specs in SPACES.values():
        _check_new(problem(3, specs), algorithm)
    _check_budgets(algorithm, walks)
    _check_end(algorithm, exhausts)
    _check_seed(algorithm)
    _check_failures(algorithm)
    _check_loop(algorithm, exhausts)
    _check_rungs(algorithm)


def asked(
    algorithm: Algorithm,
    made: Problem,
    seed: int = 0,
    generations: int = 6,
    starts: int = 1,
    fails: float = 0.0,
) -> list[np.ndarray]:
    """Returns the generations that an algorithm asks for, told a made-up quality.

    Args:
        algorithm: made with its options.
        made: the problem.
        seed: of the search.
        generations: how many at most.
        starts: how many times the dense candidate stands among the warm starts.
        fails: the share of candidates that fail.
    """
    first = np.zeros((starts, made.space.n_var), dtype=np.int64)
    stepper = algorithm.begin(made, first, seed)
    evaluator, found = FakeEvaluator(made.space), []
    rng = np.random.default_rng(0)
    for _ in range(generations):
        X = stepper.ask()
        if X is None:
            break
        found.append(X)
        harm = [evaluator.harm(pattern, -1) for pattern in made.space.patterns(X)]
        F = np.stack([harm, made.cost("params", X)], axis=1)
        G = np.zeros((len(X), made.n_violations))
        broken = rng.random(len(X)) < fails
        F[broken], G[broken] = WORST, 1.0
        stepper.tell(X, F, G)
    return found


def _check_new(made: Problem, algorithm: Algorithm) -> None:
    generations = asked(algorithm, made)
    assert generations, "it asks for nothing"
    X = np.concatenate(generations)
    assert all(len(one) for one in generations), "it asks for an empty generation"
    assert (made.space.canonical(X) == X).all(), "it asks for what is not canonical"
    patterns = {pattern.id for pattern in made.space.patterns(X)}
    assert len(patterns) == len(X), f"it asks twice for {len(X) - len(patterns)} of {len(X)}"


def _check_budgets(algorithm: Algorithm, walks: bool) -> None:
    made = problem(3, NESTED, params="<=70%")
    X = np.concatenate(asked(algorithm, made, generations=99 if walks else 6))
    met = (made.budget_violation(X) == 0).all(axis=1)
    assert met[-1] if walks else met.all(), "it asks for what breaks the budget"
    narrow = problem(2, (BLOCKS,), params="<=22%")
    X = np.concatenate(asked(algorithm, narrow))
    met = (narrow.budget_violation(X) == 0).all(axis=1)
    assert met.sum() == 1, "it misses the one candidate inside a narrow budget"


def _check_end(algorithm: Algorithm, exhausts: bool) -> None:
    made = problem(3, (BLOCKS,))
    generations = asked(algorithm, made, generations=99)
    assert len(generations) < 99, "it does not end when the space is exhausted"
    count = len(np.concatenate(generations))
    assert not exhausts or count == made.space.size, f"it asks for {count} of {made.space.size}"


def _check_seed(algorithm: Algorithm) -> None:
    made = problem(4, PARTS)
    one, other = (np.concatenate(asked(algorithm, made, 1, 5)) for _ in range(2))
    assert one.tolist() == other.tolist(), "the same seed asks for other candidates"


def _check_failures(algorithm: Algorithm) -> None:
    calm = len(asked(algorithm, problem(4, PARTS), generations=4))
    for share in (0.5, 1.0):
        found = len(asked(algorithm, problem(4, PARTS), generations=4, fails=share))
        assert found >= calm, f"it ends after {found} generations when candidates fail"


def _check_loop(algorithm: Algorithm, exhausts: bool) -> None:
    """The budget is met exactly, and a journal is replayed without evaluating anything."""
    made = problem(4, PARTS)
    with tempfile.TemporaryDirectory(prefix="evoprune-contract-") as scratch:
        folder = Path(scratch)
        found, _ = run(made, algorithm, folder, n_eval=EVALUATIONS)
        met = found.n_eval == EVALUATIONS if exhausts else 0 < found.n_eval <= EVALUATIONS
        assert met, f"{found.n_eval} of {EVALUATIONS} evaluations"
        again, evaluator = run(made, algorithm, folder, n_eval=EVALUATIONS)
        assert not evaluator.asked, "a replay evaluates what the journal knows"
        assert again.patterns == found.patterns, "a replay finds something else"
        broken = {found.patterns[i].id for i in found.front} - {made.space.dense.id}
        (folder / "broken").mkdir()
        failing = FakeEvaluator(made.space, fail=sorted(broken))
        rest, _ = run(made, algorithm, folder / "broken", failing, n_eval=EVALUATIONS)
        assert not broken & {p.id for p in rest.patterns}, "what failed is on the front"


class _Overheard:
    """An algorithm whose search is listened to: what it is told is kept."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self.F: list[np.ndarray] = []
        self.G: list[np.ndarray] = []

    def begin(self, *args: Any) -> Any:
        self._stepper = self._algorithm.begin(*args)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stepper, name)

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        self.F.append(F)
        self.G.append(G)
        self._stepper.tell(X, F, G)


def _check_rungs(algorithm: Algorithm) -> None:
    """It is told top-rung values only, goes on with them, and is replayed."""
    made, rungs = problem(4, PARTS), (Rung(0, 0.5), Rung(1, 0.5), Rung(-1))
    with tempfile.TemporaryDirectory(prefix="evoprune-contract-") as scratch:
        folder, heard = Path(scratch), _Overheard(algorithm)
        # A generation that ends a search is not told: the last evaluation is one of the next.
        found, evaluator = run(made, heard, folder, rungs=rungs, n_eval=2 * EVALUATIONS)
        told = np.concatenate(heard.F) if heard.F else np.zeros((0, 2))
        real = told[told[:, 0] < WORST]
        assert (real[:, 0] < LOWER).all(), "a value of a lower rung is told"
        left_out = np.concatenate(heard.G)[told[:, 0] >= WORST] if heard.G else np.zeros((0, 1))
        assert (left_out > 0).all(), "what does not reach the top rung is told as feasible"
        assert (found.F[:, 0] < LOWER).all(), "a value of a lower rung is found"
        top = {name for name, rung in evaluator.asked if rung == -1}
        assert {p.id for p in found.patterns} <= top, "what is found did not reach the top rung"
        again, evaluator = run(made, algorithm, folder, rungs=rungs, n_eval=2 * EVALUATIONS)
        assert not evaluator.asked, "a replay with rungs evaluates what the journal knows"
        assert again.patterns == found.patterns, "a replay with rungs finds something else"
