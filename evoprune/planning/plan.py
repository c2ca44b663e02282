"""Looks before leaping: what a search would take and what it would calibrate on."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.schema import Config, load_config
from evoprune.core.amounts import duration
from evoprune.core.protocols import Evaluator
from evoprune.core.registry import load_plugin
from evoprune.core.splits import SPLITS
from evoprune.planning.machines import Held, disk_row, held_by, local_rows, scale_rows
from evoprune.planning.timing import Timed, export_seconds, timed
from evoprune.progress.console import Console
from evoprune.progress.forecast import Ends, Forecast, Phase, Splits

if TYPE_CHECKING:
    from evoprune.session import Session

Rows = list[list[str]]


@dataclass(frozen=True)
class Trial:
    """A run that was prepared, timed and thrown away.

    Attributes:
        session: closed.
        splits: what dense passes take.
        held: what a worker holds.
        measured: what candidates take.
        prepared: seconds until a search can begin.
        exporting: seconds of an export by phase; empty where none is asked for.
    """

    session: "Session"
    splits: Splits
    held: Held
    measured: Timed
    prepared: float
    exporting: Mapping[str, float]

    def phases(self, forecast: Forecast) -> list[Phase]:
        """Returns the phases of a run on this machine, from its first line to its report."""
        rate = self.measured.rate
        return [
            Phase("prepare", seconds=self.prepared),
            Phase("workers", seconds=self.measured.start),
            *(
                replace(phase, seconds=self.exporting.get(phase.name, phase.seconds))
                for phase in forecast.phases(rate)
            ),
        ]


def tried(config: Config) -> Trial:
    """Returns a trial of a configuration: whatever a search would refuse is refused here.

    It prepares the run, times a few candidates through the workers that the search would use, and
    exports one of them. Nothing is written but a temporary folder.

    Raises:
        EvopruneError: the configuration, the model or the data cannot be used.
    """
    from evoprune.session import open_session

    with tempfile.TemporaryDirectory(prefix="evoprune-plan-") as scratch:
        inner = config.model_copy(update={"output": str(Path(scratch) / "run")})
        began = time.perf_counter()
        session = open_session(inner, Console(stream=None))
        try:
            prepared = time.perf_counter() - began
            splits, held = _looked_at(session)
            measured = _timed(config, session, splits)
        finally:
            session.close()
        picks = config.export.picks
        exporting = export_seconds(session, Path(scratch) / "model") if picks else {}
    return Trial(session, splits, held, measured, prepared, exporting)


def plan(config: str | Path, overrides: Sequence[str] = (), scale: bool = False) -> Rows:
    """Returns what a search would take, of a trial; what cannot be timed is counted (``forecast``).

    Args:
        config: the experiment.
        overrides: changes to it.
        scale: whether to add what clusters would take, by arithmetic.

    Raises:
        EvopruneError: the configuration, the model or the data cannot be used.
    """
    checked = load_config(config, overrides)
    trial = tried(checked)
    session, held, measured = trial.session, trial.held, trial.measured
    forecast = Forecast.of(session, trial.splits)
    ends = forecast.ends(measured.rate)
    return [
        *_what(checked, session, forecast, ends),
        *_times(checked, trial.phases(forecast), measured, ends),
        *_notes(checked, session, ends),
        *local_rows(held),
        disk_row(held, ends.n_eval, len(session.problem.space.genes)),
        *(scale_rows(held, measured, forecast, ends.n_eval) if scale else []),
    ]


def _looked_at(session: "Session") -> tuple[Splits, Held]:
    """Returns what dense passes take, and what a worker holds."""
    from evoprune.evaluation.worker import Worker

    worker, dense = Worker(session.spec), session.problem.space.dense
    rungs = tuple(worker.tokens(dense, rung=rung.index) for rung in session.rungs)
    others = (worker.tokens(dense, split) for split in SPLITS[1:])
    base = (session.folder.ranks / "base.safetensors").stat().st_size
    return Splits(rungs, *others), held_by(worker, base, rungs[-1], session.spec.boundary_mb)


def _timed(config: Config, session: "Session", splits: Splits) -> Timed:
    """Returns what passes take; a cluster's workers are not troubled, this machine stands in.

    Of more workers than fit, as many as fit are started: the others would only wait for them.
    """
    from evoprune.evaluation.local import LocalEvaluator
    from evoprune.evaluation.workers import crowded, fitting, worker_count
    from evoprune.session import workers_of

    if crowded(config):
        few = config.workers.model_copy(update={"count": fitting(config)})
        config = config.model_copy(update={"workers": few})
    far = config.workers.address is not None
    evaluator: Evaluator = (
        LocalEvaluator(session.spec)
        if far
        else workers_of(config, session.spec, session.problem, session.console)
    )
    try:
        found = timed(session, evaluator, splits)
    finally:
        evaluator.close()
    return replace(found, rate=replace(found.rate, workers=worker_count(config))) if far else found


def _what(config: Config, session: "Session", forecast: Forecast, ends: Ends) -> Rows:
    """Returns the rows of what is searched and how much of it."""
    space, one = session.problem.space, forecast.candidate()
    least = "at least " if ends.open else ""
    return [
        ["space", f"{space.name}: {len(space.genes)} genes, {space.size_text} candidates"],
        ["evaluations", f"{least}{ends.n_eval:,} ({ends.why} ends the search)"],
        [
            "dense-equivalent tokens",
            f"{ends.n_eval * one.tokens:,.0f} (at the mean FLOPs share {forecast.share:.2f} of a "
            "stratified sample)",
        ],
        *_rungs(session.rungs, forecast.splits.rungs, forecast.each),
    ]


def _times(config: Config, phases: Sequence[Phase], measured: Timed, ends: Ends) -> Rows:
    """Returns a row for every phase and the total; phases of one name share a row."""
    rate, show, threads = measured.rate, duration, config.workers.threads
    rows = [
        [
            "one dense pass",
            f"{measured.dense:.2f} s for {measured.tokens:,.0f} tokens, {threads} "
            f"thread{'s' if threads > 1 else ''}",
        ],
        [
            "timed",
            f"{measured.candidates} candidates in generations, {rate.workers:.1f} workers at work",
        ],
    ]
    for name in dict.fromkeys(phase.name for phase in phases):
        same = [phase for phase in phases if phase.name == name]
        count, work = f"{len(same)} times " if len(same) > 1 else "", same[0].work
        text = f"about {count}{show(same[0].took(rate))}"
        if work.n_eval:
            text += f": {work.n_eval:,.0f} evaluations, {work.tokens:,.0f} tokens"
        label = f"control {name}" if name in config.controls else name
        rows.append([label, f"{text}{_ABOUT.get(name, '')}"])
    total = sum(phase.took(rate) for phase in phases)
    more = " and more: patience alone ends the search" if ends.open else ""
    return [*rows, ["TOTAL", f"about {show(total)} on this machine{more}"]]


# What a phase is, where its name does not say it.
_ABOUT = {
    "prepare": ", timed: load, embed, cluster, rank, base, dense reference",
    "workers": ", timed: to start them",
    "score": "; fronts on validation and report, with intervals",
    "export": " each pick, timed: written",
    "verify": " each pick, timed: loaded in a fresh process, compared",
}


def _notes(config: Config, session: "Session", ends: Ends) -> Rows:
    from evoprune.evaluation.workers import crowded

    rows = _warm_rows(config, session.problem, session.allowance)
    if warning := crowded(config):
        rows.append(["warning", warning.removeprefix("warning   ")])
    if config.search.patience is not None and not ends.open:
        rows.append(["note", f"patience={config.search.patience} may end the search earlier"])
    if config.model.device_map == "streamed":
        rows.append(["note", "streamed: candidates of a generation share what a pass fetches"])
    if config.workers.address is not None:
        rows.append(["note", "timed on this machine: the cluster's workers were not asked"])
    if len(session.rungs) > 1 and getattr(session.algorithm, "calls_back", False):
        rows.append(["note", "what a rung sends home may be called back, whole: more tokens"])
    if ends.n_eval >= session.problem.space.size:
        rows.append(["note", "the budget covers the whole space: algorithm exhaustive finds all"])
    return rows


def _rungs(rungs: Sequence[Any], tokens: Sequence[float], each: float) -> Rows:
    """Returns what each rung takes of the dense model, and what the lower ones save."""
    if len(rungs) < 2:
        return []
    steps = [
        f"{rung.label} ({t:,.0f} tokens{', its rows counted once' if rung.grows else ''})"
        + (f", {rung.keep:.3g} of them go on" if rung.keep else "")
        for rung, t in zip(rungs, tokens, strict=True)
    ]
    saved = f"{each / tokens[-1]:.0%} of what all candidates would take at the top rung"
    return [["rungs", f"{'; '.join(steps)}: {saved}"]]


def _warm_rows(config: Config, problem: Any, allowance: Any) -> Rows:
    """Returns what the warm starts that evaluate something may spend."""
    from evoprune.searching.warm import start

    most = {name: start(name).most(problem) for name in config.search.warm_starts}
    words = [f"{n} {min(most[n], allowance.n_eval):,.0f}" for n in most if most[n]]
    if not words:
        return []
    return [["warm starts", f"at most {', '.join(words)} evaluations, counted with the search's"]]


def clusters(config: str | Path, overrides: Sequence[str] = ()) -> tuple[list[str], Rows]:
    """Returns the clusters of the calibration pool, a row each.

    Raises:
        EvopruneError: the configuration, the model or the data cannot be used.
    """
    from evoprune.calibration.cluster import purity
    from evoprune.evaluation.prepare import look

    checked = load_config(config, overrides)
    for plugin in checked.plugins:
        load_plugin(plugin)
    seen = look(checked)
    pool, labels = seen.pool, seen.calibrated.clusters.labels
    kinds = purity(labels, pool.kinds)
    rows = []
    for cluster in range(seen.calibrated.clusters.n_clusters):
        members = np.flatnonzero(labels == cluster)
        picked = int((seen.calibrated.selection.clusters == cluster).sum())
        near = members[seen.calibrated.clusters.distances[members].argmin()]
        kind, share = kinds[cluster]
        rows.append(
            [
                str(cluster),
                str(len(members)),
                str(picked),
                f"{share:.0%} {kind}",
                f"{seen.nll[members].mean():.3f}",
                pool.excerpts(seen.processor, [int(near)], 60)[0],
            ]
        )
    return ["cluster", "pool", "picked", "purity", "dense nll", "nearest to the centroid"], rows
