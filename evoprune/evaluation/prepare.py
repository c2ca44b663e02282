"""Before the search: pools, clusters, the calibration set, the base, the dense reference.

Everything is written into the run folder, the manifest last, so that a prepared run is never
prepared again.
"""

import copy
import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.calibration.cluster import Clusters, kmeans, l2_normalise
from evoprune.calibration.samplers import Selection
from evoprune.calibration.store import PoolLabels, save
from evoprune.config import Config, DataConfig, build, digest
from evoprune.data.documents import assign_splits, check_disjoint
from evoprune.data.pool import TextPool, build_pool, drop_shared_chunks
from evoprune.errors import DataError, ModelError
from evoprune.evaluation.dense import add_reference, check_stages, embed, load_base, write_base
from evoprune.evaluation.examples import Examples
from evoprune.evaluation.passes import tables
from evoprune.evaluation.rank import rank
from evoprune.evaluation.rank import save as save_ranks
from evoprune.families.load import family_of, load_model, load_tokenizer
from evoprune.folder import RunFolder
from evoprune.registry import DATA, SAMPLERS, TASKS
from evoprune.shipped import resolved

SPLITS = ("search", "validation", "report")
PACKAGES = ("evoprune", "torch", "transformers", "pymoo", "numpy", "scikit-learn", "ray")


@dataclass(frozen=True)
class Calibrated:
    """The calibration set and what it was picked from."""

    pools: Mapping[str, TextPool]
    chosen: Mapping[str, np.ndarray]
    clusters: Clusters
    selection: Selection
    groups: Mapping[str, np.ndarray]


def pools(config: DataConfig, tokenizer: Any) -> dict[str, TextPool]:
    """Returns the chunks of the three splits; no document and no chunk is in two of them.

    Raises:
        DataError: the data are missing or empty, or a split is.
    """
    documents = build(DATA, config.source).documents()
    splits = assign_splits(documents, config.fractions)
    check_disjoint(splits)
    made = {
        split: build_pool(
            splits[split],
            tokenizer,
            split,
            config.chunk_tokens,
            max_chunks_per_document=config.max_chunks_per_document,
        )
        for split in SPLITS
    }
    return drop_shared_chunks(made)[0]


def calibrate(config: Config, stages: Any, pools: Mapping[str, TextPool]) -> Calibrated:
    """Returns the calibration set of the search pool, and the clusters of every split.

    Args:
        config: the experiment.
        stages: the dense model.
        pools: chunks by split.

    Raises:
        DataError: a pool holds fewer examples than are asked for.
    """
    settings = config.calibration
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
        vectors[split] = l2_normalise(embed(stages, part.tokens, part.lengths, config.model.device))
    clusters = kmeans(vectors["search"], settings.clusters, settings.seed)
    sampler = build(SAMPLERS, settings.sampler)
    selection = sampler.select(vectors["search"], clusters, settings.samples, settings.seed)
    groups = {"search": selection.clusters}
    for split in ("validation", "report"):
        nearest = vectors[split] @ clusters.centroids.T - (clusters.centroids**2).sum(1) / 2
        groups[split] = nearest.argmax(axis=1)
    chosen["calibration"] = chosen["search"][selection.indices]
    return Calibrated(pools, chosen, clusters, selection, groups)


@dataclass(frozen=True)
class Opened:
    """A model, taken apart, with its data."""

    model: Any
    family: Any
    stages: Any
    tokenizer: Any
    pools: Mapping[str, TextPool]


def open_model(config: Config, say: Callable[[str], None], model: Any = None) -> Opened:
    """Returns the model and the data of a configuration, checked against each other.

    Raises:
        EvopruneError: model or data cannot be used.
    """
    import torch

    torch.set_num_threads(config.workers.threads)
    name = resolved(config.model.name_or_path)
    say(f"model     {config.model.name_or_path}")
    if model is None:
        model = load_model(
            name,
            dtype=config.model.dtype,
            revision=config.model.revision,
            trust_remote_code=config.model.trust_remote_code,
        )
    else:
        model = _copied(model, config.model.dtype)
    family = family_of(model, config.model.family)
    model = model.to(config.model.device)
    stages = family.stages(model)
    tokenizer = load_tokenizer(name, trust_remote_code=config.model.trust_remote_code)
    found = pools(config.data, tokenizer)
    sizes = ", ".join(f"{split} {len(pool)}" for split, pool in found.items())
    say(f"data      chunks of {config.data.chunk_tokens} tokens: {sizes}")
    _check_vocabulary(model, found)
    search = found["search"]
    longest = np.argsort(-search.lengths, kind="stable")[:2]
    tokens = search.tokens[longest, : int(search.lengths[longest].min())]
    check_stages(model, stages, torch.from_numpy(tokens).to(config.model.device))
    return Opened(model, family, stages, tokenizer, found)


