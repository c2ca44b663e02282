"""From a front to a written ensemble: selection, comparison, costs and bytes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evoprune.core.errors import ConfigError, RunFolderError
from evoprune.ensemble.costs import Bill
from evoprune.ensemble.ensemble import Ensemble, compare, ensemble, select
from evoprune.ensemble.members import Recipe
from evoprune.ensemble.mixture import Mixture
from evoprune.folder.front import Front

RUNS = ("tiny_language_run", "tiny_digits_run")


def together(*members):
    """Returns the mixture in which these members count once each."""
    return Mixture.of(members, "logit")


class Sealed:
    """A worker whose report split cannot be read."""

    def __init__(self, worker):
        self._worker = worker

    def __getattr__(self, name):
        return getattr(self._worker, name)

    def examples(self, split):
        assert split != "report", "the report split was read"
        return self._worker.examples(split)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("method", ["greedy", "diversity", "percentile", "random", "routed"])
def test_members_are_chosen_without_the_report_split(run, method, request):
    made = request.getfixturevalue(run)
    selected = select(Sealed(made.worker), made.front, Recipe(method, budget=None))
    assert selected.ensemble.rows == ()
    with pytest.raises(AssertionError, match="was read"):
        compare(Sealed(made.worker), selected)


@pytest.mark.parametrize("run", RUNS)
def test_an_ensemble_is_the_same_to_the_byte(run, request):
    made = request.getfixturevalue(run)
    recipe = Recipe(least=2, budget="flops<=300%")
    files = []
    for front in (made.front, Front(made.front.points[::-1], made.front.goals)):
        found = ensemble(made.worker, front, recipe, "twice")
        folder = made.worker.folder / "ensembles" / "twice"
        files.append((folder / "ensemble.json").read_bytes())
    assert files[0] == files[1] and json.loads(files[0])["version"] == 1
    assert json.dumps(Ensemble.read(folder).to_json()) == json.dumps(found.to_json())
    assert str(made.worker.folder).encode() not in files[0]


def test_rows_compare_with_every_rival_with_intervals(tiny_digits_run):
    found = ensemble(tiny_digits_run.worker, tiny_digits_run.front, Recipe(budget=None, least=3))
    rows = {(row["metric"], row["name"]): row for row in found.rows}
    metrics = {metric for metric, _ in rows}
    assert {"accuracy", "nll", "ece", "ood_auroc", "ood_auroc_near", "ood_auroc_far"} <= metrics
    for metric in metrics:
        ours = rows[metric, "ensemble"]["value"]
        for rival in ("best_member", "best_single", "equal_cost", "dense", "random"):
            less = rows[metric, f"ensemble - {rival}"]
            assert less["value"] == pytest.approx(ours - rows[metric, rival]["value"])
            assert less["low"] <= less["high"] and less["split"] == "report"
    assert 0 <= rows["nll", "ensemble - random"]["beaten"] <= 1
    assert sum(name.startswith("random ") for name in found.rivals) >= 20


def test_an_ensemble_of_one_is_its_member(tiny_digits_run):
    made = tiny_digits_run
    found = ensemble(made.worker, made.front, Recipe(size=1, combine="logit"), "one")
    assert len(found.members) == 1
    for row in found.rows:
        if row["name"] in ("ensemble - best_member", "ensemble - best_single"):
            assert row["value"] == row["low"] == row["high"] == 0


def test_the_equal_cost_rival_is_the_largest_that_costs_no_more(tiny_language_run):
    made = tiny_language_run
    for budget, dense in (("flops<=80%", False), ("flops<=250%", True)):
        selected = select(made.worker, made.front, Recipe(budget=budget, least=1))
        limit = made.limit(budget)
        each, total = limit.bill.each("flops"), selected.ensemble.costs["flops"]["total"]
        rival = selected.contenders["equal_cost"].members[0]
        assert each[rival] == max(one for one in each if one <= total * (1 + 1e-9))
        assert total <= float(budget[7:-1]) / 100 * limit.bill.dense("flops") * (1 + 1e-9)
        assert dense or rival != len(each) - 1


def test_layers_that_members_share_are_stored_once(tiny_language_run):
    bill = tiny_language_run.limit().bill
    space, last = bill.space, len(bill.X) - 1
    assert bill.stored("params", together(2)) == bill.each("params")[2]
    assert bill.stored("params", together(0, last)) == bill.dense("params")
    pair = bill.stored("params", together(0, 1))
    assert max(bill.each("params")[:2]) <= pair <= bill.each("params")[:2].sum()
    union = bill.union([0, 1])
    for site in space.sites:
        most = space.kept(bill.X[:2], site).max()
        assert space.kept(union, site)[0] == most
    assert bill.run("flops", [0, 1]) == bill.each("flops")[:2].sum()


def test_heads_share_the_backbone_and_nothing_else(tiny_digits_run):
    bill = tiny_digits_run.limit().bill
    own = [row for row in bill.table.rows if not row.name.startswith("backbone.")]
    heads = Bill(type(bill.table)(tuple(own)), bill.space, bill.X, (), ())
    more = bill.stored("params", together(1, len(bill.X) - 1)) - bill.dense("params")
    assert more == heads.each("params")[1]
    assert bill.run("flops", [0, 1]) < bill.each("flops")[:2].sum()


def test_a_routed_ensemble_costs_routing_and_the_mean_and_holds_the_base(tiny_language_run):
    bill = tiny_language_run.limit().bill
    routed, shares = Mixture({0: 1, 1: 1}, "logit", {0: 0, 1: 1}), np.array([0.25, 0.75])
    each = bill.each("flops")
    told = 0.25 * each[0] + 0.75 * each[1]
    assert bill.told("flops", routed, shares) == pytest.approx(told)
    # The embedding is a dense pass without its head.
    head = next(row for row in bill.table.rows if row.name == "lm_head.weight")
    head_flops = type(bill.table)((head,)).cost("flops", bill.space, bill.X[:1])[0]
    embedding = bill.dense("flops") - head_flops
    assert bill.routing("flops") == embedding > 0
    assert bill.total("flops", routed, shares) == pytest.approx(embedding + told)
    assert bill.total("params", routed) == bill.dense("params")


def test_routing_heads_takes_all_features_and_nothing_more(tiny_digits_run):
    bill = tiny_digits_run.limit().bill
    routed = Mixture({0: 1, 1: 1}, "logit", {0: 0, 1: 1})
    backbone = [row for row in bill.table.rows if row.name.startswith("backbone.")]
    heads = [row for row in bill.table.rows if not row.name.startswith("backbone.")]
    for metric, count in (("flops", np.mean), ("params", np.sum)):
        whole = type(bill.table)(tuple(backbone)).cost(metric, bill.space, bill.X[-1:])[0]
        own = type(bill.table)(tuple(heads)).cost(metric, bill.space, bill.X[:2])
        assert bill.total(metric, routed) == pytest.approx(whole + count(own))


def test_a_routed_ensemble_is_held_against_a_model_that_costs_as_much(tiny_language_run):
    made = tiny_language_run
    selected = select(made.worker, made.front, Recipe("routed", budget=None))
    flops = selected.ensemble.costs["flops"]
    assert flops["total"] == pytest.approx(flops["routing"] + flops["told"])
    each = made.limit().bill.each("flops")
    rival = selected.contenders["equal_cost"].members[0]
    assert each[rival] == max(one for one in each if one <= flops["total"])


def test_routing_counts_towards_the_budget_of_those_who_are_routed(tiny_language_run):
    made = tiny_language_run
    with pytest.raises(ConfigError, match="to which the dense embedding counts"):
        select(made.worker, made.front, Recipe("routed", budget="flops<=100%"))
    limit = made.limit("flops<=200%", routed=True)
    chosen = select(made.worker, made.front, Recipe("routed", budget="flops<=200%")).ensemble
    assert chosen.costs["flops"]["total"] <= 2 * limit.bill.dense("flops")
    sets = select(made.worker, made.front, Recipe("routed", budget="flops<=200%")).contenders
    assert all(made.limit("flops<=200%").holds(m) for n, m in sets.items() if "random" in n)


def test_a_budget_of_what_is_stored_counts_what_members_share_once(tiny_language_run):
    limit = tiny_language_run.limit("params<=100%")
    everyone = range(len(limit.bill.X))
    assert limit.fits(everyone) and limit.bill.each("params").sum() > limit.bill.dense("params")
    with pytest.raises(ConfigError, match="No point of the front fits"):
        recipe = Recipe("routed", budget="params<=50%")
        select(tiny_language_run.worker, tiny_language_run.front, recipe)


def test_routed_members_that_are_too_many_together_are_refused(tiny_digits_run):
    made = tiny_digits_run
    costs = select(made.worker, made.front, Recipe("routed", budget=None)).ensemble.costs
    least = f"params<={costs['params']['total'] - 1:.0f}"
    with pytest.raises(ConfigError, match="for the clusters exceed 'params<="):
        select(made.worker, made.front, Recipe("routed", budget=least))


def test_routed_members_are_scored_on_what_lies_outside_if_there_are_centroids(
    tiny_digits_run, tmp_path
):
    made, recipe = tiny_digits_run, Recipe("routed", budget=None)
    path = made.worker.folder / "calibration" / "centroids.safetensors"
    path.rename(tmp_path / "aside")
    try:
        before = ensemble(made.worker, made.front, recipe, "without")
    finally:
        (tmp_path / "aside").rename(path)
    after = ensemble(made.worker, made.front, recipe, "with")
    assert "ood_auroc" not in {row["metric"] for row in before.rows}
    assert {"accuracy", "ood_auroc"} <= {row["metric"] for row in after.rows}


def test_an_empty_front_and_damaged_files_are_refused(tiny_digits_run, tmp_path):
    with pytest.raises(ConfigError, match="empty"):
        select(tiny_digits_run.worker, replace(tiny_digits_run.front, points=()), Recipe())
    with pytest.raises(RunFolderError, match="cannot be read"):
        Ensemble.read(tmp_path)
    for text in ("", "null", "[]", '{"version": 1}', "\x00"):
        (tmp_path / "ensemble.json").write_text(text)
        with pytest.raises(RunFolderError, match="damaged"):
            Ensemble.read(tmp_path)


@pytest.mark.parametrize(
    "change", [{"recipe": {"combine": "mean"}}, {"recipe": {"method": "gready"}}, {"members": []}]
)
def test_an_ensemble_that_was_edited_into_nonsense_is_refused(change, tiny_digits_run, tmp_path):
    made = tiny_digits_run
    select(made.worker, made.front, Recipe(budget=None)).ensemble.write(tmp_path)
    data = json.loads((tmp_path / "ensemble.json").read_text())
    for key, value in change.items():
        data[key] = {**data[key], **value} if value else value
    (tmp_path / "ensemble.json").write_text(json.dumps(data))
    with pytest.raises(RunFolderError, match="damaged"):
        Ensemble.read(tmp_path)
