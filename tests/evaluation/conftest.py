"""What the tests of evaluation share: one thread, and workers on prepared runs."""

from collections.abc import Callable
from typing import Any

import pytest
from shared import one_thread  # noqa: F401 - for all tests here

from evoprune.config.schema import load_config
from evoprune.evaluation.worker import Worker
from evoprune.progress.console import Console
from evoprune.session import open_session


@pytest.fixture
def make_worker(tiny_config: Callable[..., dict[str, Any]]) -> Callable[..., Worker]:
    """Returns a function that prepares a run of ``tiny_config`` and returns a worker on it."""

    def make(**sections: Any) -> Worker:
        session = open_session(load_config(tiny_config(**sections)), Console(stream=None))
        session.close()
        return Worker(session.spec)

    return make
