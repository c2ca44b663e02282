"""Parts that break the contract of their kind are found out."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from evoprune.criteria.magnitude import Magnitude
from evoprune.objectives.cost import Params
from evoprune.objectives.quality import Kl
from evoprune.searching.algorithms import Random
from evoprune.testing import check_algorithm, check_criterion, check_objective
from evoprune.testing.parts import tiny_subject


class TooFew(Magnitude):
    def scores(self, subject):
        return {name: score[1:] for name, score in super().scores(subject).items()}


class Forgetful(Magnitude):
    def scores(self, subject):
        return dict(list(super().scores(subject).items())[1:])


class Infinite(Magnitude):
    def scores(self, subject):
        return {name: np.log(0 * score) for name, score in super().scores(subject).items()}


class Moody(Magnitude):
    def scores(self, subject):
        return {site.name: np.random.default_rng().random(site.units) for site in subject.sites}


class Careless(Magnitude):
    def scores(self, subject):
        found = super().scores(subject)
        next(iter(subject.model.parameters())).data.mul_(1.5)
        return found


class Leaving(Magnitude):
    def scores(self, subject):
        next(iter(subject.model.parameters())).requires_grad_(True)
        return super().scores(subject)


@pytest.fixture(scope="module")
def subject():
    return tiny_subject()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", [TooFew, Forgetful, Infinite, Moody])
def test_a_criterion(kind, subject):
    with pytest.raises(AssertionError):
        check_criterion(kind(), subject)


@pytest.mark.parametrize("kind", [Careless, Leaving])
def test_a_criterion_that_changes_the_network(kind):
    with pytest.raises(AssertionError):
        check_criterion(kind(), tiny_subject())


class Goalless(Kl):
    goal = "less"


class Unread(Kl):
    passes = ()


class First(Kl):
    def value(self, tables, dense):
        return float(tables["clean"].columns["kl"][0])


class Greedy(Kl):
    def value(self, tables, dense):
        tables["clean"].columns["kl"][:] += 1
        return super().value(tables, dense)


class Random2(Kl):
    def value(self, tables, dense):
        return float(np.random.default_rng().random())


class Undefined(Kl):
    def value(self, tables, dense):
        return super().value(tables, dense) / (0.0 if tables == dense else np.nan)


class Compared(Params):
    def costs(self, table, space, X):
        costs = super().costs(table, space, X)
        return costs / costs.max()


class Single(Params):
    def costs(self, table, space, X):
        return super().costs(table, space, X)[:1]


@pytest.mark.parametrize(
    "kind", [Goalless, Unread, First, Greedy, Random2, Undefined, Compared, Single, object]
)
def test_an_objective(kind):
    with pytest.raises(AssertionError):
        check_objective(kind())


@dataclass(frozen=True)
class Broken:
    """A random search with a defect.

    Attributes:
        twice: everything is asked for once more.
        seedless: the seed is ignored, and every search another.
        short: it ends after three generations.
        rash: budgets are not looked at.
        fragile: it ends when something fails.
    """

    twice: bool = False
    seedless: bool = False
    short: bool = False
    rash: bool = False
    fragile: bool = False
    inner: Random = field(default_factory=Random)

    def begin(self, problem, starts, seed):
        seed = int(np.random.default_rng().integers(1 << 30)) if self.seedless else seed
        free = replace_constraints(problem) if self.rash else problem
        return _Broken(self, self.inner.begin(free, starts, seed))


def replace_constraints(problem):
    from dataclasses import replace

    return replace(problem, constraints=())


class _Broken:
    def __init__(self, options, inner):
        self.options, self.inner, self.asked, self.failed = options, inner, [], False

    def ask(self):
        if self.options.short and len(self.asked) == 3:
            return None
        if self.options.fragile and self.failed:
            return None
        if self.options.twice and len(self.asked) % 2:
            self.asked.append(self.asked[-1])
            return self.asked[-1]
        X = self.inner.ask()
        if X is not None:
            self.asked.append(X)
        return X

    def tell(self, X, F, G):
        self.failed |= bool(G.any())
        self.inner.tell(X, F, G)


def test_a_random_search_without_a_defect_passes():
    check_algorithm(Broken())


@pytest.mark.parametrize("defect", ["twice", "seedless", "rash", "fragile"])
def test_an_algorithm(defect):
    with pytest.raises(AssertionError):
        check_algorithm(Broken(**{defect: True}))


def test_an_algorithm_that_ends_early():
    with pytest.raises(AssertionError, match="it asks for"):
        check_algorithm(Broken(short=True, inner=Random(batch=2)))
