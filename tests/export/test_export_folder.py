"""What an export writes, and what it refuses to write."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evoprune.core.errors import ExportError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.export import export as module
from evoprune.export.card import read_record, score_table
from evoprune.export.export import Exported, Source, export_pattern
from evoprune.export.verify import verify

PARTS = [GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True)]
SCORES = {"search_nll": 3.5, "val_nll": 3.25, "report_nll": 3.0, "params": 1234}
SCORES |= {"report_nll_low": 2.5, "report_nll_high": 3.5}


def export(
    made: tuple[Source, list], path: Path, levels=(1, 0, 0, 1, 0), specs=None, **settings
) -> Exported:
    source, sites = made
    space = build_space("tiny", sites, specs or [GeneSpec("block", drop=True)])
    settings = {"scores": SCORES, "provenance": {"seed": 7}, "verify": False} | settings
    return export_pattern(source, space, space.pattern(np.array(levels)), path, **settings)


@pytest.mark.parametrize(
    ("kind", "specs", "levels", "rung"),
    [
        ("Llama", None, (1, 0, 0, 1, 0), "homogeneous"),
        ("Qwen3", PARTS, (1, 0, 0, 0, 1, 0, 0, 1, 0, 0), "heterogeneous"),
        ("Llama", None, (1, 1, 1, 1, 1), "dense-masked"),
    ],
)
def test_a_fresh_process_finds_the_same_logits(
    make_source: Callable, tmp_path: Path, tokens, kind, specs, levels, rung
) -> None:
    made = make_source(kind, "float32", tokenizer=True)
    done = export(made, tmp_path / "out", levels, specs, verify=True, tokens=tokens)
    assert done.rung == rung
    assert done.max_error is not None and done.max_error < 1e-5
    assert read_record(done.path)["max_error"] == done.max_error


@pytest.mark.slow  # a fresh process of its own
def test_bfloat16_weights_are_verified_in_float32(make_source: Callable, tmp_path: Path) -> None:
    made = make_source("Qwen2", "float32")
    text = '{"do_sample": false, "temperature": 0.7, "eos_token_id": [2, 3]}'
    (Path(made[0].name_or_path) / "generation_config.json").write_text(text)
    done = export(made, tmp_path / "out", verify=True, dtype="bfloat16")
    config = json.loads((done.path / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert done.bytes < 2.2 * done.params + 10_000
    assert done.max_error is not None and done.max_error < 1e-5
    assert (done.path / "generation_config.json").read_text() == text


@pytest.mark.parametrize(
    ("stored", "computed", "written"),
    [
        ("bfloat16", "float32", "bfloat16"),
        ("float32", "bfloat16", "bfloat16"),
        ("float16", "bfloat16", "bfloat16"),
        ("float64", "float64", "float64"),
    ],
)
def test_the_default_dtype_loses_nothing(
    make_source: Callable, tmp_path: Path, stored, computed, written
) -> None:
    made = make_source(dtype=computed)
    config = Path(made[0].name_or_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": stored}))
    done = export(made, tmp_path / "out")
    assert json.loads((done.path / "config.json").read_text())["dtype"] == written


def test_the_folder_says_what_it_is(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(tokenizer=True), tmp_path / "out")
    record = json.loads((done.path / "evoprune.json").read_text())
    card = (done.path / "README.md").read_text()
    assert record["pattern"]["options"] == {"layers.0": {"drop": True}, "layers.3": {"drop": True}}
    assert record["params"]["export"] == done.params < record["params"]["base"]
    assert record["provenance"] == {"seed": 7} and record["scores"] == SCORES
    weights = (done.path / "model.safetensors").read_bytes()
    assert record["files"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert "block removed (2): layers.0, layers.3" in card
    assert "| nll | 3.5 | 3.25 | 3 [2.5, 3.5] |" in card
    assert (done.path / "tokenizer.json").is_file()
    assert str(tmp_path) not in card + json.dumps(record)


def test_a_model_without_tokenizer_says_so(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(), tmp_path / "out")
    assert "No tokenizer was found" in (done.path / "README.md").read_text()
    assert not list(done.path.glob("tokenizer*"))


def test_a_masked_export_says_that_it_saves_nothing(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(), tmp_path / "out", [1] * 5)
    record = json.loads((done.path / "evoprune.json").read_text())
    assert done.rung == "dense-masked"
    assert record["params"]["export"] == record["params"]["base"]
    assert "saves nothing" in (done.path / "README.md").read_text()


def test_widths_that_the_class_refuses_differ(make_source: Callable, tmp_path: Path) -> None:
    made = make_source("Llama", hidden_size=32)
    done = export(made, tmp_path / "out", [1] * 5, [GeneSpec("heads", keep=(0.75,))])
    assert done.rung == "heterogeneous"
    assert "LlamaConfig refuses these widths" in done.reason


def test_the_same_export_gives_the_same_bytes(make_source: Callable, tmp_path: Path) -> None:
    made = make_source(tokenizer=True)
    for name in ("a", "b"):
        export(made, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_export_is_replaced_by_the_next(make_source: Callable, tmp_path: Path) -> None:
    made = make_source()
    first, second = (
        export(made, tmp_path / "out", levels) for levels in ([0] * 5, [1, 1, 0, 0, 0])
    )
    assert second.params < first.params
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "out", "ranks"]


@pytest.mark.parametrize("ours", [True, False])
def test_a_foreign_file_is_never_overwritten(
    make_source: Callable, tmp_path: Path, ours: bool
) -> None:
    made, out = make_source(), tmp_path / "out"
    if ours:
        export(made, out)
    out.mkdir(exist_ok=True)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"did not write 'thesis\.tex'"):
        export(made, out)
    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_export(
    make_source: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_source()
    export(made, tmp_path / "out")
    before = (tmp_path / "out" / "evoprune.json").read_bytes()

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "carry_over", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(made, tmp_path / "out", [1, 1, 1, 1, 0])
    assert (tmp_path / "out" / "evoprune.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "out", "ranks"]


def test_an_export_without_one_of_its_tensors_is_refused(
    make_source: Callable, tmp_path: Path, tokens
) -> None:
    done = export(make_source(dtype="float32"), tmp_path / "out")
    weights = load_file(done.path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, done.path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"tensors .* differ: model\.norm\.weight"):
        verify(done.path, tokens, np.zeros((3, 20, 96), dtype=np.float32))


@pytest.mark.parametrize(
    ("offset", "steps", "generate", "message"),
    [
        (1.0, 0.0, 0.0, "its logits are not those of the searched pattern"),
        (np.nan, 0.0, 0.0, "its logits are not those of the searched pattern"),
        (0.0, 0.5, 0.0, "decoding with the key–value cache"),
        (0.0, 0.0, np.inf, "greedy generation"),
    ],
)
def test_an_export_that_computes_something_else_is_refused(
    make_source: Callable, tmp_path: Path, monkeypatch, offset, steps, generate, message
) -> None:
    def answer(work: Path) -> None:
        np.save(work / "logits.npy", np.ones((2, 24, 96)) + offset)
        (work / "result.json").write_text(json.dumps({"steps": steps, "generate": generate}))

    monkeypatch.setattr(module.ExportSubject, "logits", lambda self, tokens: np.ones((2, 24, 96)))
    monkeypatch.setattr("evoprune.export.verify._run", answer)
    with pytest.raises(ExportError, match=message):
        export(make_source(), tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_an_unknown_dtype_is_refused(make_source: Callable, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Did you mean 'bfloat16'"):
        export(make_source(), tmp_path / "out", dtype="bfloat")


def test_a_space_of_another_model_is_refused(make_source: Callable, tmp_path: Path) -> None:
    source, sites = make_source()
    with pytest.raises(ExportError, match="has other sites"):
        export((source, sites[:-5]), tmp_path / "out", [1, 0, 0, 0])


def test_a_score_without_its_value_is_still_shown() -> None:
    assert "| snr_low | 2 |" in score_table({"val_snr_low": 2.0})


def test_files_of_an_export_can_be_read_by_whom_others_can(make_source, tmp_path):
    done = export(make_source(), tmp_path / "out", verify=False)
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in done.path.iterdir()} == {0o666 & ~mask}
