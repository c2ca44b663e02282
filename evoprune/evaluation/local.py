"""Evaluates in this process."""

import os
import time
from collections.abc import Callable, Iterator

from evoprune.errors import EvopruneError
from evoprune.evaluation.tally import Tally, Work, peak_memory
from evoprune.evaluation.worker import DeviceLost, Worker, WorkerSpec
from evoprune.protocols import Evaluation, Request


class LocalEvaluator:
    """One worker, here.

    Args:
        spec: what it needs.
        say: told at the end what it has done.
    """

    def __init__(self, spec: WorkerSpec, say: Callable[[str], None] = lambda line: None) -> None:
        self.worker = Worker(spec)
        self.count = 1
        self._tally = Tally(say)
        self._work = Work(1, f"this process, {os.getpid()}")

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields the evaluations in the order of the patterns.

        Raises:
            EvopruneError: the accelerator is lost to this process.
        """
        size = self.worker.runner.batch
        for start in range(0, len(request.patterns), size):
            if request.stopping():
                return
            patterns = request.patterns[start : start + size]
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
            self._tally.add(found)
            self._work.candidates += len(found)
            self._work.seconds += time.perf_counter() - began
            yield from found

    def close(self) -> None:
        """Frees the model, and says what it was used for."""
        if hasattr(self, "worker"):
            self._work.available, self._work.memory = self._work.seconds, peak_memory()
            self._tally.close([self._work])
            del self.worker
