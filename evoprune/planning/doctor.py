"""Checks a machine, or a run: what is there and what can be done with it."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evoprune.folder.front import Front
from evoprune.folder.journal import read_journal
from evoprune.folder.layout import RunFolder

PACKAGES = ("evoprune", "torch", "transformers", "pymoo", "scikit-learn", "numpy", "ray", "pandas")

Rows = list[list[str]]


def machine() -> tuple[list[str], Rows]:
    """Returns what of the machine matters to a search."""
    import torch

    rows = [["python", f"{platform.python_version()} on {sys.platform}"]]
    for package in PACKAGES:
        try:
            rows.append([package, version(package)])
        except PackageNotFoundError:
            rows.append([package, "not installed"])
    rows.append(["cores", str(os.cpu_count())])
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows.append(["GPUs", ", ".join(gpus) or "none"])
    capability = torch.backends.cpu.get_cpu_capability()
    rows.append(["CPU kernels", capability])
    return ["what", "found"], rows


def examine(run: Path) -> tuple[list[str], Rows]:
    """Returns what a run folder holds, and which export every point of its front allows.

    Raises:
        EvopruneError: it is no run folder, or its journal is damaged.
    """
    from evoprune.core.pattern import Pattern
    from evoprune.export.order import exporter_of
    from evoprune.session import source_of, space_of

    folder = RunFolder.existing(run)
    rows: Rows = []
    manifest = folder.read_manifest()
    rows.append(["prepared", "yes" if manifest else "no: the search stopped before its start"])
    _, records = read_journal(folder.journal)
    evaluations = [record for record in records if record["type"] == "evaluation"]
    failed = [record for record in evaluations if "error" in record]
    rows.append(["journal", f"{len(evaluations)} evaluations, {len(failed)} failed"])
    rows += [["failed", f"{r['id']}: {r['error']}"] for r in failed[:5]]
    if not folder.front_json.is_file():
        rows.append(["front", "not yet: give the search's command again to finish it"])
        return ["what", "found"], rows
    front = Front.from_json(folder.front_json)
    rows.append(["front", f"{len(front)} points"])
    patterns = [Pattern.from_json(point.pattern) for point in front]  # type: ignore[arg-type]
    if manifest is None:
        return ["what", "found"], rows
    source = source_of(folder.load(), folder)
    rungs = exporter_of(manifest["family"]).rungs(source, space_of(folder), patterns)
    for point, (rung, reason) in zip(front, rungs, strict=True):
        rows.append([f"export {point.id}", f"{rung}: {reason}"])
    return ["what", "found"], rows


def mend(run: Path) -> str:
    """Sets damaged lines of a run's journal aside, and returns what was done.

    Raises:
        EvopruneError: it is no run folder, or its journal is being written.
    """
    folder = RunFolder.existing(run)
    lines, backup = folder.repair()
    if backup is None:
        return "The journal is whole; nothing was changed."
    named = ", ".join(map(str, lines[:10])) + (" ..." if len(lines) > 10 else "")
    what = f"line{'s' if len(lines) > 1 else ''} {named} set aside" if lines else "header restored"
    return (
        f"Journal mended: {what}. As it was: {backup}\n"
        "The search's command evaluates again what those lines held."
    )
