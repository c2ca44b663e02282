"""Names of models: what is a folder, what may be on the hub, and what neither can be."""

import pytest

from evoprune.config.shipped import near_folder, resolved
from evoprune.core.errors import ModelError

GIVE = "Give a folder that `save_pretrained` wrote, or a hub id."


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A working folder with two models in ``models``."""
    for name in ("lm_ref", "other"):
        (tmp_path / "models" / name / "inner").mkdir(parents=True)
    (tmp_path / "weights.bin").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_made_absolute_and_a_hub_id_stays(folders):
    assert resolved("models/lm_ref") == str(folders / "models" / "lm_ref")
    assert resolved("owner/model") == "owner/model" and resolved("gpt2") == "gpt2"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("path/to/model", GIVE),
        ("./x", GIVE),
        ("/nowhere/model", GIVE),
        ("../nowhere", GIVE),
        ("models/nothing", GIVE),
        ("models/lm_reff", "Did you mean 'models/lm_ref'?"),
        ("./models/lm-ref", "Did you mean 'models/lm_ref'?"),
        ("modls/lm_ref/inner", "Did you mean 'models/lm_ref/inner'?"),
        ("experiments/quickstart/modle", "Did you mean 'experiments/quickstart/model'?"),
    ],
)
def test_what_looks_like_a_path_is_no_hub_id(folders, name, remedy):
    with pytest.raises(ModelError) as caught:
        resolved(name)
    assert caught.value.cause == f"There is no model folder '{name}'."
    assert caught.value.remedy == remedy


def test_a_file_is_no_model(folders):
    with pytest.raises(ModelError, match="is a file"):
        resolved("weights.bin")


def test_near_folders_are_looked_for_from_the_root_too(folders):
    assert near_folder(f"{folders}/modles") == f"Did you mean '{folders}/models'?"
    assert near_folder("modles/lm_ref") == "Did you mean 'models/lm_ref'?"
    assert near_folder("nothing_like_it") is None
