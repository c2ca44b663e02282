"""What the tests of ensembles share: one thread, finished runs with widths, and their workers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared import one_thread, tiny_settings  # noqa: F401 - for all tests here

from evoprune.config.schema import load_config
from evoprune.core.pattern import Pattern
from evoprune.ensemble.costs import Bill, Limit
from evoprune.ensemble.ensemble import lookup_flops
from evoprune.ensemble.members import parse_budget
from evoprune.evaluation.worker import Worker
from evoprune.folder.front import Front, FrontPoint
from evoprune.progress.console import Console
from evoprune.session import open_session

WIDTHS = {
    "family": "decoder",
    "genes": [
        {"kind": "block", "drop": True},
        {"kind": "heads", "keep": [0.5]},
        {"kind": "channels", "keep": [0.75, 0.5], "round_to": 8},
    ],
}
DIGITS = {
    "model": {
        "family": "sparse_head",
        "factory": "digits",
        "options": {"hidden": [16], "factory": {"features": 24}},
    },
    "data": {"type": "digits"},
    "task": "classification",
    "calibration": {"samples": 60, "clusters": 3},
    "validation": {"samples": 60},
    "report": {"samples": 60},
    "space": "sparse_head/features",
    "objectives": ["accuracy", "units", "ood_auroc"],
    "search": {"algorithm": {"type": "nsga2", "pop_size": 8}, "n_eval": 16},
    "workers": {"backend": "local"},
    "controls": [],
    "export": {"picks": []},
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes intervals rough, and comparisons fast."""
    monkeypatch.setattr("evoprune.ensemble.compare.N_BOOT", 40)


@dataclass(frozen=True)
class Made:
    """A prepared run: its worker, and a front of some patterns of its space."""

    worker: Worker
    front: Front

    @property
    def patterns(self) -> list[Pattern]:
        """The front's patterns in the order of an ensemble's positions, the dense one last."""
        points = sorted(self.front, key=lambda point: point.id)
        return [*(Pattern.from_json(p.pattern) for p in points), self.worker.space.dense]

    @property
    def options(self) -> list[Any]:
        """The options of ``patterns``."""
        return [self.worker.space.options(pattern) for pattern in self.patterns]

    def limit(self, budget: str | None = None, routed: bool = False) -> Limit:
        """Returns a budget over ``patterns``."""
        worker = self.worker
        X = worker.space.encode(self.patterns)
        held = worker.runner.shared, worker.runner.frozen
        bill = Bill(worker.table, worker.space, X, *held, lookup_flops(worker))
        return Limit(bill, parse_budget(budget, bill.metrics), routed)


def prepared(settings: dict[str, Any], count: int) -> Made:
    """Returns a run without a search, whose front are some patterns spread over the space."""
    session = open_session(load_config(settings), Console(stream=None))
    session.close()
    worker = Worker(session.spec)
    rng = np.random.default_rng(0)
    share = np.linspace(0.1, 0.5, count)[:, None]
    X = (rng.random((count, worker.space.n_var)) < share) * worker.space.upper
    points = {p.id: FrontPoint(p.id, p.to_json(), {}) for p in worker.space.patterns(X)}
    return Made(worker, Front(tuple(points.values()), {"nll": "min"}))


@pytest.fixture(scope="session")
def tiny_language_run(
    tiny_llama: Path, tiny_texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Returns a prepared run of a tiny Llama with five points that differ in depth and width."""
    output = tmp_path_factory.mktemp("runs") / "language"
    changes = {
        "space": WIDTHS,
        "objectives": ["nll", "sparsity"],
        "columns": ["token_accuracy", "kl"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 4}, "n_eval": 8},
    }
    return prepared(tiny_settings(tiny_llama, tiny_texts, output) | changes, 5)


@pytest.fixture(scope="session")
def tiny_digits_run(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Returns a prepared run of small heads on digits with eight points."""
    output = str(tmp_path_factory.mktemp("runs") / "digits")
    return prepared({**DIGITS, "output": output}, 8)
