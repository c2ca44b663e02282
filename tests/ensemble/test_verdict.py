"""What an ensemble comes to, in one sentence."""

from dataclasses import replace

import pytest

from evoprune.ensemble.ensemble import Ensemble, Member
from evoprune.ensemble.members import Recipe

COSTS = {"flops": {"total": 95.0, "dense": 100.0}, "params": {"total": 120.0, "dense": 100.0}}
RIVALS = {"best_single": "a", "equal_cost": "b"}
COST = "on the report split, with 95% of the dense model's FLOPs and 120% of its parameters."


def row(rival: str, low: float, high: float, metric: str = "nll", goal: str = "min") -> dict:
    ends = {"value": (low + high) / 2, "low": low, "high": high}
    return {"name": f"ensemble - {rival}", "metric": metric, "goal": goal, **ends}


def made(*rows: dict, measure: str = "nll", rivals: dict = RIVALS, members: int = 2) -> Ensemble:
    found = tuple(Member(f"m{i}", [i]) for i in range(members))
    return Ensemble("pair", Recipe(measure=measure), found, COSTS, {}, rivals, rows)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.3, -0.1), "beats the best single point beyond doubt (nll -0.2000 [-0.3000, -0.1000])"),
        ((-0.3, 0.1), "cannot be told from the best single point (nll -0.1000 [-0.3000, +0.1000])"),
        ((0.1, 0.3), "is worse than the best single point beyond doubt (nll +0.2000 "),
        ((float("nan"), float("nan")), "cannot be told from the best single point (nll +nan"),
    ],
)
def test_an_interval_without_zero_leaves_no_doubt(ends, said):
    verdict = made(row("best_single", *ends), row("equal_cost", -0.2, 0.2)).verdict
    assert said in verdict
    assert "and cannot be told from the single model of equal cost (nll +0.0000 [" in verdict
    assert verdict.endswith(COST)


def test_what_is_to_rise_is_better_where_it_is_higher():
    rows = [row(rival, 0.1, 0.2, "token_accuracy", "max") for rival in RIVALS]
    verdict = made(row("best_single", 1, 2), *rows, measure="accuracy").verdict
    assert verdict.startswith("It beats the best single point beyond doubt (token_accuracy +0.15")
    assert "and beats the single model of equal cost beyond doubt (token_accuracy" in verdict


def test_a_rival_of_two_names_is_named_once():
    rows = [row(rival, -0.2, -0.1) for rival in RIVALS]
    verdict = made(*rows, rivals=dict.fromkeys(RIVALS, "a")).verdict
    assert f"-0.1000]), which is also the single model of equal cost, {COST}" in verdict


def test_without_the_measure_another_metric_counts():
    verdict = made(row("best_single", -2, -1, "denoising_loss")).verdict
    assert "beyond doubt (denoising_loss -1.5000" in verdict


def test_one_member_is_no_ensemble_and_none_compared_says_so():
    assert made(members=1).verdict.startswith("It has one member, so it is the point m0 and no ens")
    assert made().verdict.startswith("It was not compared with single models; it has 95% of")


def test_the_representation_is_short_and_ends_with_the_verdict():
    one = made(row("best_single", -0.3, -0.1))
    assert repr(one) == f"Ensemble 'pair': 2 members. {one.verdict}"
    assert repr(replace(one, members=one.members[:1])).startswith(
        "Ensemble 'pair': 1 member. It has"
    )
