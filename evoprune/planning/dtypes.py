"""Whether a search may run in another number format: alike ranks, less time?"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoprune.config.schema import Config, load_config
from evoprune.core.errors import ConfigError
from evoprune.core.metrics import spearman
from evoprune.progress.console import Console


@dataclass(frozen=True)
class Comparison:
    """Two formats on the same candidates.

    Attributes:
        dtypes: the configuration's, and the other.
        ranks: by measured objective the rank correlation of their values.
        farthest: by measured objective the largest difference.
        speed: how many times as fast the other is, timed in turn.
        candidates: how many there were.
    """

    dtypes: tuple[str, str]
    ranks: Mapping[str, float]
    farthest: Mapping[str, float]
    speed: float
    candidates: int


def compare(config: Config, dtype: str, count: int = 24, seed: int = 0) -> Comparison:
    """Returns how a format does beside the configuration's own.

    A stratified sample of candidates is measured on the calibration set with the network in one
    format and in the other, a candidate in each by turns. Nothing is left on disk.

    Args:
        config: the experiment.
        dtype: another format than the configuration's.
        count: how many candidates; those of a small space may be fewer.
        seed: of their choice.

    Raises:
        EvopruneError: the network or the data cannot be used, or not in this format.
    """
    from evoprune.evaluation.worker import Worker
    from evoprune.searching.starts import stratified
    from evoprune.session import open_session

    own = config.model.dtype
    with tempfile.TemporaryDirectory(prefix="evoprune-dtype-") as scratch:
        workers: dict[str, Worker] = {}
        measured: tuple[str, ...] = ()
        for name in (own, dtype):
            model = config.model.model_copy(update={"dtype": name})
            output = str(Path(scratch) / name)
            inner = config.model_copy(update={"model": model, "output": output})
            session = open_session(inner, Console(stream=None))
            session.close()
            workers[name], measured = Worker(session.spec), session.problem.measured
            space = session.problem.space
        X = stratified(space, count, np.random.default_rng(seed))
        patterns = list({p.key: p for p in space.patterns(space.canonical(X))}.values())
        values: dict[str, list[Mapping[str, float]]] = {own: [], dtype: []}
        seconds = dict.fromkeys(values, 0.0)
        for pattern in (space.dense, *patterns):  # the dense model only warms up
            for name, worker in workers.items():
                began = time.perf_counter()
                found = worker.evaluate(pattern)
                if pattern is not space.dense:
                    seconds[name] += time.perf_counter() - began
                    values[name].append(found.values)
    pairs = {
        name: np.array([[one.get(name, np.nan) for one in values[d]] for d in (own, dtype)])
        for name in measured
    }
    return Comparison(
        (own, dtype),
        {name: spearman(*pair) for name, pair in pairs.items()},
        {name: float(np.abs(pair[0] - pair[1]).max()) for name, pair in pairs.items()},
        seconds[own] / seconds[dtype],
        len(patterns),
    )


def rows(config: str | Path, overrides: Sequence[str], dtype: str) -> list[list[str]]:
    """Returns what ``plan`` says of another format, a row for each measured objective.

    Raises:
        EvopruneError: the configuration or the format cannot be used.
    """
    checked = load_config(config, overrides)
    # The format is checked as any other value of that setting is.
    other = load_config(config, [*overrides, f"model.dtype={dtype}"]).model.dtype
    if other == checked.model.dtype:
        raise ConfigError(f"The model runs in {other} anyway.", "Name another number format.")
    found = compare(checked, other)
    return [
        [f"{other} beside {found.dtypes[0]}", f"{found.speed:.2f} times as fast"],
        *(
            [
                f"  {name}",
                f"rank correlation {rank:.3f} over {found.candidates} candidates, "
                f"differs by {found.farthest[name]:.2g} at most",
            ]
            for name, rank in found.ranks.items()
        ),
    ]
