"""A wheel of the package, and of a plug-in to it, installed beside nothing of the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def done(command: list[str], **settings) -> str:
    """Returns what a command prints, which must end well."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def evoprune(tmp_path_factory):
    """Returns a function that runs a verb of the installed wheels, in an empty folder."""
    pytest.importorskip("hatchling")
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    for project in (ROOT, ROOT / "tests" / "plugin_package"):
        offline = ["--no-deps", "--no-build-isolation", "-w", str(wheels)]
        done([*PIP, "wheel", *offline, str(project)], cwd=wheels)
    found = sorted(map(str, wheels.glob("*.whl")))
    assert len(found) == 2
    done([*PIP, "install", "--no-deps", "--no-index", "--target", str(site), *found], cwd=wheels)
    empty = tmp_path_factory.mktemp("empty")
    # What is first on the path hides an editable install.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import evoprune; print(evoprune.__file__)"]
    assert done(where, cwd=empty, env=environment).startswith(str(site))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "evoprune.cli", *arguments]
        return done(command, cwd=empty, env=environment)

    return run


@pytest.mark.slow
def test_spaces_and_quickstarts_are_in_the_wheel(evoprune):
    assert {"decoder/depth", "decoder/subblocks"} <= set(evoprune("ls", "spaces").split())
    assert "experiments/quickstart/config.yaml" in evoprune("ls", "experiments")
    planned = evoprune("plan", "experiments/quickstart/config.yaml")
    assert "12 genes, 4096 candidates" in planned


@pytest.mark.slow
def test_an_installed_plugin_is_found(evoprune):
    assert "mlp" in evoprune("ls", "families")
    assert "path_norm" in evoprune("ls", "criteria")