def _copied(model: Any, dtype: str) -> Any:
    """Returns a copy of a live model as it would be loaded: its units are reordered in place."""
    import torch

    copied = copy.deepcopy(model).to(getattr(torch, dtype)).eval().requires_grad_(False)
    # Workers load the base with sdpa, too; eager attention without a mask is not causal.
    if getattr(copied.config, "_attn_implementation", None) == "eager":
        copied.set_attn_implementation("sdpa")
    return copied


@dataclass(frozen=True)
class Look:
    """What ``evoprune calibrate`` shows."""

    calibrated: Calibrated
    pool: TextPool
    tokenizer: Any
    nll: np.ndarray


def look(config: Config) -> Look:
    """Returns the calibration set with the dense model's loss on every example of its pool."""
    opened = open_model(config, lambda line: None)
    calibrated = calibrate(config, opened.stages, opened.pools)
    pool = opened.pools["search"].take(calibrated.chosen["search"])
    task = build(TASKS, config.task)
    bare = Examples(pool.tokens, pool.lengths, calibrated.clusters.labels, {}, {})
    examples = add_reference(bare, opened.stages, task, config.model.device)
    table = tables(opened.stages, task, examples, device=config.model.device)["clean"]
    nll = table.columns["nll"] / table.columns["n"]
    return Look(calibrated, pool, opened.tokenizer, nll)


def prepare(
    config: Config, folder: RunFolder, say: Callable[[str], None], model: Any = None
) -> None:
    """Writes ``ranks/``, ``calibration/`` and the manifest of a run.

    Args:
        config: the experiment.
        folder: the run folder, claimed.
        say: told what is being done.
        model: a live model, instead of the one that ``config.model`` names.

    Raises:
        EvopruneError: model or data cannot be used.
    """
    opened = open_model(config, say, model)
    calibrated = calibrate(config, opened.stages, opened.pools)
    say(
        f"calibrate {config.calibration.sampler.type}: {len(calibrated.selection)} examples "
        f"from {calibrated.clusters.n_clusters} clusters of {len(calibrated.chosen['search'])}"
    )
    digests = _write(config, folder, opened, calibrated)
    folder.write_manifest(
        {
            "identity": digest(config.identity()),
            "versions": {package: _version(package) for package in PACKAGES},
            "python": platform.python_version(),
            "seed": config.search.seed,
            "family": opened.family.name,
            "tokenizer": resolved(config.model.name_or_path),
            **digests,
        }
    )


def _check_vocabulary(model: Any, found: Mapping[str, TextPool]) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(int(pool.tokens.max()) for pool in found.values())
    if largest >= rows:
        raise ModelError(
            f"The tokenizer gives the token {largest}, the model has {rows} embeddings.",
            "Use the tokenizer that belongs to the model.",
        )


def _write(
    config: Config, folder: RunFolder, opened: Opened, calibrated: Calibrated
) -> dict[str, Any]:
    """Writes base, examples and calibration set; returns the digests for the manifest."""
    model, stages = opened.model, opened.stages
    rows = calibrated.chosen["calibration"]
    part = calibrated.pools["search"].take(rows)
    picked = Examples(part.tokens, part.lengths, calibrated.groups["search"], {}, {})
    space = config.space.build(opened.family.sites(model))
    table = opened.family.table(model, config.data.chunk_tokens)
    scores, stored = rank(config, space, model, stages, table, picked)
    write_base(model, folder.ranks)
    # From here on the base as workers map it: products of numbers that lie elsewhere in memory
    # can differ in the last bit.
    settings, device = config.model, config.model.device
    base = load_base(folder.ranks, settings.dtype, device, settings.trust_remote_code)
    stages = opened.family.stages(base)
    save_ranks(folder.ranks, config.criterion.type, scores, stored)
    folder.calibration.mkdir(parents=True, exist_ok=True)
    search = calibrated.pools["search"].take(calibrated.chosen["search"])
    save(
        folder.calibration,
        calibrated.selection,
        calibrated.clusters,
        PoolLabels(search.keys, search.kinds, search.digest),
    )
    task = build(TASKS, config.task)
    pool_digests = {}
    for split in SPLITS:
        rows = calibrated.chosen["calibration" if split == "search" else split]
        part = calibrated.pools[split].take(rows)
        pool_digests[split] = part.digest
        bare = Examples(part.tokens, part.lengths, calibrated.groups[split], {}, {})
        rungs = tuple(rung.samples for rung in config.rungs) if split == "search" else ()
        examples = add_reference(bare, stages, task, device, rungs)
        table = tables(stages, task, examples, rungs, device)["clean"]
        broken = [name for name, column in table.columns.items() if not np.isfinite(column).all()]
        if broken:
            raise ModelError(
                f"The dense model's {broken[0]} is not finite on the {split} split.",
                "Check its weights and `model.dtype`.",
            )
        dense = Examples(part.tokens, part.lengths, bare.groups, examples.extras, {"clean": table})
        dense.save(folder.calibration / f"{split}.safetensors")
    return {"base_sha256": _sha256(folder.ranks / "base.safetensors"), "pools": pool_digests}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
