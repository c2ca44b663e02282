"""Exports with a modelling file of their own: loaded, refused, trained, saved again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from evoprune.core.errors import ModelError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.evaluation.rank import ADAPT_FILE
from evoprune.export import modeling_evoprune
from evoprune.export.export import Exported, Source, export_pattern
from evoprune.export.subject import ExportSubject
from evoprune.loading import load
from tests.export.conftest import VOCABULARY

PARTS = [GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True)]
WIDTHS = [GeneSpec("heads", keep=(0.5,)), GeneSpec("channels", keep=(0.25,))]
NO_FIRST_ATTENTION = [1, 0, 0, 0, 1, 0, 0, 1, 0, 0]
TOKENS = torch.from_numpy(np.random.default_rng(4).integers(4, VOCABULARY, (2, 16)))


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets transformers copy own code into a folder of the test."""
    place = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", place)


def export(
    made: tuple[Source, list], path: Path, levels=NO_FIRST_ATTENTION, specs=PARTS, **settings: Any
) -> Exported:
    source, sites = made
    space = build_space("tiny", sites, specs)
    settings = {"scores": {}, "provenance": {}, "verify": False} | settings
    return export_pattern(source, space, space.pattern(np.array(levels)), path, **settings)


def trusted(path: Path, **settings: Any) -> Any:
    auto = transformers.AutoModelForCausalLM
    return auto.from_pretrained(path, trust_remote_code=True, **settings)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(TOKENS).logits


