"""Checks, in a fresh process without evoprune, that an export computes what was searched."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.errors import ExportError
from evoprune.export import fresh


def verify(
    folder: Path,
    tokens: np.ndarray,
    expected_logits: np.ndarray,
    tolerance: float = 1e-4,
    *,
    trust_remote_code: bool = False,
    refused_by: str | None = None,
) -> float:
    """Returns the largest error of an exported model, relative to the largest logit.

    The model is loaded in a new isolated process in which evoprune cannot be imported. Compared
    are its logits with the expected ones, and decoding with the key–value cache (steps of one and
    more tokens, generation, left padding) with the full forward.

    Args:
        folder: the export.
        tokens: (N, T) int64, unpadded.
        expected_logits: (N, T, V) in float32 or float64; the model is loaded in that dtype.
        tolerance: the largest error allowed.
        trust_remote_code: whether the model's own code may be run.
        refused_by: a stock class that must not load it, no more than the automatic one may.

    Raises:
        ExportError: the export cannot be loaded, or computes something else.
    """
    job = _job(
        folder,
        str(expected_logits.dtype),
        trust_remote_code=trust_remote_code,
        refused_by=refused_by,
    )
    with tempfile.TemporaryDirectory(prefix="evoprune-verify-") as name:
        work = Path(name)
        np.save(work / "tokens.npy", np.ascontiguousarray(tokens, dtype=np.int64))
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(work)
        result = json.loads((work / "result.json").read_text(encoding="utf-8"))
        logits = np.load(work / "logits.npy", allow_pickle=False)
    errors = {
        "its logits are not those of the searched pattern": difference(logits, expected_logits),
        "decoding with the key–value cache gives other logits": float(result["steps"]),
        "greedy generation with the cache gives other logits": float(result["generate"]),
    }
    return _checked(errors, tolerance)


def verify_head(
    folder: Path, inputs: np.ndarray, expected_logits: np.ndarray, tolerance: float = 1e-4
) -> float:
    """Returns the largest error of an exported head, relative to the largest logit.

    It is loaded by the file in its folder, in a new isolated process without evoprune.

    Args:
        folder: the export.
        inputs: what it reads, (N, …) float32.
        expected_logits: (N, C) in float32 or float64; the model is loaded in that dtype.
        tolerance: the largest error allowed.

    Raises:
        ExportError: the export cannot be loaded, or computes something else.
    """
    job = _job(folder, str(expected_logits.dtype), kind="head")
    with tempfile.TemporaryDirectory(prefix="evoprune-verify-") as name:
        work = Path(name)
        np.save(work / "inputs.npy", np.ascontiguousarray(inputs))
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(work)
        logits = np.load(work / "logits.npy", allow_pickle=False)
    errors = {"its logits are not those of the searched head": difference(logits, expected_logits)}
    return _checked(errors, tolerance)


def verify_inputs(
    folder: Path,
    inputs: Mapping[str, np.ndarray],
    expected_logits: np.ndarray,
    tolerance: float = 1e-4,
    *,
    trust_remote_code: bool = False,
    auto: str = "AutoModel",
) -> float:
    """Returns the largest error of an exported model, relative to the largest logit.

    It is loaded by transformers in a new isolated process without evoprune.

    Args:
        folder: the export.
        inputs: what it reads, by the names of its arguments, each (N, …).
        expected_logits: in float32 or float64; the model is loaded in that dtype.
        tolerance: the largest error allowed.
        trust_remote_code: whether the model's own code may be run.
        auto: the automatic class that loads it.

    Raises:
        ExportError: the export cannot be loaded, or computes something else.
    """
    more = {"auto": auto, "trust_remote_code": trust_remote_code}
    job = _job(folder, str(expected_logits.dtype), kind="inputs", **more)
    with tempfile.TemporaryDirectory(prefix="evoprune-verify-") as name:
        work = Path(name)
        arrays: dict[str, Any] = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
        np.savez(work / "inputs.npz", **arrays)
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(work)
        logits = np.load(work / "logits.npy", allow_pickle=False)
    what = "its logits are not those of the searched pattern"
    return _checked({what: difference(logits, expected_logits)}, tolerance)


def _checked(errors: Mapping[str, float], tolerance: float) -> float:
    """Returns the largest error, if all are allowed."""
    for what, error in errors.items():
        # Negated so that NaN fails.
        if not error <= tolerance:
            raise ExportError(
                f"The exported model was loaded again, and {what} "
                f"(by {error:.1e} of the largest; {tolerance:.0e} is allowed).",
                "Report this; `verify: false` keeps the export for a look at it.",
            )
    return max(errors.values())


def _job(folder: Path, dtype: str, **more: Any) -> dict[str, Any]:
    import torch

    return {
        "folder": str(Path(folder).resolve()),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "path": [path for path in sys.path if path],
        **more,
    }


def _run(work: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", fresh.__file__, str(work)],
        cwd=work,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(work / "modules"),  # where transformers copies own code
            "TRANSFORMERS_VERBOSITY": "error",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise ExportError(
            f"A fresh process cannot load the exported model (status {done.returncode}): "
            f"{lines[-1].strip()[:300] if lines else 'it said nothing'}.",
            "Free memory if there was too little; else report this.",
        )


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest expected entry."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-9)
    return float(np.abs(found - expected).max() / scale)
