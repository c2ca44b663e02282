"""What every export shares: a folder that is written whole or not at all, and what became of it."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprune.core.errors import ExportError, did_you_mean
from evoprune.core.export_rungs import ExportRung
from evoprune.export.card import check_target

DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        path: the folder.
        rung: how the pattern was written.
        reason: why so.
        params: parameters of the exported model.
        bytes: of its weights on disk.
        max_error: the largest error found in verification, relative to the largest logit; None
            if it was not verified.
        speed: what was measured beside the dense model, by name: ``decode_ms`` and others with
            ``dense``, ``export`` and ``ratio``; None if it was not measured.
        rule: why this point was exported, in words; empty where it was named as it is.
        warning: what to know of it before it is used, if there is anything.
    """

    path: Path
    rung: ExportRung
    reason: str
    params: int
    bytes: int
    max_error: float | None
    speed: Mapping[str, Any] | None = None
    rule: str = ""
    warning: str | None = None

    def __repr__(self) -> str:
        error = self.max_error
        checked = "not verified" if error is None else f"verified (error {error:.1e})"
        warning = f"\n  {self.warning}" if self.warning else ""
        return (
            f"Exported '{self.path}': {self.rung}, {self.params:,} parameters, "
            f"{self.bytes / 1e6:.1f} MB, {checked}{warning}"
        )


def check_dtype(asked: str) -> str:
    """Returns the dtype that is asked for.

    Raises:
        ExportError: weights cannot be written so.
    """
    if asked not in DTYPES:
        raise ExportError(f"'{asked}' is no dtype to export in.", did_you_mean(asked, DTYPES))
    return asked


def weight_bytes(folder: Path) -> int:
    """Returns the size of an export's weights on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Gives a folder beside the target that takes its place at the end, whole or not at all.

    Raises:
        ExportError: the target is taken, or cannot be written.
    """
    from safetensors import SafetensorError

    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
        _readable(new)
        check_target(target)
        _swap(new, target, old)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"'{target}' cannot be written: {getattr(error, 'strerror', None) or error}.",
            "Free disk space or correct the permissions, then export again.",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _readable(folder: Path) -> None:
    """Gives files the permissions that any file here has; some savers keep theirs secret."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


def _swap(new: Path, target: Path, old: Path) -> None:
    """Puts a folder in the place of the target, or leaves the target as it was."""
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if replaced:
            old.rename(target)
        raise
