"""What a calibration sampler is worth: how well its examples choose among equally sparse patterns.

Every pattern is measured once on each example of the whole pool and on the validation split; what
a sampler would have seen is then read off those tables, for as many seeds as are asked for:

    python experiments/ablations/samplers/compare.py experiments/quickstart/config.yaml

*Regret* is the validation KL of the pattern that a sampler's examples would have chosen, over the
lowest of its sparsity, in nats; 0 is the best choice. It is averaged over the sparsities.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evoprune.calibration.cluster import kmeans, l2_normalise
from evoprune.config.parts import build
from evoprune.config.schema import Config, load_config
from evoprune.config.sections import Part
from evoprune.core.files import write_atomically
from evoprune.core.metrics import Table, ratio, spearman
from evoprune.core.registry import SAMPLERS
from evoprune.evaluation.prepare import calibrate, open_experiment
from evoprune.evaluation.worker import Worker
from evoprune.progress.console import Console
from evoprune.session import open_session

HERE = Path(__file__).parent
COMPARED: Mapping[str, dict[str, str]] = {
    "random": {"type": "random"},
    "first": {"type": "first"},
    "evop": {"type": "evop"},
    "ccds": {"type": "ccds"},
    "ccds, proportional": {"type": "ccds", "quota": "proportional"},
    "ccds, nearest": {"type": "ccds", "pick": "nearest"},
}
SHARES = (0.125, 0.25, 0.375, 0.5)


def patterns(space: object, each: int, seed: int) -> list[list[object]]:
    """Returns different random patterns of every sparsity: ``each`` for each share."""
    rng, found = np.random.default_rng(seed), []
    for share in SHARES:
        X: dict[bytes, np.ndarray] = {}
        total = int(space.upper.sum())
        while len(X) < each:
            row = rng.multivariate_hypergeometric(space.upper, round(share * total))
            X[space.canonical(row[None])[0].tobytes()] = row
        found.append(space.patterns(space.canonical(np.array(list(X.values())))))
    return found


def measured(
    config: Config, each: int, seed: int
) -> tuple[np.ndarray, list[list[Table]], np.ndarray]:
    """Returns the pool's embeddings, and by sparsity the patterns' tables on it and their KL.

    Returns:
        embeddings (N, D); for each sparsity its patterns' tables over the pool; the KL of each on
        validation (sparsities, each).
    """
    opened = open_experiment(config)
    size = min(config.calibration.pool or 10**9, len(opened.pools["search"]))
    whole = config.calibration.model_copy(
        update={"sampler": Part(type="first"), "samples": size, "pool": size}
    )
    with tempfile.TemporaryDirectory() as scratch:
        output = str(Path(scratch) / "run")
        config = config.model_copy(update={"calibration": whole, "output": output, "rungs": ()})
        session = open_session(config, Console(stream=None))
        session.close()
        worker = Worker(session.spec)
        groups = patterns(worker.space, each, seed)
        tables = [
            [e.tables["clean"] for e in worker.evaluate_batch(group, keep=True)] for group in groups
        ]
        truth = [
            [e.values["kl"] for e in worker.evaluate_batch(group, "validation")] for group in groups
        ]
    # ``first`` keeps the pool's order, so that row i of a table is its example i.
    pool = opened.pools["search"].take(calibrate(config, opened).chosen["pool"])
    vectors = opened.family.embed(opened.model, pool, config.model.device)
    return l2_normalise(vectors), tables, np.array(truth)


def compare(
    embeddings: np.ndarray,
    tables: list[list[Table]],
    truth: np.ndarray,
    sizes: list[int],
    seeds: int,
    n_clusters: int,
) -> list[dict[str, object]]:
    """Returns a row for each size of the calibration set and sampler."""
    rows: list[dict[str, object]] = []
    clusterings = [kmeans(embeddings, n_clusters, seed) for seed in range(seeds)]
    for size in sizes:
        regrets: dict[str, np.ndarray] = {}
        ranks: dict[str, np.ndarray] = {}
        for name, settings in COMPARED.items():
            sampler = build(SAMPLERS, Part.model_validate(settings))
            found = []
            for seed, clusters in enumerate(clusterings):
                picked = sampler.select(embeddings, clusters, size, seed).indices
                found.append(judged(tables, truth, picked))
            regrets[name], ranks[name] = np.array(found).T
        for name in COMPARED:
            difference = regrets[name] - regrets["random"]
            rows.append(
                {
                    "samples": size,
                    "sampler": name,
                    "regret": float(regrets[name].mean()),
                    "regret to random": float(difference.mean()),
                    "interval": interval(difference),
                    "rank correlation": float(ranks[name].mean()),
                }
            )
    return rows


def judged(tables: list[list[Table]], truth: np.ndarray, picked: np.ndarray) -> tuple[float, float]:
    """Returns regret and rank correlation, both averaged over the sparsities."""
    regrets, ranks = [], []
    for group, known in zip(tables, truth, strict=True):
        values = np.array([ratio(table.take(picked), "kl") for table in group])
        regrets.append(known[values.argmin()] - known.min())
        ranks.append(spearman(values, known))
    return float(np.mean(regrets)), float(np.mean(ranks))


def interval(differences: np.ndarray) -> list[float]:
    """Returns the 95 % bootstrap interval of a mean over seeds."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(differences), (10_000, len(differences)))
    return [float(v) for v in np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])]


def main() -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--each", type=int, default=30, help="patterns of every sparsity")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 16, 48])
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    given = parser.parse_intermixed_args()
    config = load_config(given.config, given.overrides)
    embeddings, tables, truth = measured(config, given.each, seed=0)
    rows = compare(
        embeddings, tables, truth, given.samples, given.seeds, config.calibration.clusters
    )
    write_atomically(given.out, json.dumps(rows, indent=1) + "\n")
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['samples']:>4} {row['sampler']:<20} regret {row['regret']:.4f}  to random "
            f"{row['regret to random']:+.4f} [{low:+.4f}, {high:+.4f}]  "
            f"rank correlation {row['rank correlation']:.3f}"
        )


if __name__ == "__main__":
    main()
