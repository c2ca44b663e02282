"""These tests kill no process: their journals need not reach the disk, which takes most time."""

from collections.abc import Iterator

import pytest

from evoprune import journal


@pytest.fixture(autouse=True, scope="session")
def no_fsync() -> Iterator[None]:
    """Keeps journals in the cache of the file system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda descriptor: None)
        yield
