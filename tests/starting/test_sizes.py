"""How large a search may be: arithmetic on a made-up machine."""

import pytest

from evoprune.starting.sizes import ENOUGH, LEAST, PLENTY, RESERVE, chunk_tokens, fitting, usual

HELD = {"search": 900, "validation": 300, "report": 300}


def machine(example_s):
    """Returns what a run takes where an example of an evaluation takes so long."""
    return lambda samples, n_eval: 20 + example_s * samples * n_eval


def sizes(minutes, example_s, held=HELD, candidates=10**9, whole=False):
    return fitting(minutes, machine(example_s), held, candidates, whole)


@pytest.mark.parametrize("minutes", [5, 20, 120])
@pytest.mark.parametrize("example_s", [1e-3, 1e-2, 3e-2])
def test_the_time_is_kept_and_used(minutes, example_s):
    found = sizes(minutes, example_s)
    took = machine(example_s)(found.samples, found.n_eval)
    assert took <= minutes * 60 * RESERVE
    assert took >= minutes * 60 * RESERVE * 0.85 or found.n_eval == 2 * PLENTY


def test_in_a_hurry_there_are_fewer_examples_and_at_leisure_more():
    hurried, normal, leisurely = sizes(5, 0.04), sizes(20, 0.05), sizes(600, 0.05)
    assert (hurried.samples, normal.samples, leisurely.samples) == (24, 48, 96)
    assert min(hurried.n_eval, normal.n_eval) >= ENOUGH


def test_too_little_time_gives_the_least_search():
    found = sizes(1, 10)
    assert (found.n_eval, found.samples, found.clusters) == (LEAST, 16, 4)


def test_no_more_is_asked_than_there_is():
    held = {"search": 20, "validation": 9, "report": 10}
    found = sizes(60, 1e-3, held, candidates=70)
    assert (found.n_eval, found.samples, found.validation, found.report) == (70, 16, 9, 10)
    assert found.pool == 20 and usual(held, False).samples == 16


def test_heads_read_all_there_is():
    found = sizes(10, 1e-4, whole=True)
    assert (found.samples, found.validation, found.report, found.pool) == (900, 300, 300, 900)


@pytest.mark.parametrize(
    ("lengths", "most", "size"),
    [([500] * 9, 2048, 128), ([90] * 9, None, 64), ([5] * 9, 512, 32), ([500] * 9, 20, 20)],
)
def test_chunks_are_as_long_as_documents_and_no_longer_than_the_model_looks(lengths, most, size):
    assert chunk_tokens(lengths, most) == size
