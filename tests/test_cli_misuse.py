"""What a person reads after a mistake: one sentence of cause, one of remedy, status 2.

The texts are kept here word for word, with paths replaced.
"""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evoprune import cli
from evoprune.testing import tiny_decoder


@pytest.fixture
def say(tiny_config, tmp_path, tiny_llama, monkeypatch, capsys):
    """Returns a function that searches with changed settings and returns what stderr says."""
    monkeypatch.chdir(tmp_path)
    paths = {str(tmp_path): "TMP", str(tiny_llama): "MODEL"}

    def run(*arguments, verb="search", text=None, **sections):
        path = tmp_path / "mine.yaml"
        path.write_text(text or yaml.safe_dump(tiny_config(**sections), sort_keys=False))
        monkeypatch.setattr(sys, "argv", ["evoprune", verb, str(path), *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr().err
        for found, short in paths.items():
            said = said.replace(found, short)
        assert (stop.value.code, len(said.splitlines())) == (2, 2), said
        assert "Traceback" not in said
        return said

    return run


def lines(cause, remedy):
    """Returns the two lines of a message."""
    return f"evoprune: {cause}\n          {remedy}\n"


SETTINGS = {
    "unknown key": (
        {"serach": {}},
        "There is no setting 'serach'.",
        "Did you mean 'search'?",
    ),
    "unknown key inside": (
        {"calibration": {"sampels": 12}},
        "There is no setting 'calibration.sampels'.",
        "Did you mean 'samples'?",
    ),
    "unknown objective": (
        {"objectives": ["token_acuracy"]},
        "There is no objective 'token_acuracy'.",
        "Did you mean 'token_accuracy'?",
    ),
    "another task's objective": (
        {"objectives": ["accuracy", "params"]},
        "The task 'causal_lm' does not measure 'accuracy', which is of 'classification'.",
        "Did you mean 'token_accuracy'?",
    ),
    "another task's column": (
        {"columns": ["ood_auroc"]},
        "The task 'causal_lm' does not measure 'ood_auroc', which is of 'classification'.",
        "Did you mean 'token_accuracy'?",
    ),
    "unknown algorithm": (
        {"search": {"algorithm": "nsga22", "n_eval": 4}},
        "There is no algorithm 'nsga22'.",
        "Did you mean 'nsga2'?",
    ),
    "unknown option": (
        {"search": {"algorithm": {"type": "nsga2", "popsize": 4}, "n_eval": 4}},
        "The algorithm 'nsga2' has no option 'popsize'.",
        "Did you mean 'pop_size'?",
    ),
    "unknown control": (
        {"controls": ["unifrom"]},
        "There is no control 'unifrom'.",
        "Did you mean 'uniform'?",
    ),
    "unknown warm start": (
        {"search": {"n_eval": 4, "warm_starts": ["dens"]}},
        "There is no warm start 'dens'.",
        "Did you mean 'dense'?",
    ),
    "unknown space": (
        {"space": "decoder/dpeth"},
        "There is no file 'search_spaces/decoder/dpeth.yaml'.",
        "Did you mean 'search_spaces/decoder/depth.yaml'?",
    ),
    "no data": (
        {"data": {"type": "text", "files": ["nowhere/*.txt"]}},
        "'nowhere/*.txt' matches no file.",
        "Give the path or glob of a file that exists.",
    ),
    "impossible budget": (
        {"constraints": {"params": "<=5%"}},
        "No pattern of the space 'decoder/depth' meets params<=5%: "
        "it ranges over 9,632 to 40,608 (23.7% to 100.0%).",
        "Choose a bound inside that range.",
    ),
    "contradicting budgets": (
        {"constraints": {"params": "<=50%", "flops": ">=90%"}},
        "No pattern of the space 'decoder/depth' was found that meets params<=50% and flops>=90%.",
        "Leave more room between these bounds.",
    ),
    "a bound on nothing": (
        {"constraints": {"parms": "<=50%"}},
        "The constraint 'parms<=50%' bounds no known quantity.",
        "Did you mean 'params'?",
    ),
    "a bound that is none": (
        {"constraints": {"params": "50%"}},
        "The constraint 'params: 50%' cannot be read.",
        'Write it like "<=70%" (of the dense model) or ">=0.3".',
    ),
    "no genes": (
        {"space": {"base": "decoder/depth", "exclude": ["*"]}},
        "The search space 'decoder/depth' has no genes.",
        "Widen `include`, shorten `exclude` or choose another space (`evoprune ls spaces`).",
    ),
    "too many examples": (
        {"validation": {"samples": 900}},
        "The validation split holds 135 examples, 900 are asked for.",
        "Lower validation.samples, or give more data.",
    ),
    "no end": (
        {"search": {"seed": 1}},
        "In 'search': a search needs an end: set n_eval or n_gen.",
        "Mend that setting.",
    ),
    "a missing plug-in": (
        {"plugins": ["mine.py"]},
        "The plug-in 'mine.py' does not exist.",
        "Give the path of a .py file.",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_searched(say, case):
    sections, cause, remedy = SETTINGS[case]
    assert say(**sections) == lines(cause, remedy)


ARGUMENTS = {
    "no equals sign": (
        "search.n_eval",
        "The override 'search.n_eval' cannot be read.",
        "Write it like search.n_eval=500.",
    ),
    "broken YAML": (
        "search.n_eval=[3",
        "The value of the override 'search.n_eval=[3' is not valid YAML.",
        "Quote it.",
    ),
    "unknown key": (
        "search.n_evals=3",
        "There is no setting 'search.n_evals'.",
        "Did you mean 'n_eval'?",
    ),
    "wrong value": (
        "search.n_eval=many",
        "'search.n_eval' is 'many': Input should be a valid integer, unable to parse string as an "
        "integer.",
        "Mend that setting.",
    ),
    "into a list": (
        "objectives.0=nll",
        'The override \'objectives.0=nll\' leads into ["kl", "sparsity", "worst_cluster_kl"].',
        "Give all of objectives anew, such as objectives=[...], or edit the file.",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_overrides_that_cannot_be_meant(say, case):
    argument, cause, remedy = ARGUMENTS[case]
    assert say(argument) == lines(cause, remedy)


def test_malformed_yaml(say):
    assert say(text="search:\n  n_eval: [3\nmodel: {}\n") == lines(
        "'TMP/mine.yaml' is not valid YAML: while parsing a flow sequence "
        'in "TMP/mine.yaml", line 2, column 11 '
        "expected ',' or ']', but got ':' "
        'in "TMP/mine.yaml", line 3, column 6.',
        "Mend that line.",
    )


def test_a_key_that_stands_twice(say):
    assert say(text="output: a\noutput: b\n") == lines(
        "'TMP/mine.yaml' is not valid YAML: the key 'output' stands twice in \"TMP/mine.yaml\", "
        "line 2, column 1.",
        "Mend that line.",
    )


def test_a_missing_model_folder_and_then_the_right_one(say, tiny_config, monkeypatch):
    said = say(model={"name_or_path": "/nowhere/model"})
    assert said == lines(
        "There is no model folder '/nowhere/model'.",
        "Give a folder that `save_pretrained` wrote, or a hub id.",
    )
    said = say(validation={"samples": 900})
    assert "900 are asked for" in said, "a folder in which nothing was evaluated belongs to nobody"


def test_a_folder_without_a_model(say, tmp_path):
    (tmp_path / "empty").mkdir()
    assert say(model={"name_or_path": str(tmp_path / "empty")}) == lines(
        "The folder 'TMP/empty' holds no config.json.",
        "Give a folder that `save_pretrained` wrote, or a hub id.",
    )


def test_empty_data(say, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n\n")
    assert say(data={"type": "text", "files": [str(tmp_path / "empty.txt")]}) == lines(
        "'TMP/empty.txt' has no text.", "Give files that have text."
    )


def test_a_model_that_returns_nan(say, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tiny_decoder(tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert say(model={"name_or_path": str(folder)}) == lines(
        "The dense model returns NaN or infinite logits.",
        "Check its weights and `model.dtype` (bfloat16 instead of float16, or float32).",
    )


@pytest.mark.parametrize("value", [float("nan"), [0.1, float("nan")], {"at": float("nan")}])
def test_an_option_that_is_not_a_number(say, value):
    cause, remedy = say(objectives=["kl", {"type": "cvar_kl", "alpha": value}]).splitlines()[:2]
    assert "alpha is not a number" in cause and "objectives" in cause and remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "a" * 5000},
        {"space": "a" * 5000},
        {"model": {"name_or_path": "a" * 5000}},
        {"model": {"name_or_path": "a/" * 3000}},
        {"plugins": ["a" * 5000]},
        {"output": "a" * 5000},
    ],
    ids=["data", "space", "hub id", "folder", "plug-in", "output"],
)
def test_a_name_too_long_for_a_file(say, monkeypatch, changes):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cause, remedy = say(**changes).splitlines()
    assert "Traceback" not in cause and remedy


def test_a_run_folder_that_cannot_be_made(say, tmp_path):
    (tmp_path / "file").write_text("")
    assert say(output=str(tmp_path / "file" / "run")) == lines(
        "The run folder 'TMP/file/run' cannot be made: Not a directory.",
        "Choose another `output`, or mend its permissions.",
    )


def test_a_folder_that_holds_something_else(say, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert say(output=str(tmp_path / "full")) == lines(
        "'TMP/full' is not empty and holds no run.", "Choose another `output`."
    )


def test_a_changed_identity_on_an_old_run_folder(say, tiny_config):
    import evoprune

    evoprune.search(tiny_config(), {"search.n_eval": 4}, quiet=True)
    assert say("search.seed=3", "space=decoder/subblocks", "calibration.samples=9") == lines(
        "'TMP/run' belongs to another search (calibration.samples: 12 -> 9; search.seed: 0 -> 3; "
        'space.genes: [{"kind": "block", "drop": true, "kee... -> '
        '[{"kind": "attn", "drop": true, "keep... and 1 more).',
        "Choose another `output`, or undo the change.",
    )


def test_a_full_disk_at_the_journal(say, tiny_config, monkeypatch):
    from evoprune.folder import journal

    write = journal.os.write

    def full(descriptor, data):
        if b'"evaluation"' in data:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(journal.os, "write", full)
    assert say() == lines(
        "'TMP/run/journal.jsonl' cannot be written: No space left on device.",
        "Free disk space or correct the permissions, then give the same command again.",
    )


def test_other_verbs_speak_the_same_way(say, monkeypatch):
    assert say(verb="plan", objectives=["klx"]) == lines(
        "There is no objective 'klx'.", "Did you mean 'kl'?"
    )
    assert say(verb="plan", objectives=["accuracy", "params"]) == lines(
        "The task 'causal_lm' does not measure 'accuracy', which is of 'classification'.",
        "Did you mean 'token_accuracy'?",
    )
    assert say(verb="front") == lines(
        "'TMP/mine.yaml' is no run folder: it holds no config.yaml.",
        "Give the folder that `evoprune search` wrote, such as runs/quickstart.",
    )


def test_a_split_that_there_is_not(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["evoprune", "front", str(tmp_path), "--split", "reprot"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    expected = lines("There is no split 'reprot'.", "Did you mean 'report'?")
    assert (stop.value.code, capsys.readouterr().err) == (2, expected)


def test_a_missing_configuration_as_a_process():
    command = [sys.executable, "-m", "evoprune.cli", "search", "experiments/quikstart/config.yaml"]
    root = Path(cli.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    expected = lines(
        "There is no file 'experiments/quikstart/config.yaml'.",
        "Did you mean 'experiments/quickstart/config.yaml'?",
    )
    assert (done.returncode, done.stderr) == (2, expected)


def test_control_c_is_status_130_and_says_what_to_do(monkeypatch, capsys, tiny_config, tmp_path):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("evoprune.listing.listing", interrupted)
    monkeypatch.setattr(sys, "argv", ["evoprune", "ls", "objectives"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "evoprune: stopped; the same command goes on from here.\n"


def test_a_full_disk_before_the_search(say, monkeypatch):
    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evoprune.data.examples.Examples.save", full)
    said = say()
    assert said.startswith("evoprune: The run folder '")
    assert said.endswith(
        "cannot be written: No space left on device.\n          Free disk space or correct the "
        "permissions, then give the same command again.\n"
    )
