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

from evoprune.data.examples import Examples
from evoprune.folder import RunFolder
from evoprune.front import Front
from evoprune.journal import read_journal
from evoprune.metrics import Table, bootstrap, ratio

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


def main() -> None:
    """Prints the table and writes it into the run folder as ``gain.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    folder = RunFolder.existing(parser.parse_args().run)
    examples = Examples.load(folder.calibration / "report.safetensors")
    base, dense, scored = unigram(examples), examples.dense["clean"], tables(folder)
    fronts = {"search": Front.from_json(folder.front_json)}
    for path in sorted(folder.controls.glob("*.json")):
        fronts[path.stem] = Front.from_json(path)
    rows = []
    print("removed  front     sparsity  gain kept [95 %]          perplexity")
    for share in SHARES:
        for name, front in fronts.items():
            # Counts of blocks are discrete: 0.2499 is a quarter.
            there = [p for p in front if p.values["sparsity"] >= share - 1e-3]
            if not there:
                continue
            point = max(there, key=lambda p: p.values["val_token_accuracy"])
            found = [base, dense, scored[point.id]]
            low, high = bootstrap(kept, found)
            rows.append(
                {"share": share, "front": name, "id": point.id, "low": low, "high": high}
                | {"sparsity": point.values["sparsity"], "kept": kept(*found)}
                | {"perplexity": point.values["report_perplexity"]}
            )
            row = rows[-1]
            print(
                f"{share:>6.0%}   {name:<9} {row['sparsity']:.3f}     {row['kept']:.3f} "
                f"[{low:.3f}, {high:.3f}]      {row['perplexity']:.1f}"
            )
    (folder.path / "gain.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
