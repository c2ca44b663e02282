"""How many workers a search has on this machine, and starting them."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from evoprune.config.schema import Config
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluator
from evoprune.evaluation.tally import Work
from evoprune.evaluation.worker import WorkerSpec


def worker_count(config: Config) -> int:
    """Returns how many workers are asked for; ``auto`` is as many as fit this machine."""
    count = config.workers.count
    return fitting(config) if count == "auto" else count


def fitting(config: Config) -> int:
    """Returns how many workers this machine has cores, and GPUs, for; at least one."""
    workers = config.workers
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    room = cores / (workers.num_cpus or workers.threads)
    if workers.num_gpus:
        import torch

        room = min(room, torch.cuda.device_count() / workers.num_gpus)
    return max(1, int(room))


def crowded(config: Config) -> str | None:
    """Returns a warning where more workers are asked for than fit this machine, else None."""
    workers, room = config.workers, fitting(config)
    if workers.count == "auto" or workers.address:
        return None
    if workers.backend == "local":
        if workers.count == 1:
            return None
        return (
            f"warning   workers.count={workers.count} needs Ray actors, and workers.backend=local "
            "is this process alone: leave the backend out"
        )
    if workers.count <= room:
        return None
    need = workers.num_cpus or workers.threads
    return (
        f"warning   workers.count={workers.count} asks for more than this machine has: {room} "
        f"fit{'s' if room == 1 else ''} (each takes {need:g} core{'' if need == 1 else 's'}"
        f"{f' and {workers.num_gpus:g} GPU' if workers.num_gpus else ''}); more only wait for "
        f"each other"
    )


def evaluator_for(
    config: Config,
    spec: WorkerSpec,
    shares: Callable[[Sequence[Pattern]], np.ndarray],
    say: Callable[[str], None],
    show: Callable[[Sequence[Work]], None],
) -> Evaluator:
    """Returns the workers that the configuration asks for, not started yet.

    Args:
        config: the experiment.
        spec: what each of them needs to know.
        shares: returns the cost of patterns relative to the dense model (P,).
        say: prints a line.
        show: is told what each worker has done.
    """
    workers, count = config.workers, worker_count(config)
    if warning := crowded(config):
        say(warning)
    if workers.backend == "local" or (count == 1 and not workers.in_ray):
        from evoprune.evaluation.local import LocalEvaluator

        say("workers   this process")
        return LocalEvaluator(spec, say, show)
    from evoprune.evaluation.ray_pool import Demand, RayEvaluator

    follows = workers.count == "auto" and workers.address is not None
    many = "as many" if follows else str(count)
    where = f" in the cluster at {workers.address}" if workers.address else ""
    say(
        f"workers   {many} Ray actor{'s' if follows or count > 1 else ''}"
        f"{' as there is room for' if follows else ''}{where}"
    )
    demand = Demand(
        count="auto" if follows else count,
        num_cpus=workers.num_cpus,
        num_gpus=workers.num_gpus,
        resources=workers.resources,
        address=workers.address,
        runtime_env=workers.runtime_env,
    )

    return RayEvaluator(spec, demand, shares, workers.timeout_s, say, show)
