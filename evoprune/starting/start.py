"""Looks at a model and data, times them, and writes a configuration with its reasons."""

import math
import os.path
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from evoprune.config.schema import load_config
from evoprune.core.amounts import duration
from evoprune.core.errors import ConfigError
from evoprune.core.splits import SPLITS
from evoprune.planning.plan import Trial, tried
from evoprune.progress.forecast import Forecast, Splits
from evoprune.starting.opening import Opened, context_of, opened
from evoprune.starting.page import configuration
from evoprune.starting.sizes import (
    ENOUGH,
    REPORT,
    RESERVE,
    VALIDATION,
    Duration,
    Sizes,
    fitting,
    scored,
    usual,
)

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
    first = configuration(request.title, seen, usual(held, whole))
    trial = tried(load_config(yaml.safe_load(first)))
    seconds = partial(_seconds, trial)
    candidates = trial.session.problem.space.size
    sizes = fitting(request.minutes, seconds, held, candidates, whole)
    text = configuration(request.title, seen, sizes)
    load_config(yaml.safe_load(text))
    _write(request.file, text)
    for line in _time(request.minutes, seconds, sizes, candidates):
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


def _seconds(trial: Trial, samples: int, n_eval: int) -> float:
    """Returns what a run like a trial takes, with so many examples and evaluations."""
    own, splits = trial.session.config, trial.splits
    if samples != own.calibration.samples:
        example = splits.rungs[-1] / own.calibration.samples  # tokens of one
        others = (example * scored(samples, ratio) for ratio in (VALIDATION, REPORT))
        splits = Splits((example * samples,), *others)
    search = own.search.model_copy(update={"n_eval": n_eval})
    config, session = own.model_copy(update={"search": search}), trial.session
    forecast = Forecast(config, session.problem, session.algorithm, session.rungs, splits)
    return sum(phase.took(trial.measured.rate) for phase in trial.phases(forecast))


def _time(minutes: float, seconds: Duration, sizes: Sizes, candidates: int) -> list[str]:
    """Returns what the time allows, and how much more would be needed for a good front."""
    takes = seconds(sizes.samples, sizes.n_eval)
    lines = [
        f"time      {sizes.n_eval:,} evaluations on {sizes.samples} examples each: about "
        f"{duration(takes)} with controls, scores and export"
    ]
    enough = min(ENOUGH, candidates)
    if sizes.n_eval < enough:
        more = math.ceil(seconds(sizes.samples, enough) / 60 / RESERVE)
        lines.append(f"warning   that is few: --minutes {more} allows {enough:,}")
    elif takes > minutes * 60:
        lines.append(f"warning   {minutes:g} minutes are too few for any search here")
    return lines


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
    settings, splits = seen.data.settings, SPLITS
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
