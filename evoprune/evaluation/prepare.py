"""Before the search: pools, clusters, the calibration set, the base, the dense reference.

Everything is written into the run folder, the manifest last, so that a prepared run is never
prepared again.
"""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from evoprune.calibration.cluster import Clusters, kmeans, l2_normalise
from evoprune.calibration.samplers import Selection
from evoprune.calibration.store import PoolLabels, save
from evoprune.config.parts import build
from evoprune.config.schema import Config, digest
from evoprune.config.shipped import resolved
from evoprune.core.errors import DataError, ModelError, RunFolderError
from evoprune.core.files import sha256_of, write_atomically
from evoprune.core.metrics import Table
from evoprune.core.registry import DATA, SAMPLERS, TASKS
from evoprune.core.splits import SPLITS
from evoprune.data.examples import Examples, Pass, thin_file
from evoprune.data.memory import IN_MEMORY
from evoprune.evaluation.live import NOTHING, Live
from evoprune.evaluation.rank import rank
from evoprune.evaluation.rank import save as save_ranks
from evoprune.evaluation.runner import NO_BOUNDARIES, Boundaries, Runner
from evoprune.evaluation.runners import make_runner
from evoprune.families.load import open_network, read_placed
from evoprune.families.placement import is_streamed
from evoprune.folder.computing import COMPUTE, computing, versions
from evoprune.folder.layout import RunFolder

PACKAGES = (*COMPUTE, "ray")


@dataclass(frozen=True)
class Opened:
    """A network and its data."""

    family: Any
    model: Any
    task: Any
    processor: Any
    pools: Mapping[str, Any]
    weights: str  # the digest of the network's, as they were loaded


@dataclass(frozen=True)
class Calibrated:
    """The calibration set and what it was picked from.

    Attributes:
        chosen: by split which examples of its pool are scored; ``pool`` are those clustered.
        clusters: of the clustered ones.
        selection: the calibration set, in nested order.
        groups: by split the cluster of every example scored.
    """

    chosen: Mapping[str, np.ndarray]
    clusters: Clusters
    selection: Selection
    groups: Mapping[str, np.ndarray]


def open_experiment(
    config: Config, say: Callable[[str], None] = lambda line: None, live: Live = NOTHING
) -> Opened:
    """Returns the network and the data of a configuration, checked against each other.

    Raises:
        EvopruneError: network or data cannot be used.
    """
    import torch

    torch.set_num_threads(config.workers.threads)
    say(f"model     {config.model.label}")
    family, network, weights = open_network(config.model, live.model)
    task = build(TASKS, config.task)
    processor = _processor(family, config, live)
    source = live.source or _source(config)
    pools = task.pools(config.data, source, processor)
    if note := getattr(source, "note", ""):
        say(f"data      {note}")
    say(f"data      {', '.join(f'{split} {len(pool)}' for split, pool in pools.items())} examples")
    if hasattr(family, "labelled"):
        pools = family.labelled(network, pools)
    family.check(network, pools, config.model.device)
    return Opened(family, network, task, processor, pools, weights)


def _processor(family: Any, config: Config, live: Live) -> Any:
    """Returns what turns documents into inputs; None where they are inputs already.

    Raises:
        ModelError: there is none.
    """
    if live.tokenizer is not None or live.reads_tokens:
        return live.tokenizer
    name = config.model.name_or_path
    if live.is_named_as(name):
        raise ModelError(
            f"The {name} handed over does not say where its tokenizer is.",
            "Hand it over, `evoprune.search(…, tokenizer=…)`, or give data of `input_ids`.",
        )
    return family.processor(config.model)


def _source(config: Config) -> Any:
    """Returns the data source that a configuration names.

    Raises:
        EvopruneError: there is none of that name, or its data were handed over.
    """
    part = config.data.source
    if part.type == IN_MEMORY and part.type not in DATA.names():
        raise DataError(
            f"The {part.options.get('examples')} examples of this configuration were handed over "
            "from Python, and are in no file.",
            "Hand them over again, `evoprune.search(…, data=…)`, or name a file: data.type=text.",
        )
    return build(DATA, part)


