"""What workers have done, as a person reads it at the end of a search."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evoprune.core.protocols import Evaluation


@dataclass
class Work:
    """What one worker has done, and those that took its place when it died.

    Attributes:
        number: of the place, from 1.
        place: where it runs.
        candidates: evaluated.
        seconds: spent on them.
        available: seconds in which there was something to evaluate and it held the model.
        memory: bytes that it held at most, what is mapped and shared included.
        restarts: how often it was replaced.
    """

    number: int
    place: str = "not started"
    candidates: int = 0
    seconds: float = 0.0
    available: float = 0.0
    memory: int = 0
    restarts: int = 0

    def cells(self) -> list[str]:
        """Returns its row of the table."""
        rate = self.candidates / self.seconds if self.seconds else 0.0
        busy = min(1.0, self.seconds / self.available) if self.available else 0.0
        return [
            str(self.number),
            str(self.candidates),
            f"{rate:.3g}",
            f"{busy:.0%}",
            f"{self.memory / 1e6:,.0f} MB",
            str(self.restarts),
            self.place,
        ]


HEADER = ["worker", "candidates", "per s", "busy", "memory", "restarts", "where"]


class Tally:
    """Adds up evaluations and says what they came to.

    Args:
        say: told each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seconds = self._model = self._metrics = 0.0

    def add(self, evaluations: Iterable[Evaluation]) -> None:
        """Counts what workers returned."""
        for one in evaluations:
            self._seconds += one.seconds
            self._model += one.model_seconds
            self._metrics += one.metric_seconds

    def close(self, workers: Sequence[Work]) -> None:
        """Says the table of workers, and where their seconds went."""
        if not any(work.candidates or work.restarts for work in workers):
            return
        table = [HEADER, *(work.cells() for work in workers)]
        widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
        for row in table:
            cells = [cell.rjust(w) for cell, w in zip(row[:-1], widths[:-1], strict=True)]
            self._say("workers   " + "  ".join([*cells, row[-1]]))
        if self._seconds:
            model, metrics = self._model / self._seconds, self._metrics / self._seconds
            self._say(
                f"seconds   {self._seconds:.1f} of workers: model {model:.0%}, metrics "
                f"{metrics:.0%}, overhead {max(0.0, 1 - model - metrics):.0%}"
            )


def peak_memory() -> int:
    """Returns the bytes that this process held at most, 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
