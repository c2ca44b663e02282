"""What a run folder holds, as far as it got, for a report."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evoprune.core.errors import ConfigError, RunFolderError, SpaceError
from evoprune.core.protocols import Goal
from evoprune.core.registry import OBJECTIVES
from evoprune.core.space import Space
from evoprune.core.splits import SPLIT_OF
from evoprune.data.examples import Scale
from evoprune.folder.front import Front
from evoprune.folder.journal import decode, read_journal
from evoprune.folder.layout import RunFolder
from evoprune.report.kept import Meaning, judged
from evoprune.report.words import is_number

# How the journal and the columns of a front call the same split.
TOP = -1


@dataclass(frozen=True)
class Measure:
    """An objective or a column in words.

    Attributes:
        goal: whether less or more of it is better.
        unit: what it is counted in.
        words: what it says, in a sentence.
    """

    goal: Goal = "min"
    unit: str = ""
    words: str = ""


@dataclass(frozen=True)
class RunData:
    """What is known of a run.

    Attributes:
        path: its folder.
        name: what it is called on the page.
        config: its configuration as it was written.
        identity: the part of it that decides the result.
        goals: objective → goal, in order.
        measures: objectives and columns in words, where known.
        summary: what the search said of itself at its end; empty before.
        manifest: versions, seeds, digests; empty before the run was prepared.
        front: its front; None before its end.
        kept: what quality kept means in its columns.
        controls: the fronts of the controls, by name.
        records: the journal but for its header.
        costs: pattern id → what it costs, for evaluated patterns.
        space: None where the folder does not hold it.
        clusters: rows of the calibration's clusters.
        ends: what the dense model and one that knows only frequencies score on the report split.
        models: what lies beside each exported model, by folder.
        ensembles: what is said of each ensemble, by name.
    """

    path: Path
    name: str
    config: str
    identity: Mapping[str, Any]
    goals: Mapping[str, Goal]
    measures: Mapping[str, Measure]
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    front: Front | None
    kept: Meaning
    controls: Mapping[str, Front]
    records: list[dict[str, Any]]
    costs: Mapping[str, Mapping[str, float]]
    space: Space | None
    clusters: list[dict[str, str]]
    ends: Scale
    models: Mapping[str, Mapping[str, Any]]
    ensembles: Mapping[str, Mapping[str, Any]]

    def box(self, prefix: str) -> list[list[float]] | None:
        """Returns the fixed bounds (ideal, reference) of the objectives on a split, if known."""
        found = self.summary.get("boxes", {}).get(prefix)
        fits = found and len(found) == 2 and all(len(side) == len(self.goals) for side in found)
        return found if fits else None

    def evaluations(self, split: str = "search") -> list[dict[str, Any]]:
        """Returns the records of evaluations on the whole of a split that came to values."""
        return [
            record
            for record in self.records
            if record.get("type") == "evaluation"
            and record.get("split") == split
            and record.get("rung") == TOP
            and not record.get("error")
        ]

    def values(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Returns what an evaluation measured and what its pattern costs."""
        return {**self.costs.get(str(record.get("id")), {}), **record.get("values", {})}


def read_run(path: Path | str) -> RunData:
    """Returns what a run folder holds; a run need not have come to its end.

    Raises:
        RunFolderError: there is no run in the folder, or one of its files is damaged.
    """
    folder = RunFolder.existing(path)
    settings = folder.read_config()
    summary = _json(folder.summary)
    front, kept = None, Meaning("")
    if folder.front_json.is_file():
        front, kept = judged(Front.from_json(folder.front_json))
    names = list(front.goals) if front else _objectives(settings["identity"])
    known = dict.fromkeys([*names, *summary.get("measures", {}), *_bases(front)])
    measures = {name: _measure(name, summary.get("measures", {})) for name in known}
    return RunData(
        path=folder.path,
        name=folder.path.resolve().name,
        config=folder.config.read_text(encoding="utf-8"),
        identity=settings["identity"],
        goals=front.goals if front else {name: measures[name].goal for name in names},
        measures=measures,
        summary=summary,
        manifest=folder.read_manifest() or {},
        front=front,
        kept=kept,
        controls={p.stem: judged(Front.from_json(p))[0] for p in _fronts(folder.controls)},
        records=read_journal(folder.journal)[1] if folder.journal.is_file() else [],
        costs=_costs(folder.path / "costs.csv"),
        space=_space(folder.path / "space.json"),
        clusters=_rows(folder.calibration / "clusters.csv"),
        ends=_ends(folder.calibration / "report.safetensors"),
        models=_documents(folder.path, "models/*/evoprune.json"),
        ensembles=_documents(folder.path, "ensembles/*/ensemble.json"),
    )


