"""What a card tells people to type works as it stands, and what they need travels along."""

import ast
import re
from pathlib import Path

import pytest
from shared import lines_of

from evoprune.core.genes import GeneSpec, build_space
from evoprune.export.beside import Carried, carry_over
from evoprune.export.export import export_pattern
from tests.export.conftest import save_tokenizer

PARTS = [GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True)]
BLOCKS = [GeneSpec("block", drop=True)]
WITHOUT = (1, 0, 0, 0, 1, 0, 0, 1, 0, 0)
RUNGS = {
    "homogeneous": (BLOCKS, (1, 0, 0, 1, 0)),
    "heterogeneous": (PARTS, WITHOUT),
    "dense-masked": (BLOCKS, (1, 1, 1, 1, 1)),
}


def export(made, path, rung, **settings):
    source, sites = made
    specs, levels = RUNGS[rung]
    space = build_space("tiny", sites, specs)
    pattern = space.pattern(list(levels))
    return export_pattern(
        source, space, pattern, path, scores={}, provenance={}, verify=False, **settings
    )


def snippets(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.S)


@pytest.mark.parametrize("rung", RUNGS)
def test_the_lines_of_a_card_run_as_they_stand(make_source, tmp_path, rung):
    done = export(make_source(dtype="float32", tokenizer=True), tmp_path / "2cf0", rung)
    loading = [code for code in snippets(done.path) if "peft" not in code]
    assert len(loading) == (2 if rung == "heterogeneous" else 1)
    for code in loading:
        said = lines_of(code + "\nprint(type(model).__name__, model.training)", done.path, tmp_path)
        assert said[-1] == f"{'Evoprune' * (rung == 'heterogeneous')}LlamaForCausalLM False"


def targets(folder: Path) -> list[str]:
    code = next(code for code in snippets(folder) if "peft" in code)
    call = ast.parse(code).body[-1].value
    found = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert found["task_type"] == "CAUSAL_LM"
    return found["target_modules"]


@pytest.mark.parametrize("rung", ["homogeneous", "heterogeneous"])
def test_the_modules_for_peft_are_all_linear_ones_but_the_head(make_source, tmp_path, rung):
    import torch

    import evoprune

    done = export(make_source(dtype="float32"), tmp_path / "out", rung)
    modules = dict(evoprune.load(done.path).named_modules())
    linear = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
    named = targets(done.path)
    reached = {name for name in modules if name.rpartition(".")[2] in named}  # as peft matches
    assert reached == linear - {"lm_head"} and len(named) == 7


def test_modules_that_no_layer_has_left_are_not_named(make_source, tmp_path):
    source, sites = make_source(dtype="float32")
    space = build_space("tiny", sites, PARTS)
    pattern = space.pattern([1] * 5 + [0] * 5)
    done = export_pattern(
        source, space, pattern, tmp_path / "out", scores={}, provenance={}, verify=False
    )
    assert targets(done.path) == ["gate_proj", "up_proj", "down_proj"]


def test_zeros_are_not_offered_for_training(make_source, tmp_path):
    done = export(make_source(dtype="float32"), tmp_path / "out", "dense-masked")
    assert not [code for code in snippets(done.path) if "peft" in code]


TRAVEL = ("LICENSE", "NOTICE.txt", "USE_POLICY.md", "tokenizer.model", "merges.txt", "vocab.json")
TRAVEL += ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "Licence-Llama")
STAY = ("README.md", "pytorch_model.bin", "tokenizer.py", "license.pkl", "train_vocab.json.gz")


def original(folder: Path) -> None:
    for name in (*TRAVEL, *STAY):
        (folder / name).write_text("{}" if name.endswith("json") else f"all of {name}")


def test_licence_and_tokenizer_files_travel_along(make_source, tmp_path):
    made = make_source(dtype="float32", tokenizer=True)
    folder = Path(made[0].name_or_path)
    original(folder)
    done = export(made, tmp_path / "out", "homogeneous")
    for name in set(TRAVEL) - {"chat_template.jinja"}:
        assert (done.path / name).read_bytes() == (folder / name).read_bytes()
    assert (done.path / "chat_template.jinja").is_file()
    assert not [name for name in STAY[1:] if (done.path / name).exists()]
    assert (
        "[LICENSE](LICENSE), [Licence-Llama](Licence-Llama)"
        in (done.path / "README.md").read_text()
    )
    export(made, tmp_path / "out", "homogeneous")  # what travelled is known as ours


def test_without_a_licence_the_card_sends_people_to_the_base(make_source, tmp_path):
    done = export(make_source(dtype="float32"), tmp_path / "out", "homogeneous")
    assert "applies to this one as well: read it there." in (done.path / "README.md").read_text()


def test_a_snapshot_of_the_hub_is_at_hand_and_what_lies_elsewhere_is_not(tmp_path, monkeypatch):
    from evoprune.export.subject import Source

    cache = tmp_path / "hub" / "models--some--llama"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    for folder in (snapshot, blobs, tmp_path / "out"):
        folder.mkdir(parents=True)
    (blobs / "1").write_text("free")
    (tmp_path / "secret").write_text("not yours")
    (snapshot / "LICENSE").symlink_to(blobs / "1")
    (snapshot / "NOTICE").symlink_to(tmp_path / "secret")
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(
        "evoprune.export.beside._file",
        lambda source, name: str(snapshot / name) if (snapshot / name).exists() else None,
    )
    source = Source(tmp_path, "some/llama", "float32", "decoder")
    assert carry_over(source, tmp_path / "out") == Carried(False, ("LICENSE",))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["LICENSE"]


def test_the_tokenizer_that_travels_gives_the_same_tokens(make_source, tmp_path):
    from transformers import AutoTokenizer

    made = make_source(dtype="float32", tokenizer=True)
    save_tokenizer(Path(made[0].name_or_path))
    done = export(made, tmp_path / "out", "homogeneous")
    before, after = (AutoTokenizer.from_pretrained(p) for p in (made[0].name_or_path, done.path))
    text = "w5 w17 nothing w90"
    assert before(text)["input_ids"] == after(text)["input_ids"]
