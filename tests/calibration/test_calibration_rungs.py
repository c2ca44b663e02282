import numpy as np
import pytest

from evoprune.calibration.rungs import rung_sizes, spread
from evoprune.calibration.samplers import Selection
from evoprune.errors import ConfigError


def test_sizes_are_returned_as_given() -> None:
    assert rung_sizes([4, 16, 64], 64) == (4, 16, 64)
    assert rung_sizes([64], 64) == (64,)


@pytest.mark.parametrize(
    ("samples", "cause"),
    [
        ([], "There are no rungs"),
        ([0, 8], "do not increase"),
        ([4, 4, 8], "do not increase"),
        ([8, 4], "do not increase"),
        ([2, 4], "top rung has 4 examples, but the calibration set has 8"),
        ([2, 16], "top rung has 16 examples, but the calibration set has 8"),
    ],
)
def test_other_sizes_are_refused(samples: list[int], cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        rung_sizes(samples, 8)


def test_spread_counts_the_clusters_of_each_rung() -> None:
    clusters = np.array([0, 1, 2, 0, 1, 0])
    selection = Selection(np.arange(6), clusters, "ccds", 0)

    assert spread(selection, (1, 3, 6)).tolist() == [[1, 0, 0], [1, 1, 1], [3, 2, 1]]
    assert spread(selection, (3,), n_clusters=5).tolist() == [[1, 1, 1, 0, 0]]
