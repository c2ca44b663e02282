"""How much of the dense model's gain over unigram a quickstart run keeps, beside its controls.

    python experiments/quickstart/gain.py runs/quickstart

The gain of a model is how far its loss on the report split lies below that of unigram frequencies
counted on the training split (``model/scores.json``). At 25 % and 50 % of the block parameters
removed, of each front the point with the best token accuracy on validation is taken; intervals
resample the report examples, the same ones for all.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from evoprune.core.metrics import Table, bootstrap, ratio
from evoprune.core.quality import COLUMN
from evoprune.data.examples import Examples
from evoprune.families.load import load_model
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.journal import read_journal
from evoprune.folder.layout import RunFolder
from evoprune.report.advice import TRAINED

HERE = Path(__file__).resolve().parent
SHARES = (0.25, 0.5)


def unigram(examples: Examples) -> Table:
    """Returns the loss of unigram frequencies on the report examples, in the column ``nll``."""
    counts = np.array(json.loads((HERE / "model" / "scores.json").read_text())["unigram_counts"])
    nll = -np.log((counts + 1) / (counts + 1).sum())
    tokens, lengths = examples.clean.arrays["tokens"], examples.clean.arrays["lengths"]
    scored = np.arange(1, tokens.shape[1])[None, :] < lengths[:, None]
    rows = (nll[tokens[:, 1:]] * scored).sum(axis=1)
    return Table({"n": scored.sum(axis=1), "nll": rows}, examples.clean.groups)


def small_dense(examples: Examples) -> Table:
    """Returns the loss of the small dense model: half the blocks, trained by the same recipe."""
    model = load_model(str(HERE / "small_dense"))
    tokens, lengths = examples.clean.arrays["tokens"], examples.clean.arrays["lengths"]
    scored = np.arange(1, tokens.shape[1])[None, :] < lengths[:, None]
    rows = []
    with torch.inference_mode():
        for row in torch.from_numpy(tokens).split(16):
            logits = model(row).logits[:, :-1].transpose(1, 2)
            rows.append(torch.nn.functional.cross_entropy(logits, row[:, 1:], reduction="none"))
    nll = torch.cat(rows).double().numpy()
    return Table(
        {"n": scored.sum(axis=1), "nll": (nll * scored).sum(axis=1)}, examples.clean.groups
    )


def tables(folder: RunFolder) -> dict[str, Table]:
    """Returns the report tables of all patterns that were scored there."""
    _, records = read_journal(folder.journal)
    return {
        record["id"]: Table.from_json(record["tables"]["clean"])
        for record in records
        if record["type"] == "evaluation" and record["split"] == "report" and "tables" in record
    }


def kept(base: Table, dense: Table, pruned: Table) -> float:
    """Returns the share of the dense model's gain over unigram that a pruned model keeps."""
    lost = ratio(base, "nll") - ratio(pruned, "nll")
    return lost / (ratio(base, "nll") - ratio(dense, "nll"))


def lead(base: Table, dense: Table, ours: Table, theirs: Table) -> float:
    """Returns how much more of the gain one pruned model keeps than another."""
    return kept(base, dense, ours) - kept(base, dense, theirs)


def at(front: Front, share: float) -> FrontPoint:
    """Returns the point that is best on validation among those with so much removed."""
    # Counts of blocks are discrete: 0.2499 is a quarter.
    there = [point for point in front if point.values["sparsity"] >= share - 1e-3]
    return max(there, key=lambda point: point.values["val_token_accuracy"])


def write_small(folder: RunFolder, front: Front) -> None:
    """Writes the small dense model as the front ``controls/trained.json``, for the report."""
    goals = {"params": "min", COLUMN: "max"}
    values: dict[str, float] = {"params": load_model(str(HERE / "small_dense")).num_parameters()}
    for prefix, split in (("val", "validation"), ("report", "report")):
        examples = Examples.load(folder.calibration / f"{split}.safetensors")
        ends = examples.zero["clean"], examples.dense["clean"]
        small = small_dense(examples)
        values |= {f"{prefix}_{COLUMN}": kept(*ends, small), f"{prefix}_nll": ratio(small, "nll")}
        values[f"{prefix}_perplexity"] = float(np.exp(ratio(small, "nll")))
        low, high = bootstrap(kept, [*ends, small])
        values |= {f"{prefix}_{COLUMN}_low": low, f"{prefix}_{COLUMN}_high": high}
    point = FrontPoint("small_dense", None, values, TRAINED)
    Front((point,), goals, front.dense, front.zero).to_json(folder.controls / f"{TRAINED}.json")


def main() -> None:
    """Prints the table; writes it into the run folder, and the small model beside the controls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    folder = RunFolder.existing(parser.parse_args().run)
    examples = Examples.load(folder.calibration / "report.safetensors")
    base, dense, scored = unigram(examples), examples.dense["clean"], tables(folder)
    fronts = {"search": Front.from_json(folder.front_json)}
    for path in sorted(folder.controls.glob("*.json")):
        if path.stem == TRAINED:
            continue
        fronts[path.stem] = Front.from_json(path)
    rows = []
    print("removed  front     sparsity  gain kept [95 %]        the search's lead [95 %]  ppl")
    for share in SHARES:
        best = {name: at(front, share) for name, front in fronts.items()}
        ours = scored[best["search"].id]
        for name, point in best.items():
            theirs = scored[point.id]
            row = {"share": share, "front": name, "id": point.id}
            row |= {"sparsity": point.values["sparsity"], "kept": kept(base, dense, theirs)}
            row["interval"] = bootstrap(kept, [base, dense, theirs])
            row["lead"] = kept(base, dense, ours) - row["kept"]
            row["lead_interval"] = bootstrap(lead, [base, dense, ours, theirs])
            row["perplexity"] = point.values["report_perplexity"]
            rows.append(row)
            print(
                f"{share:>6.0%}   {name:<9} {row['sparsity']:.3f}     {row['kept']:.3f} "
                f"[{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]    {row['lead']:+.3f} "
                f"[{row['lead_interval'][0]:+.3f}, {row['lead_interval'][1]:+.3f}]    "
                f"{row['perplexity']:.1f}"
            )
    small = small_dense(examples)
    low, high = bootstrap(kept, [base, dense, small])
    print(
        f"   50%   {'small, trained so':<19} {kept(base, dense, small):.3f} "
        f"[{low:.3f}, {high:.3f}]{'':<28}{np.exp(ratio(small, 'nll')):.1f}"
    )
    rows.append({"share": 0.5, "front": "small_dense", "kept": kept(base, dense, small)})
    rows[-1] |= {"interval": (low, high), "perplexity": float(np.exp(ratio(small, "nll")))}
    write_small(folder, fronts["search"])
    (folder.path / "gain.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