def read_runs(paths: Sequence[Path | str]) -> list[RunData]:
    """Returns several runs; those in folders of the same name are called by more of their paths.

    Raises:
        RunFolderError: see ``read_run``.
    """
    runs = [read_run(path) for path in paths]
    times = Counter(run.name for run in runs)
    return [
        replace(run, name=_longer(run, i)) if times[run.name] > 1 else run
        for i, run in enumerate(runs, start=1)
    ]


def _longer(run: RunData, place: int) -> str:
    return f"{run.path.resolve().parent.name}/{run.name} ({place})"


def _damaged(path: Path, error: object) -> RunFolderError:
    return RunFolderError(
        f"'{path}' is damaged: {' '.join(str(error).split())[:200]}.",
        "Restore it, or give the search's command again to write it anew.",
    )


def _json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        data = decode(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(data, dict):
        raise _damaged(path, "it holds no JSON object")
    return data


def _rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return [
                {key: value or "" for key, value in row.items() if key}
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, error) from error


def _costs(path: Path) -> dict[str, dict[str, float]]:
    """Returns what patterns cost, by id; nothing where there is no file."""
    found = {}
    for row in _rows(path):
        try:
            pattern_id = row.pop("id")
            found[pattern_id] = {name: float(value) for name, value in row.items() if value}
        except (KeyError, ValueError) as error:
            raise _damaged(path, error) from error
    return found


def _space(path: Path) -> Space | None:
    data = _json(path)
    if not data:
        return None
    try:
        return Space.from_json(data)
    except (KeyError, TypeError, ValueError, SpaceError) as error:
        raise _damaged(path, error) from error


def _documents(folder: Path, glob: str) -> dict[str, dict[str, Any]]:
    """Returns JSON objects by the name of the folder that they lie in."""
    # A name that begins with a dot is an export that is being written, or was given up.
    found = [path for path in sorted(folder.glob(glob)) if not path.parent.name.startswith(".")]
    return {path.parent.name: _json(path) for path in found}


def _fronts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _ends(path: Path) -> Scale:
    """Returns what the dense model scores on the examples of a split; nothing where not kept."""
    from safetensors import SafetensorError

    if not path.is_file():
        return Scale({}, {})
    try:
        return Scale.load(path)
    except (OSError, SafetensorError, ValueError, KeyError, IndexError) as error:
        raise _damaged(path, error) from error


def _objectives(identity: Mapping[str, Any]) -> list[str]:
    """Returns the names of the objectives of a configuration."""
    try:
        return [str(part["type"]) for part in identity["objectives"]]
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"The configuration of the run names no objectives: {error!r}.",
            "Restore its config.yaml.",
        ) from error


def _bases(front: Front | None) -> list[str]:
    """Returns the columns of a front without their splits."""
    return list(dict.fromkeys(base_name(column) for column in front.columns())) if front else []


def base_name(column: str) -> str:
    """Returns a column's name without the split before and the interval's end after it."""
    for prefix in SPLIT_OF:
        if column.startswith(f"{prefix}_"):
            bare = column.removeprefix(f"{prefix}_")
            # Of the search split there are no intervals: such an end belongs to a name.
            ends = ("_low", "_high") if prefix != "search" else ()
            return next((bare.removesuffix(end) for end in ends if bare.endswith(end)), bare)
    return column


def _measure(name: str, told: Mapping[str, Any]) -> Measure:
    """Returns an objective in words: as the run told them, else from the part of that name."""
    if isinstance(told.get(name), dict):
        return Measure(**{key: str(told[name].get(key, "")) for key in ("goal", "unit", "words")})  # type: ignore[arg-type]
    try:
        part = OBJECTIVES.load(name)
    except ConfigError:
        return Measure()
    first = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
    words = first.removeprefix(f"``{name}``:").strip().replace("``", "")
    return Measure(getattr(part, "goal", "min"), str(getattr(part, "unit", "")), words)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the finite numbers among some values."""
    return {name: value for name, value in values.items() if is_number(value)}


def inside(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns the mapping under a key; an empty one where there is none."""
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}
