"""These tests kill no process: their journals need not reach the disk, which takes most time."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from evoprune.folder import journal


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small matrices on several threads only wait for each other."""
    import scipy.linalg  # noqa: F401 - what is loaded later would not be limited

    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True, scope="session")
def no_fsync() -> Iterator[None]:
    """Keeps journals in the cache of the file system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda descriptor: None)
        yield
