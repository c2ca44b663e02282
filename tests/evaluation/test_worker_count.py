"""How many workers are started, and what is said where they do not fit."""

import pytest

from evoprune.config.schema import load_config
from evoprune.evaluation.workers import crowded, fitting, worker_count


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)


@pytest.mark.parametrize(
    ("workers", "fits", "count"),
    [({}, 4, 4), ({"threads": 2}, 2, 2), ({"threads": 8}, 1, 1), ({"count": 3}, 4, 3)],
)
def test_auto_is_as_many_as_fit(tiny_config, four_cores, workers, fits, count):
    config = load_config(tiny_config(workers=workers))
    assert (fitting(config), worker_count(config)) == (fits, count)
    assert crowded(config) is None


def test_more_than_fit_is_a_warning_with_the_number_that_does(tiny_config, four_cores):
    config = load_config(tiny_config(workers={"count": 64, "threads": 2}))
    assert worker_count(config) == 64
    assert crowded(config) == (
        "warning   workers.count=64 asks for more than this machine has: 2 fit (each takes 2 "
        "cores); more only wait for each other"
    )


def test_a_cluster_has_cores_of_its_own(tiny_config, four_cores):
    config = load_config(tiny_config(workers={"count": 64, "address": "ray://there:10001"}))
    assert crowded(config) is None


def test_many_workers_of_one_process_are_a_warning(tiny_config):
    config = load_config(tiny_config(workers={"count": 8, "backend": "local"}))
    assert "workers.backend=local is this process alone" in crowded(config)
    assert crowded(load_config(tiny_config(workers={"count": 1, "backend": "local"}))) is None
