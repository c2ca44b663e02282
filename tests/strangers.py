"""Small searches of transformers unlike each other, for tests of several folders."""

from pathlib import Path
from typing import Any

import numpy as np

from evoprune.testing.models import CLASSES
from evoprune.testing.parts import tiny_settings, tiny_texts

TASKS = {"bert": "text_classification", "vit": "image_classification"}


def settings_of(model: Path, kind: str, space: Any) -> dict[str, Any]:
    """Returns the settings of a small search."""
    settings = tiny_settings(model, space)
    settings["model"] |= {"family": "transformer"}
    if kind in TASKS:
        settings |= {"task": TASKS[kind], "objectives": ["nll", "params"]}
    return settings


def data_of(kind: str) -> list[Any]:
    """Returns examples as they are handed over."""
    rng = np.random.default_rng(0)
    if kind == "vit":
        images = rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
        return [(image, i % CLASSES) for i, image in enumerate(images)]
    texts = tiny_texts()
    if kind == "bert":
        return [{"text": text[: 10 + i % 7], "label": i % CLASSES} for i, text in enumerate(texts)]
    return texts
