"""Evaluates in Ray actors: each holds the model on the mapped base; only patterns travel."""

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from evoprune.core.errors import EvopruneError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Cause, Evaluation, Request
from evoprune.core.space import Space
from evoprune.evaluation.pool import Costs, Died, Done, Pool, Ready, Say, Show
from evoprune.evaluation.prefix import together
from evoprune.evaluation.tally import peak_memory
from evoprune.evaluation.worker import Worker, WorkerSpec

# Seconds between two looks at how large the cluster is.
LOOK = 5.0
# Seconds in which a cluster notices that a node is gone whose workers do not answer any more.
NODE_SILENCE = 30.0
# What Ray prints of deaths that the pool says in its own words.
SAID = ("A worker died or was killed", "has been marked dead", "Raylet is terminated")


@dataclass(frozen=True)
class Demand:
    """How many actors, and what each needs.

    Attributes:
        count: of actors; ``auto`` is as many as the cluster has room for, now and later.
        num_cpus: of each; None for its threads.
        num_gpus: of each; may be a fraction.
        resources: that the cluster's nodes name themselves.
        address: of a running cluster; None starts Ray on this machine, or uses the Ray that this
            process has already started.
        runtime_env: of the actors, in Ray's words.
    """

    count: int | Literal["auto"] = 1
    num_cpus: float | None = None
    num_gpus: float = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    def each(self, threads: int) -> dict[str, float]:
        """Returns what an actor of so many threads takes, by Ray's names."""
        cpus = threads if self.num_cpus is None else self.num_cpus
        needs = {"CPU": cpus, "GPU": self.num_gpus, **self.resources}
        return {name: amount for name, amount in needs.items() if amount}


class RayEvaluator(Pool):
    """A pool of actors.

    Args:
        spec: what the workers need; the run folder must be readable on every node.
        demand: how many actors, and what each needs; a number for so many on this machine.
        costs: returns what candidates cost; alike if it is not given.
        timeout_s: seconds that a candidate may take.
        say: told what a person should know.
        show: shown what the workers have done, whenever that changed.

    Raises:
        EvopruneError: Ray cannot be started or reached, or has nothing of what is needed.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        demand: Demand | int,
        costs: Costs = lambda patterns: np.ones(len(patterns)),
        timeout_s: float | None = None,
        say: Say = lambda line: None,
        show: Show = lambda workers: None,
    ) -> None:
        demand = Demand(demand) if isinstance(demand, int) else demand
        super().__init__(_Actors(spec, demand), costs, timeout_s, say, show=show)
        self._space = Space.from_json(spec.space)

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields evaluations as they finish; what begins alike is kept together.

        Raises:
            EvopruneError: no worker can be started, or they die one after the other.
        """
        order = together(self._space, request.patterns)
        yield from super().evaluate(replace(request, patterns=[request.patterns[i] for i in order]))

    @property
    def pids(self) -> list[int]:
        """The processes of the actors that hold the model."""
        return [slot.ready.pid for slot in self.slots if slot.ready]


