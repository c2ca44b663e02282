"""Patterns of transformers unlike each other, exported and loaded again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from strangers import data_of, settings_of

import evoprune
from evoprune.core.errors import ModelError
from evoprune.core.export_rungs import kept_blocks
from evoprune.core.pattern import Pattern
from evoprune.data.examples import Examples
from evoprune.export.subject import ExportSubject
from evoprune.folder.front import Front, FrontPoint
from evoprune.run import Run
from evoprune.session import source_of, space_of
from evoprune.testing.families import candidates
from evoprune.testing.models import KINDS, tiny_transformer

GENES = [
    {"kind": "block", "drop": True, "at_least": 1},
    {"kind": "attn", "drop": True},
    {"kind": "mlp", "drop": True},
    {"kind": "heads", "keep": [0.5]},
    {"kind": "channels", "keep": [0.5]},
]


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory) -> Run:
    """Returns a prepared run over all that can be dropped or cut."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny_transformer(folder / "model", request.param)
    space = {"family": "transformer", "genes": GENES}
    settings = settings_of(model, request.param, space) | {"output": str(folder / "run")}
    settings["model"] |= {"dtype": "float32"}
    settings["search"] |= {"n_eval": 6}
    return evoprune.search(settings, data=data_of(request.param), quiet=True)


def exported(run: Run, pattern: Pattern, folder: Path, **options: Any) -> Any:
    """Returns what became of a pattern, on the front or not."""
    point = FrontPoint(pattern.id, pattern.to_json(), {})
    front = Front((point,), run.front.goals)
    return Run(run.folder, run.config, front, run.live).export(pattern.id, folder, **options)


def answers(run: Run, pattern: Pattern) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns some inputs, and what the searched pattern says of them."""
    source = source_of(run.config, run.folder)
    subject = ExportSubject.load(source, space_of(run.folder), pattern, "float32")
    examples = Examples.load(run.folder.calibration / "validation.safetensors")
    arrays = examples.clean.arrays
    names = subject.family.stages(subject.model).inputs
    if "tokens" in arrays:  # without padding, of which a causal model needs to know nothing
        length = int(arrays["lengths"].min())
        inputs = {"input_ids": arrays["tokens"][:3, :length]}
    else:
        inputs = {name: arrays[name][:3] for name in names if name in arrays}
    return inputs, subject.answers(inputs)


def said(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return model(**{n: torch.from_numpy(a) for n, a in inputs.items()}).logits.numpy()


def test_exports_are_what_was_searched(run, tmp_path):
    space, rungs = space_of(run.folder), set()
    X = candidates(space, 14, seed=3)
    patterns = space.patterns(np.array([*X[:2], *X[-14:]]))
    # Without a block there is no model to export, which is said.
    for number, pattern in enumerate(p for p in patterns if kept_blocks(space, p)):
        done = exported(run, pattern, tmp_path / str(number), verify=False)
        rungs.add(done.rung)
        inputs, expected = answers(run, pattern)
        found = said(evoprune.load(done.path), inputs)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < 1e-4, (pattern.key, done.rung, error)
    assert rungs == {"homogeneous", "heterogeneous"}


def test_an_export_loads_without_evoprune_and_no_stock_class_takes_it(run, tmp_path):
    space = space_of(run.folder)
    x = np.zeros(space.n_var, dtype=np.int64)
    names = [gene.name for gene in space.genes]
    x[names.index("layers.0.attn")] = x[names.index("layers.1.mlp.channels")] = 1
    x[names.index("layers.2.attn.heads")] = 1
    done = exported(run, space.pattern(x), tmp_path / "model", verify=True)
    assert done.rung == "heterogeneous" and done.max_error < 1e-4
    config = json.loads((done.path / "config.json").read_text())
    stock = getattr(transformers, config["architectures"][0].removeprefix("EvopruneCut"))
    with pytest.raises(Exception, match=r"evoprune\.load|size mismatch|ignore_mismatched"):
        stock.from_pretrained(done.path)


def test_a_modelling_file_that_is_another_is_not_run(run, tmp_path):
    space = space_of(run.folder)
    x = np.zeros(space.n_var, dtype=np.int64)
    x[[gene.name for gene in space.genes].index("layers.0.mlp")] = 1
    done = exported(run, space.pattern(x), tmp_path / "model", verify=False)
    file = done.path / "modeling_evoprune_cut.py"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ModelError, match="is not the modelling file of this evoprune"):
        evoprune.load(done.path)


def test_fewer_blocks_load_in_the_stock_class(run, tmp_path):
    space = space_of(run.folder)
    x = np.zeros(space.n_var, dtype=np.int64)
    x[[gene.name for gene in space.genes].index("layers.1")] = 1
    pattern = space.pattern(x)
    done = exported(run, pattern, tmp_path / "model", verify=False)
    assert done.rung == "homogeneous"
    config = json.loads((done.path / "config.json").read_text())
    model = getattr(transformers, config["architectures"][0]).from_pretrained(done.path)
    inputs, expected = answers(run, pattern)
    assert np.abs(said(model.eval(), inputs) - expected).max() < 1e-4 * np.abs(expected).max()
