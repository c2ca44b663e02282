"""Finds files by name: where the person points, else among what ships with the package."""

import os.path
import re
from difflib import get_close_matches
from pathlib import Path

from evoprune.core.errors import ConfigError, ModelError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
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
    for candidate in _places(name):
        # Unlike Path.exists, False also for what cannot be the name of a file, such as a novel.
        if os.path.exists(candidate):
            return candidate
    near = did_you_mean(name, [*shipped("experiments/*/config.yaml"), *_spaces()])
    shown = name if len(name) <= 200 else f"{name[:197]}..."
    raise ConfigError(f"There is no file '{shown}'.", near)


def resolved(name_or_path: str) -> str:
    """Returns a model's name with a local or shipped folder made absolute, a hub id as it is.

    What looks like a path is never looked for on the hub: ``./model``, ``a/b/c``, or ``a/b``
    where there is a folder ``a``.

    Raises:
        ModelError: there is no such folder, and no hub id can be called so.
    """
    for found in _places(name_or_path):
        if os.path.isdir(found):
            return str(found.resolve())
    if any(os.path.isfile(found) for found in _places(name_or_path)):
        raise ModelError(
            f"The model '{name_or_path}' is a file.", "Give the folder that it lies in."
        )
    owner, slash, _ = name_or_path.partition("/")
    local = slash and any(os.path.isdir(found) for found in _places(owner))
    if local or not _HUB_ID.fullmatch(name_or_path):
        raise ModelError(
            f"There is no model folder '{name_or_path}'.",
            near_folder(name_or_path) or "Give a folder that `save_pretrained` wrote, or a hub id.",
        )
    return name_or_path


def near_folder(name: str) -> str | None:
    """Returns a remedy that names an existing folder called much like one that does not exist."""
    path = Path(name).expanduser()
    for root in [Path("/")] if path.is_absolute() else roots():
        whole = root / path
        above = next((folder for folder in whole.parents if os.path.isdir(folder)), None)
        if above is None:
            continue
        missing, *rest = whole.relative_to(above).parts
        near = get_close_matches(missing, _folders(above), n=1, cutoff=0.6)
        if near:
            found = above / near[0]
            found = found.joinpath(*rest) if os.path.isdir(found.joinpath(*rest)) else found
            return f"Did you mean '{found if path.is_absolute() else found.relative_to(root)}'?"
    return None


def _folders(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError:
        return []


def _places(name: str) -> list[Path]:
    """Returns where a file or folder of that name may lie, in order."""
    path = Path(name).expanduser()
    return [path] if path.is_absolute() else [root / path for root in roots()]


def shipped(pattern: str) -> list[str]:
    """Returns the shipped files that match a glob, by the names that ``find`` takes."""
    names: set[str] = set()
    for root in roots()[1:]:
        names |= {path.relative_to(root).as_posix() for path in root.glob(pattern)}
    return sorted(names)


def _spaces() -> list[str]:
    return shipped("search_spaces/*/*.yaml")
