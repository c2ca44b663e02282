"""A journal never mixes values of other packages, devices or plug-ins."""

import json

import pytest

import evoprune
from evoprune.core.errors import RunFolderError
from evoprune.folder.computing import check_computing, computing

PLUGIN = """
from dataclasses import dataclass
from evoprune.core.registry import OBJECTIVES

@dataclass(frozen=True)
class Twice:
    goal, unit, deterministic, passes = "min", "", True, ("clean",)
    def value(self, tables, dense):
        return {factor} * float(tables["clean"].columns["kl"].sum())

OBJECTIVES.register("twice_{factor}", Twice)
"""


@pytest.fixture
def begun(tiny_config):
    """Returns settings of a run that was searched, and its manifest's file."""
    settings = tiny_config()
    run = evoprune.search(settings, quiet=True)
    return settings, run.folder.path / "manifest.json"


def test_other_packages_are_refused_with_the_difference(begun):
    settings, file = begun
    manifest = json.loads(file.read_text())
    manifest["versions"]["torch"] = "2.0.0"
    file.write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match=r"computed with torch 2\.0\.0, now 2\."):
        evoprune.search(settings, quiet=True)
    # What is there can still be read and exported.
    assert len(evoprune.Run.load(file.parent).front)


def test_another_device_is_refused(begun):
    _, file = begun
    manifest = json.loads(file.read_text())
    with pytest.raises(RunFolderError, match="the device cpu, now cuda"):
        check_computing(file.parent, manifest, computing("cuda:0", 1, ()))


def test_other_threads_are_a_note(begun):
    _, file = begun
    manifest = json.loads(file.read_text())
    threads = manifest["computing"]["threads"]
    assert check_computing(file.parent, manifest, computing("cpu", threads, ())) == ""
    note = check_computing(file.parent, manifest, computing("cpu", threads + 3, ()))
    assert f"with {threads} threads a worker, and goes on with {threads + 3}" in note


def test_a_folder_from_before_goes_on(begun):
    settings, file = begun
    manifest = json.loads(file.read_text())
    del manifest["computing"]
    file.write_text(json.dumps(manifest))
    evoprune.search(settings, quiet=True)


def test_a_plug_in_that_was_changed_is_refused(tiny_config, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.replace("{factor}", "2"))
    settings = tiny_config(objectives=["twice_2", "params"], plugins=[str(plugin)])
    evoprune.search(settings, quiet=True)
    plugin.write_text(PLUGIN.replace("{factor} *", "3 *").replace("{factor}", "2"))
    with pytest.raises(RunFolderError, match=r"the plug-in mine\.py as it was, which has changed"):
        evoprune.search(settings, quiet=True)
