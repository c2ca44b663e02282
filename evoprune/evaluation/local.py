"""Evaluates in this process."""

from collections.abc import Iterator

from evoprune.evaluation.worker import Worker, WorkerSpec
from evoprune.protocols import Evaluation, Request


class LocalEvaluator:
    """One worker, here."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.worker = Worker(spec)
        self.count = 1

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields the evaluations in the order of the patterns."""
        size = self.worker.runner.batch
        for start in range(0, len(request.patterns), size):
            if request.stopping():
                return
            yield from self.worker.evaluate_batch(
                request.patterns[start : start + size], request.split, request.rung, request.tables
            )

    def close(self) -> None:
        """Frees the model."""
        del self.worker
