"""What a file from elsewhere cannot do: run code, or lead out of its folder."""

import ast
import json
import pickle
from pathlib import Path

import pytest

import evoprune
from evoprune.config.schema import load_config
from evoprune.config.settings import read_yaml
from evoprune.core.errors import ConfigError, EvopruneError, ModelError
from evoprune.families.load import load_model
from evoprune.folder.layout import RunFolder
from evoprune.progress.console import Console
from evoprune.run import Run
from evoprune.session import open_session
from evoprune.testing import tiny_decoder

ROOT = Path(evoprune.__file__).parent
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CODE = {"eval", "exec"}


def unsafe(source: str) -> list[str]:
    """Returns the calls and imports by which a file could be made to run code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in UNPICKLERS]
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLERS:
            found.append(node.module)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in CODE or called in ("os.system", "yaml.unsafe_load", "yaml.full_load"):
            found.append(called)
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append(called)
        if called.endswith("np.load") and given.get("allow_pickle") != "False":
            found.append(called)
        if called == "yaml.load" and given.get("Loader") != "_UniqueLoader":
            found.append(called)
        if given.get("trust_remote_code") == "True" or given.get("shell") == "True":
            found.append(f"{called}, {given}")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader=yaml.Loader)",
        "yaml.unsafe_load(f)",
        "eval(text)",
        "AutoModel.from_pretrained(f, trust_remote_code=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_look_out_sees_what_it_shall(source):
    assert unsafe(source)


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_no_file_of_ours_unpickles_evaluates_or_trusts(path):
    assert not unsafe(path.read_text(encoding="utf-8"))


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickled_model_is_not_unpickled(tmp_path):
    import torch

    folder, mark = tiny_decoder(tmp_path / "model"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Bomb(mark)}, folder / "pytorch_model.bin")
    pickle.loads(pickle.dumps(Bomb(tmp_path / "works")))
    assert (tmp_path / "works").exists(), "the bomb is one"
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))
    assert not mark.exists()


OWN_CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OddConfig(LlamaConfig):
    model_type = "odd"
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""


def with_own_code(folder: Path, mark: Path) -> Path:
    """Returns a model folder whose class is in a file of its own that leaves a mark."""
    tiny_decoder(folder)
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
    config |= {"model_type": "odd", "architectures": ["OddForCausalLM"], "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "odd.py").write_text(OWN_CODE.format(mark=str(mark)))
    return folder


def test_a_model_s_own_code_runs_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark = tmp_path / "ran"
    folder = with_own_code(tmp_path / "model", mark)
    with pytest.raises(ModelError, match="trust_remote_code"):
        load_model(str(folder))
    assert not mark.exists()
    load_model(str(folder), trust_remote_code=True)
    assert mark.exists()


def test_who_trusts_a_model_s_code_is_warned(tiny_config, capsys):
    model = tiny_config()["model"]
    for trust in (False, True):
        settings = tiny_config(model={**model, "trust_remote_code": trust})
        open_session(load_config(settings), Console()).close()
        assert ("warning   model.trust_remote_code" in capsys.readouterr().out) == trust


@pytest.mark.parametrize("tag", ["python/object/apply:os.mkdir", "python/name:os.system"])
def test_yaml_makes_nothing_but_data(tmp_path, tag):
    path, made = tmp_path / "mine.yaml", tmp_path / "made"
    path.write_text(f"model: !!{tag} ['{made}']\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config({"model": {}}, [f"model=!!{tag} ['{made}']"])
    path.rename(tmp_path / "config.yaml")
    with pytest.raises(EvopruneError, match="damaged"):
        RunFolder(tmp_path).load()
    assert not made.exists()


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "..", "a/b"])
def test_names_in_a_run_folder_lead_nowhere_else(tiny_config, tmp_path, name):
    run = evoprune.search(tiny_config(), quiet=True)
    path = run.folder.front_json
    before = {one for one in tmp_path.rglob("*") if run.folder.path not in one.parents}
    front = json.loads(path.read_text())
    text = path.read_text().replace(json.dumps(run.front.points[0].id), json.dumps(name))
    assert front and text != path.read_text()
    path.write_text(text)
    with pytest.raises(EvopruneError):
        Run.load(run.folder.path).export(name)
    with pytest.raises(ConfigError, match="no plain name"):
        run.ensemble(None, name)
    assert {one for one in tmp_path.rglob("*") if run.folder.path not in one.parents} == before
