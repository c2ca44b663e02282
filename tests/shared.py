"""What test folders share beside fixtures of ``conftest``: a small search, and one thread."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keeps torch, and the fresh processes that inherit the number, off busy cores.

    A folder whose ``conftest`` imports it has it for all its tests.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_settings(model: Path, texts: Path, output: Path) -> dict[str, Any]:
    """Returns the settings of a search of about a second.

    Args:
        model: the folder of a tiny model.
        texts: the documents.
        output: the run folder.
    """
    return {
        "model": {"name_or_path": str(model)},
        "data": {
            "type": "jsonl",
            "files": [str(texts)],
            "kind_field": "kind",
            "key_field": "key",
            "chunk_tokens": 32,
            "fractions": {"search": 0.5, "validation": 0.25, "report": 0.25},
        },
        "calibration": {"samples": 12, "clusters": 3, "pool": 40},
        "space": "decoder/depth",
        "objectives": ["kl", "sparsity", "worst_cluster_kl"],
        "columns": ["token_accuracy", "nll", "params", "flops"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 4}, "n_eval": 12},
        "validation": {"samples": 8},
        "report": {"samples": 8},
        "controls": [],
        "export": {"picks": []},
        "workers": {"backend": "local"},
        "output": str(output),
    }


def taught(model: Path, texts: Path, folder: Path, steps: int = 120) -> Path:
    """Returns the folder of a model after some steps of training on texts.

    Args:
        model: the folder of a small language model with its tokenizer.
        texts: jsonl with a field ``text``.
        folder: where the taught one is written.
        steps: of Adam, 16 texts each.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    taught = AutoModelForCausalLM.from_pretrained(model)
    rows = [json.loads(line)["text"] for line in texts.read_text().splitlines()]
    ids = [torch.tensor(tokenizer(row)["input_ids"])[:32] for row in rows]
    tokens = torch.stack([row for row in ids if len(row) == 32])
    optimiser = torch.optim.Adam(taught.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = tokens[torch.randint(len(tokens), (16,), generator=generator)]
        loss = taught(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    taught.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lines_of(code: str, folder: Path, scratch: Path) -> list[str]:
    """Returns what lines of Python print in a process of their own that cannot ask anybody.

    Args:
        code: what a person would type.
        folder: where it is typed.
        scratch: where transformers may copy a model's own code.
    """
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "HF_MODULES_CACHE": str(scratch / "modules")}
        | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    return done.stdout.splitlines()