class _Actors:
    """The crew of a ``RayEvaluator``."""

    def __init__(self, spec: WorkerSpec, demand: Demand) -> None:
        self._spec, self._demand = spec, demand
        self._each = demand.each(spec.threads)
        self._ray, self._own = _start(demand, self._each)
        self._calls: dict[Any, tuple[Any, bool]] = {}
        self._nodes: dict[Any, str] = {}
        self._looked, self._room = -math.inf, 0
        self._check_room()
        self._class = self._ray.remote(_Resident)

    def _check_room(self) -> None:
        """Refuses what no machine of an own Ray will ever have.

        Raises:
            EvopruneError: it has no GPU, or fewer cores than one worker needs.
        """
        has = self._ray.cluster_resources()
        for name, amount in self._each.items():
            if self._own and self._demand.address is None and has.get(name, 0.0) < amount:
                self.close()
                raise EvopruneError(
                    f"A worker needs {amount:g} {name}, and this machine has "
                    f"{has.get(name, 0.0):g}.",
                    "Lower it in `workers`, or give the address of a cluster that has it.",
                )

    def wanted(self) -> int:
        """Returns the configured number of actors, or how many the cluster has room for."""
        if self._demand.count != "auto":
            return self._demand.count
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            has = self._ray.cluster_resources()
            rooms = [int(has.get(name, 0) / amount) for name, amount in self._each.items()]
            self._room = max(1, min(rooms, default=1))
        return self._room

    def start(self) -> Any:
        """Returns a new actor; Ray places it where and when there is room."""
        own = {name: n for name, n in self._each.items() if name not in ("CPU", "GPU")}
        # What an actor is at when it dies is sent again by the pool, which knows what died of it.
        actor = self._class.options(
            num_cpus=self._each.get("CPU", 0),
            num_gpus=self._each.get("GPU", 0),
            resources=own or None,
            runtime_env=dict(self._demand.runtime_env) or None,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
        ).remote(self._spec)
        self._calls[actor.ready.remote()] = actor, True
        return actor

    def send(self, worker: Any, patterns: Sequence[Pattern], request: Request) -> None:
        """Gives an actor a batch."""
        begun = request.begun_of(patterns)
        call = worker.evaluate.remote(patterns, request.split, request.rung, request.tables, begun)
        self._calls[call] = worker, False

    def reports(self, seconds: float) -> list[tuple[Any, Ready | Done | Died]]:
        """Returns what happened, or nothing once so many seconds have passed."""
        if not self._calls:
            time.sleep(seconds)
            return []
        wait, calls = self._ray.wait, list(self._calls)
        if not wait(calls, num_returns=1, timeout=seconds)[0]:
            return []
        found = []
        # All that has come, in the order of sending: an actor's last results before its death.
        done = set(wait(calls, num_returns=len(calls), timeout=0)[0])
        for call in calls:
            if call in done and call in self._calls:
                worker, _ = self._calls[call]
                report = self._report(call)
                found.append((worker, report))
                if isinstance(report, Died):
                    self._forget(worker)
        return found

    def _report(self, call: Any) -> Ready | Done | Died:
        worker, first = self._calls.pop(call)
        try:
            value = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            return self._death(worker, error)
        if first:
            *said, node = value
            self._nodes[worker] = node
            return Ready(*said)
        return Done(*value)

    def _death(self, worker: Any, error: Any) -> Died:
        """Returns why a call came to nothing."""
        cause = getattr(error, "cause", None)
        inner = cause if isinstance(cause, Exception) else error
        text = " ".join(str(inner).split())[:300]
        why = f"{type(inner).__name__}: {text}"
        if isinstance(cause, EvopruneError):
            return Died(why, error=cause)
        if self._lost_its_node(worker, error):
            return Died("its node was lost", None)
        known = type(error).__name__, text.lower()
        memory = known[0] == "OutOfMemoryError" or "out of memory" in known[1]
        died: Cause = "memory" if memory else "crash"
        return Died(_plainly(why), died)

    def _lost_its_node(self, worker: Any, error: Any) -> bool:
        """Returns whether the node of an actor is gone; waits where it only does not answer."""
        if worker not in self._nodes:
            return False
        silent = isinstance(error, self._ray.exceptions.ActorUnavailableError)
        until = time.monotonic() + (NODE_SILENCE if silent else 0)
        while True:
            alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
            if self._nodes[worker] not in alive:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.5)

    def _forget(self, worker: Any) -> None:
        self._calls = {call: held for call, held in self._calls.items() if held[0] != worker}
        self._nodes.pop(worker, None)

    def end(self, worker: Any) -> None:
        """Kills an actor."""
        self._forget(worker)
        self._ray.kill(worker)

    def close(self) -> None:
        """Ends the actors, and Ray if it was started here."""
        workers = {worker for worker, _ in self._calls.values()} | {*self._nodes}
        for worker in workers:
            self._ray.kill(worker)
        self._calls, self._nodes = {}, {}
        if self._own:
            self._ray.shutdown()


class _Resident:
    """What an actor runs."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker = Worker(spec)

    def ready(self) -> tuple[int, str, int, bool, str]:
        import ray

        context = ray.get_runtime_context()
        place = f"node {ray.util.get_node_ip_address()}"
        worker = self._worker
        return worker.runner.batch, place, os.getpid(), worker.whole, context.get_node_id()

    def evaluate(self, *args: Any) -> tuple[list[Evaluation], float, int]:
        began = time.perf_counter()
        found = self._worker.evaluate_batch(*args)
        return found, time.perf_counter() - began, peak_memory()


def _plainly(why: str) -> str:
    """Returns what Ray says of a death without its advice."""
    for known, plain in (
        ("SYSTEM_ERROR", "its process was killed or crashed"),
        ("connection error code 2", "its process was killed or crashed"),
    ):
        if known in why:
            return plain
    return why


def _start(demand: Demand, each: Mapping[str, float]) -> tuple[Any, bool]:
    """Returns ray, connected, and whether this call did it.

    It is quiet, and has no dashboard when it is started here.

    Raises:
        EvopruneError: Ray cannot be started or reached.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "|".join(SAID))
    import ray

    if ray.is_initialized():
        return ray, False
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if demand.address is None:
        count = 1 if demand.count == "auto" else demand.count
        cpus = max(1, math.ceil(count * each.get("CPU", 0)))
        settings |= {"include_dashboard": False, "num_cpus": cpus}
    try:
        _knock(demand.address)
        with _own_sigterm(), open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
            # "local": without an address Ray would join whatever cluster runs on this machine.
            ray.init(address=demand.address or "local", **settings)
    except Exception as error:  # whatever Ray raises: of a connection, of its own processes
        where = f"at '{demand.address}' cannot be reached" if demand.address else "cannot start"
        raise EvopruneError(
            f"Ray {where}: {' '.join(str(error).split())[:200]}.",
            "Check workers.address (`ray status` on that machine), or set workers.backend=local.",
        ) from error
    return ray, True


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps what this process does at SIGTERM: Ray would end everything at once."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    main = threading.current_thread() is threading.main_thread()
    if main and callable(before):
        signal.signal(signal.SIGTERM, before)


def _knock(address: str | None) -> None:
    """Checks that somebody listens at an address: Ray itself would try for half an hour.

    Raises:
        OSError: nobody does.
        ValueError: the port is no number.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        if not 0 < int(port) < 65536:
            raise ValueError(f"{port} is no port")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
