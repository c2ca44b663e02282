"""Faults that were found by reading: what each looked like to whoever met it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.costs import CostTable
from evoprune.core.errors import ConfigError
from evoprune.folder.journal import read_journal
from evoprune.progress.console import Console
from evoprune.session import open_session
from evoprune.tasks.causal_lm import _token_scores
from evoprune.testing.synthetic import problem


def test_a_tie_is_right_only_where_the_arg_max_is():
    logits = torch.tensor([[1.0, 2.0, 2.0], [2.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    target, index = torch.tensor([2, 0, 0]), torch.zeros((3, 1), dtype=torch.long)
    correct = _token_scores(logits.clone(), target, index, torch.full((3, 1), -1.0))[1]
    assert correct.tolist() == (logits.argmax(-1) == target).double().tolist() == [0, 1, 1]


def test_units_with_bits_are_compensated_too(tiny_config):
    genes = [{"kind": "channels", "bits": True}]
    space = {"family": "decoder", "genes": genes}
    found = evoprune.search(tiny_config(space=space, adapt="bias_compensation"), quiet=True)
    records = read_journal(found.folder.journal)[1]
    assert sum(record["type"] == "evaluation" for record in records) > 10
    assert [record["error"] for record in records if "error" in record] == []


def test_a_recovery_that_a_family_would_ignore_is_refused(tmp_path):
    changes = {"adapt": "bias_compensation", "output": str(tmp_path / "run")}
    config = load_config("experiments/quickstart_vision/config.yaml", changes)
    with pytest.raises(
        ConfigError, match="'bias_compensation' changes networks that run in stages"
    ):
        open_session(config, Console(stream=None))


def test_a_family_without_flops_is_searched_by_its_parameters():
    made = problem(3)
    rows = tuple(
        replace(row, weights={k: v for k, v in row.weights.items() if k != "flops"})
        for row in made.table.rows
    )
    bare = replace(made, table=CostTable(rows))
    X = made.space.corners
    assert bare.share(X).tolist() == (bare.cost("params", X) / bare.table.dense("params")).tolist()


def test_what_another_identity_left_is_not_read(tiny_config):
    first = tiny_config(adapt="bias_compensation", space="decoder/heads")
    session = open_session(load_config(first), Console(stream=None))
    ranks = session.folder.ranks
    session.close()
    assert (ranks / "adapt.safetensors").is_file()
    again = open_session(load_config(tiny_config()), Console(stream=None))
    again.close()
    assert not (ranks / "adapt.safetensors").is_file()


def test_a_recovery_is_worked_out_once_for_all_micro_batches(make_worker, monkeypatch):
    from evoprune.recover.bias import BiasCompensation

    worker = make_worker(space="decoder/depth_width", adapt="bias_compensation")
    monkeypatch.setattr("evoprune.families.stages.BATCH_TOKENS", 32)
    real, asked = BiasCompensation.tensors, []

    def counted(self, *rest):
        asked.append(1)
        return real(self, *rest)

    monkeypatch.setattr(BiasCompensation, "tensors", counted)
    space = worker.space
    patterns = space.patterns(np.eye(space.n_var, dtype=np.int64)[:5])
    worker.evaluate_batch(patterns)
    assert len(asked) == len(patterns)
