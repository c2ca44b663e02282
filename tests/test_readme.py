"""README.md says what is true: its blocks run, and name only what there is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.registry import OBJECTIVES, load_plugin
from evoprune.testing import check_objective

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Returns the fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """Returns a folder in which a small search stands where the quickstart's would."""
    from evoprune.testing import tiny_decoder

    folder = tmp_path_factory.mktemp("newcomer")
    tiny_decoder(folder / "model")
    texts = [{"text": f"text {i} " + "abc de " * 40, "kind": "k", "key": f"{i}"} for i in range(90)]
    lines = "\n".join(json.dumps(text) for text in texts)
    (folder / "texts.jsonl").write_text(lines + "\n")
    settings = {
        "model": {"name_or_path": str(folder / "model")},
        "data": {"type": "jsonl", "files": [str(folder / "texts.jsonl")], "key_field": "key"}
        | {"kind_field": "kind", "chunk_tokens": 32},
        "calibration": {"samples": 6, "clusters": 2},
        "space": "decoder/depth",
        "objectives": ["token_accuracy", "sparsity", "kl"],
        "search": {"algorithm": "exhaustive", "n_eval": 16},
        "validation": {"samples": 6},
        "report": {"samples": 6},
        "controls": [],
        "workers": {"backend": "local"},
        "output": str(folder / "runs" / "quickstart"),
    }
    evoprune.search(settings, quiet=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings | {"export": {"picks": []}}))
    (folder / "corpus.txt").write_text("\n\n".join(text["text"] for text in texts))
    return folder


def test_python_blocks_run_after_a_search(finished, monkeypatch):
    found = [block for block in blocks("python") if "register" not in block]
    assert len(found) == 4
    for number, block in enumerate(found):
        (finished / f"block{number}.py").write_text(f"{block}\nprint('— end of block')\n")
    each = "import runpy, sys; [runpy.run_path(path, run_name='__main__') for path in sys.argv[1:]]"
    command = [sys.executable, "-c", each, *(f"block{number}.py" for number in range(len(found)))]
    done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("— end of block")
    assert len(said) == len(found) + 1 and all(part.strip() for part in said[:-1])


def test_the_plugin_block_registers_an_objective(tmp_path):
    (block,) = [block for block in blocks("python") if "register" in block]
    (tmp_path / "mine.py").write_text(block)
    load_plugin(tmp_path / "mine.py")
    check_objective(OBJECTIVES.load("worst_example")())


def test_the_yaml_blocks_are_configurations():
    found = [load_config(yaml.safe_load(block)) for block in blocks("yaml")]
    assert [one.space.name for one in found] == ["decoder/subblocks", "transformer/subblocks"]
    assert [one.task.type for one in found] == ["causal_lm", "text_classification"]


@pytest.mark.parametrize("name", ["run", "test"])
def test_each_command_is_one_line(name):
    block = re.search(rf"<!-- command: {name} -->\n```\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None and len(block.group(1).strip().splitlines()) == 1


def test_every_verb_is_named():
    from typer.main import get_command

    from evoprune.cli import app

    for verb in get_command(app).commands:
        assert f"evoprune {verb}" in TEXT


def test_every_file_that_is_named_exists():
    for path in re.findall(r"`((?:evoprune|experiments|search_spaces)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
