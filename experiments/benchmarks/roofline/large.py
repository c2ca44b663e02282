"""A run to measure on a larger model: a random Llama of 107 M parameters, searched by NSGA-II.

    python experiments/benchmarks/roofline/large.py runs/large
    python experiments/benchmarks/roofline/measure.py runs/large/search --count 64

Its weights say nothing, so neither does its front; how candidates resemble each other is a
search's, and how long they take does not depend on the weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import evoprune
from evoprune.testing import tiny_decoder


def main() -> None:
    """Writes the model and its texts, and searches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--evaluations", type=int, default=64)
    given = parser.parse_args()
    model = tiny_decoder(
        given.out / "model", given.layers, (12, 4), vocabulary=8192, hidden=given.hidden
    )
    words = np.random.default_rng(0).choice(list("abcdefgh"), (60, 200))
    texts = given.out / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": "".join(row)}) + "\n" for row in words))
    evoprune.search(
        {
            "model": {"name_or_path": str(model)},
            "data": {"type": "jsonl", "files": [str(texts)], "chunk_tokens": 128},
            "calibration": {"samples": 8, "clusters": 2, "pool": 8},
            "space": "decoder/depth",
            "objectives": ["kl", "params"],
            "search": {
                "algorithm": {"type": "nsga2", "pop_size": 16},
                "n_eval": given.evaluations,
            },
            "validation": {"samples": 2},
            "report": {"samples": 2},
            "controls": [],
            "export": {"picks": []},
            "workers": {"backend": "local"},
            "output": str(given.out / "search"),
        }
    )


if __name__ == "__main__":
    main()
