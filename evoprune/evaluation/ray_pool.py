"""Evaluates in Ray actors: each holds the model on the mapped base; only patterns travel."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from evoprune.errors import EvopruneError
from evoprune.evaluation.worker import Worker, WorkerSpec
from evoprune.pattern import Pattern
from evoprune.protocols import Evaluation, Request

# Two candidates an actor: one is evaluated while the next already waits at it.
IN_FLIGHT = 2


class RayEvaluator:
    """A pool of actors.

    Args:
        spec: what the workers need; the run folder must be readable on every node.
        count: how many actors.
        num_gpus: GPUs of each actor, may be a fraction.
        address: of a running cluster; None starts Ray on this machine, or uses the Ray that this
            process has already started.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        count: int,
        num_gpus: float = 0,
        address: str | None = None,
    ) -> None:
        ray, self._own = _start(address, count * spec.threads)
        self.count = count
        # An actor that dies is started again, and what it was at is tried once more.
        settings = {"max_restarts": -1, "max_task_retries": 1}
        actor = ray.remote(num_cpus=spec.threads, num_gpus=num_gpus, **settings)(_Resident)
        self._ray = ray
        self._actors = [actor.remote(spec) for _ in range(count)]
        try:
            ready = ray.get([a.ready.remote() for a in self._actors])
            self.pids, self._batch = [pid for pid, _ in ready], ready[0][1]
        except ray.exceptions.RayError as error:
            self.close()
            cause = getattr(error, "cause", None)
            if isinstance(cause, EvopruneError):
                raise cause from error
            raise EvopruneError(
                f"The Ray workers could not start: {' '.join(str(error).split())[-300:]}.",
                "Try workers.backend=local to see the failure in this process.",
            ) from error

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields evaluations as they finish, the costliest patterns started first."""
        # What is removed, in levels and bits, stands in for cost: what removes less runs longer.
        removed = [
            sum(c if isinstance(c, int) else int.from_bytes(c).bit_count() for c in pattern.choices)
            for pattern in request.patterns
        ]
        order = [request.patterns[i] for i in np.argsort(removed, kind="stable")]
        # A batch no larger than keeps every worker busy twice over.
        size = max(1, min(self._batch, -(-len(order) // (IN_FLIGHT * self.count))))
        waiting = [order[i : i + size] for i in range(0, len(order), size)][::-1]
        running: dict[Any, tuple[Any, list[Pattern]]] = {}
        for _ in range(IN_FLIGHT):
            for actor in self._actors:
                self._send(actor, waiting, running, request)
        while running:
            done, _ = self._ray.wait(list(running), num_returns=1)
            actor, patterns = running.pop(done[0])
            self._send(actor, waiting, running, request)
            yield from self._results(done[0], patterns, request)

    def _send(
        self,
        actor: Any,
        waiting: list[list[Pattern]],
        running: dict[Any, tuple[Any, list[Pattern]]],
        request: Request,
    ) -> None:
        if waiting and not request.stopping():
            patterns = waiting.pop()
            task = actor.evaluate.remote(patterns, request.split, request.rung, request.tables)
            running[task] = actor, patterns

    def _results(self, task: Any, patterns: list[Pattern], request: Request) -> list[Evaluation]:
        """Returns evaluations; a worker that died twice over patterns gives failed ones."""
        try:
            found: list[Evaluation] = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return [
                Evaluation(pattern, request.split, request.rung, error=why, failure="transient")
                for pattern in patterns
            ]
        return found

    def close(self) -> None:
        """Ends the actors, and Ray if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()


class _Resident:
    """What an actor runs."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker = Worker(spec)

    def ready(self) -> tuple[int, int]:
        return os.getpid(), self._worker.runner.batch

    def evaluate(self, *args: Any) -> list[Evaluation]:
        return self._worker.evaluate_batch(*args)


def _start(address: str | None, cpus: int) -> tuple[Any, bool]:
    """Returns ray, connected, and whether this call did it.

    It is quiet, and has no dashboard when it is started here.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        settings |= {"include_dashboard": False, "num_cpus": cpus}
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        ray.init(address=address, **settings)
    return ray, True
