"""Why bias compensation harms: one block's MLP at a time cut to a quarter, with and without it.

    python experiments/ablations/criteria/bias.py experiments/quickstart/config.yaml OUT

NLL is of the report split. Outputs are those of the block's own MLP at all tokens of that split,
before the residual sum; what is cut keeps the channels that ``activation`` ranks first.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import COMPENSATED, FIXED, SPACE, variants

from evoprune.config.schema import load_config
from evoprune.core.metrics import ratio
from evoprune.core.pattern import Pattern
from evoprune.core.space import Space
from evoprune.evaluation.worker import Worker
from evoprune.families.stages import forward, micro_batches
from evoprune.progress.console import Console
from evoprune.session import open_session

CRITERION = COMPENSATED[0]
RUNS = {"plain": CRITERION, "compensated": f"{CRITERION} + bias"}


def worker_of(config: str, variant: str, out: Path) -> Worker:
    """Returns the worker of a prepared run."""
    folder = out / variant.replace(" + ", "_")
    settings = load_config(config, [*variants()[variant], *FIXED, f"output={folder}"])
    space = type(settings.space).model_validate(SPACE)
    session = open_session(settings.model_copy(update={"space": space}), Console(stream=None))
    session.close()
    return Worker(session.spec)


def cuts(space: Space) -> dict[int, Pattern]:
    """Returns by block the pattern that keeps the fewest channels of its MLP, and all else."""
    found = {}
    for number, gene in enumerate(space.genes):
        if space.sites[gene.sites[0]].kind == "channels":
            x = np.zeros((1, space.n_var), np.int64)
            x[0, space.columns(number)] = space.upper[space.columns(number)]
            found[len(found)] = space.patterns(x)[0]
    return found


def nll(worker: Worker, pattern: Pattern) -> float:
    """Returns nats per token on report."""
    return ratio(worker.evaluate(pattern, "report", keep=True).tables["clean"], "nll")


def outputs(worker: Worker, pattern: Pattern, block: int) -> torch.Tensor:
    """Returns what the MLP of a block gives at all tokens of report, float64 (T, H)."""
    runner: Any = worker.runner
    clean, kept = worker.examples("report").clean, []
    real = np.arange(clean.arrays["tokens"].shape[1]) < clean.arrays["lengths"][:, None]
    with (
        torch.inference_mode(),
        runner.realiser.apply(worker.space.options(pattern)) as realised,
    ):
        mlp = worker.model.model.layers[block].mlp
        handle = mlp.register_forward_hook(lambda module, given, out: kept.append(out.double()))
        for _, batch in micro_batches(runner.stages, clean.arrays, "cpu"):
            forward(runner.stages, batch, realised.dropped)
        handle.remove()
    return torch.cat(kept)[torch.from_numpy(real)]


def compared(dense: torch.Tensor, cut: torch.Tensor) -> dict[str, float]:
    """Returns how far an output (T, H) is from the dense one, in the mean over tokens."""
    cosine = torch.nn.functional.cosine_similarity(dense, cut, dim=1)
    return {
        "squared_error": float((cut - dense).square().sum(1).mean()),
        "cosine": float(cosine.mean()),
    }


def main() -> None:
    """Prints a row for each block and writes ``OUT/bias.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    workers = {name: worker_of(arguments.config, v, arguments.out) for name, v in RUNS.items()}
    plain = workers["plain"]
    found: dict[str, Any] = {"dense_nll": nll(plain, plain.space.dense), "blocks": []}
    print(f"dense: {found['dense_nll']:.3f} nats per token")
    for block, pattern in cuts(plain.space).items():
        dense = outputs(plain, plain.space.dense, block)
        row: dict[str, Any] = {"block": block, "squared_norm": float(dense.square().sum(1).mean())}
        told = [f"block {block}: squared norm {row['squared_norm']:.4g}"]
        for name, worker in workers.items():
            here = {"nll": nll(worker, pattern)}
            here |= compared(dense, outputs(worker, pattern, block))
            row[name] = here
            told.append(
                f"{name} nll {here['nll']:.4f}, squared error {here['squared_error']:.4g}, "
                f"cosine {here['cosine']:.3f}"
            )
        found["blocks"].append(row)
        print("; ".join(told), flush=True)
    (arguments.out / "bias.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