def calibrate(config: Config, opened: Opened) -> Calibrated:
    """Returns the calibration set of the search pool, and the clusters of every split.

    Raises:
        DataError: a pool holds fewer examples than are asked for.
    """
    settings, pools = config.calibration, opened.pools
    wanted = {
        "search": settings.pool or len(pools["search"]),
        "validation": config.validation.samples,
        "report": config.report.samples,
    }
    rng = np.random.default_rng([settings.seed, 3])
    chosen: dict[str, np.ndarray] = {}
    vectors: dict[str, np.ndarray] = {}
    for split in SPLITS:
        pool, count = pools[split], wanted[split]
        if count > len(pool) and split != "search":
            raise DataError(
                f"The {split} split holds {len(pool)} examples, {count} are asked for.",
                f"Lower {split}.samples, or give more data.",
            )
        chosen[split] = np.sort(rng.permutation(len(pool))[:count])
        part = pool.take(chosen[split])
        vectors[split] = l2_normalise(opened.family.embed(opened.model, part, config.model.device))
    clusters = kmeans(vectors["search"], settings.clusters, settings.seed)
    sampler = build(SAMPLERS, settings.sampler)
    selection = sampler.select(vectors["search"], clusters, settings.samples, settings.seed)
    groups = {"search": selection.clusters}
    for split in SPLITS[1:]:
        nearest = vectors[split] @ clusters.centroids.T - (clusters.centroids**2).sum(1) / 2
        groups[split] = nearest.argmax(axis=1)
    chosen["pool"] = chosen["search"]
    chosen["search"] = chosen["search"][selection.indices]
    return Calibrated(chosen, clusters, selection, groups)


@dataclass(frozen=True)
class Look:
    """What ``evoprune calibrate`` shows.

    Attributes:
        calibrated: the calibration set and its clusters.
        pool: the examples that were clustered.
        processor: what reads them back for a person.
        nll: the dense network's loss on each of them.
    """

    calibrated: Calibrated
    pool: Any
    processor: Any
    nll: np.ndarray


def look(config: Config) -> Look:
    """Returns the calibration set with the dense network's loss on every example of its pool."""
    import tempfile

    opened = open_experiment(config)
    calibrated = calibrate(config, opened)
    pool = opened.pools["search"].take(calibrated.chosen["pool"])
    with tempfile.TemporaryDirectory(prefix="evoprune-look-") as scratch:
        runner = _base_runner(config, opened, Path(scratch))
        groups = calibrated.clusters.labels
        examples = opened.family.examples(opened.model, pool, groups, config.model.device)
        table = _dense(runner, examples).dense["clean"]
    return Look(calibrated, pool, opened.processor, table.columns["nll"] / table.columns["n"])


def prepare(
    config: Config, folder: RunFolder, say: Callable[[str], None], live: Live = NOTHING
) -> None:
    """Writes ``ranks/``, ``calibration/`` and the manifest of a run.

    Args:
        config: the experiment.
        folder: the run folder, claimed.
        say: told what is being done.
        live: what was handed over as objects.

    Raises:
        EvopruneError: network or data cannot be used.
    """
    opened = open_experiment(config, say, live)
    calibrated = calibrate(config, opened)
    say(
        f"calibrate {config.calibration.sampler.type}: {len(calibrated.selection)} examples "
        f"from {calibrated.clusters.n_clusters} clusters of {len(calibrated.chosen['pool'])}"
    )
    try:
        digests = _write(config, folder, opened, calibrated)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RunFolderError(
            f"The run folder '{folder.path}' cannot be written: {reason}.",
            "Free disk space or correct the permissions, then give the same command again.",
        ) from error
    source = _origin(config, folder, opened, live)
    folder.write_manifest(
        {
            "identity": digest(config.identity()),
            "versions": versions(PACKAGES),
            "computing": computing(config.model.device, config.workers.threads, config.plugins),
            "python": platform.python_version(),
            "seed": config.search.seed,
            "family": opened.family.name,
            "model_sha256": opened.weights,
            "source": source,
            **digests,
        }
    )


def _origin(config: Config, folder: RunFolder, opened: Opened, live: Live) -> str:
    """Returns where exports find what lies beside the original model.

    Of a model that is in no folder, or whose tokenizer was handed over, the run keeps that itself.
    """
    name = config.model.name_or_path
    if not name:
        return str(config.model.factory)
    if live.tokenizer is None and not live.is_named_as(name):
        return resolved(name)
    beside = folder.handed / Path(name).name
    original = opened.model if live.model is None else live.model
    for part in (original.config, getattr(original, "generation_config", None), live.tokenizer):
        if part is not None:
            part.save_pretrained(beside)
    return beside.relative_to(folder.path).as_posix()


