"""What a search takes of memory, time and disk for a model that is not here: arithmetic alone.

    python experiments/scale/arithmetic.py experiments/scale/config.yaml \
        --sizes experiments/scale/llama_8b --workers 1 8 64 --rate 4e14

Sizes come from a config.json; the model is built without weights (torch's meta device) and nothing
is downloaded. Seconds are FLOPs over a rate that you say a worker reaches; ``evoprune plan`` takes
one timed pass instead, where the model is.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import Config, load_config
from evoprune.core.amounts import duration, gigabytes
from evoprune.families.decoder import Decoder
from evoprune.families.load import quiet_transformers
from evoprune.families.stages import BATCH_TOKENS
from evoprune.planning import arithmetic
from evoprune.planning.machines import memory_rows
from evoprune.searching.starts import stratified
from evoprune.tasks.causal_lm import LOGITS_AT_ONCE, MIN_POSITIONS


def skeleton(folder: Path, dtype: str) -> Any:
    """Returns the model that a folder's config.json describes, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet_transformers()
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


@dataclass(frozen=True)
class Case:
    """A configuration and a model's sizes.

    Attributes:
        sizes: of the network.
        parameters: of the network.
        genes: of the space.
        candidates: of the space, in words.
        share: mean FLOPs of candidates over those of the dense model.
        tokens: of the calibration set.
        n_eval: evaluations.
        together: of a generation.
        boundary_mb: of states that a worker keeps.
    """

    sizes: arithmetic.Sizes
    parameters: int
    genes: int
    candidates: str
    share: float
    tokens: int
    n_eval: int
    together: int
    boundary_mb: int


def case(config: Config, folder: Path) -> Case:
    """Returns what the arithmetic starts from."""
    import torch

    model, family = skeleton(folder, config.model.dtype), Decoder()
    table = family.table(model, config.data.chunk_tokens)
    space = config.space_over(family, model)
    X = space.canonical(stratified(space, 64, np.random.default_rng(0)))
    flops = table.cost("flops", space, np.concatenate([np.zeros((1, space.n_var), np.int64), X]))
    itemsize = getattr(torch, config.model.dtype).itemsize
    together = int(config.search.algorithm.options.get("pop_size", 24))
    return Case(
        sizes=arithmetic.Sizes.of(
            table, model.lm_head.weight.shape[0], model.config.num_hidden_layers, itemsize
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        genes=len(space.genes),
        candidates=space.size_text,
        share=float((flops[1:] / flops[0]).mean()),
        tokens=config.calibration.samples * config.data.chunk_tokens,
        n_eval=config.search.n_eval or together * (config.search.n_gen or 1),
        together=together,
        boundary_mb=config.workers.boundary_mb,
    )


def rows(found: Case, workers: list[int], rate: float) -> list[list[str]]:
    """Returns what a search takes, a row each."""
    held = arithmetic.memory(
        found.sizes,
        BATCH_TOKENS,
        LOGITS_AT_ONCE,
        MIN_POSITIONS,
        found.tokens,
        found.boundary_mb,
    )
    dense = found.sizes.flops * found.tokens / rate
    show = gigabytes
    journal = arithmetic.journal_bytes(found.n_eval, found.genes)
    return [
        ["model", f"{found.parameters:,} parameters, {show(found.sizes.weights)}"],
        ["space", f"{found.genes} genes, {found.candidates} candidates"],
        [
            "one dense pass",
            f"{dense:.1f} s: {found.tokens:,} tokens, {found.sizes.flops * found.tokens:.3g} "
            f"FLOPs at {rate:.3g} FLOP/s",
        ],
        ["evaluations", f"{found.n_eval:,} at a mean FLOPs share of {found.share:.2f}"],
        *[
            [
                f"with {count} workers",
                duration(
                    arithmetic.seconds(found.n_eval, found.together, dense * found.share, count)
                ),
            ]
            for count in workers
        ],
        *memory_rows(held),
        ["memory, each machine", f"{show(found.sizes.weights)} of weights, mapped or read once"],
        [
            "shared disk",
            f"{show(found.sizes.weights + held.examples)} and {show(journal)} of journal",
        ],
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("config", help="a configuration; its model need not be there")
    parser.add_argument("--sizes", type=Path, required=True, help="a folder with a config.json")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rate", type=float, default=4e14, help="FLOP/s that a worker reaches")
    options = parser.parse_args()
    found = case(load_config(options.config), options.sizes)
    print("Arithmetic, not measurement.")
    for what, much in rows(found, options.workers, options.rate):
        print(f"{what:24} {much}")


if __name__ == "__main__":
    main()
