"""Heads as networks of their own: written, refused, loaded, trained further."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import lines_of

from evoprune.core.errors import ExportError, ModelError
from evoprune.export import head as module
from evoprune.export.card import read_record
from evoprune.export.export import Exported, Source
from evoprune.export.head import HeadSubject, build, export_head
from evoprune.export.measure_head import measure_head, peak_bytes
from evoprune.export.order import Order, exporter_of
from evoprune.families.sparse_head.family import SparseHead
from evoprune.families.sparse_head.modeling_head import PrunedNetwork
from evoprune.loading import load
from tests.families.sparse_head.backbones import (
    TRACED,
    Branching,
    Fire,
    Flat,
    Normed,
    Plain,
    images,
    made,
    subjects,
    written,
)

SCORES = {"val_accuracy": 0.75, "report_accuracy": 0.5, "report_accuracy_low": 0.25}
SCORES |= {"report_accuracy_high": 0.75}
IMAGES = images(7, seed=5)
INPUTS = torch.from_numpy(IMAGES).float()[:, None]


@pytest.fixture(scope="module")
def fires(tmp_path_factory: pytest.TempPathFactory) -> list[HeadSubject]:
    """Returns patterns of a backbone with two branches and a head with two hidden layers."""
    return subjects(written(made(Fire), tmp_path_factory.mktemp("base"), (6, 4)), 20)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> HeadSubject:
    """Returns a pattern of a backbone without a graph."""
    return subjects(written(made(Branching), tmp_path_factory.mktemp("base")), 5)[4]


def export(subject: HeadSubject, path: Path, **settings) -> Exported:
    source = Source(path, "fire", "float32", "sparse_head")
    settings = {"scores": SCORES, "provenance": {"seed": 7}, "verify": False} | settings
    return export_head(subject, source, path, **settings)


def distance(found: torch.Tensor, expected: np.ndarray) -> float:
    """Returns the largest error, relative to the largest logit."""
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


def test_twenty_masks_give_the_logits_of_the_scored_heads(fires):
    features = made(Fire)(INPUTS).numpy()
    kept = {len(subject.reads) for subject in fires}
    for subject in fires:
        network = PrunedNetwork(*build(subject, "standalone", "float32"))
        assert distance(network(INPUTS), subject.logits(features)) < 1e-4
        precise = PrunedNetwork(*build(subject, "standalone", "float64"))
        assert distance(precise(INPUTS), subject.logits(features)) < 1e-5
    assert {1, 12} < kept


@pytest.mark.parametrize("kind", TRACED)
def test_every_kind_of_backbone_comes_along(kind, tmp_path: Path):
    subject = subjects(written(made(kind), tmp_path), 5)[4]
    network = PrunedNetwork(*build(subject, "standalone", "float32"))
    assert distance(network(INPUTS), subject.logits(made(kind)(INPUTS).numpy())) < 1e-4


def test_a_fresh_process_finds_the_same_logits(fires, alone, tmp_path: Path):
    for subject, rung in ((fires[5], "standalone"), (alone, "head-only")):
        done = export(subject, tmp_path / rung, verify=True)
        assert done.rung == rung
        assert done.max_error is not None and 0 <= done.max_error < 1e-5
        assert read_record(done.path)["max_error"] == done.max_error
        assert sorted(path.name for path in done.path.iterdir()) == [
            "README.md",
            "config.json",
            "evoprune.json",
            "model.safetensors",
            "modeling_head.py",
        ]


def test_the_folder_says_what_it_is(fires, tmp_path: Path):
    done = export(fires[0], tmp_path / "out")
    record = json.loads((done.path / "evoprune.json").read_text())
    card = (done.path / "README.md").read_text()
    assert record["rung"] == done.rung == "standalone"
    assert record["params"]["export"] == done.params < record["params"]["base"]
    assert record["provenance"] == {"seed": 7} and record["scores"] == SCORES
    assert record["bytes"]["export"] == (done.path / "model.safetensors").stat().st_size
    assert "1 of 12 features kept" in card
    assert "| `backbone.expand1x1.weight` | 8 | 0 |" in card
    assert "| `backbone.expand3x3.bias` | 4 | 1 |" in card
    assert "| accuracy | 0.75 | 0.5 [0.25, 0.75] |" in card
    assert "(N, 1, 8, 8)" in card and "(a, b, c)" in card
    assert str(tmp_path) not in card + json.dumps(record)


def test_a_card_says_what_could_not_be_cut(tmp_path: Path):
    some, _, _, dense = subjects(written(made(Flat), tmp_path / "base"), 4)
    export(some, tmp_path / "some")
    export(dense, tmp_path / "dense")
    said = "'flatten' (flatten.using_ints) cannot be cut by channel"
    assert said in (tmp_path / "some" / "README.md").read_text()
    assert "every feature is read" in (tmp_path / "dense" / "README.md").read_text()


def test_a_head_without_a_graph_reads_features(alone, tmp_path: Path):
    done = export(alone, tmp_path / "out")
    card = (done.path / "README.md").read_text()
    features = np.random.default_rng(0).random((5, 12)).astype(np.float32)
    network = load(done.path)
    assert distance(network(torch.from_numpy(features)), alone.logits(features)) < 1e-4
    assert "cannot be traced: torch.export says" in done.reason
    assert "**not in this folder**" in card and "(N, 12)" in card
    assert not any(name.startswith("backbone") for name in network.state_dict())
    assert done.params == sum(p.numel() for p in network.parameters())
    before = alone.params(alone.space.dense, "head-only")
    assert f"{before:,} before, {done.params:,} now" in card


@pytest.mark.slow  # a fresh process of its own
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_are_verified_too(fires, tmp_path: Path, dtype: str):
    done = export(fires[6], tmp_path / "out", verify=True, dtype=dtype)
    network = load(done.path)
    assert network.dtype == getattr(torch, dtype)
    assert network(INPUTS).isfinite().all()
    assert load(done.path, "float32").dtype == torch.float32


def test_an_unknown_dtype_is_refused(fires, tmp_path: Path):
    with pytest.raises(ExportError, match="Did you mean 'bfloat16'"):
        export(fires[0], tmp_path / "out", dtype="bfloat")


def test_the_same_export_gives_the_same_bytes(fires, tmp_path: Path):
    for name in ("a", "b", "b"):
        export(fires[7], tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_foreign_file_is_never_overwritten_but_bytecode_is(fires, tmp_path: Path):
    done = export(fires[0], tmp_path / "out")
    (done.path / "__pycache__").mkdir()
    (done.path / "__pycache__" / "modeling_head.cpython-311.pyc").write_bytes(b"x")
    export(fires[1], tmp_path / "out")
    (done.path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"did not write 'thesis\.tex'"):
        export(fires[0], tmp_path / "out")


def test_a_full_disk_leaves_the_old_export(fires, tmp_path: Path, monkeypatch):
    done = export(fires[0], tmp_path / "out")
    before = (done.path / "evoprune.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(fires[1], tmp_path / "out")
    assert (done.path / "evoprune.json").read_bytes() == before


@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_a_network_that_is_not_the_scored_head_is_refused(fires, tmp_path: Path, value):
    state = dict(fires[8].state)
    state["output.bias"] = torch.full_like(state["output.bias"], value)
    scored = fires[8].logits
    wrong = replace(fires[8], state=state)
    object.__setattr__(wrong, "logits", scored)
    with pytest.raises(ExportError, match="not those of the head that was scored"):
        export(wrong, tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_what_a_fresh_process_cannot_confirm_is_refused(fires, tmp_path: Path, monkeypatch):
    def answer(work: Path) -> None:
        np.save(work / "logits.npy", np.zeros((6, 3), dtype=np.float32))

    monkeypatch.setattr("evoprune.export.verify._run", answer)
    with pytest.raises(ExportError, match="logits are not those of the searched head"):
        export(fires[8], tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_a_network_with_other_parameters_than_counted_is_refused(fires, monkeypatch):
    monkeypatch.setattr(HeadSubject, "params", lambda *_: 7)
    with pytest.raises(ExportError, match="the cost table counts 7"):
        build(fires[0], "standalone", "float32")


def test_a_family_without_an_exporter_says_so(monkeypatch):
    monkeypatch.delattr(SparseHead, "exporter")
    with pytest.raises(ExportError, match="family 'sparse_head' cannot be exported"):
        exporter_of("sparse_head")


@pytest.mark.parametrize("place", ["evoprune.export.hed:HeadExporter", "evoprune.export.head", ""])
def test_an_exporter_that_is_not_there_says_so(place, monkeypatch):
    monkeypatch.setattr(SparseHead, "exporter", place)
    with pytest.raises(ExportError, match=r"exporter .* of the family 'sparse_head' is not there"):
        exporter_of("sparse_head")


def test_a_head_of_nan_is_not_exported(fires, tmp_path: Path):
    state = fires[9].state | {"output.bias": fires[9].state["output.bias"] * np.nan}
    with pytest.raises(ExportError, match="by nan of the largest"):
        export(replace(fires[9], state=state), tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_a_head_that_cannot_be_scored_again_is_not_exported(fires, tmp_path: Path):
    subject = fires[9]
    failed = SimpleNamespace(error="it broke", values={})
    worker = SimpleNamespace(
        family=SparseHead(), model=subject.network, evaluate=lambda pattern, split: failed
    )
    source = Source(tmp_path, "fire", "float32", "sparse_head")
    given = (source, subject.space, subject.pattern, SCORES, {}, None, lambda: worker)
    with pytest.raises(ExportError, match="cannot be scored: it broke"):
        module.HeadExporter().write(Order(*given), tmp_path / "out")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("text", ["", "{}", "null"])
def test_damaged_files_of_a_head_are_refused(file, text, fires, tmp_path: Path):
    done = export(fires[9], tmp_path / "out")
    (done.path / file).write_text(text)
    with pytest.raises(ModelError):
        load(done.path)


def test_loading_runs_no_code_of_the_folder(fires, tmp_path: Path):
    done = export(fires[9], tmp_path / "out")
    (done.path / "modeling_head.py").write_text("raise SystemExit('it was run')")
    features = made(Fire)(INPUTS).numpy()
    assert distance(load(done.path)(INPUTS), fires[9].logits(features)) < 1e-4


def test_the_file_in_the_folder_needs_torch_and_safetensors_only(fires, tmp_path: Path):
    done = export(fires[9], tmp_path / "out")
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('evoprune', 'transformers', 'sklearn', 'ray')))\n"
        "from modeling_head import load\n"
        "import torch\n"
        "print(tuple(load('.')(torch.zeros(2, 1, 8, 8)).shape))"
    )
    told = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=done.path, capture_output=True, text=True
    )
    assert told.stdout.strip() == "(2, 3)", told.stderr


def test_the_lines_of_the_card_run_as_they_stand(fires, tmp_path: Path):
    done = export(fires[9], tmp_path / "out")
    code = (done.path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    said = lines_of(f"{code}\nprint(tuple(logits.shape))", done.path, tmp_path)
    assert said == ["(1, 3)"]


def change_config(folder: Path, old: str, new: str) -> None:
    config = (folder / "config.json").read_text()
    assert old in config
    (folder / "config.json").write_text(config.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"adaptive_avg_pool2d"', '"from_file"', "'from_file' is none of the operations"),
        ('"adaptive_avg_pool2d"', '"os.system"', "none of the operations"),
        ("%output.bias", "%output.other", "do not belong together"),
        ('"version": 1', '"version": 2', "holds no network that this file can read"),
        ('"steps"', '"stages"', "KeyError"),
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(fires, tmp_path: Path, old, new, message):
    done = export(fires[9], tmp_path / "out")
    change_config(done.path, old, new)
    with pytest.raises(ModelError, match=message):
        load(done.path)


def test_missing_tensors_are_refused(fires, tmp_path: Path):
    done = export(fires[9], tmp_path / "out")
    tensors = load_file(done.path / "model.safetensors")
    del tensors["output.bias"]
    save_file(tensors, done.path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not belong together: \['output\.bias'\]"):
        load(done.path)


def test_an_export_can_be_trained_further_and_saved(tmp_path: Path):
    subject = subjects(written(made(Normed), tmp_path / "base", (16,)), 4)[3]
    network = load(export(subject, tmp_path / "out").path).train()
    labels = torch.arange(7) % 3
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(INPUTS), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    network.save(tmp_path / "tuned")
    again = load(tmp_path / "tuned")
    assert torch.equal(again(INPUTS), network(INPUTS))
    network.load_state_dict(load(tmp_path / "out").state_dict())
    assert not torch.equal(again(INPUTS), network(INPUTS))
    assert network.to(torch.float64)(INPUTS).dtype == torch.float64


def test_a_network_can_be_copied_and_pickled(fires):
    import copy
    import pickle

    network = PrunedNetwork(*build(fires[3], "standalone", "float32"))
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(INPUTS), network(INPUTS))
    assert "conv2d = conv2d(images, backbone.squeeze.weight" in repr(network)
    again = torch.export.export(network, (INPUTS,)).module()
    torch.testing.assert_close(again(INPUTS), network(INPUTS))


def test_an_export_is_measured_beside_the_dense_network(fires, tmp_path: Path):
    done, dense = export(fires[0], tmp_path / "out"), fires[3]
    for _ in range(2):  # a second measurement takes the place of the first
        found = measure_head(
            done.path, lambda dtype: build(dense, "standalone", dtype), IMAGES[:, None], rounds=1
        )
    card = (done.path / "README.md").read_text()
    record = json.loads((done.path / "evoprune.json").read_text())
    assert record["speed"] == found and card.count("## Speed") == 1
    assert "batch of 64 images" in card and "| images per second |" in card
    assert found["file_bytes"]["export"] == done.bytes < found["file_bytes"]["dense"]
    assert found["weight_bytes"]["dense"] == 4 * dense.params(dense.pattern)
    X = dense.space.encode([fires[0].pattern])
    counted = fires[0].table.cost("flops", dense.space, X)[0]
    assert found["batch_flops"]["export"] == pytest.approx(counted)


def test_the_peak_of_memory_is_what_is_alive_at_once(tmp_path: Path):
    subject = subjects(written(made(Plain), tmp_path), 4)[3]
    network = PrunedNetwork(*build(subject, "standalone", "float32"))
    with torch.inference_mode():
        found = peak_bytes(network, INPUTS[:2])
    # The last convolution's 12 x 6 x 6 values, and those of its activation.
    assert found == 2 * 2 * 12 * 36 * 4
