"""Searches held to the homogeneous rung, and the shipped space that has no other."""

import numpy as np
import pytest

import evoprune
from evoprune.core.constraints import parse_bound
from evoprune.core.errors import ConfigError, SpaceError
from evoprune.core.export_rungs import rung_of
from evoprune.core.pattern import Keep, Pattern
from evoprune.folder.journal import read_journal
from evoprune.planning.plan import plan
from evoprune.session import space_of
from evoprune.testing import tiny_decoder

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


@pytest.fixture(scope="module")
def odd_heads(tmp_path_factory):
    """Returns a Llama of which three key-value groups of four are no width that its class takes."""
    return tiny_decoder(tmp_path_factory.mktemp("odd") / "model", layers=2, heads=(8, 4))


@pytest.mark.parametrize(
    "held",
    [
        {"space": "decoder/uniform"},
        {"space": "decoder/depth_width", "constraints": {"rung": "homogeneous"}},
    ],
    ids=["space", "constraint"],
)
def test_numbers_of_heads_that_the_class_refuses_are_left_out(held, odd_heads, tiny_config):
    run = evoprune.search(tiny_config(model={"name_or_path": str(odd_heads)}, **held), quiet=True)
    space = space_of(run.folder)
    counts = {option for gene in space.genes if "heads" in gene.name for option in gene.options}
    assert counts == {Keep(4), Keep(2), Keep(1)}
    assert {point.rung for point in run.front} == {"homogeneous"}


def test_bits_of_heads_that_the_class_may_refuse_are_refused(odd_heads, tiny_config):
    rules = {"family": "decoder", "genes": [{"kind": "heads", "bits": True}]}
    asked = {"space": rules, "constraints": {"rung": "homogeneous"}}
    with pytest.raises(SpaceError, match=r"any number of heads\. LlamaConfig refuses"):
        plan(tiny_config(model={"name_or_path": str(odd_heads)}, **asked))
