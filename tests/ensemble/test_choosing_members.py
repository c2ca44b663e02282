"""Who is chosen, from made-up answers on validation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from evoprune.core.constraints import Constraint
from evoprune.core.errors import ConfigError
from evoprune.ensemble.members import (
    METHODS,
    WINDOWS,
    Choice,
    Recipe,
    choose,
    draw_sets,
    parse_budget,
)
from evoprune.ensemble.mixture import Mixture
from evoprune.ensemble.predictions import Predictions
from evoprune.ensemble.routed import best_by_cluster, nearest


class Prices:
    """What a budget asks of costs: fixed prices, each member's for itself."""

    def __init__(self, prices):
        self.prices = np.asarray(prices, dtype=np.float64)

    def each(self, metric):
        return self.prices


@dataclass(frozen=True)
class Sum:
    """A budget over fixed prices."""

    bill: Prices
    most: float
    routed = False

    @property
    def constraint(self):
        return Constraint("flops", "<=", self.most)

    def fits(self, members):
        return self.bill.prices[list(members)].sum() <= self.most

    def holds(self, mixture):
        answers = mixture.routes.values() or [mixture.members]
        return all(self.fits(np.atleast_1d(one)) for one in answers)


def made_up(seed=0, patterns=9, rows=60, classes=4, clusters=3):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (patterns, rows, classes))
    logits[:, np.arange(rows), targets] += np.linspace(0.5, 1.5, patterns)[:, None]
    held = torch.from_numpy(logits), torch.from_numpy(targets)
    return Predictions(*held, np.arange(rows), rng.integers(0, clusters, rows))


def sums(most, patterns=9):
    return Sum(Prices(np.linspace(1, 3, patterns)), most)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_method_exceeds_its_budget(method, seed):
    limit = sums(8.0)
    chosen = choose(Recipe(method, seed=seed, budget="flops<=8"), made_up(seed), limit, 3)
    if chosen.mixture.routes:
        assert all(limit.fits([i]) for i in chosen.mixture.members)
    else:
        assert limit.fits(chosen.mixture.members)


@pytest.mark.parametrize("rule", ["probability", "logit", "vote"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_never_gets_worse_and_reports_what_it_has(seed, rule):
    answers = made_up(seed)
    chosen = choose(Recipe("greedy", rule), answers, sums(100.0))
    losses = [step["nll"] for step in chosen.steps]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == min(answers.loss(Mixture({i: 1}, rule), "nll")[0] for i in range(9))
    assert losses[-1] == answers.loss(chosen.mixture, "nll")[0]
    assert sum(chosen.mixture.weights.values()) == len(chosen.steps)


def test_greedy_takes_at_least_as_many_as_asked_for():
    answers = made_up()
    answers.logits[8, torch.arange(60), answers.targets] += 50.0
    assert choose(Recipe("greedy"), answers, sums(100.0)).mixture.members == [8]
    chosen = choose(Recipe("greedy", least=4), answers, sums(8.0))
    assert len(chosen.mixture.members) == 4 and 8 in chosen.mixture.members
    with pytest.raises(ConfigError, match="No 4 points"):
        choose(Recipe("greedy", least=4), answers, sums(4.0))


def test_greedy_by_accuracy_lowers_the_errors():
    answers = made_up()
    chosen = choose(Recipe("greedy", measure="accuracy"), answers, sums(100.0))
    assert chosen.steps[-1]["accuracy"] <= answers.wrong.mean(axis=1).min()


def test_diversity_chooses_from_the_better_half_the_most_unlike():
    answers = made_up()
    ranked = answers.order("nll")
    chosen = choose(Recipe("disagreement", size=2), answers, sums(100.0)).mixture.members
    others = ranked[1:5]
    unlike = {i: (answers.choices[i] != answers.choices[ranked[0]]).mean() for i in others}
    assert set(chosen) == {ranked[0], max(others, key=unlike.get)}


def test_double_fault_looks_for_members_that_are_not_wrong_together():
    answers = made_up()
    ranked = answers.order("nll")
    chosen = choose(Recipe("double_fault", size=2), answers, sums(100.0)).mixture.members
    both = {i: (answers.wrong[i] & answers.wrong[ranked[0]]).mean() for i in ranked[1:5]}
    assert both[next(i for i in chosen if i != ranked[0])] == min(both.values())


def test_percentile_takes_all_inside_one_of_the_papers_windows():
    answers = made_up(patterns=40)
    chosen = choose(Recipe("percentile"), answers, sums(1e9, 40)).mixture.members
    accuracy = 1 - answers.wrong.mean(axis=1)
    windows = [np.percentile(accuracy, window) for window in WINDOWS]
    inside = [np.flatnonzero((a <= accuracy) & (accuracy <= b)).tolist() for a, b in windows]
    assert WINDOWS[0] == (50, 60) and WINDOWS[-1] == (85, 95)
    assert chosen in inside


def test_routed_is_the_best_of_each_cluster_by_brute_force():
    answers = made_up()
    chosen = choose(Recipe("routed"), answers, sums(100.0), 3).mixture
    for cluster in range(3):
        here = answers.clusters == cluster
        means = [answers.nll[i, here].mean() for i in range(9)]
        assert means[chosen.routes[cluster]] == min(means)


@pytest.mark.parametrize("measure", ["nll", "accuracy"])
@pytest.mark.parametrize("method", ["greedy", "disagreement", "percentile", "routed"])
def test_whoever_answers_nothing_finite_is_no_member(method, measure):
    answers = made_up(patterns=40)
    # Right by its first class, which is what an arg-max over NaN says too.
    answers.targets[:] = 0
    answers.logits[0] = torch.nan
    chosen = choose(Recipe(method, measure=measure), answers, sums(1e9, 40), 3).mixture
    assert 0 not in chosen.members


def test_a_cluster_without_examples_gets_the_best_over_all():
    losses = np.array([[0.0, 4.0], [1.0, 1.0]])
    assert best_by_cluster(losses, np.array([0, 0]), 2) == {0: 1, 1: 1}


def test_the_nearest_cluster_is_that_of_the_smallest_distance():
    rng = np.random.default_rng(0)
    points, centroids = rng.normal(size=(20, 6)), rng.normal(size=(4, 6))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    distance = ((unit[:, None] - centroids) ** 2).sum(-1)
    np.testing.assert_array_equal(nearest(points, centroids), distance.argmin(axis=1))


def test_random_sets_differ_fit_and_depend_on_the_seed_alone():
    choice = Choice(Recipe("random"), made_up(), sums(7.0), tuple(range(9)))
    drawn = [draw_sets(choice, 3, 20, np.random.default_rng(5)) for _ in range(2)]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 20
    assert all(len(one) == 3 and sums(7.0).fits(one) for one in drawn[0])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("gready"),
        Recipe(combine="mean"),
        Recipe(measure="kl"),
        Recipe(size=0),
        Recipe(size=2, least=3),
        Recipe(least=0),
        Recipe("random", least=2),
        Recipe("percentile", size=2),
        Recipe("routed", size=2),
    ],
)
def test_recipes_without_sense_are_refused(recipe):
    with pytest.raises(ConfigError):
        choose(recipe, made_up(), sums(100.0))


@pytest.mark.parametrize("text", ["flops", "flops>=3", "speed<=3", "flops<=much"])
def test_budgets_without_sense_are_refused(text):
    with pytest.raises(ConfigError):
        parse_budget(text, ["params", "flops"])


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(ConfigError, match="No point of the front fits"):
        choose(Recipe(), made_up(), sums(0.5))
