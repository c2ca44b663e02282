"""A plain function as an objective: what identifies it, and what is refused."""

import pickle
from functools import partial

import cloudpickle
import numpy as np
import pytest

import evoprune
from evoprune.config.sections import Part
from evoprune.core.errors import ConfigError
from evoprune.core.metrics import Table
from evoprune.core.protocols import TableObjective
from evoprune.evaluation.live import Live
from evoprune.objectives.cost import Params
from evoprune.objectives.function import find, handed_over, objective

TABLES = {"clean": Table({"n": [1, 2], "kl": [3, 8]}, np.array([0, 1]))}
SCALE = 1.0


@objective(goal="min", unit="nats per token")
def worst(tables, dense):
    """The largest divergence."""
    table = tables["clean"]
    return SCALE * (table.columns["kl"] / table.columns["n"]).max()


def scaled(factor):
    """Returns functions with the same source."""

    @objective("max", passes="clean")
    def made(tables, dense):
        return factor

    return made


def part(name="worst", made=worst):
    return Part(type=name, options=made.identity)


def test_it_is_an_objective_and_still_a_function():
    assert evoprune.objective is objective
    assert isinstance(worst, TableObjective)
    assert (worst.goal, worst.unit, worst.passes) == ("min", "nats per token", ("clean",))
    assert worst.deterministic and worst.__doc__ == "The largest divergence."
    assert worst(TABLES, {}) == worst.value(TABLES, {}) == 4.0
    assert scaled(1).passes == ("clean",)


def test_identity_is_place_source_and_what_is_read_around_it(monkeypatch):
    assert worst.identity["function"] == f"{__name__}:worst"
    again = objective("min")(worst.function)
    assert again.identity == worst.identity
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    changed = objective("min")(worst.function)
    assert changed.identity != worst.identity
    assert scaled(1).identity == scaled(1).identity != scaled(2).identity


@pytest.mark.parametrize("made", [worst, scaled(3)])
def test_ray_can_send_it(made):
    assert pickle.loads(cloudpickle.dumps(made)).value(TABLES, {}) == made.value(TABLES, {})


@pytest.mark.parametrize(
    "function", [len, 3, partial(scaled, 1), lambda tables: 0.0, lambda a, b, *, c: 0.0]
)
def test_what_is_no_function_of_two_tables_is_refused(function):
    with pytest.raises(ConfigError, match=r"is no function of \(tables, dense\)"):
        objective("min")(function)


def test_a_goal_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="goal of an objective is 'minimum'"):
        objective("minimum")


def test_source_that_cannot_be_read_is_refused():
    scope = {}
    exec("def typed(tables, dense):\n    return 0.0\n", scope)
    with pytest.raises(ConfigError, match=r"source of the function '.*typed' cannot be read"):
        _ = objective("min")(scope["typed"]).identity


def test_only_decorated_functions_with_names_of_their_own_are_taken():
    assert handed_over({"worst": worst}) == {"worst": worst}
    with pytest.raises(ConfigError, match="'bare' is function, and has no goal"):
        handed_over({"bare": worst.function})
    with pytest.raises(ConfigError, match="'params' is Params, and has no goal"):
        handed_over({"params": Params()})
    with pytest.raises(ConfigError, match="already is an objective named 'kl'"):
        handed_over({"kl": worst})


def test_functions_without_names_are_refused():
    with pytest.raises(ConfigError, match="objectives handed over are list"):
        handed_over([worst])


def test_it_is_found_where_it_was_handed_over_or_defined():
    assert find(part(), {"worst": worst}) is worst
    assert find(part(), {}) is worst  # imported from this module
    assert find(Part(type="params"), {}) == Params()


def test_another_function_or_none_is_refused():
    other = scaled(1)
    with pytest.raises(ConfigError, match=r"'worst' was the function .* is another one now"):
        find(part(), {"worst": other})
    with pytest.raises(ConfigError, match=r"'made' was the function .* is not here"):
        find(part("made", other), {})
    gone = Part(type="gone", options={"function": "no_such_module:f", "sha256": "0"})
    with pytest.raises(ConfigError, match="is not here"):
        find(gone, {})


def test_settings_name_what_is_handed_over():
    live = Live.of(None, None, {"worst": worst, "more": scaled(1)})
    settings = {"objectives": ["kl", "worst"], "columns": [{"type": "nll"}], "data": "as it was"}
    named = live.named_in(settings)
    assert named["objectives"][:2] == ["kl", {"type": "worst", **worst.identity}]
    assert [entry["type"] for entry in named["objectives"][2:]] == ["more"]
    assert named["columns"] == [{"type": "nll"}] and named["data"] == "as it was"
    assert live.named_in(named) == named
    assert settings["objectives"] == ["kl", "worst"]


def test_a_function_named_among_the_columns_is_only_measured():
    live = Live.of(None, None, {"worst": worst})
    named = live.named_in({"objectives": ["kl"], "columns": ["worst"]})
    assert named["objectives"] == ["kl"] and named["columns"][0]["type"] == "worst"


def test_options_of_a_function_are_refused():
    live = Live.of(None, None, {"worst": worst})
    with pytest.raises(ConfigError, match="'worst' is a function, which takes no options"):
        live.named_in({"objectives": [{"type": "worst", "alpha": 2}]})
