"""Looks at a model and data, times them, and writes a configuration with its reasons."""

import os.path
import re
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evoprune.config import load_config
from evoprune.errors import ConfigError
from evoprune.starting.opening import Opened, context_of, opened
from evoprune.starting.page import configuration
from evoprune.starting.sizes import ENOUGH, UNTIMED, Sizes, Timing, evaluations, fitting

# The middle of so many timed passes counts: other work on a machine disturbs one.
REPEATS = 3
Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes:
        model: a folder, hub id, shipped backbone or ``package.module:function``.
        data: a file, a folder or a type of data; None for what ships.
        minutes: for the whole search.
        task: what the model is for; that of its family by default.
        output: the file to write; named after the model by default.
    """

    model: str
    data: str | None = None
    minutes: float = 20.0
    task: str | None = None
    output: str | None = None

    @property
    def file(self) -> Path:
        """The file that is written."""
        if self.output is not None:
            return Path(self.output).expanduser()
        last = re.split(r"[/:]", os.path.abspath(self.model) if self.model == "." else self.model)
        name = re.sub(r"[^\w.-]+", "-", [part for part in last if part][-1])
        return Path(f"{name}.yaml")

    @property
    def title(self) -> str:
        """What stands at the top of the file."""
        words = [self.model, *([self.data] if self.data else [])]
        return (
            f"# Made by: evoprune init {shlex.join(words)} --minutes {self.minutes:g}\n"
            f"#   evoprune plan {self.file}      what a search takes\n"
            f"#   evoprune search {self.file}    searches; the same command goes on\n"
            "# Any line may be changed; all keys and what they mean: evoprune ls keys"
        )


def init(request: Request, say: Say = print) -> Path:
    """Returns the configuration that was written, which a search certainly takes.

    Args:
        request: what is asked for.
        say: told what was seen.

    Raises:
        EvopruneError: a search would refuse the model or the data, with its words; or the file is
            there already.
    """
    _check(request)
    seen = opened(request.model, request.data, request.task)
    for line in _seen(seen):
        say(line)
    held = {split: len(pool) for split, pool in seen.pools.items()}
    whole = seen.task == "classification"  # heads are fitted so fast that all is scored
    # Sizes as usual are checked and timed; those that the time allows follow by arithmetic.
    first = configuration(request.title, seen, fitting(20, UNTIMED, held, whole))
    timing = _timed(first)
    sizes = fitting(request.minutes, timing, held, whole)
    text = configuration(request.title, seen, sizes)
    load_config(yaml.safe_load(text))
    _write(request.file, text)
    for line in _time(request.minutes, timing, sizes):
        say(line)
    say(f"wrote     {request.file}")
    say(f"next      evoprune plan {request.file}\n          evoprune search {request.file}")
    return request.file


def _check(request: Request) -> None:
    if not 0 < request.minutes < float("inf"):
        raise ConfigError(f"The minutes are {request.minutes:g}.", "Give a positive number.")
    if os.path.exists(request.file):
        raise ConfigError(
            f"There already is a file '{request.file}'.", "Name another by -o, or remove it."
        )
    if not os.path.isdir(request.file.parent):
        raise ConfigError(
            f"There is no folder '{request.file.parent}' to write into.", "Make it first."
        )


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"'{path}' cannot be written: {error.strerror or error}.", "Name another by -o."
        ) from error


def _time(minutes: float, timing: Timing, sizes: Sizes) -> list[str]:
    """Returns what the time allows, and how much more would be needed for a good front."""
    each, several = timing.example_s * sizes.samples, "s" if timing.workers > 1 else ""
    lines = [
        f"time      {each:.2g} s for a candidate of mean size on {sizes.samples} examples, "
        f"{timing.workers} worker{several}: {sizes.n_eval:,} evaluations in about {minutes:g} "
        "minutes"
    ]
    enough = min(ENOUGH, timing.candidates)
    if sizes.n_eval < enough:
        more = 1
        while evaluations(more, timing, sizes.samples) < enough:
            more += 1
        lines.append(f"warning   that is few: --minutes {more} would allow {enough:,}")
    return lines


def _timed(text: str) -> Timing:
    """Returns how long candidates take, measured on a search that is prepared and thrown away.

    Whatever a search would refuse is refused here.
    """
    from evoprune.console import Console
    from evoprune.evaluation.worker import Worker
    from evoprune.search.starts import stratified
    from evoprune.session import open_session
    from evoprune.workers import worker_count

    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="evoprune-init-") as scratch:
        config = load_config(yaml.safe_load(text), {"output": str(Path(scratch) / "run")})
        session = open_session(config, Console(stream=None))
        try:
            start = time.perf_counter() - began
            problem, spec = session.problem, replace(session.spec, boundary_mb=0)
            worker = Worker(spec)
            worker.evaluate(problem.space.dense)  # maps the weights
            took = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                worker.evaluate(problem.space.dense)
                took.append(time.perf_counter() - began)
            dense = sorted(took)[len(took) // 2]
            space, rng = problem.space, np.random.default_rng(0)
            share = float(problem.share(space.canonical(stratified(space, 64, rng))).mean())
            each = dense * share / config.calibration.samples
            candidates = min(space.size, UNTIMED.candidates)
        finally:
            session.close()
    return Timing(each, start, worker_count(config), candidates)


def _seen(seen: Opened) -> list[str]:
    """Returns what was found, a line each."""
    network, family = seen.network, seen.family
    sizes = family.table(network, 1).tensors()
    params = sum(_count(row) for row in sizes)
    parts = [f"{params:,.0f} parameters"]
    if hasattr(family, "blocks"):
        parts.insert(0, f"{len(family.blocks(network))} blocks")
    if context := context_of(network):
        parts.append(f"context {context:,}")
    shape = type(network).__name__
    lines = [f"model     {shape} (family {family.name}): {', '.join(parts)}"]
    if seen.note:
        lines.append(f"data      {seen.note}")
    settings, splits = seen.data.settings, ("search", "validation", "report")
    if "text_field" in settings:
        kinds = f", kinds in '{settings['kind_field']}'" if "kind_field" in settings else ""
        lines.append(f"data      the text is in '{settings['text_field']}'{kinds}")
    counts = ", ".join(f"{split} {len(seen.pools[split]):,}" for split in splits)
    if seen.documents is not None:
        tokens = sum(int(seen.pools[split].lengths.sum()) for split in splits)
        lines.append(f"data      {seen.documents:,} documents, {tokens:,} tokens in examples")
    return [*lines, f"splits    {counts} examples"]


def _count(row: Any) -> float:
    size = 1.0
    for dim in row.dims:
        size *= sum(part.size for part in dim)
    return size
