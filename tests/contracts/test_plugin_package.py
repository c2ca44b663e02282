"""A plug-in that somebody else wrote, installed: it is found, searched with, held to account."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import evoprune
from evoprune import cli
from evoprune.core.costs import CostTable
from evoprune.core.errors import ConfigError
from evoprune.core.registry import CRITERIA, FAMILIES, OBJECTIVES
from evoprune.testing import FamilyContract, check_criterion, check_objective
from evoprune.testing.parts import tiny_subject

KEEP = {"kind": "neurons", "keep": [n / 8 for n in range(1, 8)]}
SPACES = {
    "widths": {"family": "mlp", "genes": [KEEP]},
    "bits": {"family": "mlp", "genes": [{"kind": "neurons", "bits": True}]},
}


@pytest.fixture(scope="module")
def settings(plugin, tmp_path_factory):
    """Returns the settings of a search of a perceptron, all of whose parts are the plug-in's."""
    return {
        "model": {"factory": "digits_mlp", "family": "mlp", "dtype": "float64"},
        "data": {"type": "digits"},
        "task": "classification",
        "calibration": {"samples": 60, "clusters": 3},
        "criterion": "path_norm",
        "space": SPACES["widths"],
        "objectives": ["nll_quantile", "params", "ood_auroc"],
        "constraints": {"params": "<=80%"},
        "search": {"algorithm": {"type": "nsga2", "pop_size": 8}, "n_eval": 16},
        "validation": {"samples": 40},
        "report": {"samples": 40},
        "controls": [],
        "export": {"picks": []},
        "workers": {"backend": "local"},
        "output": str(tmp_path_factory.mktemp("runs") / "widths"),
    }


def perceptron():
    """Returns a random perceptron."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 3))


def pairs():
    """Returns random images with labels."""
    rng = np.random.default_rng(0)
    return [(rng.random((6, 6)), i % 3) for i in range(120)]


@pytest.fixture(scope="module")
def small(settings, tmp_path_factory):
    """Returns the settings of a search of a random perceptron on ``pairs``."""
    return settings | {
        "model": {"factory": f"{__name__}:perceptron", "family": "mlp", "dtype": "float64"},
        "data": {},
        "calibration": {"samples": 20, "clusters": 2},
        "objectives": ["nll_quantile", "params"],
        "constraints": {},
        "validation": {"samples": 8},
        "report": {"samples": 8},
        "output": str(tmp_path_factory.mktemp("small") / "run"),
    }


@pytest.fixture(scope="module", params=SPACES)
def contract(request, small, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("contract") / "run")
    return FamilyContract(small | {"space": SPACES[request.param], "output": output}, pairs())


@pytest.mark.parametrize("check", FamilyContract.CHECKS)
def test_the_family_keeps_its_contract(contract, check):
    assert len(contract.patterns) >= 200
    getattr(contract, f"check_{check}")()


def counted(**weights):
    """Returns how to break a family's table: what else an entry of a tensor costs."""

    def broken_table(family):
        table = family.table

        def broken(self, model, context=1):
            rows = table(self, model, context).rows
            return CostTable(tuple(replace(r, weights={**r.weights, **weights}) for r in rows))

        return {"table": broken}

    return broken_table


def rounded(family):
    """A base that is not the network."""
    write = family.write

    def broken(self, model, folder, training=None):
        write(self, model.half().double(), folder, training)

    return {"write": broken}


def measured(change):
    """Returns how to break a family whose runner changes something before it measures."""

    def broken_runner(family):
        runner = family.runner

        def broken(self, model, task, device):
            made = runner(self, model, task, device)
            tables = made.tables

            def other(options, *rest):
                change(model)
                return tables(options, *rest)

            made.tables = other
            return made

        return {"runner": broken}

    return broken_runner


def tracing(model):
    """Leaves a trace in the weights, another each time."""
    model[0].weight.data = model[0].weight.data * (1 + 1e-6 * np.random.default_rng().random())


def failing(model):
    """Raises where it should hand an error over."""
    if model[0].weight.isnan().any():
        raise FloatingPointError("nan")


BROKEN = {
    "shrunk": counted(params=2.0),
    "flops": counted(flops=1.0),
    "original": rounded,
    "dense": measured(tracing),
    "values": measured(tracing),
    "failures": measured(failing),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_family_that_breaks_its_contract_is_found_out(
    check, plugin, small, tmp_path, monkeypatch
):
    family = FAMILIES.load("mlp")
    for name, method in BROKEN[check](family).items():
        monkeypatch.setattr(family, name, method)
    broken = FamilyContract(small | {"output": str(tmp_path / "run")}, pairs(), count=20)
    with pytest.raises((AssertionError, FloatingPointError)):
        getattr(broken, f"check_{check}")()


def test_the_criterion_keeps_its_contract(plugin):
    check_criterion(CRITERIA.load("path_norm")())


def test_all_criteria_rank_the_plugins_family(plugin, small):
    subject = tiny_subject(small, pairs())
    for name in CRITERIA.names():
        check_criterion(CRITERIA.load(name)(), subject)


def test_the_objective_keeps_its_contract(plugin):
    check_objective(OBJECTIVES.load("nll_quantile")())
    check_objective(OBJECTIVES.load("nll_quantile")(quantile=0.0))


def test_it_is_searched_from_end_to_end(settings):
    run = evoprune.search(settings, quiet=True)
    dense = run.front.dense
    assert all(point.values["params"] <= 0.8 * dense["params"] for point in run.front)
    assert len(run.front) >= 3 and run.folder.read_manifest()["family"] == "mlp"
    assert (run.folder.path / "report.html").is_file()
    again = evoprune.search(settings, quiet=True)
    assert again.front == run.front
    changed = settings | {"criterion": "magnitude", "output": f"{run.folder.path}-magnitude"}
    other = evoprune.search(changed, quiet=True)
    assert other.front != run.front, "the criterion decides which neurons are kept"


def test_its_names_are_listed(plugin, monkeypatch, capsys):
    for kind, name in {"families": "mlp", "criteria": "path_norm", "objectives": "nll_q"}.items():
        monkeypatch.setattr(sys, "argv", ["evoprune", "ls", kind])
        with pytest.raises(SystemExit):
            cli.main()
        assert name in capsys.readouterr().out


def test_mistakes_in_its_settings_are_explained(settings):
    wrong = [{"type": "nll_quantile", "quantil": 0.5}, "params"]
    with pytest.raises(ConfigError, match="'nll_quantile' has no option 'quantil'"):
        evoprune.search(settings | {"objectives": wrong}, quiet=True)
    wrong[0] = {"type": "nll_quantile", "quantile": 3}
    with pytest.raises(ConfigError, match="quantile is 3"):
        evoprune.search(settings | {"objectives": wrong}, quiet=True)
