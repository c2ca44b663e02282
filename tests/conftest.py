"""Fixtures that several test files share."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from shared import taught, tiny_settings

from evoprune.testing import tiny_decoder

settings.register_profile("evoprune", deadline=None, max_examples=50)
settings.load_profile("evoprune")

WORDS = {
    "numbers": "one two three four five six seven eight nine ten plus minus times",
    "code": "def return if else for in while (x) (y) = == += self None True [i]",
    "prose": "The rain fell softly, and a grey cat slept under the old oak tree.",
}


@pytest.fixture(scope="session")
def assets_dir() -> Path:
    """Returns the folder of real models and data, or skips: it does not ship with the code."""
    beside = Path(__file__).resolve().parents[1] / ".." / "shared" / "assets"
    folder = Path(os.environ.get("EVOPRUNE_ASSETS", beside)).resolve()
    if not folder.is_dir():
        pytest.skip("no assets: set EVOPRUNE_ASSETS to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a random Llama: 4 blocks, grouped queries, tied embeddings."""
    return tiny_decoder(tmp_path_factory.mktemp("models") / "tied")


@pytest.fixture(scope="session")
def tiny_llama_untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of another random Llama: 3 blocks, untied, another vocabulary."""
    folder = tmp_path_factory.mktemp("models") / "untied"
    return tiny_decoder(folder, layers=3, tied=False, vocabulary=320, seed=1)


@pytest.fixture(scope="session")
def taught_llama(
    tiny_llama: Path, tiny_texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Returns the folder of a tiny Llama that was taught its texts for a second or two.

    It is better than unigram frequencies, as a model must be for anything to be kept of it.
    """
    return taught(tiny_llama, tiny_texts, tmp_path_factory.mktemp("models") / "taught")


@pytest.fixture(scope="session")
def tiny_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a jsonl file with 40 documents of each of three kinds.

    The documents have keys, which decide their splits.
    """
    path, rng = tmp_path_factory.mktemp("texts") / "texts.jsonl", random.Random(0)
    rows = [
        {"key": f"{kind}{i}", "kind": kind, "text": " ".join(rng.choices(words.split(), k=24))}
        for kind, words in WORDS.items()
        for i in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tiny_config(
    tiny_llama: Path, tiny_texts: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Returns a function that returns the settings of a search of about a second.

    Its keyword arguments replace whole sections.
    """

    def make(**sections: Any) -> dict[str, Any]:
        return tiny_settings(tiny_llama, tiny_texts, tmp_path / "run") | sections

    return make
