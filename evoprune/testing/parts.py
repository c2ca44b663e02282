"""What every criterion and every objective promises."""

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.metrics import Table
from evoprune.core.protocols import CostObjective, TableObjective
from evoprune.criteria.subject import Subject
from evoprune.evaluation.live import Live
from evoprune.evaluation.prepare import calibrate, open_experiment
from evoprune.evaluation.rank import subject_of
from evoprune.families.load import weights_digest
from evoprune.scoring import interval
from evoprune.testing.models import tiny_decoder
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, problem

ROWS, GROUPS = 24, 3
# A sum in another order may differ in its last bits.
ROUNDING = 1e-12


def check_criterion(criterion: Any, subject: Subject | None = None) -> None:
    """Checks a criterion.

    Args:
        criterion: made with its options.
        subject: what it ranks (``tiny_subject``); the heads and channels of a tiny decoder by
            default.

    Raises:
        AssertionError: it does not keep what criteria promise.
    """
    subject = subject or tiny_subject()
    before = weights_digest(subject.model)
    free = {name for name, parameter in subject.model.named_parameters() if parameter.grad is None}
    scores = criterion.scores(subject)
    units = {site.name: site.units for site in subject.sites}
    assert set(scores) == set(units), f"it scores {sorted(scores)}, asked are {sorted(units)}"
    for name, score in scores.items():
        shape = np.shape(score)
        assert shape == (units[name],), f"'{name}' has {units[name]} units, scores are {shape}"
        assert np.isfinite(score).all(), f"scores of '{name}' are not finite"
    again = criterion.scores(subject)
    for name, score in scores.items():
        assert np.array_equal(again[name], score), f"'{name}' has other scores the second time"
    for name, parameter in subject.model.named_parameters():
        kept = parameter.requires_grad or (name in free and parameter.grad is not None)
        assert not kept, f"'{name}' keeps a gradient"
    assert weights_digest(subject.model) == before, "it changes the network"


def tiny_subject(settings: Mapping[str, Any] | None = None, data: Any = None) -> Subject:
    """Returns what a criterion would rank in a search; by default in one of a tiny decoder.

    Args:
        settings: of the search.
        data: instead of those that the settings name.
    """
    if settings is None:
        with tempfile.TemporaryDirectory(prefix="evoprune-subject-") as scratch:
            return tiny_subject(tiny_settings(tiny_decoder(Path(scratch) / "model")), tiny_texts())
    live = Live.of(None, data, None)
    config = load_config(settings, change=live.named_in)
    opened = open_experiment(config, live=live)
    calibrated = calibrate(config, opened)
    pool = opened.pools["search"].take(calibrated.chosen["search"])
    groups, device = calibrated.groups["search"], config.model.device
    examples = opened.family.examples(opened.model, pool, groups, device)
    space = config.space_over(opened.family, opened.model)
    return subject_of(config, space, opened.family, opened.model, examples)


def tiny_settings(model: Path, space: str = "decoder/depth_width") -> dict[str, Any]:
    """Returns the settings of a search of a tiny decoder in about a second, without data."""
    return {
        "model": {"name_or_path": str(model), "dtype": "float64"},
        "data": {"chunk_tokens": 16},
        "calibration": {"samples": 6, "clusters": 2, "pool": 12},
        "space": space,
        "objectives": ["kl", "sparsity"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 6}, "n_eval": 12},
        "validation": {"samples": 4},
        "report": {"samples": 4},
        "controls": [],
        "export": {"picks": []},
        "workers": {"backend": "local"},
    }


def tiny_texts(count: int = 60) -> list[str]:
    """Returns texts of some forty characters each."""
    words = np.array(["one", "two", "three", "four", "five", "and", "the", "cat"])
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words, 12)) for _ in range(count)]


def check_objective(
    objective: Any,
    tables: Mapping[str, Table] | None = None,
    dense: Mapping[str, Table] | None = None,
) -> None:
    """Checks an objective.

    Args:
        objective: made with its options.
        tables: what it reads, by pass; made-up ones with all columns of the shipped tasks by
            default.
        dense: those of the dense model.

    Raises:
        AssertionError: it does not keep what objectives promise.
    """
    kinds = isinstance(objective, TableObjective), isinstance(objective, CostObjective)
    assert kinds[0] != kinds[1], "it has neither `value` nor `costs`, or both, or lacks a field"
    assert objective.goal in ("min", "max"), f"its goal is {objective.goal!r}"
    assert isinstance(objective.unit, str), "its unit is no text"
    assert isinstance(objective.deterministic, bool), "whether it is deterministic is not told"
    if kinds[1]:
        _check_costs(objective)
    else:
        _check_value(objective, tables or made_up(1), dense or made_up(0))


def made_up(seed: int, rows: int = ROWS) -> dict[str, Table]:
    """Returns tables with all columns that the shipped tasks measure, by pass."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, count in {"clean": rows, "near": rows // 2, "far": rows // 2}.items():
        columns: dict[str, Any] = {key: rng.normal(size=count) for key in ("max_logit", "energy")}
        columns |= {"msp": rng.random(count), "max_logit_centred": rng.normal(size=count)}
        # Numbers of positions are the example's own: the same for every pattern.
        columns["n"] = np.arange(count) % 5 + 1.0
        if name == "clean":
            columns |= {key: rng.gamma(2.0, size=count) * columns["n"] for key in ("nll", "kl")}
            columns["correct"] = np.ceil(rng.random(count) * columns["n"])
        found[name] = Table(columns, np.arange(count) % GROUPS)
    return found


def _check_value(
    objective: TableObjective, tables: Mapping[str, Table], dense: Mapping[str, Table]
) -> None:
    passes = objective.passes
    assert passes and all(isinstance(name, str) for name in passes), "it names no pass"
    tables, dense = ({name: some[name] for name in passes} for some in (tables, dense))
    kept = copy.deepcopy((tables, dense))
    value = float(objective.value(tables, dense))
    assert np.isfinite(value), f"its value is {value}"
    assert np.isfinite(float(objective.value(dense, dense))), "the dense model has no finite value"
    if objective.deterministic:
        assert float(objective.value(tables, dense)) == value, "it has another value each time"
    for before, after in zip(kept, (tables, dense), strict=True):
        for name in passes:
            same = before[name].to_json() == after[name].to_json()
            assert same, f"it changes the table of the pass '{name}'"
    order = {name: np.random.default_rng(0).permutation(len(tables[name])) for name in passes}
    turned = [{name: some[name].take(order[name]) for name in passes} for some in (tables, dense)]
    other = float(objective.value(*turned))
    assert abs(other - value) <= ROUNDING * max(1.0, abs(value)), "the order of examples counts"
    low, high = interval(objective.value, tables, dense)
    assert low <= high, f"its bootstrap interval is [{low}, {high}]"


def _check_costs(objective: CostObjective) -> None:
    made = problem(3, (BLOCKS, *PARTS, *WIDTHS))
    space, rng = made.space, np.random.default_rng(0)
    X = space.canonical(rng.integers(0, space.upper + 1, (16, space.n_var)))
    costs = objective.costs(made.table, space, X)
    assert costs.shape == (16,) and costs.dtype == np.float64, f"it gives {costs.shape}"
    assert np.isfinite(costs).all(), "it is not finite"
    alone = [objective.costs(made.table, space, row[None])[0] for row in X]
    assert costs.tolist() == alone, "a candidate costs something else beside others"