def _write(
    config: Config, folder: RunFolder, opened: Opened, calibrated: Calibrated
) -> dict[str, Any]:
    """Writes base, examples and calibration set; returns the digests for the manifest."""
    device = config.model.device
    bare = {
        split: opened.family.examples(
            opened.model,
            opened.pools[split].take(calibrated.chosen[split]),
            calibrated.groups[split],
            device,
        )
        for split in SPLITS
    }
    space = config.space_over(opened.family, opened.model)
    scores, stored = rank(config, space, opened.family, opened.model, bare["search"])
    runner = _base_runner(config, opened, folder.ranks)
    save_ranks(folder.ranks, config.criterion.type, scores, stored)
    write_atomically(folder.space, json.dumps(space.to_json()) + "\n")
    folder.calibration.mkdir(parents=True, exist_ok=True)
    pool = opened.pools["search"].take(calibrated.chosen["pool"])
    labels = PoolLabels(pool.keys, pool.kinds, pool.digest)
    save(folder.calibration, calibrated.selection, calibrated.clusters, labels)
    centroids = np.ascontiguousarray(calibrated.clusters.centroids)
    save_file({"centroids": centroids}, folder.calibration / "centroids.safetensors")
    for split, examples in bare.items():
        rungs = config.rungs if split == "search" else ()
        scored = _dense(runner, examples, examples.boundaries([rung.samples for rung in rungs]))
        _check_finite(scored, split)
        if hasattr(opened.task, "zero"):
            stages = getattr(runner, "stages", None)
            zero = opened.task.zero(opened.pools["search"], scored, stages)
            scored = replace(scored, zero=zero)
        scored.save(folder.calibration / f"{split}.safetensors")
        if split == "search":
            _write_thin(config, folder, runner, opened.task, scored)
    pools = {split: opened.pools[split].take(calibrated.chosen[split]).digest for split in SPLITS}
    return {"base_sha256": sha256_of(folder.ranks / "base.safetensors"), "pools": pools}


def _write_thin(
    config: Config, folder: RunFolder, runner: Runner, task: Any, examples: Examples
) -> None:
    """Writes which positions the rungs score that do not score all, and the dense tables there.

    Each example has one offset, drawn by its place: the positions are the same for every pattern.
    """
    offsets = np.random.default_rng([config.calibration.seed, 7]).random(len(examples))
    clean, ends = examples.clean, examples.boundaries([rung.samples for rung in config.rungs])
    for count in sorted({rung.positions_per_example or 0 for rung in config.rungs} - {0}):
        chosen = Pass(task.spaced(clean.arrays, count, offsets), clean.groups, clean.sizes)
        thin = examples.scored_at(Examples({"clean": chosen}))
        outcome = _dense_tables(runner, thin, ends)
        Examples({"clean": chosen}, {"clean": outcome["clean"]}).save(
            folder.calibration / thin_file(count)
        )


def _base_runner(config: Config, opened: Opened, folder: Path) -> Runner:
    """Writes the base, and returns a runner of it as workers map it.

    Products of numbers that lie elsewhere in memory can differ in the last bit.
    """
    settings, family = config.model, opened.family
    training = None
    if "training" in opened.pools:
        pool = opened.pools["training"]
        groups = np.zeros(len(pool), dtype=np.int64)
        training = family.examples(opened.model, pool, groups, settings.device)
    family.write(opened.model, folder, training)
    base = read_placed(family, folder, settings)
    table = family.table(base, config.data.chunk_tokens)
    bound = config.workers.boundary_mb << 20 if is_streamed(family, base) else 0
    return make_runner(family, base, opened.task, table, settings.device, boundary_bytes=bound)


def _dense(runner: Runner, examples: Examples, ends: Boundaries = NO_BOUNDARIES) -> Examples:
    """Returns the examples with the dense network's reference and tables.

    Raises:
        ModelError: the dense network fails.
    """
    examples = runner.reference(examples, ends)
    return replace(examples, dense=_dense_tables(runner, examples, ends))


def _dense_tables(runner: Runner, examples: Examples, ends: Boundaries) -> dict[str, Table]:
    """Returns the tables of the dense network.

    Raises:
        ModelError: the dense network fails.
    """
    outcome = runner.tables([{}], examples, ends)[0]
    if isinstance(outcome, Exception):
        raise ModelError(
            f"The dense network fails: {type(outcome).__name__}: {outcome}.",
            "Run it by itself to see why.",
        ) from outcome
    return outcome


def _check_finite(examples: Examples, split: str) -> None:
    for table in examples.dense.values():
        for name, column in table.columns.items():
            if not np.isfinite(column).all():
                raise ModelError(
                    f"The dense model's {name} is not finite on the {split} split.",
                    "Check its weights and `model.dtype`.",
                )
