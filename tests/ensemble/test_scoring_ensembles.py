"""Tables of mixtures against the worker's own, and against a full computation."""

import numpy as np
import pytest
import torch

from evoprune.core.metrics import ece as ece_of_rows
from evoprune.ensemble.combine import RULES, combine
from evoprune.ensemble.mixture import Mixture
from evoprune.ensemble.predictions import predict
from evoprune.ensemble.scoring import Stand, ece, score
from evoprune.evaluation import runner as runner_module
from evoprune.families.stages import forward

RUNS = ("tiny_language_run", "tiny_digits_run")


def scored(made, mixtures, split="validation"):
    examples = made.worker.examples(split)
    clusters = {name: one.groups for name, one in examples.passes.items()}
    stand = Stand(made.worker.runner, made.worker.task, made.options, examples, clusters)
    return score(stand, mixtures)


def full_logits(made, split="validation"):
    """Returns the logits of all patterns at all scored positions, all at once."""
    worker, clean = made.worker, made.worker.examples(split).clean
    tokens = torch.from_numpy(clean.arrays["tokens"])
    mask = worker.task.positions(tokens, torch.from_numpy(clean.arrays["lengths"]))
    found = []
    for options in made.options:
        with worker.runner.realiser.apply(options) as realised:
            stages = worker.runner.stages
            features = forward(stages, {"tokens": tokens}, realised.dropped)
            found.append(stages.logits(features)[:, :-1][mask].numpy())
    return np.stack(found), tokens[:, 1:][mask].numpy(), mask.nonzero()[:, 0].numpy()


@pytest.mark.parametrize("run", RUNS)
def test_a_mixture_of_one_is_what_the_worker_measures(run, request):
    made = request.getfixturevalue(run)
    found = scored(made, {"one": Mixture.single(2), "joint": Mixture.of([2], "probability")})
    theirs = made.worker.evaluate(made.patterns[2], "validation", keep=True).tables
    for tables in found.values():
        assert set(tables) == set(theirs)
        for name in ("n", "nll", "correct", "kl"):
            if name in theirs["clean"].columns:
                mine = tables["clean"].columns[name]
                np.testing.assert_allclose(mine, theirs["clean"].columns[name], atol=1e-4)
    for one, table in theirs.items():
        for name, column in table.columns.items():
            mine = found["one"][one].columns[name]
            np.testing.assert_allclose(mine, column, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_streaming_equals_the_full_computation(rule, tiny_language_run, monkeypatch):
    monkeypatch.setattr(runner_module, "OUTPUTS_AT_ONCE", 1)
    mixture = Mixture({0: 2, 1: 1, 3: 1}, rule)
    table = scored(tiny_language_run, {"joint": mixture})["joint"]["clean"]
    logits, targets, rows = full_logits(tiny_language_run)
    logp = combine(logits[[0, 1, 3]], rule, [2, 1, 1])
    picked = np.arange(len(targets))
    nll = np.bincount(rows, -logp[picked, targets], len(table))
    np.testing.assert_allclose(table.columns["nll"], nll, rtol=1e-4)
    hits = np.bincount(rows, logp.argmax(axis=1) == targets, len(table))
    np.testing.assert_allclose(table.columns["correct"], hits, atol=1)


def test_calibration_error_is_that_of_the_positions(tiny_language_run):
    table = scored(tiny_language_run, {"joint": Mixture.of([0, 1, 2], "probability")})
    logits, targets, _ = full_logits(tiny_language_run)
    p = np.exp(combine(logits[[0, 1, 2]], "probability"))
    expected = ece_of_rows(p.max(axis=1), p.argmax(axis=1) == targets)
    assert ece(table["joint"]["clean"]) == pytest.approx(expected, abs=1e-3)


def test_copies_of_one_member_score_as_the_member(tiny_digits_run):
    mixtures = {"one": Mixture({3: 1}, "probability"), "five": Mixture({3: 5}, "probability")}
    found = scored(tiny_digits_run, mixtures)
    for one, table in found["one"].items():
        for name, column in table.columns.items():
            mine = found["five"][one].columns[name]
            np.testing.assert_allclose(mine, column, atol=1e-9)


@pytest.mark.parametrize("run", RUNS)
def test_routed_rows_are_those_of_the_member_of_their_cluster(run, request):
    made = request.getfixturevalue(run)
    routes = {0: 1, 1: 3, 2: 1}
    singles = {f"{i}": Mixture.single(i) for i in (1, 3)}
    found = scored(made, singles | {"routed": Mixture({1: 1, 3: 1}, "logit", routes)})
    for one, table in found["routed"].items():
        for row, cluster in enumerate(table.groups):
            theirs = found[str(routes[int(cluster)])][one]
            assert all(column[row] == theirs.columns[n][row] for n, column in table.columns.items())


def test_routed_members_are_not_scored_where_clusters_are_not_known(tiny_digits_run):
    examples = tiny_digits_run.worker.examples("validation")
    worker, clusters = tiny_digits_run.worker, {"clean": examples.clean.groups}
    stand = Stand(worker.runner, worker.task, tiny_digits_run.options, examples, clusters)
    routed = Mixture({1: 1, 3: 1}, "logit", {0: 1, 1: 3, 2: 1})
    found = score(stand, {"routed": routed, "one": Mixture.single(1)})
    assert set(found["routed"]) == {"clean"} and set(found["one"]) == set(examples.passes)


@pytest.mark.parametrize("run", RUNS)
def test_the_likelihood_that_members_are_chosen_by_is_exact(run, request):
    made = request.getfixturevalue(run)
    examples = made.worker.examples("validation")
    answers = predict(made.worker.runner, made.worker.task, made.options, examples)
    mixture = Mixture({0: 1, 2: 3, 4: 1}, "probability")
    table = scored(made, {"joint": mixture})["joint"]["clean"]
    expected = table.columns["nll"].sum() / table.columns["n"].sum()
    assert answers.loss(mixture, "nll")[0] == pytest.approx(expected, abs=1e-4)


def test_only_an_even_part_of_many_examples_is_held(tiny_language_run, monkeypatch):
    made = tiny_language_run
    examples = made.worker.examples("validation")
    monkeypatch.setattr("evoprune.ensemble.predictions.HELD", 1 << 16)
    answers = predict(made.worker.runner, made.worker.task, made.options, examples)
    rows = np.unique(answers.rows)
    assert 1 < len(rows) < len(examples) and rows[0] == 0 and rows[-1] == len(examples) - 1
    np.testing.assert_array_equal(answers.clusters, examples.clean.groups[answers.rows])
