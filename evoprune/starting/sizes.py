"""How large a search may be in the time that a person has: arithmetic, nothing else."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Chunks of this many tokens predict well what longer ones would, at a fraction of the time.
CHUNK = 128
SHORTEST_CHUNK = 32
# Examples of the calibration set, the sizes that are tried, and the first one.
SAMPLES = (16, 24, 32, 48, 64, 96)
USUAL = 48
# What validation and report score, as a share of what is calibrated on, and at least.
VALIDATION, REPORT = (4 / 3, 32), (2, 64)
# Evaluations that make a front worth looking at, and that are more than enough for the samples.
ENOUGH, PLENTY = 200, 1500
# A start and a generation after it: below that nothing was searched.
LEAST = 40
# Examples that are clustered at most: each is embedded by a dense pass.
POOL = 400
# No split may hold fewer examples than this.
FEWEST = {"search": 16, "validation": 8, "report": 8}
# Of the time that is asked for, what is reckoned with: no forecast is exact.
RESERVE = 0.85

# Seconds of a whole run, from its first line to its report, with so many examples in the
# calibration set and so many evaluations.
Duration = Callable[[int, int], float]


@dataclass(frozen=True)
class Sizes:
    """What a search takes.

    Attributes:
        n_eval: evaluations.
        samples: examples of the calibration set.
        validation: examples of the validation split.
        report: examples of the report split.
        clusters: of the calibration pool.
        pool: examples that are clustered.
    """

    n_eval: int
    samples: int
    validation: int
    report: int
    clusters: int
    pool: int


def chunk_tokens(lengths: Sequence[int], most: int | None) -> int:
    """Returns how long examples are: as documents are, and no longer than the model looks.

    Args:
        lengths: tokens of some documents.
        most: tokens that the model takes at most, where that is known.
    """
    typical = sorted(lengths)[len(lengths) // 2]
    size = CHUNK
    while size > SHORTEST_CHUNK and size > typical:
        size //= 2
    return max(8, min(size, most or size))


def usual(held: Mapping[str, int], whole: bool) -> Sizes:
    """Returns the sizes of a search that is tried and timed."""
    samples = held["search"] if whole else max(n for n in _possible(held) if n <= USUAL)
    return _sizes(ENOUGH, samples, held, whole)


def fitting(
    minutes: float, took: Duration, held: Mapping[str, int], candidates: int, whole: bool
) -> Sizes:
    """Returns the largest search that ends in about so many minutes.

    Args:
        minutes: for all of it.
        took: the seconds of a run.
        held: examples of each split.
        candidates: of the whole space.
        whole: whether all examples are read, whatever it takes.
    """
    seconds = minutes * 60 * RESERVE
    samples = held["search"] if whole else _samples(seconds, took, _possible(held))
    # As many as there is time for; the time grows with them.
    low, high = LEAST, 2 * PLENTY
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if took(samples, middle) <= seconds else (low, middle - 1)
    return _sizes(min(_rounded(low), candidates), samples, held, whole)


def _possible(held: Mapping[str, int]) -> list[int]:
    return [n for n in SAMPLES if n <= held["search"]]


def _samples(seconds: float, took: Duration, possible: Sequence[int]) -> int:
    """Returns how many examples to calibrate on: the usual, fewer in a hurry, more at leisure."""
    for samples in reversed(possible):
        if took(samples, PLENTY if samples > USUAL else ENOUGH) <= seconds:
            return samples
    return possible[0]


def _sizes(n_eval: int, samples: int, held: Mapping[str, int], whole: bool) -> Sizes:
    if whole:
        clusters = min(4, samples)
        return Sizes(n_eval, samples, held["validation"], held["report"], clusters, samples)
    return Sizes(
        n_eval=n_eval,
        samples=samples,
        validation=min(scored(samples, VALIDATION), held["validation"]),
        report=min(scored(samples, REPORT), held["report"]),
        clusters=max(2, min(8, samples // 4)),
        pool=min(held["search"], max(POOL, samples)),
    )


def scored(samples: int, ratio: tuple[float, int]) -> int:
    """Returns how many examples a split scores, given its share of the samples and the least."""
    return max(math.ceil(samples * ratio[0]), ratio[1])


def _rounded(number: float) -> int:
    """Returns a number with two digits, rounded down."""
    if number < 10:
        return int(number)
    step = 10 ** (math.floor(math.log10(number)) - 1)
    return int(number // step * step)
