"""A calibration set on disk: what was chosen, from which pool, and what its clusters are."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoprune.calibration.cluster import Clusters, purity
from evoprune.calibration.samplers import Selection
from evoprune.core.errors import RunFolderError, unwritable
from evoprune.core.files import write_atomically

INDICES = "indices.json"
CLUSTERS = "clusters.csv"


@dataclass(frozen=True)
class PoolLabels:
    """What names the examples of a pool.

    Args:
        keys: the key of each example (N).
        kinds: the label of each example (N).
        digest: of the pool's content.
    """

    keys: Sequence[str]
    kinds: Sequence[str]
    digest: str


def save(folder: str | Path, selection: Selection, clusters: Clusters, pool: PoolLabels) -> None:
    """Writes ``indices.json`` and ``clusters.csv``; the same arguments give the same bytes.

    Each file appears whole or not at all, ``indices.json`` last.

    Args:
        folder: where; made if need be.
        selection: the calibration set (n).
        clusters: of the whole pool (N).
        pool: what names its examples (N).

    Raises:
        RunFolderError: the folder cannot be written.
    """
    record = {
        "sampler": selection.sampler,
        "seed": selection.seed,
        "pool_digest": pool.digest,
        "indices": selection.indices.tolist(),
        "clusters": selection.clusters.tolist(),
        "keys": [pool.keys[index] for index in selection.indices.tolist()],
    }
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(Path(folder), error) from error
    # A label may hold half a character; the keys of examples are plain in JSON.
    rows = _cluster_rows(selection, clusters, pool.kinds)
    write_atomically(Path(folder) / CLUSTERS, rows, errors="surrogatepass")
    write_atomically(Path(folder) / INDICES, json.dumps(record, indent=1) + "\n")


def load(folder: str | Path, digest: str | None = None) -> Selection:
    """Returns the calibration set that ``save`` wrote.

    Args:
        folder: where it was saved.
        digest: what the pool's digest has to be, if it is to be checked.

    Raises:
        RunFolderError: the file is missing or damaged, or was chosen from another pool.
    """
    path = Path(folder) / INDICES
    try:
        selection, saved = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(
            f"The calibration set '{path}' cannot be read: {error.strerror}.",
            "Run `evoprune calibrate` to make it.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"The calibration set '{path}' is damaged ({type(error).__name__}: {error}).",
            "Delete it and run the same command again.",
        ) from error
    if digest is not None and saved != digest:
        raise RunFolderError(
            f"The calibration set '{path}' was chosen from other data (digest {saved}, "
            f"now {digest}).",
            "Restore those data, or use a new run folder.",
        )
    return selection


def _parse(text: str) -> tuple[Selection, str]:
    record = json.loads(text)
    indices = np.array(record["indices"], dtype=np.int64)
    clusters = np.array(record["clusters"], dtype=np.int64)
    if indices.ndim != 1 or indices.shape != clusters.shape:
        raise ValueError(f"indices {indices.shape}, clusters {clusters.shape}")
    selection = Selection(indices, clusters, str(record["sampler"]), int(record["seed"]))
    return selection, str(record["pool_digest"])


def _cluster_rows(selection: Selection, clusters: Clusters, kinds: Sequence[str]) -> str:
    selected = np.bincount(selection.clusters, minlength=clusters.n_clusters)
    common = purity(clusters.labels, kinds)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cluster", "size", "selected", "kind", "purity"])
    for cluster, size in enumerate(clusters.sizes.tolist()):
        kind, share = common.get(cluster, ("", 0.0))
        writer.writerow([cluster, size, int(selected[cluster]), kind, f"{share:.6f}"])
    return text.getvalue()
