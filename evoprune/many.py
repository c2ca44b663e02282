"""Many runs of one experiment: searches by seed, their merged front, and how they compare."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError, RunFolderError
from evoprune.folder.front import Front, super_front, told_apart
from evoprune.run import Run, search

MOST_SEEDS = 1000


def seeds_of(text: str) -> list[int]:
    """Returns the seeds that a person wrote: ``0-4``, ``3`` or ``0,2,5-7``.

    Raises:
        ConfigError: it is nothing of the kind.
    """
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last - first >= MOST_SEEDS:
            raise ConfigError(f"The seeds '{text}' cannot be read.", "Write them like 0-4 or 0,3.")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def search_seeds(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    seeds: Sequence[int],
    *,
    quiet: bool = False,
) -> list[Run]:
    """Returns the runs of one experiment with several seeds, each in ``<output>/seed-<n>``.

    The merged front is written into ``<output>`` as ``super_front.csv`` and ``.json``.

    Raises:
        EvopruneError: as ``search``.
    """
    output = Path(load_config(config, overrides).output)
    runs = [
        search(
            config,
            [
                *overrides,
                f"search.seed={seed}",
                f"output={json.dumps(str(output / f'seed-{seed}'))}",
            ],
            quiet=quiet,
        )
        for seed in seeds
    ]
    merged = super_front([run.front for run in runs])
    merged.to_csv(output / "super_front.csv")
    merged.to_json(output / "super_front.json")
    return runs


def compare(runs: Sequence[Path], split: str = "report") -> tuple[list[str], list[list[str]]]:
    """Returns a table of runs: points, evaluations and hypervolume on a split, mean ± std last.

    Raises:
        RunFolderError: a run has not been finished.
    """
    rows, volumes = [], []
    for path in runs:
        file = Run.load(path).folder.summary
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            volumes.append(float(summary["hypervolumes"]["search"][split]))
            evaluations = f"{summary['n_eval']:,}"
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"'{file}' cannot be read.", "Give the search's command again to write it."
            ) from error
        rows.append([str(path), evaluations, f"{volumes[-1]:.4f}"])
    spread = f" ± {np.std(volumes, ddof=1):.4f}" if len(volumes) > 1 else ""
    rows.append(["mean ± std", "", f"{np.mean(volumes):.4f}{spread}"])
    return ["run", "evaluations", f"{split} hypervolume"], rows


def merged(runs: Sequence[Path]) -> tuple[Front, dict[str, str]]:
    """Returns the front of one run, or the super-front of several, and whose each point is, by id.

    A point that several runs found is the first one's; where an id means two models, in spaces
    that are not the same, it carries its run's name.
    """
    names = [run.resolve().name for run in runs]
    fronts = told_apart([Run.load(run).front for run in runs], names)
    owners: dict[str, str] = {}
    for name, front in zip(names, fronts, strict=True):
        for point in front:
            owners.setdefault(point.id, name)
    return (fronts[0] if len(fronts) == 1 else super_front(fronts)), owners
