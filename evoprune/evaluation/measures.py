"""What a configuration measures, and whether its task and its dense model can be measured so."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from evoprune.config.parts import build
from evoprune.config.schema import Config
from evoprune.config.sections import Part
from evoprune.core.costs import CostTable
from evoprune.core.errors import ConfigError, EvopruneError, did_you_mean, unscorable
from evoprune.core.protocols import CostObjective, Objective, TableObjective
from evoprune.core.registry import TASKS
from evoprune.data.examples import Examples
from evoprune.folder.layout import RunFolder
from evoprune.objectives.function import FunctionObjective, find


def measures(
    config: Config, handed: Mapping[str, FunctionObjective]
) -> tuple[dict[str, Objective], dict[str, Objective]]:
    """Returns the objectives, and all that is measured: they, then the columns beside them.

    Args:
        config: the experiment.
        handed: functions that were handed over, by name.

    Raises:
        ConfigError: there is no such objective, or its options make no sense.
    """
    task = build(TASKS, config.task)
    objectives = {part.type: find(part, handed) for part in config.objectives}
    columns = config.columns
    if columns is None:
        columns = tuple(Part(type=name) for name in (*task.objectives, *task.costs))
    beside = {p.type: find(p, handed) for p in columns if p.type not in objectives}
    return objectives, {**objectives, **beside}


def check_task(config: Config, objectives: Mapping[str, Objective]) -> None:
    """Checks, before anything is loaded, that a task can be asked what a configuration asks.

    Args:
        config: the experiment.
        objectives: those of it.

    Raises:
        ConfigError: an objective is another task's, or reads a pass that this one does not make.
    """
    task, name = build(TASKS, config.task), config.task.type
    if any(rung.positions_per_example for rung in config.rungs) and not hasattr(task, "spaced"):
        raise ConfigError(
            f"The task '{name}' scores examples as a whole: there are no positions to choose from.",
            "Leave positions_per_example out of `rungs`, and lower `samples` instead.",
        )
    for part in (*config.objectives, *(config.columns or ())):
        owner = _owner(part.type, task)
        if owner is not None:
            raise ConfigError(
                f"The task '{name}' does not measure '{part.type}', which is of '{owner}'.",
                did_you_mean(part.type, task.objectives),
            )
    for objective, made in objectives.items():
        strange = set(getattr(made, "passes", ())) - {*task.passes}
        if strange:
            raise ConfigError(
                f"The objective '{objective}' reads the pass '{min(strange)}', which the task "
                f"'{name}' does not make.",
                f"It makes: {', '.join(task.passes)}.",
            )


def _owner(objective: str, task: Any) -> str | None:
    """Returns the task that says it measures an objective, where this one does not say so.

    What no task names, such as a plug-in's or a count that every network has, any may be asked.
    """
    if objective in task.objectives:
        return None
    for name in TASKS.names():
        with suppress(ConfigError):  # somebody else's task may lack what it needs
            if objective in TASKS.load(name).objectives:
                return name
    return None


def check_costs(objectives: Mapping[str, Objective], table: CostTable) -> None:
    """Checks that what is counted is not 0 for every pattern.

    Args:
        objectives: of the experiment.
        table: of its network.

    Raises:
        ConfigError: the network has no such cost.
    """
    for name, made in objectives.items():
        metric = getattr(made, "metric", None)
        if isinstance(made, CostObjective) and metric is not None and not table.dense(metric):
            counted = {
                metric for row in table.rows for metric in row.weights if row.weights[metric]
            }
            raise ConfigError(
                f"The objective '{name}' is 0 for every pattern: this network has no {metric}.",
                did_you_mean(name, counted),
            )


def check_dense(
    folder: RunFolder, measured: Mapping[str, Objective], needed: Iterable[str]
) -> None:
    """Checks that the dense model's own tables give a value of all that a pattern needs one of.

    Args:
        folder: of a prepared run.
        measured: everything that is measured, by name.
        needed: the names of those that must have a value.

    Raises:
        ConfigError: an objective reads a column that the task does not make.
        ModelError: its value is not finite, or it fails in another way.
    """
    dense = Examples.load(folder.calibration / "search.safetensors").dense
    for name in needed:
        objective = measured[name]
        if not isinstance(objective, TableObjective):
            continue
        try:
            value = float(objective.value(dense, dense))
        except KeyError as error:
            held = {column for table in dense.values() for column in table.columns}
            raise ConfigError(
                f"The objective '{name}' reads {error.args[0]!r}, which the task does not measure.",
                did_you_mean(str(error.args[0]), held),
            ) from error
        except EvopruneError:
            raise
        except Exception as error:  # whatever a function or a plug-in may raise
            reason = " ".join(str(error).split())
            raise unscorable("search", f"{name}: {type(error).__name__}: {reason}") from error
        if not math.isfinite(value):
            raise unscorable("search", f"{name} is {value}")