def with_adapt(made: tuple[Source, list]) -> tuple[Source, list]:
    """Returns a source whose search compensated biases, with random means."""
    source, sites = made
    rng = np.random.default_rng(5)
    means = {
        f"model.layers.{i}.{name}.weight": rng.normal(size=size)
        for i in range(5)
        for name, size in (("self_attn.o_proj", 48), ("mlp.down_proj", 40))
    }
    save_file(means, source.folder / ADAPT_FILE)
    settings = vars(source) | {"adapt": {"type": "bias_compensation"}}
    return Source(**settings), sites


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "SmolLM3", "Mistral"])
@pytest.mark.parametrize("name", ["ForCausalLM", "Auto"])
def test_stock_classes_refuse(
    make_source: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    done = export(make_source(kind, "float32"), tmp_path / "out")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    stock = "AutoModelForCausalLM" if name == "Auto" else kind + name
    with pytest.raises((KeyError, ValueError), match="trust_remote_code=True"):
        getattr(transformers, stock).from_pretrained(done.path)


@pytest.mark.parametrize(
    ("levels", "specs"),
    [([1, 0, 0, 0, 0], [GeneSpec("heads", keep=(0.5,))]), ([1, 1] + [0] * 8, PARTS)],
)
def test_stock_classes_refuse_widths_and_single_parts(
    make_source: Callable, tmp_path: Path, levels: list, specs: list
) -> None:
    done = export(make_source(dtype="float32"), tmp_path / "out", levels, specs)
    assert done.rung == "heterogeneous"
    with pytest.raises((KeyError, RuntimeError, ValueError)):
        transformers.LlamaForCausalLM.from_pretrained(done.path)


def test_both_ways_of_loading_agree(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(dtype="float32", tokenizer=True), tmp_path / "out")
    ours, theirs = load(done.path), trusted(done.path)
    assert torch.equal(logits(ours), logits(theirs))
    assert load(done.path, dtype="bfloat16").dtype == torch.bfloat16
    assert trusted(done.path, dtype=torch.float64).dtype == torch.float64
    assert len(transformers.AutoTokenizer.from_pretrained(done.path)("w5 w6")["input_ids"]) == 2
    assert not ours.training and next(ours.parameters()).requires_grad


def test_saved_again_it_is_the_same_model(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source("Qwen3", "float32"), tmp_path / "out")
    model = trusted(done.path)
    model.save_pretrained(tmp_path / "again")
    load(tmp_path / "again").save_pretrained(tmp_path / "thrice")
    for folder in ("again", "thrice"):
        assert torch.equal(logits(trusted(tmp_path / folder)), logits(model))
        said = json.loads((tmp_path / folder / "config.json").read_text())
        assert said == json.loads((done.path / "config.json").read_text())
        with pytest.raises(KeyError, match="trust_remote_code=True"):
            transformers.Qwen3ForCausalLM.from_pretrained(tmp_path / folder)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fifty_steps_of_fine_tuning(
    make_source: Callable, tmp_path: Path, checkpointing: bool
) -> None:
    made = with_adapt(make_source(dtype="float32"))
    done = export(made, tmp_path / "out", [1, 0, 0, 0, 1, 1, 0, 0, 1, 0], WIDTHS)
    model = load(done.path).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(50):
        loss = model(TOKENS, labels=TOKENS, use_cache=False).loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("change", ["edited", "missing"])
def test_another_modelling_file_is_not_trusted(
    make_source: Callable, tmp_path: Path, change: str
) -> None:
    done = export(make_source(dtype="float32"), tmp_path / "out")
    file = done.path / "modeling_evoprune.py"
    file.write_text("raise SystemExit('run')") if change == "edited" else file.unlink()
    with pytest.raises(ModelError, match="not the modelling file of this evoprune"):
        load(done.path)


def test_a_pointer_to_other_code_is_not_followed(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(dtype="float32"), tmp_path / "out")
    shutil.copy(modeling_evoprune.__file__, done.path / "evil.py")
    (done.path / "evil.py").write_text("raise SystemExit('run')")
    text = (done.path / "config.json").read_text()
    (done.path / "config.json").write_text(text.replace('"modeling_evoprune.', '"evil.'))
    assert torch.isfinite(logits(load(done.path))).all()


def test_homogeneous_and_masked_exports_are_loaded_too(
    make_source: Callable, tmp_path: Path
) -> None:
    made = make_source(dtype="float32")
    for levels in ([1, 0, 0, 0, 0], [1] * 5):
        done = export(made, tmp_path / "out", levels, [GeneSpec("block", drop=True)])
        assert type(load(done.path)) is transformers.LlamaForCausalLM


def test_what_cannot_be_loaded_says_why(make_source: Callable, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)
    done = export(make_source(dtype="float32"), tmp_path / "out")
    with pytest.raises(ModelError, match="'bfloat' is no dtype"):
        load(done.path, dtype="bfloat")
    weights = load_file(done.path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, done.path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors .* 'model\.norm\.weight'"):
        load(done.path)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_added_biases_are_exported(make_source: Callable, tmp_path: Path, dtype: str) -> None:
    made = with_adapt(make_source(dtype="float64" if dtype == "float64" else "float32"))
    levels = [1, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    done = export(made, tmp_path / "out", levels, WIDTHS, verify=True, dtype=dtype)
    assert done.rung == "heterogeneous" and done.max_error is not None
    assert done.max_error <= (1e-9 if dtype == "float64" else 1e-4)
    with safe_open(done.path / "model.safetensors", "pt") as file:
        biases = {name for name in file.keys() if name.endswith("bias")}  # noqa: SIM118
    assert len(biases) == 4 and "model.layers.4.self_attn.o_proj.bias" in biases
    assert "added biases" in (done.path / "README.md").read_text()


def test_equal_widths_with_added_biases_are_no_stock_model(
    make_source: Callable, tmp_path: Path
) -> None:
    done = export(with_adapt(make_source()), tmp_path / "out", [1] * 10, WIDTHS)
    assert done.rung == "heterogeneous"
    assert "which LlamaForCausalLM does not have" in done.reason


@pytest.mark.slow  # a fresh process of its own
def test_biases_that_the_class_has_stay_homogeneous(make_source: Callable, tmp_path: Path) -> None:
    made = with_adapt(make_source(attention_bias=True, mlp_bias=True))
    done = export(made, tmp_path / "out", [1] * 10, WIDTHS, verify=True)
    assert done.rung == "homogeneous"


def test_whole_blocks_need_no_compensation(make_source: Callable, tmp_path: Path) -> None:
    made = with_adapt(make_source())
    done = export(made, tmp_path / "out", [1, 0, 0, 0, 0], [GeneSpec("block", drop=True)])
    assert done.rung == "homogeneous"


def test_a_recovery_that_adds_no_bias_does_not_fit(
    make_source: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportSubject, "new", ["model.layers.0.mlp.scale"])
    with pytest.raises(Exception, match="No rung holds the pattern"):
        export(make_source(), tmp_path / "out")


def test_the_card_says_how_to_load_it(make_source: Callable, tmp_path: Path) -> None:
    done = export(make_source(), tmp_path / "out")
    card = (done.path / "README.md").read_text()
    record = json.loads((done.path / "evoprune.json").read_text())
    assert 'dtype="auto", trust_remote_code=True)' in card
    assert "evoprune.load(" in card and "vLLM" in card and "GGUF" in card
    assert "| 0 | 0 | – | 40 of 40 |" in card
    assert f"{done.bytes:,} bytes" in card and record["bytes"]["export"] == done.bytes
    assert "modeling_evoprune.py" in record["files"]
