"""Searches held to the homogeneous rung, and the shipped space that has no other."""

import numpy as np
import pytest

import evoprune
from evoprune.constraints import parse_bound
from evoprune.errors import ConfigError, SpaceError
from evoprune.journal import read_journal
from evoprune.ladder import rung_of
from evoprune.pattern import Pattern
from evoprune.plan import plan
from evoprune.session import space_of

RULES = ["uniform", "last_k", "greedy", "random", "additive", "block_influence"]
HELD = {"rung": "homogeneous", "params": "<=80%"}


def rungs(run) -> set[str]:
    """Returns the rungs of all that was evaluated."""
    space = space_of(run.folder)
    rows = [row for row in read_journal(run.folder.journal)[1] if row.get("type") == "evaluation"]
    return {rung_of(space, Pattern.from_json(row["pattern"]))[0] for row in rows}


def test_all_that_a_search_its_starts_and_its_controls_evaluate_is_homogeneous(tiny_config):
    settings = tiny_config(
        space="decoder/depth_width",
        constraints=HELD,
        controls=RULES,
        search={"n_eval": 30, "warm_starts": ["dense", "uniform", "last_k", "block_influence"]},
    )
    run = evoprune.search(settings, quiet=True)
    assert rungs(run) == {"homogeneous"}
    bound = parse_bound("params<=80%")
    params = np.array([point.values["params"] for point in run.front])
    assert bound.met(params, run.front.dense["params"]).all()


def test_an_exact_count_is_a_budget_too(tiny_config):
    bounds = {"rung": "homogeneous", "params": "<=30000"}
    run = evoprune.search(tiny_config(space="decoder/uniform", constraints=bounds), quiet=True)
    assert rungs(run) == {"homogeneous"}
    assert max(point.values["params"] for point in run.front) <= 30_000


def test_plan_counts_homogeneous_candidates(tiny_config):
    settings = tiny_config(space="decoder/depth_width")
    free = dict(plan(settings))["space"]
    held = dict(plan(settings | {"constraints": {"rung": "homogeneous"}}))["space"]
    assert free == "decoder/depth_width: 12 genes, 6.554e+04 candidates"
    assert held == "decoder/depth_width: 6 genes, 128 candidates"


def test_a_space_without_homogeneous_patterns_is_refused_before_anything_runs(tiny_config):
    rules = {"family": "decoder", "genes": [{"kind": "attn", "drop": True}]}
    settings = tiny_config(space=rules, constraints={"rung": "homogeneous"})
    with pytest.raises(SpaceError, match="but the dense one is homogeneous"):
        plan(settings)


def test_a_recovery_that_adds_tensors_is_refused_beside_it(tiny_config):
    settings = tiny_config(
        space="decoder/uniform", adapt="bias_compensation", constraints={"rung": "homogeneous"}
    )
    with pytest.raises(ConfigError, match="tensors that no stock class has"):
        plan(settings)
