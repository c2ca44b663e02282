"""Finds files by name: where the person points, else among what ships with the package."""

import os.path
import re
from pathlib import Path

from evoprune.errors import ConfigError, ModelError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent
_HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


def roots() -> list[Path]:
    """Returns where names are looked up, in order.

    The working folder; the checkout that the package sits in (editable installs); the copy inside
    an installed wheel.
    """
    checkout = _PACKAGE.parent
    found = [Path.cwd()]
    if (checkout / "pyproject.toml").is_file() and (checkout / "search_spaces").is_dir():
        found.append(checkout)
    return [*found, _PACKAGE / "_shipped"]


def find(name: str) -> Path:
    """Returns the path of a file or folder that a person named.

    Raises:
        ConfigError: it is nowhere; names the nearest shipped file.
    """
    path = Path(name).expanduser()
    for candidate in [path] if path.is_absolute() else [root / path for root in roots()]:
        # Unlike Path.exists, False also for what cannot be the name of a file, such as a novel.
        if os.path.exists(candidate):
            return candidate
    near = did_you_mean(name, [*shipped("experiments/*/config.yaml"), *_spaces()])
    shown = name if len(name) <= 200 else f"{name[:197]}..."
    raise ConfigError(f"There is no file '{shown}'.", near)


def resolved(name_or_path: str) -> str:
    """Returns a model's name with a local or shipped folder made absolute, a hub id as it is.

    Raises:
        ModelError: there is no such folder, and no hub id can be called so.
    """
    path = Path(name_or_path).expanduser()
    candidates = [path] if path.is_absolute() else [root / path for root in roots()]
    for found in candidates:
        if os.path.isdir(found):
            return str(found.resolve())
    if not _HUB_ID.fullmatch(name_or_path):
        raise ModelError(
            f"There is no model folder '{name_or_path}'.",
            "Give a folder that `save_pretrained` wrote, or a hub id.",
        )
    return name_or_path


def shipped(pattern: str) -> list[str]:
    """Returns the shipped files that match a glob, by the names that ``find`` takes."""
    names: set[str] = set()
    for root in roots()[1:]:
        names |= {path.relative_to(root).as_posix() for path in root.glob(pattern)}
    return sorted(names)


def _spaces() -> list[str]:
    return shipped("search_spaces/*/*.yaml")
