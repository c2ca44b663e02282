"""What the tests of ensembles share: one thread, finished runs with widths, and their workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from evoprune.config import load_config
from evoprune.console import Console
from evoprune.ensemble.costs import Bill, Limit
from evoprune.ensemble.members import parse_budget
from evoprune.evaluation.worker import Worker
from evoprune.front import Front, FrontPoint
from evoprune.session import open_session

WIDTHS = {
    "family": "decoder",
    "genes": [
        {"sites": "layers.*", "drop": True},
        {"sites": "layers.*.mlp.channels", "keep": [1, 0.5]},
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
def one_thread() -> Iterator[None]:
    """Keeps torch off busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Made:
    """A prepared run: its worker, and a front of some patterns of its space."""

    worker: Worker
    front: Front

    def limit(self, budget: str | None = None) -> Limit:
        """Returns a budget over the front's points and the dense pattern behind them."""
        runner, space = self.worker.runner, self.worker.space
        patterns = [*patterns_of(self.front), space.dense]
        X = space.encode(patterns)
        bill = Bill(self.worker.table, space, X, runner.shared, runner.frozen)
        return Limit(bill, parse_budget(budget, bill.metrics))


def patterns_of(front: Front) -> list[Any]:
    from evoprune.pattern import Pattern

    return [Pattern.from_json(point.pattern) for point in sorted(front, key=lambda p: p.id)]


def prepared(settings: dict[str, Any], count: int) -> Made:
    """Returns a run without a search, whose front are some patterns spread over the space."""
    import numpy as np

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
    settings = {
        "model": {"name_or_path": str(tiny_llama)},
        "data": {
            "type": "jsonl",
            "files": [str(tiny_texts)],
            "kind_field": "kind",
            "key_field": "key",
            "chunk_tokens": 32,
            "fractions": {"search": 0.5, "validation": 0.25, "report": 0.25},
        },
        "calibration": {"samples": 12, "clusters": 3, "pool": 40},
        "space": WIDTHS,
        "objectives": ["nll", "sparsity"],
        "columns": ["token_accuracy", "kl"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 4}, "n_eval": 8},
        "validation": {"samples": 8},
        "report": {"samples": 8},
        "controls": [],
        "export": {"picks": []},
        "workers": {"backend": "local"},
        "output": str(tmp_path_factory.mktemp("runs") / "language"),
    }
    return prepared(settings, 5)


@pytest.fixture(scope="session")
def tiny_digits_run(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Returns a prepared run of small heads on digits with eight points."""
    output = str(tmp_path_factory.mktemp("runs") / "digits")
    return prepared({**DIGITS, "output": output}, 8)


