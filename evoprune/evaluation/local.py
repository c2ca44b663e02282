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
        for pattern in request.patterns:
            if request.stopping():
                return
            yield self.worker.evaluate(pattern, request.split, request.rung, request.tables)

    def close(self) -> None:
        """Frees the model."""
        del self.worker
