"""Where the course of a search is written besides the console: CSV, TensorBoard, or your own.

A logger is opened with the run folder and is then told of every generation. A resumed search is
replayed from its start, so it tells a logger everything again, and what it wrote before is
replaced.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evoprune.errors import ConfigError
from evoprune.folder import RunFolder, plain_name


class Log(Protocol):
    """An open logger."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named numbers.

        Args:
            step: how many evaluations the algorithm was told by then.
            values: the same names at every step.
        """
        ...

    def close(self) -> None:
        """Writes what is still held back, and ends."""
        ...


class Logger(Protocol):
    """What a configuration names: a frozen dataclass whose fields are its options."""

    def open(self, folder: Path) -> Log:
        """Returns the log of a run.

        Args:
            folder: the run folder.

        Raises:
            EvopruneError: it needs what is not there.
        """
        ...


def _checked(name: str) -> None:
    """Checks the name of something that a logger writes in the run folder.

    Raises:
        ConfigError: it leads out of it, or is taken.
    """
    ours = {path.name for path in vars(RunFolder(".")).values()} | {"report.html", "ensembles"}
    if plain_name(name) in ours or name.startswith("journal."):
        raise ConfigError(
            f"'{name}' is written by the search itself.", "Give the logger another name for it."
        )


@dataclass(frozen=True)
class Csv:
    """``csv``: a row a generation.

    Attributes:
        file: its name in the run folder.
    """

    file: str = "progress.csv"

    def __post_init__(self) -> None:
        _checked(self.file)

    def open(self, folder: Path) -> "CsvLog":
        """Returns the log, with an empty file."""
        return CsvLog(folder / self.file)


class CsvLog:
    """An open CSV file; its header comes with the first row."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a row, which is on its way to the disk when this returns."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._stream, ["step", *values], lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerow({"step": step, **values})
        self._stream.flush()

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


@dataclass(frozen=True)
class TensorBoard:
    """``tensorboard``: scalars for ``tensorboard --logdir``; needs the package tensorboard.

    Attributes:
        directory: its name in the run folder.
        prefix: of the scalars' names.
    """

    directory: str = "tensorboard"
    prefix: str = "search"

    def __post_init__(self) -> None:
        _checked(self.directory)

    def open(self, folder: Path) -> "TensorBoardLog":
        """Returns the log.

        Raises:
            ConfigError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"The logger 'tensorboard' needs a package that is missing: {error}.",
                "Install it: pip install tensorboard.",
            ) from error
        for old in (folder / self.directory).glob("events.out.tfevents.*"):
            old.unlink()
        return TensorBoardLog(SummaryWriter(str(folder / self.directory)), self.prefix)


class TensorBoardLog:
    """An open event file."""

    def __init__(self, writer: Any, prefix: str) -> None:
        self._writer, self._prefix = writer, prefix

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(f"{self._prefix}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
