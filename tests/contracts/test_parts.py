"""Every criterion, objective and algorithm that ships keeps the contract of its kind."""

import numpy as np
import pytest

from evoprune.core.registry import ALGORITHMS, CRITERIA, OBJECTIVES
from evoprune.testing import check_algorithm, check_criterion, check_objective
from evoprune.testing.parts import tiny_subject

# They know one objective, or stay at one sparsity: a budget of evaluations may not be spent.
RULES = ("uniform", "last_k", "block_influence", "adapt_pruner", "cka", "additive")
PARTIAL = ("greedy", "evop", "evop_corrected", "one_plus_lambda", *RULES)
# They begin with single steps from the dense model, whatever the budgets.
WALKS = ("greedy", "additive")
# A model is fitted in every generation.
LIGHT = {"surrogate_nsga2": {"initial": 8, "batch": 24, "n_gen_inner": 2, "pop_size_inner": 8}}


@pytest.fixture(scope="module")
def subject():
    return tiny_subject()


@pytest.mark.parametrize("name", CRITERIA.names())
def test_criterion(name, subject):
    check_criterion(CRITERIA.load(name)(), subject)


@pytest.mark.parametrize("name", [name for name in CRITERIA.names() if name != "random"])
def test_a_criterion_ranks_a_dead_unit_last(name, subject):
    model = subject.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with np.errstate(all="ignore"):
        attention, mlp = model.model.layers[1].self_attn, model.model.layers[1].mlp
        # The key–value group 1 with its query heads, and the channel 7.
        for tensor in (attention.k_proj.weight, attention.v_proj.weight):
            tensor.data[8:16] = 0
        attention.q_proj.weight.data[16:32] = 0
        attention.o_proj.weight.data[:, 16:32] = 0
        for tensor in (mlp.gate_proj.weight, mlp.up_proj.weight):
            tensor.data[7] = 0
        mlp.down_proj.weight.data[:, 7] = 0
        scores = CRITERIA.load(name)().scores(subject)
    model.load_state_dict(before)
    assert int(np.argmin(scores["layers.1.mlp.channels"])) == 7
    assert int(np.argmin(scores["layers.1.attn.heads"])) == 1


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_objective(name):
    check_objective(OBJECTIVES.load(name)())


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_algorithm(name):
    made = ALGORITHMS.load(name)(**LIGHT.get(name, {}))
    check_algorithm(made, walks=name in WALKS, exhausts=name not in PARTIAL)
