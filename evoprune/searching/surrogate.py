"""Search on a model of the objectives; evaluate what the model is most hopeful about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.core.constraints import Constraint
from evoprune.searching.acquire import batch
from evoprune.searching.algorithm import WORST, Seen, Stepper
from evoprune.searching.algorithms import Nsga2, first_candidates
from evoprune.searching.exhaustive import ExhaustiveStepper
from evoprune.searching.fidelity import FEWEST, Rows
from evoprune.searching.inner import evolved, trail
from evoprune.searching.moves import at_edge
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair
from evoprune.searching.starts import stratified
from evoprune.searching.surrogate_model import Features, Form, Model, chosen
from evoprune.searching.values import promoted, ranked

# A space this small is listed instead of searched on the model.
LISTED = 1 << 14
# Candidates predicted at once: what is computed of so many stays in the processor's cache.
CHUNK = 256


@dataclass(frozen=True)
class SurrogateNsga2:
    """``surrogate_nsga2``: NSGA-II on a model of the measured objectives, in hopeful batches.

    After a start set, each generation fits a Gaussian process over levels and pairs of levels to
    all that was told, lets NSGA-II search it (costs are counted, never modelled; budgets are
    met), and asks for the batch that may add most hypervolume at an optimistic bound. Where the
    model ranks left-out candidates of a size no better than by chance, plain NSGA-II proposes.
    Values of lower rungs are learnt from as well, as far as they agree with the top, and what a
    rung sent home is called back, once, where the model finds it hopeful after all.

    Attributes:
        initial: candidates before the first model; by default one for each variable, 16 to 32.
        batch: candidates asked for at once.
        optimism: standard deviations between the prediction and its bound; a batch is shared
            out over them, since models are wrong by more than they know.
        min_skill: rank correlation below which the model counts as blind.
        pop_size_inner: the population that searches the model.
        n_gen_inner: its generations.
        max_rows: evaluations that a model is fitted to; of more, the best ranks.
        enumerates: whether a space no larger than the budget is listed instead.
        calls_back: whether what a rung sent home may be asked for again.
    """

    enumerates: ClassVar[bool] = True
    calls_back: ClassVar[bool] = True

    initial: int | None = None
    batch: int = 12
    optimism: tuple[float, ...] = (0.5, 1.0, 2.0, 8.0)
    min_skill: float = 0.25
    pop_size_inner: int = 64
    n_gen_inner: int = 40
    max_rows: int = 800

    def __post_init__(self) -> None:
        for name in ("batch", "pop_size_inner", "n_gen_inner", "max_rows"):
            least = {"pop_size_inner": 4, "max_rows": FEWEST}.get(name, 1)
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.initial is not None and self.initial < 1:
            raise ValueError(f"initial is {self.initial}; it must be at least 1")
        if not self.optimism or min(self.optimism) < 0:
            raise ValueError(f"optimism is {self.optimism}; it needs numbers, none negative")
        if not -1 <= self.min_skill <= 1:
            raise ValueError(f"min_skill is {self.min_skill}; it must lie in [-1, 1]")

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start."""
        return SurrogateStepper(self, problem, starts, seed)


