"""What single algorithms promise, on a problem without a network (all: tests/contracts)."""

import subprocess
import sys

import numpy as np
import pytest

from evoprune.core.errors import SpaceError
from evoprune.core.pareto import nondominated
from evoprune.core.registry import ALGORITHMS
from evoprune.searching.algorithms import Nsga2, Random
from evoprune.searching.controls import RULES
from evoprune.searching.exhaustive import Exhaustive
from evoprune.testing.algorithms import asked as asked_by
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, FakeEvaluator, problem, run

NESTED = (BLOCKS, *PARTS, WIDTHS[0])


def asked(name, made, *arguments, **settings):
    """Returns the generations that an algorithm asks for, told a made-up quality."""
    return asked_by(ALGORITHMS.load(name)(), made, *arguments, **settings)


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_the_seed_decides(name):
    made = problem(4, PARTS)
    runs = [np.concatenate(asked(name, made, seed, 5)).tolist() for seed in (1, 2)]
    assert (runs[0] == runs[1]) == (name in ("exhaustive", *RULES))


@pytest.mark.parametrize("name", ["nsga2", "random"])
def test_repeated_warm_starts_are_asked_once_and_first(name):
    made = problem(4, PARTS)
    first = asked(name, made, generations=1, starts=3)[0]
    assert (first[0] == 0).all()
    assert first[1:].any(axis=1).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bounds", [{}, {"params": "<=80%"}])
def test_the_exhaustive_front_is_the_brute_force_front(tmp_path, seed, bounds):
    made = problem(2, NESTED, **bounds)
    found, evaluator = run(made, Exhaustive(batch=7), tmp_path, seed=seed)
    grid = np.indices(made.space.upper + 1).reshape(made.space.n_var, -1).T
    X = np.unique(made.space.canonical(grid), axis=0)
    X = X[(made.budget_violation(X) == 0).all(axis=1)]
    harm = [evaluator.harm(pattern, -1) for pattern in made.space.patterns(X)]
    F = np.stack([harm, made.cost("params", X)], axis=1)
    expected = {p.id for p in made.space.patterns(X[nondominated(F)])}
    assert {found.patterns[i].id for i in found.front} == expected
    assert found.n_eval == len(X)


def test_exhaustive_refuses_a_space_that_is_too_large():
    made = problem(12, (*PARTS, WIDTHS[0]))
    with pytest.raises(SpaceError, match=r"'synthetic' has \S+ candidates, too many to try all"):
        Exhaustive().begin(made, np.zeros((0, made.space.n_var)), 0)


def test_greedy_takes_the_least_harmful_step_each_time():
    made = problem(4, (BLOCKS,))
    generations = asked("greedy", made, generations=99)
    evaluator = FakeEvaluator(made.space)
    current = generations[0][0]
    for X in generations[1:]:
        assert (X.sum(axis=1) == current.sum() + 1).all()
        assert ((current <= X).all(axis=1)).all()
        current = X[np.argmin([evaluator.harm(p, -1) for p in made.space.patterns(X)])]
    assert current.sum() == 4


def test_nsga2_is_on_average_no_worse_than_random(tmp_path):
    made, volumes = problem(8, PARTS), {}
    for name, algorithm in {"nsga2": Nsga2(pop_size=12), "random": Random(batch=12)}.items():
        volumes[name] = []
        for seed in range(5):
            folder = tmp_path / f"{name}{seed}"
            folder.mkdir()
            found, _ = run(made, algorithm, folder, seed=seed, n_eval=120)
            volumes[name].append(found.hypervolume)
    assert np.mean(volumes["nsga2"]) >= np.mean(volumes["random"])


@pytest.mark.parametrize(
    "options", [{"pop_size": 3}, {"n_offsprings": 0}, {"mutation_rate": 0.0}, {"mutation_rate": 2}]
)
def test_impossible_options_of_nsga2_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        Nsga2(**options)


@pytest.mark.parametrize("crossover", ["uniform", "two_point"])
@pytest.mark.parametrize("n_offsprings", [None, 5])
def test_every_setting_of_nsga2_searches(tmp_path, crossover, n_offsprings):
    algorithm = Nsga2(8, n_offsprings, crossover, mutation_rate=0.2)
    found, evaluator = run(problem(4, NESTED), algorithm, tmp_path, n_eval=40)
    assert found.n_eval == 40
    assert len(set(evaluator.asked)) == len(evaluator.asked)


SCRIPT = """
import sys, tempfile, pathlib
sys.path.insert(0, sys.argv[1])
import evoprune.searching.algorithms, evoprune.searching.archive, evoprune.searching.exhaustive
import evoprune.searching.greedy, evoprune.searching.loop, evoprune.searching.operators
import evoprune.searching.problem, evoprune.searching.repair, evoprune.searching.starts
from evoprune.searching.algorithms import Nsga2
from evoprune.testing.synthetic import problem, run
with tempfile.TemporaryDirectory() as folder:
    found, _ = run(problem(3), Nsga2(), pathlib.Path(folder), n_eval=30)
assert found.front
print([name for name in ("torch", "transformers", "ray", "pydantic") if name in sys.modules])
"""


def test_a_search_loads_neither_torch_nor_ray(pytestconfig):
    command = [sys.executable, "-c", SCRIPT, str(pytestconfig.rootpath / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pytestconfig.rootpath)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
