"""A prepared run: its problem, what is known of it, and the workers to learn more."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.parts import build
from evoprune.config.schema import Config
from evoprune.config.sections import SIZES, Part
from evoprune.core.constraints import parse_constraints
from evoprune.core.errors import ConfigError, RunFolderError, SpaceError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import NO_HINTS, CostObjective, Evaluator, Objective
from evoprune.core.quality import zeros
from evoprune.core.registry import (
    ALGORITHMS,
    FAMILIES,
    LOGGERS,
    OBJECTIVES,
    STARTS,
    TASKS,
    load_plugin,
)
from evoprune.core.space import Space
from evoprune.core.splits import SPLITS
from evoprune.data.examples import Examples, Scale
from evoprune.evaluation.blocks import hints_of
from evoprune.evaluation.live import NOTHING, Live
from evoprune.evaluation.measures import check_costs, check_dense, check_task, measures
from evoprune.evaluation.prepare import prepare
from evoprune.evaluation.worker import Worker, WorkerSpec, cost_table
from evoprune.evaluation.workers import evaluator_for
from evoprune.export.order import exporter_of
from evoprune.export.subject import Source
from evoprune.families.load import live_copy, weights_digest
from evoprune.folder.computing import check_computing, computing
from evoprune.folder.finished import refuse_to_shrink
from evoprune.folder.journal import Journal
from evoprune.folder.layout import RunFolder
from evoprune.folder.picks import check_picks
from evoprune.objectives.function import FunctionObjective
from evoprune.progress.console import Console
from evoprune.progress.forecast import Splits
from evoprune.scoring import Judge, Scorer
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Budget, Rung
from evoprune.searching.controls import RULES, control
from evoprune.searching.problem import Problem
from evoprune.searching.repair import check_budgets
from evoprune.searching.warm import Allowance, Warm, start, warmed


@dataclass
class Session:
    """What the steps of a run share.

    Attributes:
        config: the experiment.
        folder: the run folder, claimed and prepared.
        problem: what is searched.
        archive: what is known, and the evaluator.
        journal: open until ``close``.
        console: where progress goes.
        algorithm: made with its options.
        rungs: of the search split; the last is the whole calibration set.
        spec: what a worker needs to know.
    """

    config: Config
    folder: RunFolder
    problem: Problem
    archive: Archive
    journal: Journal
    console: Console
    algorithm: Any
    rungs: tuple[Rung, ...]
    spec: WorkerSpec

    @property
    def scorer(self) -> Scorer:
        """Scores patterns on validation and report."""
        calibration, rung = self.folder.calibration, self.rungs[-1].index
        return Scorer(self.problem, self.archive, calibration, rung, self.judge)

    @property
    def judge(self) -> Judge:
        """What a front says of its points beside what was searched for."""
        name = getattr(TASKS.load(self.config.task.type), "quality", None)
        quality = build(OBJECTIVES, Part(type=name)) if name else None
        return Judge(quality, name or "", partial(export_rungs, self.config, self.folder))

    @property
    def budget(self) -> Budget:
        """When the search ends."""
        return Budget(**{size: getattr(self.config.search, size) for size in SIZES})

    @property
    def allowance(self) -> Allowance:
        """What each warm start may spend."""
        return Allowance.of(self.budget, getattr(self.algorithm, "pop_size", 24))

    @cached_property
    def splits(self) -> Splits:
        """Dense passes in tokens; where fewer positions are scored the head is counted in full."""
        search, *others = (
            Examples.load(self.folder.calibration / f"{split}.safetensors")
            for split in ("search", "validation", "report")
        )
        sizes = [rung.samples for rung in self.config.rungs] or [len(search)]
        return Splits(
            tuple(float(search.first(size).work) for size in sizes),
            *(float(examples.work) for examples in others),
        )

    @cached_property
    def warm(self) -> Warm:
        """Where the search starts; together the warm starts are about a third of a population."""
        names = self.config.search.warm_starts
        rules = [name for name in names if name != "dense"]
        count = max(1, getattr(self.algorithm, "pop_size", 24) // 3 // max(1, len(rules)))
        rungs = [rung.index for rung in self.rungs]
        allowance, say = self.allowance, self.console.say
        return warmed(self.problem, self.archive, names, count, allowance, rungs, say)

    def starts(self) -> np.ndarray:
        """Returns the warm starts (W, n_var)."""
        return self.warm.X

    def close(self) -> None:
        """Ends the workers and frees the run folder."""
        self.archive.close()
        self.console.close_loggers()
        self.journal.close()


def open_session(config: Config, console: Console, live: Live = NOTHING) -> Session:
    """Returns a run that is ready to search: claims its folder, prepares it if need be.

    Whatever can be wrong with the configuration is found here, before hours of work.

    Args:
        config: the experiment, which names what is live (``Live.named_in``).
        console: where progress goes.
        live: what was handed over as objects.

    Raises:
        EvopruneError: anything that the configuration asks for cannot be had.
    """
    for plugin in config.plugins:
        load_plugin(plugin)
    algorithm = build(ALGORITHMS, config.search.algorithm)
    loggers = [build(LOGGERS, part) for part in config.loggers]
    for name in config.controls:
        control(name)
    for name in config.search.warm_starts:
        start(name)
    _check_blocks(config)
    _check_adapt(config)
    objectives, measured = measures(config, live.objectives)
    check_picks(config.export.picks, objectives)
    check_task(config, objectives)
    if config.model.trust_remote_code:
        console.say(
            f"warning   model.trust_remote_code: code that comes with {config.model.label} runs "
            "here and in every worker"
        )
    folder = RunFolder(config.output)
    folder.claim()
    refuse_to_shrink(folder, config)
    console.log_to(folder.log)
    journal = folder.open_journal(config)
    try:
        console.open_loggers(loggers, folder.path)
        manifest = folder.read_manifest()
        if manifest is None:
            prepare(config, folder, console.say, live)
        else:
            now = computing(config.model.device, config.workers.threads, config.plugins)
            if note := check_computing(folder.path, manifest, now):
                console.say(note)
        if manifest is not None and live.model is not None:
            _check_same_model(config, folder, manifest, live.model)
        spec, problem = _problem(config, folder, objectives, measured)
        check_costs(objectives, problem.table)
        check_dense(folder, measured, spec.required)
        for rule in _by_blocks(config).values():
            rule().rising(problem, 1)  # what it cannot do is said now, not after the search
        archive = Archive(
            journal, partial(workers_of, config, spec, problem, console), console.heard
        )
    except BaseException:
        console.close_loggers()
        journal.close()
        raise
    rungs = rungs_of(config, in_stages=not hasattr(FAMILIES.load(spec.family), "runner"))
    return Session(config, folder, problem, archive, journal, console, algorithm, rungs, spec)


def rungs_of(config: Config, in_stages: bool) -> tuple[Rung, ...]:
    """Returns the rungs of a search; the last is the whole calibration set.

    Args:
        config: the experiment.
        in_stages: whether the network runs in stages. Only then rows that are measured apart are
            the same to the last bit; a family with a runner of its own, such as one that fits a
            head for each candidate, would gain little by it.
    """
    found = []
    for i, rung in enumerate(config.rungs):
        last = i == len(config.rungs) - 1
        grows = i > 0 and in_stages and rung.shares_rows(config.rungs[i - 1])
        at = rung.positions_per_example
        label = f"{rung.samples} samples" + (f" at {at} positions each" if at else "")
        found.append(Rung(-1 if last else i, rung.keep, grows, label))
    return tuple(found) or (Rung(-1),)


def _by_blocks(config: Config) -> dict[str, Any]:
    """Returns the warm starts, controls and algorithm that go by block states, by their words."""
    used = [
        *(("warm start", name, STARTS.load(name)) for name in config.search.warm_starts),
        *(("control", n, ALGORITHMS.load(n)) for n in config.controls if n in RULES),
        ("algorithm", config.search.algorithm.type, ALGORITHMS.load(config.search.algorithm.type)),
    ]
    return {f"{kind} '{name}'": one for kind, name, one in used if getattr(one, "needs_blocks", 0)}


def _check_blocks(config: Config) -> None:
    """Checks that what goes by block states is asked for where there are some.

    Raises:
        SpaceError: networks of the space's family do not run in stages.
    """
    asked = _by_blocks(config)
    if asked and not hasattr(FAMILIES.load(config.space.family), "stages"):
        raise SpaceError(
            f"The {next(iter(asked))} goes by the states between blocks, and networks of the "
            f"family '{config.space.family}' have none.",
            "Use rules that do not: uniform, last_k, greedy or additive.",
        )


def _check_adapt(config: Config) -> None:
    """Checks that a recovery is asked for where it is done: by the runner of networks in stages.

    Raises:
        ConfigError: the family measures patterns by a runner of its own.
    """
    if config.adapt is not None and hasattr(FAMILIES.load(config.space.family), "runner"):
        raise ConfigError(
            f"The recovery '{config.adapt.type}' changes networks that run in stages, and those of "
            f"the family '{config.space.family}' are measured by a runner of its own.",
            "Leave `adapt` out; heads are fitted anew for every pattern as it is.",
        )


def _check_same_model(
    config: Config, folder: RunFolder, manifest: Mapping[str, Any], model: Any
) -> None:
    """Checks that a live model is the one that a folder was prepared with.

    Raises:
        RunFolderError: its weights are others.
    """
    if weights_digest(live_copy(model, config.model)) != manifest.get("model_sha256"):
        raise RunFolderError(
            f"'{folder.path}' was prepared with other weights than those of the model handed over.",
            "Choose another `output`, or hand over the model as it was.",
        )


def _problem(
    config: Config,
    folder: RunFolder,
    objectives: Mapping[str, Objective],
    measured: Mapping[str, Objective],
) -> tuple[WorkerSpec, Problem]:
    """Returns what the workers need to know, and what is searched."""
    manifest = folder.read_manifest() or {}
    family = FAMILIES.load(manifest["family"])()
    if config.space.family not in (family.name, *getattr(family, "kin", ())):
        raise SpaceError(
            f"The space '{config.space.name}' is for the family '{config.space.family}', "
            f"the model is of '{family.name}'.",
            "Choose a space of the model's family (`evoprune ls spaces`).",
        )
    model = family.read(folder.ranks, config.model.dtype, "cpu", config.model.trust_remote_code)
    space = config.space_over(family, model)
    options = {part.type: part.plain() for part in (*config.objectives, *(config.columns or ()))}
    spec = WorkerSpec(
        folder=str(folder.path.resolve()),
        space=space.to_json(),
        task=config.task.plain(),
        objectives=[
            options.get(name, {"type": name})
            for name, objective in measured.items()
            if not isinstance(objective, CostObjective)
        ],
        functions={n: o for n, o in measured.items() if isinstance(o, FunctionObjective)},
        required=tuple(
            name
            for name in dict.fromkeys((*objectives, *config.constraints))
            if name in measured and not isinstance(measured[name], CostObjective)
        ),
        family=family.name,
        rungs=tuple(rung.samples for rung in config.rungs),
        positions=tuple(rung.positions_per_example for rung in config.rungs),
        context=config.data.chunk_tokens,
        dtype=config.model.dtype,
        device=config.model.device,
        device_map=config.model.device_map,
        threads=config.workers.threads,
        boundary_mb=config.workers.boundary_mb,
        trust_remote_code=config.model.trust_remote_code,
        plugins=tuple(str(Path(plugin).resolve()) for plugin in config.plugins),
        adapt=config.adapt.plain() if config.adapt else None,
    )
    table = cost_table(family, model, config.data.chunk_tokens, spec.adapt)
    added = len(table.rows) - len(family.table(model, config.data.chunk_tokens).rows)
    if added and config.held_to:
        asking = "constraints.rung" if "rung" in config.constraints else "the space"
        raise ConfigError(
            f"The recovery '{config.adapt.type if config.adapt else ''}' adds {added} tensors that "
            f"no stock class has, and {asking} asks for one.",
            "Leave out one of the two.",
        )
    constraints = parse_constraints(config.constraints)
    hints = NO_HINTS
    if _by_blocks(config):
        search = folder.calibration / "search.safetensors"
        hints = hints_of(config, folder.ranks, family, space, search)
    zero = zero_of(folder, measured)
    quality = getattr(TASKS.load(config.task.type), "quality", "")
    problem = Problem(space, table, objectives, constraints, measured, hints, zero, quality)
    # An impossible budget is said now, not after the first generation.
    check_budgets(problem)
    return spec, problem


def workers_of(config: Config, spec: WorkerSpec, problem: Problem, console: Console) -> Evaluator:
    """Returns the workers of a search, whose progress a console shows."""
    return evaluator_for(config, spec, problem.shares, console.say, console.workers)


def source_of(config: Config, folder: RunFolder) -> Source:
    """Returns where the model of a prepared run comes from, for its exports."""
    manifest = folder.read_manifest() or {}
    model, kept = config.model, folder.handed / Path(manifest["source"]).name
    return Source(
        folder=folder.ranks,
        name_or_path=str(kept) if kept.is_dir() else manifest["source"],
        dtype=model.dtype,
        family=manifest["family"],
        trust_remote_code=model.trust_remote_code,
        revision=model.revision,
        adapt=config.adapt.plain() if config.adapt else None,
    )


def export_rungs(
    config: Config, folder: RunFolder, patterns: Sequence[Pattern]
) -> list[str | None]:
    """Returns the highest rung of the export ladder that each pattern allows.

    None where nobody exports models of the family.
    """
    source = source_of(config, folder)
    if not patterns or getattr(FAMILIES.load(source.family), "exporter", None) is None:
        return [None] * len(patterns)
    found = exporter_of(source.family).rungs(source, space_of(folder), patterns)
    return [rung for rung, _ in found]


def zero_of(folder: RunFolder, measures: Mapping[str, Objective]) -> dict[str, dict[str, float]]:
    """Returns by split what measures say of a model that knows frequencies only.

    A split of which nothing is known, as in folders from before this was kept, is left out.
    """
    found = {}
    for split in SPLITS:
        scale = Scale.load(folder.calibration / f"{split}.safetensors")
        found[split] = zeros(measures, scale.zero, scale.dense)
    return {split: one for split, one in found.items() if one}


def space_of(folder: RunFolder) -> Space:
    """Returns the space of a prepared run.

    Raises:
        RunFolderError: its file is missing or damaged.
    """
    try:
        return Space.from_json(json.loads(folder.space.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"'{folder.space}' cannot be read: {' '.join(str(error).split())}.",
            "Restore it, or search again in another `output`.",
        ) from error


def problem_of(config: Config, folder: RunFolder, live: Live = NOTHING) -> Problem:
    """Returns what a prepared run searches."""
    for plugin in config.plugins:
        load_plugin(plugin)
    return _problem(config, folder, *measures(config, live.objectives))[1]


def worker_of(config: Config, folder: RunFolder, live: Live = NOTHING) -> Worker:
    """Returns a worker, in this process, on a prepared run."""
    for plugin in config.plugins:
        load_plugin(plugin)
    return Worker(_problem(config, folder, *measures(config, live.objectives))[0])
