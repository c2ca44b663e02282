"""Rungs: nested prefixes of a calibration set, the lowest the cheapest."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evoprune.calibration.samplers import Selection
from evoprune.errors import ConfigError


def rung_sizes(samples: Sequence[int], n_selected: int) -> tuple[int, ...]:
    """Returns the sizes of the rungs, checked.

    Args:
        samples: how many examples each rung has, lowest first.
        n_selected: how many the calibration set has; the top rung has them all.

    Raises:
        ConfigError: no rungs, sizes that do not increase from one or more, or a top rung that is
            not the whole calibration set.
    """
    sizes = tuple(int(size) for size in samples)
    if not sizes:
        raise ConfigError("There are no rungs.", f"Give at least one, e.g. [{n_selected}].")
    if sizes[0] < 1 or any(low >= high for low, high in pairwise(sizes)):
        raise ConfigError(
            f"The rungs {list(sizes)} do not increase from one example or more.",
            f"List each size once, smallest first, ending in {n_selected}.",
        )
    if sizes[-1] != n_selected:
        raise ConfigError(
            f"The top rung has {sizes[-1]} examples, but the calibration set has {n_selected}.",
            f"End the rungs in {n_selected}, or set n_samples to {sizes[-1]}.",
        )
    return sizes


def spread(
    selection: Selection, sizes: Sequence[int], n_clusters: int | None = None
) -> NDArray[np.int64]:
    """Returns how many examples of each cluster every rung has (R, K).

    Args:
        selection: the calibration set.
        sizes: the sizes of its rungs (R).
        n_clusters: K; without it, one more than the highest cluster selected.
    """
    width = n_clusters or int(selection.clusters.max(initial=-1)) + 1
    rows = [np.bincount(selection.clusters[:size], minlength=width) for size in sizes]
    return np.array(rows, dtype=np.int64).reshape(len(rows), width)