class SurrogateStepper:
    """What was told, and what it says about the rest.

    Attributes:
        notes: what a person should know of how it went.
    """

    def __init__(
        self, settings: SurrogateNsga2, problem: Problem, starts: np.ndarray, seed: int
    ) -> None:
        self._settings, self._problem, self._seed = settings, problem, seed
        self._starts: np.ndarray | None = starts
        self._seen = Seen()
        self._none = Rows.none(problem.space.n_var, len(problem.objectives), problem.n_violations)
        self._top, self._lower = self._none, dict[int, Rows]()
        self._surrogate = Surrogate(problem, settings.max_rows)
        self._front = self._none.X
        # What a lower rung has seen and the top has not, and what of it was called back last.
        self._home: dict[bytes, np.ndarray] = {}
        self._recalled: set[bytes] = set()
        self._asks = self._modelled = self._blind = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """How many generations the model proposed, how far it could be trusted."""
        return (
            f"surrogate {self._modelled} batches by the model, {self._blind} by NSGA-II"
            f"{self._surrogate.words}",
        )

    def ask(self) -> np.ndarray | None:
        """Returns the start set, then a batch at a time; None when nothing new is found."""
        import scipy.linalg  # noqa: F401 - what is loaded later would not be limited
        from threadpoolctl import threadpool_limits

        rng = np.random.default_rng([self._seed, 3, self._asks])
        self._asks += 1
        with threadpool_limits(1):  # the same sums in the same order, whoever else computes
            X = self._first(rng) if self._starts is not None else self._next(rng)
        X = X[self._fresh(X)]
        if not len(X):
            X = self._more(rng)
        self._seen.add(X)
        self._recalled = {row.tobytes() for row in X} & self._home.keys()
        for name in self._recalled:
            del self._home[name]
        return X if len(X) else None

    def recalls(self, X: np.ndarray) -> np.ndarray:
        """Returns which of the candidates asked for last a rung had sent home (P,)."""
        return np.array([row.tobytes() in self._recalled for row in X], dtype=bool)

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Adds rows to what the models are fitted to, in the order of the candidates' levels."""
        self._top = self._top.adding(X, F, G)
        for row in X[G[:, -1] == 0]:
            self._home.pop(row.tobytes(), None)

    def hear(self, rung: int, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Adds rows of a lower rung, which say something of what never reaches the top."""
        self._lower[rung] = self._lower.get(rung, self._none).adding(X, F, G)
        self._home |= {row.tobytes(): row for row in X[G[:, -1] == 0]}

    def _fresh(self, X: np.ndarray) -> np.ndarray:
        """Returns which candidates are new, or were sent home and may be called back (P,)."""
        home = np.array([row.tobytes() in self._home for row in X], dtype=bool)
        return self._seen.new(X) | home

    def _first(self, rng: np.random.Generator) -> np.ndarray:
        assert self._starts is not None
        count = self._settings.initial or int(np.clip(self._problem.space.n_var, 16, 32))
        starts, self._starts = self._starts, None
        dense = self._problem.space.corners[:1]
        X = first_candidates(self._problem, np.concatenate([dense, starts]), count, rng)
        if len(self._problem.objectives) > 1 or not self._problem.budgets:
            return X
        # Nothing rewards smaller candidates than a budget asks for: spread along its edge.
        return at_edge(self._problem, X, 0.0, rng)

    def _next(self, rng: np.random.Generator) -> np.ndarray:
        settings, top = self._settings, self._top
        good = (top.G == 0).all(axis=1)
        if scored(top).sum() < FEWEST or not self._problem.measured or not good.any():
            return self._offspring(rng)
        lower = [self._lower[rung] for rung in sorted(self._lower, reverse=True)]
        self._surrogate.fit(top, lower)
        if self._surrogate.skill < settings.min_skill:
            self._blind += 1
            return self._offspring(rng)
        pool = self._pool(rng)
        bounds, kept = self._surrogate.bounds(pool, settings.optimism)
        pool, bounds = pool[kept], bounds[:, kept]
        if not len(pool):
            return self._offspring(rng)
        self._modelled += 1
        picked = batch(top.F[good], bounds, settings.batch)
        X = pool[picked]
        if len(X) < settings.batch:
            # Nothing else promises an improvement: see what NSGA-II would try.
            X = np.concatenate([X, self._offspring(rng)])
            X = X[self._fresh(X)][: settings.batch]
        return X

    def _pool(self, rng: np.random.Generator) -> np.ndarray:
        """Returns what may be asked for: what the model finds best, and what was sent home."""
        problem, settings, told = self._problem, self._settings, self._surrogate.told
        if problem.space.size <= LISTED:
            X = ExhaustiveStepper(LISTED, problem).ask()
            X = self._none.X if X is None else X
        else:
            X = evolved(problem, self._parents(rng), told, settings.n_gen_inner, rng)
            X = X[(problem.budget_violation(X) == 0).all(axis=1)]
            # The next model differs little, so its search begins where this one ended.
            self._front = X[ranked(*told(X), settings.pop_size_inner // 2)]
        X = X[self._seen.new(X)]
        return np.unique(np.concatenate([X, *(r[None] for r in self._home.values())]), axis=0)

    def _parents(self, rng: np.random.Generator) -> np.ndarray:
        """Returns the population that begins a search on the model."""
        problem, count = self._problem, self._settings.pop_size_inner
        stops = trail(problem, self._surrogate.told, self._surrogate.worth)
        stops = stops[(problem.budget_violation(stops) == 0).all(axis=1)]
        stops = stops[:: max(1, len(stops) // (count // 4))]
        first = np.concatenate([self._best(count // 4), stops, self._front])
        return first_candidates(problem, first, count, rng)

    def _best(self, count: int) -> np.ndarray:
        """Returns what NSGA-II would keep of all that was told."""
        top = self._top
        return top.X[promoted(top.F, top.G, min(1.0, count / len(top)))]

    def _offspring(self, rng: np.random.Generator) -> np.ndarray:
        """Returns a generation of plain NSGA-II from all that was told."""
        settings, top = self._settings, self._top
        pop_size = max(4, min(2 * settings.batch, len(top)))
        rows = promoted(top.F, top.G, min(1.0, pop_size / len(top)))
        inner = Nsga2(pop_size, n_offsprings=settings.batch).begin(
            self._problem, top.X[rows], int(rng.integers(2**31))
        )
        first = inner.ask()
        assert first is not None
        known = {row.tobytes(): i for i, row in enumerate(top.X)}
        at = [known.get(row.tobytes(), -1) for row in first]
        F = np.where(np.array(at)[:, None] >= 0, top.F[at], WORST)
        G = np.where(np.array(at)[:, None] >= 0, top.G[at], 1.0)
        inner.seen.add(top.X)  # type: ignore[attr-defined]
        inner.tell(first, F, G)
        X = inner.ask()
        return self._none.X if X is None else X

    def _more(self, rng: np.random.Generator) -> np.ndarray:
        """Returns new random candidates, none when the space is exhausted."""
        for _ in range(50):
            X = stratified(self._problem.space, self._settings.batch, rng)
            X = repair(self._problem, X, rng)
            X = X[self._seen.new(X)]
            if len(X):
                return X
        return self._none.X


def scored(rows: Rows) -> np.ndarray:
    """Returns which candidates have values (P,): neither failed nor stopped at a lower rung."""
    return np.asarray((rows.F[:, 0] < WORST) & (rows.G[:, -1] == 0))


class Surrogate:
    """A model of each measured objective and floor; costs are counted.

    Args:
        problem: what is searched.
        max_rows: rows that models are fitted to at most.
    """

    def __init__(self, problem: Problem, max_rows: int) -> None:
        self._problem, self._max_rows = problem, max_rows
        self._features = Features(problem)
        self._forms: dict[str, Form] = {}
        self._models: dict[str, Model] = {}
        self._dense: np.ndarray | None = None
        self._formed = 0

    @property
    def skill(self) -> float:
        """The rank correlation of the worst modelled objective, within sizes."""
        return min(self._forms[name].skill for name in self._problem.measured)

    @property
    def words(self) -> str:
        """How well each objective was predicted."""
        skills = [
            f"{name} {self._forms[name].skill:.2f}"
            for name in self._problem.measured
            if name in self._forms
        ]
        return f"; rank correlation of left-out values: {', '.join(skills)}" if skills else ""

    def fit(self, top: Rows, lower: Sequence[Rows] = ()) -> None:
        """Fits every model; how each is formed is chosen anew when the rows grew by a quarter.

        Args:
            top: what was evaluated.
            lower: what lower rungs know, the highest first.
        """
        top = top.take(scored(top))
        dense = np.flatnonzero((top.X == 0).all(axis=1))
        self._dense = top.F[dense[0]] if len(dense) else None
        modelled = [name in self._problem.measured for name in self._problem.objectives]
        rows = top.joined([rung.take(scored(rung)) for rung in lower], modelled)
        if len(rows) > self._max_rows:
            rows = rows.take(promoted(rows.F, rows.G, self._max_rows / len(rows)))
        self.worth = np.where(modelled, 1.0 / np.maximum(np.ptp(rows.F, axis=0), 1e-12), 0.0)
        self._rows = self._features.of(rows.X)
        kernels = self._features.kernels(self._rows, self._rows)
        anew = len(rows) >= 1.25 * self._formed
        self._formed = len(rows) if anew else self._formed
        self._models = {}
        for name, (y, doubt) in self._targets(rows).items():
            if anew or name not in self._forms:
                self._forms[name] = chosen(kernels, y, self._rows.trend[:, 1], doubt)
            self._models[name] = Model(kernels, y, self._forms[name], doubt)

    def _targets(self, rows: Rows) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns what is modelled by name, objectives and floors that are none, with its doubt.

        Of a floor on something that is no objective only the violation is told: it becomes +1
        where broken and −1 where kept, a least-squares classifier. So does a floor on an objective
        that is relative to a dense model which the budgets exclude.
        """
        names = list(self._problem.objectives)
        at = {name: names.index(name) for name in self._problem.measured}
        targets = {name: (rows.F[:, i], rows.doubt[:, i]) for name, i in at.items()}
        columns = rows.G[:, len(self._problem.budgets) :].T
        for floor, broken in zip(self._problem.floors, columns, strict=False):
            if not self._read_off(floor) and 0 < (broken > 0).sum() < len(broken):
                classes = np.where(broken > 0, 1.0, -1.0)
                targets[str(floor)] = (classes, np.zeros(len(rows)))
        return targets

    def _read_off(self, floor: Constraint) -> bool:
        """Returns whether the model of an objective says what a floor asks."""
        known = self._dense is not None or not floor.percent
        return floor.name in self._problem.measured and known

    def bounds(self, X: np.ndarray, optimism: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Returns objectives at several optimisms (K, P, M), and who should keep the floors (P,).

        To keep them is also to be of some worth (``evoprune.core.quality``).

        Args:
            X: candidates (P, n_var).
            optimism: standard deviations between prediction and bound (K,).
        """
        problem, found = self._problem, self._predicted(X)
        F = np.zeros((len(optimism), len(X), len(problem.objectives)))
        kept = np.ones(len(X), dtype=bool)
        for column, name in enumerate(problem.objectives):
            if name not in problem.measured:
                F[:, :, column] = problem.cost(name, X) * problem.signs[column]
                continue
            mean, spread = found[name]
            for row, k in enumerate(optimism):
                F[row, :, column] = self._models[name].warp.back(mean - k * spread)
        for floor in problem.floors:
            if self._read_off(floor):
                column = list(problem.objectives).index(floor.name)
                sign = problem.signs[column]
                dense = np.nan if self._dense is None else self._dense[column] * sign
                values = self._models[floor.name].warp.back(found[floor.name][0]) * sign
                kept &= floor.violation(values, dense) == 0
            elif str(floor) in found:
                kept &= self._models[str(floor)].warp.back(found[str(floor)][0]) <= 0
        # Only what may be of some worth, at its most hopeful, is worth an evaluation.
        kept &= (F.min(axis=0) < problem.ceilings()).all(axis=1)
        return F, kept

    def _predicted(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Returns mean and standard deviation (2, P) of what is modelled, by name."""
        parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self._models}
        for at in range(0, max(len(X), 1), CHUNK):
            encoded = self._features.of(X[at : at + CHUNK])
            across = self._features.kernels(encoded, self._rows)
            own = self._features.own(encoded)
            for name, model in self._models.items():
                parts[name].append(model.predict(across, own))
        return {name: np.concatenate(found, axis=1) for name, found in parts.items()}

    def told(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what a search on the model is told: objectives and violations (P, C)."""
        F, kept = self.bounds(X, [1.0])
        G = np.zeros((len(X), self._problem.n_violations))
        G[:, : len(self._problem.budgets)] = self._problem.budget_violation(X)
        G[:, -1] = ~kept
        return F[0], G
