"""Where the course of a search is written besides the console: CSV, TensorBoard, or your own.

A logger is opened with the run folder and is then told of every generation. A resumed search is
replayed from its start, so it tells a logger everything again: files are written anew, and a
tracking server is only told what it does not know yet.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from evoprune.core.errors import ConfigError
from evoprune.folder.layout import RunFolder, plain_name


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


@contextmanager
def _needs(package: str) -> Iterator[None]:
    """Says what to install where an import within fails.

    Raises:
        ConfigError: it does.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"The logger '{package}' needs a package that is missing: {error}.",
            f"Install it: pip install {package}.",
        ) from error


@contextmanager
def _reaches(logger: str, remedy: str) -> Iterator[None]:
    """Says what to look at where a tracking server cannot be had.

    Raises:
        ConfigError: it cannot.
    """
    try:
        yield
    except Exception as error:  # whatever a client, a network or a server may raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"The logger '{logger}' cannot be opened: {reason}.", remedy) from error


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
        with _needs("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
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


def _known(file: Path) -> str | None:
    """Returns the tracking server's name of this run, None before it has one."""
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


@dataclass(frozen=True)
class MLflow:
    """``mlflow``: metrics of a run of MLflow's; needs the package mlflow or mlflow-skinny.

    Attributes:
        tracking_uri: of the server; None for what MLflow itself is set to.
        experiment: its name there; made if there is none.
        prefix: of the metrics' names.
        file: its name in the run folder, which keeps the run's id for a search that is resumed.
    """

    tracking_uri: str | None = None
    experiment: str = "evoprune"
    prefix: str = "search"
    file: str = "mlflow.txt"

    def __post_init__(self) -> None:
        _checked(self.file)

    def open(self, folder: Path) -> "MLflowLog":
        """Returns the log.

        Raises:
            ConfigError: MLflow is not installed, or its server cannot be had.
        """
        with _needs("mlflow"):
            import mlflow
        file = folder / self.file
        with _reaches("mlflow", "Check its tracking_uri and that the server runs."):
            client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
            run = _known(file)
            if run is None:
                found = client.get_experiment_by_name(self.experiment)
                place = found.experiment_id if found else client.create_experiment(self.experiment)
                run = client.create_run(place, run_name=folder.name).info.run_id
                file.write_text(f"{run}\n", encoding="utf-8")
            else:
                client.update_run(run, status="RUNNING")
        return MLflowLog(client, run, self.prefix, mlflow.entities.Metric)


class MLflowLog:
    """An open run of MLflow's."""

    def __init__(self, client: Any, run: str, prefix: str, metric: Any) -> None:
        self._client, self._run, self._prefix, self._metric = client, run, prefix, metric
        self._told: int | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the numbers, if the server does not have them from before."""
        names = [f"{self._prefix}/{name}" for name in values]
        if self._told is None:
            before = self._client.get_metric_history(self._run, names[0])
            self._told = max((one.step for one in before), default=-1)
        if step <= self._told:
            return
        now = int(time.time() * 1000)
        metrics = [
            self._metric(name, float(value), now, step)
            for name, value in zip(names, values.values(), strict=True)
        ]
        self._client.log_batch(self._run, metrics=metrics)
        self._told = step

    def close(self) -> None:
        """Says that the run has ended."""
        self._client.set_terminated(self._run)


@dataclass(frozen=True)
class WandB:
    """``wandb``: metrics of a run of Weights & Biases; needs the package wandb.

    Attributes:
        project: its name there.
        entity: whose it is; None for the default of the account.
        mode: ``offline`` writes into the run folder only; None for what W&B itself is set to.
        prefix: of the metrics' names.
        file: its name in the run folder, which keeps the run's id for a search that is resumed.
    """

    project: str = "evoprune"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    prefix: str = "search"
    file: str = "wandb.txt"

    def __post_init__(self) -> None:
        _checked(self.file)

    def open(self, folder: Path) -> "WandBLog":
        """Returns the log.

        Raises:
            ConfigError: W&B is not installed, or cannot be had.
        """
        with _needs("wandb"):
            import wandb
        file = folder / self.file
        with _reaches("wandb", "Log in with `wandb login`, or set its mode to offline."):
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                name=folder.name,
                dir=str(folder),
                id=_known(file),
                resume="allow",
                mode=self.mode,
                settings=wandb.Settings(silent=True, console="off"),
            )
            file.write_text(f"{run.id}\n", encoding="utf-8")
        return WandBLog(run, self.prefix)


class WandBLog:
    """An open run of Weights & Biases."""

    def __init__(self, run: Any, prefix: str) -> None:
        # A resumed run begins at the step after its last; a new one at 0.
        self._run, self._prefix, self._from = run, prefix, run.step

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the numbers, if the server does not have them from before."""
        if step >= self._from:
            numbers = {f"{self._prefix}/{name}": value for name, value in values.items()}
            self._run.log(numbers, step=step)

    def close(self) -> None:
        """Sends what is left, and ends."""
        self._run.finish()
