"""An ensemble as a folder of its own: one base, the patterns, and whatever reads text."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from evoprune.core.errors import ExportError, ModelError
from evoprune.ensemble.ensemble import FILE, MEMBERS, Ensemble
from evoprune.ensemble.routed import CENTROIDS
from evoprune.evaluation.rank import ADAPT_FILE

BASE = "base.safetensors"
CONFIG = "config.json"


def save_ensemble(ensemble: Ensemble, run: str | Path, path: str | Path, processor: Any) -> Path:
    """Writes an ensemble so that it needs its run no more, and returns the folder.

    Language models: the whole base once, and the patterns. Heads: what was fitted for each; the
    backbone is not among it, the module reads features.

    Args:
        ensemble: which.
        run: the folder of its run.
        path: the folder to write; what is there must be an ensemble or nothing.
        processor: the tokenizer; None where there is none.

    Raises:
        ExportError: the path is taken, or cannot be written.
    """
    source, target = Path(run), Path(path).resolve()
    taken = target.is_dir() and any(target.iterdir()) and not (target / FILE).is_file()
    if taken or target.is_file():
        raise ExportError(f"'{path}' holds something else.", "Give another folder.")
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for file in _files(ensemble, source):
            shutil.copyfile(file, new / file.name)
        ensemble.write(new)
        if processor is not None:
            processor.save_pretrained(new)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    except OSError as error:
        raise ExportError(
            f"'{path}' cannot be written: {error.strerror or error}.",
            "Free disk space or correct the permissions.",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


def _files(ensemble: Ensemble, run: Path) -> list[Path]:
    """Returns what is copied."""
    fitted = run / "ensembles" / ensemble.name / MEMBERS
    ranks = run / "ranks"
    base = [fitted] if fitted.is_file() else [ranks / BASE, ranks / CONFIG]
    more = [ranks / ADAPT_FILE, run / "calibration" / CENTROIDS]
    return base + [file for file in more if file.is_file()]


def check_base(folder: Path, ensemble: Ensemble) -> None:
    """Checks that a folder holds the base that the members were chosen on.

    Raises:
        ModelError: it holds none, or another.
    """
    path = folder / BASE
    if not path.is_file():
        raise ModelError(
            f"The base of the ensemble '{ensemble.name}' is not at '{path}'.",
            "Keep the ensemble in its run folder, or save it by itself.",
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if ensemble.origin["base_sha256"] not in (None, found):
        raise ModelError(
            f"'{path}' is not the base of the ensemble '{ensemble.name}'.",
            "Restore it from the run, or make the ensemble again.",
        )
