"""How large a search may be in the time that a person has: arithmetic, nothing else."""

import math
from collections.abc import Mapping, Sequence
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
# Examples that are clustered at most: each is embedded by a dense pass.
POOL = 400
# No split may hold fewer examples than this.
FEWEST = {"search": 16, "validation": 8, "report": 8}
# Seconds for a search on hand, its controls together at most as long, and half of it in reserve.
PARTS_OF_SEARCH = 2.5
# Points of all fronts together that are scored, as a share of the evaluations.
SCORED = 0.4
# What is left of each worker's speed where several share a machine.
TOGETHER = 0.7
# Seconds of whatever does not depend on the model: workers that start, a fresh process, a report.
FIXED_S = 20.0


@dataclass(frozen=True)
class Timing:
    """What was measured.

    Attributes:
        example_s: seconds of one worker for one example of a candidate of mean size.
        start_s: seconds until a search can begin.
        workers: how many there will be.
        candidates: of the whole space.
    """

    example_s: float
    start_s: float
    workers: int
    candidates: int


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


# Stands in before anything is timed.
UNTIMED = Timing(example_s=0.01, start_s=0.0, workers=1, candidates=10**9)


def fitting(minutes: float, timing: Timing, held: Mapping[str, int], whole: bool) -> Sizes:
    """Returns the largest search that ends in about so many minutes.

    Args:
        minutes: for all of it, from the first line to the report.
        timing: of the machine.
        held: examples of each split.
        whole: whether all examples are read, whatever it takes.
    """
    samples = held["search"] if whole else _samples(minutes, timing, held["search"])
    n_eval = _rounded(evaluations(minutes, timing, samples))
    n_eval = max(1, min(n_eval, 2 * PLENTY, timing.candidates))
    if whole:
        clusters = min(4, samples)
        return Sizes(n_eval, samples, held["validation"], held["report"], clusters, samples)
    return Sizes(
        n_eval=n_eval,
        samples=samples,
        validation=min(_share(samples, VALIDATION), held["validation"]),
        report=min(_share(samples, REPORT), held["report"]),
        clusters=max(2, min(8, samples // 4)),
        pool=min(held["search"], max(POOL, samples)),
    )


def _samples(minutes: float, timing: Timing, held: int) -> int:
    """Returns how many examples to calibrate on: the usual, fewer in a hurry, more at leisure."""
    possible = [n for n in SAMPLES if n <= held]
    usual = max(n for n in possible if n <= USUAL)
    for samples in reversed(possible):
        needed = PLENTY if samples > usual else ENOUGH
        if evaluations(minutes, timing, samples) >= needed:
            return samples
    return possible[0]


def evaluations(minutes: float, timing: Timing, samples: int) -> float:
    """Returns how many evaluations there is time for, with so many examples each."""
    speed = timing.workers * (TOGETHER if timing.workers > 1 else 1.0)
    left = minutes * 60 - FIXED_S - 2 * timing.start_s  # at the start, and for the export
    scored = _share(samples, VALIDATION) + _share(samples, REPORT)
    examples = PARTS_OF_SEARCH * samples + SCORED * scored  # of each evaluation, with what follows
    return max(0.0, left) / (timing.example_s * examples / speed)


def _share(samples: int, share: tuple[float, int]) -> int:
    """Returns how many examples a split scores, given its share and least number."""
    return max(math.ceil(samples * share[0]), share[1])


def _rounded(number: float) -> int:
    """Returns a number with two digits, rounded down."""
    if number < 10:
        return int(number)
    step = 10 ** (math.floor(math.log10(number)) - 1)
    return int(number // step * step)
