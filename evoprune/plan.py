"""Looks before leaping: what a search would take and what it would calibrate on."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune import arithmetic
from evoprune.config import Config, load_config
from evoprune.console import Console
from evoprune.registry import load_plugin

if TYPE_CHECKING:
    from evoprune.session import Session

Rows = list[list[str]]


def plan(config: str | Path, overrides: Sequence[str] = ()) -> Rows:
    """Returns what a search would take; nothing is written but a temporary folder.

    Seconds come from one timed pass of the dense model over the calibration set.

    Raises:
        EvopruneError: the configuration, the model or the data cannot be used.
    """
    from evoprune.evaluation.worker import Worker
    from evoprune.session import open_session, worker_count

    checked = load_config(config, overrides)
    with tempfile.TemporaryDirectory(prefix="evoprune-plan-") as scratch:
        inner = checked.model_copy(update={"output": str(Path(scratch) / "run")})
        session = open_session(inner, Console(stream=None))
        try:
            problem, spec = session.problem, session.spec
            # Nothing is kept between two passes; the first maps the weights, the second is timed.
            # Of a streamed model nothing is kept anyway.
            streamed = spec.device_map == "streamed"
            worker = Worker(spec if streamed else replace(spec, boundary_mb=0))
            worker.evaluate(problem.space.dense)
            began = time.perf_counter()
            worker.evaluate(problem.space.dense)
            seconds = time.perf_counter() - began
            tokens = [worker.tokens(problem.space.dense, rung=r.index) for r in session.rungs]
            base = (session.folder.ranks / "base.safetensors").stat().st_size
            held = _memory(worker, tokens[-1], spec.boundary_mb)
        finally:
            session.close()
    count = worker_count(checked)
    return [
        *_rows(checked, session, tokens, seconds, count),
        *_scale(checked, session, tokens, seconds, base, held),
    ]


def _rows(
    config: Config, session: "Session", tokens: Sequence[float], seconds: float, count: int
) -> Rows:
    """Returns what a search would take.

    Args:
        config: the experiment.
        session: prepared; closed.
        tokens: of the dense model at each rung.
        seconds: of the dense model at the top rung.
        count: workers.
    """
    from evoprune.search.loop import per_candidate

    problem, whole = session.problem, tokens[-1]
    space = problem.space
    n_eval = _n_eval(config, session.algorithm)
    share = float(problem.share(_sample(space)).mean())
    # A candidate of that size takes the same part of what the dense model takes at each rung.
    each = per_candidate(session.rungs, tokens)
    rows = [
        ["space", f"{space.name}: {len(space.genes)} genes, {space.size_text} candidates"],
        ["evaluations", f"{min(n_eval, space.size):,}"],
        [
            "dense-equivalent tokens",
            f"{n_eval * each * share:,.0f} (at the mean FLOPs share "
            f"{share:.2f} of a stratified sample)",
        ],
        *_rungs(session.rungs, tokens, each),
        [
            "one dense pass",
            f"{seconds:.2f} s for {whole:,.0f} tokens, {config.workers.threads} thread",
        ],
        [
            "search",
            f"about {n_eval * seconds * each / whole * share / count:.0f} s with {count} "
            f"worker{'s' if count > 1 else ''} (no start-up, scoring or controls)",
        ],
    ]
    if config.model.device_map == "streamed":
        rows.append(["note", "streamed: candidates of a generation share what that pass fetched"])
    if len(session.rungs) > 1 and getattr(session.algorithm, "calls_back", False):
        rows.append(["note", "what a rung sends home may be called back, whole: more tokens"])
    rows += _warm_rows(config, problem, session.allowance)
    if n_eval >= space.size:
        rows.append(["note", "the budget covers the whole space: algorithm exhaustive finds all"])
    return rows


# What algorithms call the candidates that they ask for at once, the most telling name first.
AT_ONCE = ("n_offsprings", "offspring", "batch", "pop_size", "steps")


def _together(algorithm: Any) -> int:
    """Returns how many candidates an algorithm asks for at once, after its start."""
    sizes = (getattr(algorithm, name, None) for name in AT_ONCE)
    return next((int(size) for size in sizes if size), 1)


def _n_eval(config: Config, algorithm: Any) -> int:
    return config.search.n_eval or _together(algorithm) * (config.search.n_gen or 1)


def _memory(worker: Any, tokens: float, boundary_mb: int) -> arithmetic.Memory | None:
    """Returns what a worker holds by arithmetic; None of what is no language model in stages."""
    from evoprune.evaluation.runner import StagedRunner
    from evoprune.families.placement import is_streamed
    from evoprune.families.stages import BATCH_TOKENS
    from evoprune.tasks.causal_lm import LOGITS_AT_ONCE, MIN_POSITIONS

    if not isinstance(worker.runner, StagedRunner):
        return None
    stages = worker.runner.stages
    if not hasattr(stages, "vocabulary"):
        return None
    itemsize = next(worker.model.parameters()).element_size()
    sizes = arithmetic.Sizes.of(worker.table, stages.vocabulary, stages.n_blocks, itemsize)
    held = arithmetic.memory(
        sizes, BATCH_TOKENS, LOGITS_AT_ONCE, MIN_POSITIONS, tokens, boundary_mb
    )
    if not is_streamed(worker.family, worker.model):
        return held
    blocks = [sum(p.nbytes for p in one.parameters()) for one in worker.family.blocks(worker.model)]
    return replace(held, weights=held.weights - sum(blocks) + max(blocks))


def _scale(
    config: Config,
    session: "Session",
    tokens: Sequence[float],
    seconds: float,
    base: int,
    held: arithmetic.Memory | None,
) -> Rows:
    """Returns the rows of arithmetic: memory, seconds with more workers, disk.

    Args:
        config: the experiment.
        session: prepared; closed.
        tokens: of the dense model at each rung.
        seconds: of the dense model at the top rung.
        base: bytes of the weights.
        held: what a worker holds, where it is known.
    """
    from evoprune.search.loop import per_candidate

    show, problem = arithmetic.gigabytes, session.problem
    rows = [["memory, each machine", f"{show(base)} of weights, mapped once by all its workers"]]
    if held is not None:
        rows += memory_rows(held)
    share = float(problem.share(_sample(problem.space)).mean())
    each = seconds * share * per_candidate(session.rungs, tokens) / tokens[-1]
    n_eval, together = _n_eval(config, session.algorithm), _together(session.algorithm)
    for workers in MANY:
        took = arithmetic.seconds(n_eval, together, each, workers)
        rows.append(
            [
                f"with {workers} such worker{'s' if workers > 1 else ''}",
                _arithmetic(arithmetic.duration(took)),
            ]
        )
    journal = arithmetic.journal_bytes(n_eval, len(problem.space.genes))
    files = base + (held.examples if held else 0)
    return [*rows, ["disk", f"{show(files)} and about {show(journal)} of journal"]]


# Workers whose seconds are told beside those of the configuration.
MANY = (1, 8, 64)


def _arithmetic(text: str) -> str:
    return f"{text} (arithmetic, not measurement)"


def memory_rows(held: arithmetic.Memory) -> Rows:
    """Returns what one worker holds, on the CPU and with an accelerator."""
    show = arithmetic.gigabytes
    parts = (
        f"states {show(held.states)}, logits {show(held.logits)}, examples {show(held.examples)}"
    )
    cpu = f"{show(held.private)} beside the weights: process {show(arithmetic.PROCESS)}, {parts}"
    gpu = (
        f"{show(held.on_device)}: weights {show(held.weights)}, states {show(held.states)}, "
        f"logits {show(held.logits)}, context {show(arithmetic.CONTEXT)}"
    )
    return [
        ["memory, each worker", _arithmetic(cpu)],
        ["memory, each GPU worker", _arithmetic(gpu)],
    ]


def _rungs(rungs: Sequence[Any], tokens: Sequence[float], each: float) -> Rows:
    """Returns what each rung takes of the dense model, and what the ladder saves."""
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
    from evoprune.search.warm import start

    most = {name: start(name).most(problem) for name in config.search.warm_starts}
    words = [f"{n} {min(most[n], allowance.n_eval):,.0f}" for n in most if most[n]]
    if not words:
        return []
    return [["warm starts", f"at most {', '.join(words)} evaluations, counted with the search's"]]


def _sample(space: Any) -> np.ndarray:
    from evoprune.search.starts import stratified

    return np.asarray(space.canonical(stratified(space, 64, np.random.default_rng(0))))


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
