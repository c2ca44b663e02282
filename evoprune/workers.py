"""How many workers a search has on this machine, and starting them."""

import os
from collections.abc import Sequence

import numpy as np

from evoprune.config import Config
from evoprune.console import Console
from evoprune.evaluation.worker import WorkerSpec
from evoprune.pattern import Pattern
from evoprune.protocols import Evaluator
from evoprune.search.problem import Problem


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
    if workers.count == "auto" or workers.address or workers.backend == "local":
        return None
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
    config: Config, spec: WorkerSpec, problem: Problem, console: Console
) -> Evaluator:
    """Returns the workers that the configuration asks for."""
    workers, count = config.workers, worker_count(config)
    if warning := crowded(config):
        console.say(warning)
    if workers.backend == "local" or (count == 1 and not workers.in_ray):
        from evoprune.evaluation.local import LocalEvaluator

        console.say("workers   this process")
        return LocalEvaluator(spec, console.say, console.workers)
    from evoprune.evaluation.ray_pool import Demand, RayEvaluator

    follows = workers.count == "auto" and workers.address is not None
    many = "as many" if follows else str(count)
    where = f" in the cluster at {workers.address}" if workers.address else ""
    console.say(
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

    def costs(patterns: Sequence[Pattern]) -> np.ndarray:
        return problem.share(problem.space.encode(patterns))

    return RayEvaluator(spec, demand, costs, workers.timeout_s, console.say, console.workers)
