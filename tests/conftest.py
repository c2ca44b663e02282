"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def assets_dir() -> Path:
    """Returns the folder of real models and data, or skips: it does not ship with the code."""
    beside = Path(__file__).resolve().parents[1] / ".." / "shared" / "assets"
    folder = Path(os.environ.get("EVOPRUNE_ASSETS", beside)).resolve()
    if not folder.is_dir():
        pytest.skip("no assets: set EVOPRUNE_ASSETS to their folder")
    return folder
