"""The plug-in package as if it were installed, and what makes the contracts quick to check."""

import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evoprune import scoring
from evoprune.core.registry import REGISTRIES
from evoprune.folder import journal

PACKAGE = Path(__file__).resolve().parents[1] / "plugin_package"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True, scope="package")
def light() -> Iterator[None]:
    """Leaves out what takes time and is looked at elsewhere; keeps torch off busy cores.

    No process is killed here, so journals need not reach the disk, and no interval is read.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda descriptor: None)
        patch.setattr(scoring, "N_BOOT", 20)
        yield
    torch.set_num_threads(before)


def install(target: Path) -> None:
    """Lays the plug-in package out as an installer does: the modules, and their dist-info.

    Its entry points are those of its pyproject.toml, read back by importlib.metadata.
    """
    name = PROJECT["name"].replace("-", "_")
    shutil.copytree(PACKAGE / "evoprune_mlp", target / "evoprune_mlp")
    info = target / f"{name}-{PROJECT['version']}.dist-info"
    info.mkdir()
    head = {"Metadata-Version": "2.1", "Name": PROJECT["name"], "Version": PROJECT["version"]}
    (info / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in head.items()))
    groups = [
        "\n".join([f"[{group}]", *(f"{part} = {place}" for part, place in parts.items())])
        for group, parts in PROJECT["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns the folder that the plug-in package is installed in, for one module's tests."""
    target = tmp_path_factory.mktemp("site-packages")
    install(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        for registry in REGISTRIES.values():
            patch.setattr(registry, "_entries", dict(registry._entries))
            patch.setattr(registry, "_entry_points_read", False)
        yield target
    for module in [name for name in sys.modules if name.partition(".")[0] == "evoprune_mlp"]:
        del sys.modules[module]
