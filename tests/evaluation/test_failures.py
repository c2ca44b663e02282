"""A pattern that fails is on record, and neither ends the search nor reaches the front."""

import math
from pathlib import Path

import numpy as np
import pytest

import evoprune
from evoprune.evaluation.worker import Worker
from evoprune.folder.journal import read_journal
from evoprune.tasks.causal_lm import CausalLM

MEASURE = CausalLM.measure
OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")


@pytest.fixture
def settings(tiny_config):
    """Returns the settings of an exhaustive search: any pattern on the front is sure to be met."""
    search = {"algorithm": {"type": "exhaustive"}, "n_eval": 16}
    return tiny_config(search=search, objectives=["kl", "sparsity"])


def break_one(monkeypatch, pattern_id: str, error: Exception | None) -> None:
    """Lets one pattern's measuring raise, or give NaN."""
    now = {"id": None}
    run = Worker.evaluate_batch
    monkeypatch.setattr("evoprune.evaluation.local.SECONDS_AT_ONCE", 0)  # one by one

    def begin(self, patterns, *args):
        now["id"] = patterns[0].id
        return run(self, patterns, *args)

    def measure(self, outputs, batch):
        if now["id"] == pattern_id and error is not None:
            raise error
        columns = MEASURE(self, outputs, batch)
        return columns | ({"kl": columns["kl"] * math.nan} if now["id"] == pattern_id else {})

    monkeypatch.setattr(Worker, "evaluate_batch", begin)
    monkeypatch.setattr(CausalLM, "measure", measure)


def of(folder: Path, pattern_id: str) -> list[dict]:
    """Returns the records of a pattern on the search split."""
    records = read_journal(folder / "journal.jsonl")[1]
    return [r for r in records if r.get("id") == pattern_id and r["split"] == "search"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [(None, "deterministic"), (KeyError("w"), "deterministic"), (OUT_OF_MEMORY, "transient")],
    ids=["NaN", "error", "out of memory"],
)
def test_the_search_goes_on_without_a_pattern_that_fails(
    settings, tmp_path, monkeypatch, error, failure
):
    calm = evoprune.search(settings, quiet=True)
    victim = calm.front.points[len(calm.front) // 2].id
    folder = tmp_path / "broken"
    break_one(monkeypatch, victim, error)
    run = evoprune.search(settings | {"output": str(folder)}, quiet=True)
    (record,) = of(folder, victim)
    assert record["failure"] == failure and record["values"] == {} and record["error"]
    kept = {point.id for point in run.front}
    assert victim not in kept and kept >= {point.id for point in calm.front} - {victim}
    assert np.isfinite(run.front.array("val")).all()

    monkeypatch.undo()
    again = evoprune.search(settings | {"output": str(folder)}, quiet=True)
    tried = [r.get("failure") for r in of(folder, victim)]
    assert tried == (["transient", None] if failure == "transient" else ["deterministic"])
    assert (victim in {point.id for point in again.front}) == (failure == "transient")
