"""The errors a person can cause, each with a cause and a remedy in one sentence each."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class EvopruneError(Exception):
    """A mistake in what was asked for; the command line prints it and exits with status 2.

    Args:
        cause: what was wrong, quoting the value.
        remedy: what to do about it.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


class ConfigError(EvopruneError):
    """A configuration says something that cannot be meant."""


class DataError(EvopruneError):
    """Data are missing, empty, unreadable or overlap between splits."""


class ModelError(EvopruneError):
    """A model cannot be loaded, is of an unknown style or gives unusable outputs."""


class SpaceError(EvopruneError):
    """A search space has no genes, or no pattern in it meets the constraints."""


class RunFolderError(EvopruneError):
    """A run folder cannot be written, belongs to another search or is damaged."""


class ExportError(EvopruneError):
    """A pattern cannot be exported as asked, or the export does not equal what was searched."""


class NoSuchPointError(ConfigError, KeyError, IndexError):
    """A front has no such point."""


class NoSuchNameError(EvopruneError, AttributeError):
    """An object has no attribute of a name; ``hasattr`` and notebooks understand it."""


def missing(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Returns the error of an attribute that there is not.

    Args:
        owner: what was asked, as a sentence begins.
        name: the attribute.
        known: those that there are.
    """
    if name.startswith("_"):  # Python's own questions are no typing errors
        return AttributeError(f"{owner} has no attribute '{name}'")
    public = [one for one in known if not one.startswith("_")]
    return NoSuchNameError(f"{owner} has no '{name}'.", did_you_mean(name, public))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns a remedy that names the nearest of the choices, or lists them."""
    known = sorted(set(choices))
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Choose one of: {', '.join(known)}." if known else "There is nothing to choose from."


def check_path(path: object) -> None:
    """Checks that something names a file or folder.

    Raises:
        ConfigError: it is another object.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"The path is {path!r} ({type(path).__name__}).", "Give it as text.")


def unwritable(path: Path, error: Exception) -> RunFolderError:
    """Returns the error of a file or folder of a run that cannot be written."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return RunFolderError(
        f"'{path}' cannot be written: {reason}.",
        "Free disk space or correct the permissions, then give the same command again.",
    )


def unscorable(split: str, why: str) -> ModelError:
    """Returns the error of a dense model that has no value of an objective on a split."""
    return ModelError(
        f"The dense model cannot be scored on the {split} split: {why}.",
        "Leave that objective out of `objectives` and `columns`, or give other data.",
    )
