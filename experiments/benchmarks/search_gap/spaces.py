"""Spaces to search without a model: journals that know every pattern, and made-up landscapes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.pareto import hypervolume
from evoprune.progress.console import Console
from evoprune.run import Run
from evoprune.searching.archive import Archive
from evoprune.searching.inner import evolved, trail
from evoprune.searching.loop import Box, box
from evoprune.searching.problem import Problem
from evoprune.searching.values import objectives, violations
from evoprune.session import Session, open_session
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, Landscape, flat, problem


@dataclass(frozen=True)
class Told:
    """What candidates are worth.

    Attributes:
        F: objectives, to be minimised (P, M).
        G: violations (P, C + 1).
        tokens: dense-equivalent tokens of each (P,); of a landscape, in dense evaluations.
        seconds: what each took when it was evaluated (P,); 0 of a landscape.
    """

    F: np.ndarray
    G: np.ndarray
    tokens: np.ndarray
    seconds: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """Objectives of what kept every constraint, others beyond any reference (P, M)."""
        return np.where((self.G == 0).all(axis=1)[:, None], self.F, np.inf)


@dataclass(frozen=True)
class Subject:
    """A space, what its candidates are worth, and the best that is known of it.

    Attributes:
        name: of the space.
        problem: with the objectives that are compared.
        starts: the warm starts, equal for all algorithms.
        score: says what candidates are worth.
        box: the fixed bounds of hypervolume.
        truth: objectives of the true front, or of the best known (P, M).
        exact: whether it is the true one.
    """

    name: str
    problem: Problem
    starts: np.ndarray
    score: Callable[[np.ndarray], Told]
    box: Box
    truth: np.ndarray
    exact: bool

    def hypervolume(self, F: np.ndarray) -> float:
        """Returns the hypervolume of objectives (P, M) in the fixed box."""
        return hypervolume(F, self.box.reference, self.box.ideal)


def journal(session: Session, names: Sequence[str]) -> Subject:
    """Returns the space of an exhaustive run, for some of the measures that its journal holds.

    Whatever the run's own objectives were, what it evaluated holds a value of each of them and of
    its ``columns``; costs are counted.
    """

    def refuse() -> Any:
        raise SystemExit(
            f"{session.folder.path} does not hold every pattern that a search asks for. "
            "Make it with search.algorithm=exhaustive, and run it to its end."
        )

    unknown = set(names) - set(session.problem.measures)
    if unknown:
        raise SystemExit(
            f"{session.folder.path} has no measure {sorted(unknown)}; it has "
            f"{', '.join(session.problem.measures)}."
        )
    archive = Archive(session.journal, refuse)
    made = replace(session.problem, objectives={n: session.problem.measures[n] for n in names})
    dense = archive.get([made.space.dense])[0]

    def score(X: np.ndarray) -> Told:
        known = archive.get(made.space.patterns(X))
        return Told(
            objectives(made, X, known),
            violations(made, X, known, dense),
            np.array([e.tokens for e in known]),
            np.array([e.seconds for e in known]),
        )

    rows = [e.pattern for e in archive.evaluations("search") if e.rung == -1]
    X = made.space.encode(rows)
    X = X[(made.budget_violation(X) == 0).all(axis=1)]
    starts, bounds = session.starts(), box(made, archive, -1)
    name = session.folder.path.name
    return Subject(name, made, starts, score, bounds, score(X).kept, exact=True)


def sets(session: Session, asked: Sequence[str]) -> list[list[str]]:
    """Returns the sets of objectives to compare on: those asked for, or the first two and all."""
    if asked:
        return [names.split(",") for names in asked]
    own = list(session.problem.objectives)
    return [own[:2], own] if len(own) > 2 else [own]


def opened(path: Path) -> Session:
    """Returns the session of a finished run."""
    config = Run.load(path).config.model_copy(update={"output": str(path)})
    return open_session(config, Console(stream=None))


# Genes with more levels than two, nested genes, and bits: none can be listed.
SPACES: Mapping[str, Callable[[], Problem]] = {
    "levels12": lambda: flat([8] * 12),
    "widths48": lambda: problem(24, WIDTHS),
    "nested200": lambda: problem(40, (BLOCKS, *PARTS, *WIDTHS)),
    "levels200": lambda: flat([3] * 200),
    "bits512": lambda: flat(bits=512),
    "bits2048": lambda: flat(bits=2048),
}


def landscape(name: str, seed: int, count: int) -> Subject:
    """Returns a made-up landscape over a large space: one seed, one landscape.

    The true front is not known; the best that long searches of the landscape itself find stands
    for it.

    Args:
        name: one of ``SPACES``.
        seed: of what is drawn.
        count: objectives, 2 (harm and parameters) or 3 (with a second quality, half of it harm).
    """
    made = SPACES[name]()
    harm, other = Landscape(made, seed), Landscape(made, seed + 1000)
    if count == 3:
        first = made.objectives["harm"]
        kinds = {"harm": first, "frailty": first, "params": made.objectives["params"]}
        made = replace(made, objectives=kinds, measures={**made.measures, "frailty": first})

    def values(X: np.ndarray) -> np.ndarray:
        F = harm.F(X)
        if count == 2:
            return F
        return np.stack([F[:, 0], 0.5 * (F[:, 0] + other.F(X)[:, 0]), F[:, 1]], axis=1)

    def score(X: np.ndarray) -> Told:
        return Told(values(X), np.zeros((len(X), 1)), made.share(X), np.zeros(len(X)))

    corners = made.space.corners
    truth = values(best_known(made, lambda X: (values(X), np.zeros((len(X), 1))), seed))
    return Subject(name, made, corners[:1], score, Box.of(*values(corners)), truth, exact=False)


def best_known(made: Problem, told: Callable[[np.ndarray], Any], seed: int) -> np.ndarray:
    """Returns candidates of a search that may ask the landscape as often as it likes."""
    measured = [float(name in made.measured) for name in made.objectives]
    X = np.concatenate([made.space.corners, trail(made, told, np.array(measured))])
    return evolved(made, np.unique(X, axis=0), told, 300, np.random.default_rng(seed))
