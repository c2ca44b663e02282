"""What controls take, and where greedy removal starts under a budget."""

from contextlib import contextmanager

import numpy as np
import pytest

from evoprune.core.protocols import Evaluation
from evoprune.folder.journal import Journal
from evoprune.searching.algorithms import Random
from evoprune.searching.archive import Archive
from evoprune.searching.controls import CONTROLS, Setting, Within, control
from evoprune.searching.greedy import GreedyStepper
from evoprune.searching.warm import Warm
from evoprune.testing.synthetic import BLOCKS, WIDTHS, FakeEvaluator, problem


class Priced(FakeEvaluator):
    """Tokens follow the FLOPs that a pattern keeps, as a worker counts them."""

    def __init__(self, made):
        super().__init__(made.space)
        self._made = made

    def _one(self, pattern, request) -> Evaluation:
        share = float(self._made.share(self._space.encode([pattern]))[0])
        values = {"harm": self.harm(pattern, request.rung)}
        return Evaluation(pattern, request.split, request.rung, values, tokens=10.0 * share)


@contextmanager
def setting(made, path, tokens):
    evaluator = Priced(made)
    with Journal.open(path / "journal.jsonl", {}) as journal:
        archive = Archive(journal, lambda: evaluator)
        yield Setting(made, archive, Warm(made.space.corners[:1]), tokens, 1, -1)


@pytest.mark.parametrize("name", sorted(CONTROLS))
@pytest.mark.parametrize("tokens", [55.0, 400.0])
def test_no_control_takes_more_than_the_search(tmp_path, name, tokens):
    made = problem(12, (BLOCKS,))
    with setting(made, tmp_path, tokens) as given:
        found = control(name)(given)
        again = control(name)(given)
    assert 0 < found.tokens <= tokens
    assert found == again


def test_random_takes_as_much_as_the_search_to_a_candidate(tmp_path):
    made = problem(12, (BLOCKS,))
    with setting(made, tmp_path, 400.0) as given:
        assert 390.0 < control("random")(given).tokens <= 400.0


def test_a_stepper_that_was_cut_short_is_not_asked_again():
    made = problem(12, (BLOCKS,))
    stepper = Within(Random().begin(made, made.space.corners[:0], 0), made.share, 20.0)
    first, second = stepper.ask(), stepper.ask()
    assert len(first) == 24 and 0 < len(second) < 24
    stepper.tell(second, np.zeros((len(second), 2)), np.zeros((len(second), 1)))
    assert stepper.ask() is None


def test_greedy_starts_from_the_budget_where_the_way_there_is_too_long(tmp_path):
    made = problem(12, WIDTHS, params="<=60%")
    with setting(made, tmp_path, 250.0) as given:
        found = control("greedy")(given)
    X = made.space.encode(found.patterns)
    assert len(X) > 1 and not made.budget_violation(X).any()
    assert found.tokens <= 250.0
    assert found.notes == (
        "greedy    started from the budget: tokens do not last from the dense model",
    )


def test_greedy_walks_from_the_dense_model_where_tokens_last(tmp_path):
    made = problem(4, (BLOCKS,), params="<=60%")
    with setting(made, tmp_path, 400.0) as given:
        found = control("greedy")(given)
    assert found.patterns and not found.notes
    stepper = GreedyStepper(made)
    assert (stepper.ask() == 0).all()
