"""Evaluates in this process."""

import os
import time
from collections.abc import Callable, Iterator, Sequence

from evoprune.core.errors import EvopruneError
from evoprune.core.protocols import Evaluation, Request
from evoprune.evaluation.prefix import together
from evoprune.evaluation.tally import Tally, Work, peak_memory
from evoprune.evaluation.worker import DeviceLost, Worker, WorkerSpec

# How long a batch may take: its evaluations are journalled, and a search that shall stop stops,
# when all of it is done.
SECONDS_AT_ONCE = 2.0


class LocalEvaluator:
    """One worker, here.

    Args:
        spec: what it needs.
        say: told at the end what it has done.
        show: shown that meanwhile.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        say: Callable[[str], None] = lambda line: None,
        show: Callable[[Sequence[Work]], None] = lambda workers: None,
    ) -> None:
        self.worker = Worker(spec)
        self.count = 1
        self._size = self.worker.runner.batch if self.worker.whole else 1
        self._tally, self._show = Tally(say), show
        self._work = Work(1, f"this process, {os.getpid()}")

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields the evaluations, those that begin alike one after another.

        Raises:
            EvopruneError: the accelerator is lost to this process.
        """
        order = together(self.worker.space, request.patterns)
        start = 0
        while start < len(order) and not request.stopping():
            patterns = [request.patterns[i] for i in order[start : start + self._size]]
            began = time.perf_counter()
            try:
                found = self.worker.evaluate_batch(
                    patterns,
                    request.split,
                    request.rung,
                    request.tables,
                    request.begun_of(patterns),
                )
            except DeviceLost as error:
                raise EvopruneError(
                    f"The accelerator failed and this process cannot use it any more: {error}.",
                    "Give the same command again to go on; with workers.backend=ray a worker that "
                    "this happens to is replaced.",
                ) from error
            start, seconds = start + len(patterns), time.perf_counter() - began
            if not self.worker.whole:
                fitting = int(SECONDS_AT_ONCE * len(patterns) / seconds)
                self._size = max(1, min(fitting, self.worker.runner.batch))
            self._tally.add(found)
            self._work.candidates += len(found)
            self._work.seconds += seconds
            self._counted()
            yield from found

    def _counted(self) -> None:
        self._work.available, self._work.memory = self._work.seconds, peak_memory()
        self._show([self._work])

    def close(self) -> None:
        """Frees the model, and says what it was used for."""
        if hasattr(self, "worker"):
            self._tally.close([self._work])
            del self.worker
