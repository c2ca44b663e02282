"""What a person sees while a search runs: a live table at a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from evoprune.core.protocols import Evaluation
from evoprune.evaluation.tally import HEADER, Work
from evoprune.progress.course import Course
from evoprune.progress.loggers import Log, Logger
from evoprune.searching.agreement import in_words
from evoprune.searching.budget import Budget
from evoprune.searching.loop import Progress

# Without a terminal a line a generation is enough, and no more than one in this many seconds.
QUIET_SECONDS = 2.0
# At a terminal what is shown is drawn anew no more often than this.
DRAW_SECONDS = 0.1
# Lines of a terminal that the table of workers leaves to what was printed before.
LEFT_FREE = 6
_STDOUT: Any = object()
# The phase that has a line of its own (``Watch``).
SEARCH = "search"


class Console:
    """Prints, and keeps a log.

    Args:
        log: where every line is written as well; None for nowhere.
        stream: where to print; None keeps silent.
    """

    def __init__(self, log: Path | None = None, stream: TextIO | None = _STDOUT) -> None:
        # Not a default value: sys.stdout may be replaced after this module is imported.
        stream = sys.stdout if stream is _STDOUT else stream
        self._log, self._stream = log, stream
        self.live = bool(stream is not None and stream.isatty())
        self._drawn: Any = None
        self._line = ""
        self._workers: Sequence[Work] = ()
        self._printed = 0.0
        self._loggers: list[Log] = []
        self.course = Course()

    def log_to(self, path: Path) -> None:
        """Keeps a log from now on."""
        self._log = path

    def open_loggers(self, loggers: Sequence[Logger], folder: Path) -> None:
        """Tells loggers of every generation from now on.

        Raises:
            EvopruneError: one of them needs what is not there.
        """
        self.close_loggers()
        for logger in loggers:
            self._loggers.append(logger.open(folder))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Tells the loggers; one that fails is told nothing more."""
        for log in list(self._loggers):
            try:
                log.log(step, values)
            except Exception as error:  # whatever a logger may raise: no reason to end a search
                self._loggers.remove(log)
                self.say(f"note      a logger failed and is left out from now on: {error}")

    def close_loggers(self) -> None:
        """Closes the loggers, and leaves a terminal as it was."""
        self._clear()
        for log in self._loggers:
            with suppress(Exception):  # as above
                log.close()
        self._loggers = []

    def say(self, line: str) -> None:
        """Prints a line and logs it."""
        self._clear()
        if self._stream is not None:
            print(line, file=self._stream, flush=True)
        self._note(line)

    def _note(self, line: str) -> None:
        if self._log is not None and self._log.parent.is_dir():
            # A full disk stops a search where it matters: at its journal.
            with suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def _clear(self) -> None:
        """Takes the live table off the terminal; the next look draws it again."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Says at its end what a part of a run took, and how far the run is."""
        self._begin(name)
        yield
        self._end()

    def then(self, name: str) -> None:
        """The phase that runs ends here, and another goes on in its place."""
        self._end()
        self._begin(name)

    def _begin(self, name: str) -> None:
        self.course.begin(name)
        self._line = f"{name:<9} begins"

    def _end(self) -> None:
        name, seconds, words = self.course.name, self.course.end(), self.course.words()
        self.say(f"time      {name} {seconds:.1f} s{f'; {words}' if words else ''}")

    def heard(self, evaluation: Evaluation, new: bool) -> None:
        """Takes in an answer of the archive, and shows it at a terminal."""
        self.course.heard(evaluation, new)
        if new and self.live and self.course.name not in ("", SEARCH):
            self._line = self.course.line()
            self._draw()

    def watch(self, name: str, budget: Budget) -> "Watch":
        """Returns an observer of one search."""
        return Watch(self, name, budget)

    def progress(self, line: str, final: bool) -> None:
        """Shows how far a search is: drawn anew at a terminal, else printed now and then."""
        self._line = line
        if self._stream is None:
            return
        if self.live:
            self._draw(at_once=final)
        elif final and time.monotonic() - self._printed >= QUIET_SECONDS:
            self._printed = time.monotonic()
            print(line, file=self._stream, flush=True)

    def workers(self, workers: Sequence[Work]) -> None:
        """Shows at a terminal what workers have done so far."""
        self._workers = workers
        if self.live and self._line:
            self._draw()

    def _draw(self, at_once: bool = False) -> None:
        soon = self._drawn is not None and time.monotonic() - self._printed < DRAW_SECONDS
        if soon and not at_once:
            return
        self._printed = time.monotonic()
        if self._drawn is None:
            from rich.console import Console as Terminal
            from rich.live import Live

            terminal = Terminal(file=self._stream, force_terminal=True, highlight=False)
            self._drawn = Live(console=terminal, auto_refresh=False, transient=True)
            self._drawn.start()
        self._drawn.update(self._picture(self._drawn.console.height), refresh=True)

    def _picture(self, height: int) -> Any:
        """Returns the table of workers and the line below it, no higher than a terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        words = self.course.words()
        both = f"{self._line}\n{'run':<9} {words}" if words else self._line
        line = Text(both, no_wrap=True, overflow="ellipsis")
        if not self._workers:
            return line
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in HEADER:
            table.add_column(name, justify="left" if name == HEADER[-1] else "right", no_wrap=True)
        shown = self._workers[: max(1, height - LEFT_FREE - bool(words))]
        for work in shown:
            table.add_row(*map(Text, work.cells()))
        more = len(self._workers) - len(shown)
        return Group(table, *([Text(f"… and {more} more")] if more else []), line)


class Watch:
    """Counts what a search has done and estimates what is left."""

    def __init__(self, console: Console, name: str, budget: Budget) -> None:
        self._console, self._name, self._budget = console, name, budget
        self._began = time.monotonic()
        self._new = 0
        self._warned: set[str] = set()

    def __call__(self, progress: Progress, evaluation: Evaluation | None) -> None:
        """Takes in a new evaluation, or None at the end of a generation."""
        if evaluation is None:
            self._console.record(progress.n_eval, _values(progress))
            self._warn(progress)
        if evaluation is not None:
            # Every candidate is evaluated once at the lowest rung.
            lowest = 0 if len(progress.rungs) > 1 else -1
            self._new += evaluation.rung == lowest
            if not self._console.live:
                return
        self._console.progress(self._line(progress), final=evaluation is None)

    def _warn(self, progress: Progress) -> None:
        """Says of each rung once, while there is time to stop, that it misleads."""
        for line in in_words(progress.agreements):
            if line.startswith("warning") and line not in self._warned:
                self._warned.add(line)
                self._console.say(line)

    def _line(self, progress: Progress) -> str:
        done = progress.n_eval if self._new == 0 else max(progress.n_eval, self._new)
        total = self._budget.n_eval
        count = f"{done}/{total}" if total else f"{done}"
        line = (
            f"{self._name:<9} generation {progress.n_gen}, {count} evaluations, "
            f"front {len(progress.front)}, hypervolume {progress.hypervolume:.4f}"
        )
        if self._new:
            spent = max(time.monotonic() - self._began, 1e-9)
            line += f", {self._new / spent:.3g}/s"
            if total and done:
                line += f", {spent / done * (total - done):.0f} s left"
        return line


def _values(progress: Progress) -> dict[str, float]:
    """Returns what loggers are told: no seconds, so that a replay tells the same."""
    values: dict[str, float] = {
        "n_gen": progress.n_gen,
        "tokens": progress.tokens,
        "front": len(progress.front) if progress.rows else 0,
        "hypervolume": progress.hypervolume,
    }
    F, problem = progress.F, progress.problem
    for column, name in enumerate(problem.objectives):
        best = F[:, column].min() * problem.signs[column] if len(F) else math.nan
        values[f"best_{name}"] = float(best)
    return values
