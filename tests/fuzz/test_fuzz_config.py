"""Configurations that nobody means: our own errors, or a configuration; never a traceback."""

import copy
import datetime
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evoprune.config.parts import build
from evoprune.config.schema import Config, digest, load_config
from evoprune.config.settings import read_yaml
from evoprune.core.constraints import parse_constraints
from evoprune.core.errors import ConfigError, EvopruneError, SpaceError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.registry import ADAPTS, ALGORITHMS, CRITERIA, DATA, LOGGERS, SAMPLERS, TASKS
from evoprune.core.space import Gene, Keep, Site, Space
from evoprune.folder.layout import RunFolder, plain_name
from evoprune.searching.controls import control
from evoprune.searching.warm import start

VALID: dict[str, Any] = {
    "model": {"name_or_path": "nowhere", "dtype": "float32", "device": "cpu"},
    "data": {
        "type": "jsonl",
        "files": ["texts.jsonl"],
        "chunk_tokens": 32,
        "fractions": {"search": 0.5, "validation": 0.25, "report": 0.25},
    },
    "calibration": {"sampler": {"type": "ccds"}, "samples": 12, "clusters": 3, "pool": 40},
    "rungs": [{"samples": 4, "keep": 0.5}, {"samples": 12}],
    "criterion": "activation",
    "adapt": {"type": "bias_compensation"},
    "space": {
        "family": "decoder",
        "genes": [{"kind": "mlp", "drop": True}, {"kind": "channels", "keep": [0.75, 0.5]}],
        "include": ["*"],
        "exclude": [],
    },
    "objectives": ["kl", {"type": "cvar_kl", "alpha": 0.2}, "sparsity"],
    "columns": ["nll", "params"],
    "constraints": {"params": "<=70%", "kl": "<0.5"},
    "search": {"algorithm": {"type": "nsga2", "pop_size": 8}, "n_eval": 40, "seed": 0},
    "validation": {"samples": 8},
    "report": {"samples": 8},
    "controls": ["uniform", "random"],
    "export": {"picks": ["knee"], "verify": True},
    "workers": {"backend": "ray", "count": 2, "num_gpus": 0.5, "timeout_s": 60},
    "loggers": ["csv"],
    "plugins": [],
    "output": "runs/mine",
}
NONSENSE = [
    *(None, True, False, -1, 0, 1, -0.5, 10**30, -(10**400), math.nan, math.inf, -math.inf, 1e-320),
    *(
        "",
        " ",
        "nan",
        "knee",
        "../../etc/passwd",
        "/",
        "\0",
        "a" * 5000,
        "re:(",
        "<=nan%",
        "params<=",
    ),
    *([], [[]], {}, [None], {"": ""}, {"type": None}, {"type": "nsga2", "pop_size": -4}),
    *({"base": "../.."}, {"base": "decoder/depth", "genes": []}, {1: 2}, {"type": []}),
    *(datetime.date(2026, 1, 1), b"\xff", {1, 2}),
]
VALUES = st.sampled_from(NONSENSE) | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(["type", "samples", "base", "genes", "n_eval", "x"]) | st.text(max_size=5)


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Returns the paths of everything in nested mappings and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at] if at else []
    if isinstance(value, dict | list):
        for key, entry in inner:
            found += places(entry, (*at, key)) if isinstance(entry, dict | list) else [(*at, key)]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Returns a sound configuration in which a few things were replaced, removed or added."""
    made = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(made)))
        at: Any = made
        for step in way:
            at = at[step]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "repeat"]))
        if kind == "replace":
            at[last] = copy.deepcopy(draw(VALUES))
        elif kind == "remove":
            del at[last]
        elif kind == "add" and isinstance(at, dict):
            at[draw(KEYS)] = copy.deepcopy(draw(VALUES))
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
        if not made:
            break
    return made


def use(config: Config) -> None:
    """Does with a configuration what a search does before it opens the model."""
    for registry, part in [
        (ALGORITHMS, config.search.algorithm),
        (SAMPLERS, config.calibration.sampler),
        (CRITERIA, config.criterion),
        (TASKS, config.task),
        (DATA, config.data.source),
        *((ADAPTS, part) for part in [config.adapt] if part),
        *((LOGGERS, part) for part in config.loggers),
    ]:
        build(registry, part)
    for name in config.controls:
        control(name)
    for name in config.search.warm_starts:
        start(name)
    parse_constraints(config.constraints)
    kinds = [Site("a", "mlp", 1), *(Site(f"b{i}", "channels", 48, "a") for i in range(2))]
    config.space.build(kinds)
    digest(config.identity())
    parts = yaml.safe_load(
        yaml.safe_dump({"identity": config.identity(), "execution": config.execution()})
    )
    settings = parts["identity"]
    for section in ("search", "model"):
        settings[section] |= parts["execution"].pop(section)
    assert Config.model_validate({**settings, **parts["execution"]}) == config


def survives(settings: Any, overrides: Any = ()) -> bool:
    """Returns whether settings were taken; anything but an error of ours is raised."""
    try:
        use(load_config(settings, overrides))
    except EvopruneError as error:
        assert error.cause.endswith(".") and error.remedy.endswith((".", "?")), str(error)
        return False
    return True


def test_the_configuration_that_is_mutated_is_sound():
    assert survives(VALID)


def check_settings(made: dict[str, Any]) -> None:
    survives(made)


def check_overrides(overrides: list[str]) -> None:
    survives(VALID, overrides)


def check_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        found = read_yaml(path)
    except EvopruneError:
        return
    survives(found)


OVERRIDES = st.lists(
    st.tuples(
        st.sampled_from([".".join(map(str, at)) for at in places(VALID)]) | st.text(max_size=12),
        st.sampled_from(["=", "+=", ""]),
        VALUES.map(lambda value: json.dumps(value, default=str)) | st.text(max_size=12),
    ).map("".join),
    max_size=3,
)
TEXT = yaml.safe_dump(VALID).encode()


@st.composite
def damaged_text(draw: st.DrawFn) -> bytes:
    """Returns the text of a configuration with bytes changed, cut out or put in."""
    data = bytearray(TEXT)
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        data[at : at + size] = draw(
            st.binary(max_size=6) | st.sampled_from([b"&a", b"*a", b"!!", b"{"])
        )
    return bytes(data)


QUICK = settings(max_examples=300, deadline=None)
LONG = settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(mutated())
def test_mutated_settings(made):
    check_settings(made)


@QUICK
@given(OVERRIDES)
def test_made_up_overrides(overrides):
    check_overrides(overrides)


@QUICK
@given(damaged_text())
def test_damaged_files(tmp_path_factory, data):
    check_file(tmp_path_factory.getbasetemp() / "fuzzed.yaml", data)


@pytest.mark.slow
@LONG
@given(mutated())
def test_many_mutated_settings(made):
    check_settings(made)


@pytest.mark.slow
@LONG
@given(OVERRIDES)
def test_many_made_up_overrides(overrides):
    check_overrides(overrides)


@pytest.mark.slow
@LONG
@given(damaged_text())
def test_many_damaged_files(tmp_path_factory, data):
    check_file(tmp_path_factory.getbasetemp() / "fuzzed.yaml", data)


REFUSED = {
    "negative population": {
        "search": {"algorithm": {"type": "nsga2", "pop_size": -4}, "n_eval": 9}
    },
    "no evaluations": {"search": {"n_eval": 0}},
    "negative samples": {"calibration": {"samples": -1}},
    "negative rung": {"rungs": [{"samples": -4, "keep": 0.5}, {"samples": 12}]},
    "negative workers": {"workers": {"count": -2}},
    "negative threads": {"workers": {"threads": 0}},
    "negative GPUs": {"workers": {"num_gpus": -1}},
    "a time-out of nothing": {"workers": {"timeout_s": 0}},
    "a time-out that never comes": {"workers": {"timeout_s": math.nan}},
    "a time-out in this process": {"workers": {"backend": "local", "timeout_s": 5}},
    "resources of no cluster": {"workers": {"resources": {"fast": 1}}},
    "negative seed": {"search": {"n_eval": 9, "seed": -1}},
    "a share above one": {"data": {"type": "jsonl", "files": [], "fractions": {"search": 2}}},
    "no rules": {"space": {"family": "decoder", "genes": []}},
    "nothing kept": {"space": {"family": "decoder", "genes": [{"kind": "mlp", "keep": [0.0]}]}},
    "nothing included": {"space": VALID["space"] | {"include": []}},
    "everything excluded": {"space": VALID["space"] | {"exclude": ["*"]}},
    "unknown split": {
        "data": VALID["data"] | {"fractions": {"search": 0.5, "validation": 0.2, "test": 0.3}}
    },
    "one split too many": {
        "data": VALID["data"]
        | {"fractions": {"search": 0.5, "validation": 0.2, "report": 0.2, "test": 0.1}}
    },
    "NaN share": {
        "data": VALID["data"]
        | {"fractions": {"search": math.nan, "validation": 0.2, "report": 0.2}}
    },
    "NaN budget": {"constraints": {"params": math.nan}},
    "NaN budget in words": {"constraints": {"params": "<=nan%"}},
    "infinite budget": {"constraints": {"params": "<=1e999"}},
    "NaN evaluations": {"search": {"n_eval": math.nan}},
    "an objective twice": {"objectives": ["kl", "kl"]},
    "a column twice": {"columns": ["nll", "nll"]},
    "a control twice": {"controls": ["uniform", "uniform"]},
    "a logger twice": {"loggers": ["csv", "csv"]},
    "a logger outside": {"loggers": [{"type": "csv", "file": "../x.csv"}]},
    "a warm start twice": {"search": {"n_eval": 9, "warm_starts": ["dense", "dense"]}},
    "rungs that shrink": {"rungs": [{"samples": 12, "keep": 0.5}, {"samples": 4}]},
    "a space outside": {"space": "../../secret"},
    "output of nothing": {"output": ""},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case):
    assert not survives(VALID | REFUSED[case]), case


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", ".", "", "a\\b", "a\0b", "x/"])
def test_names_lead_nowhere_else(name):
    with pytest.raises(ConfigError, match="no plain name"):
        plain_name(name)


SITES = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.integers(-2, 5),
        st.none() | st.sampled_from("abcdez"),
    ),
    min_size=1,
    max_size=6,
)


@given(SITES)
def test_sites_in_circles_without_parents_or_twice_are_no_space(rows):
    names = [name for name, _, _ in rows]
    parents = dict(zip(names, (parent for _, _, parent in rows), strict=True))

    def lost(name: str) -> bool:
        seen: set[str] = set()
        at: str | None = name
        while at is not None:
            if at in seen or at not in parents:
                return True
            seen.add(at)
            at = parents[at]
        return False

    wrong = len(set(names)) < len(names) or any(map(lost, names))
    wrong |= any(units < 1 for _, units, _ in rows)
    data = {
        "name": "made",
        "sites": [[name, "block", units, parent] for name, units, parent in rows],
        "genes": [
            {
                "name": names[0],
                "sites": [names[0]],
                "bits": 0,
                "options": [{"keep": 1}, {"drop": 1}],
            }
        ],
    }
    if wrong:
        with pytest.raises(SpaceError):
            Space.from_json(data)
    else:
        assert len(Space.from_json(data).sites) == len(rows)


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ([("a", 1, "b"), ("b", 1, "a")], "lies in itself"),
        ([("a", 1, "a")], "lies in itself"),
        ([("a", 1, "nowhere")], "no parent 'nowhere'"),
        ([("a", 1, None), ("a", 2, None)], "stands 2 times"),
        ([("a", -1, None)], "-1 units"),
        ([], "has no genes"),
    ],
    ids=["cyclic parents", "own parent", "no parent", "duplicate names", "negative", "empty"],
)
def test_sites_that_make_no_sense_are_named(sites, said):
    gene = {"name": "a", "sites": ["a"], "bits": 0, "options": [{"keep": 1}, {"drop": 1}]}
    rows = [[name, "block", units, parent] for name, units, parent in sites]
    with pytest.raises(SpaceError, match=said):
        Space.from_json({"name": "made", "sites": rows, "genes": [gene] if sites else []})


def test_a_site_of_two_genes_and_a_gene_of_an_unknown_site_are_refused():
    sites = {"a": Site("a", "block", 1)}
    two = Gene("x", ("a",), (Keep(1),)), Gene("y", ("a",), (Keep(1),))
    with pytest.raises(SpaceError, match="2 genes"):
        Space(sites, two)
    with pytest.raises(SpaceError, match="'b'"):
        Space(sites, (Gene("x", ("b",), (Keep(1),)),))


@given(
    st.builds(
        dict,
        kind=st.sampled_from(["mlp", "channels", "x"]),
        drop=st.booleans(),
        keep=st.lists(st.floats(-1, 2), max_size=3).map(tuple),
        round_to=st.integers(-1, 100),
        bits=st.booleans(),
        include=st.lists(st.text(max_size=4) | st.just("*"), max_size=2).map(tuple),
        tie=st.lists(st.sampled_from(["b*", "*", "re:(", "c"]), max_size=2).map(tuple),
    )
)
def test_rules_make_a_space_or_an_error_of_ours(options):
    sites = [Site("a", "mlp", 1), *(Site(f"b{i}", "channels", 7, "a") for i in range(3))]
    try:
        space = build_space("made", sites, [GeneSpec(**options)])
    except (ValueError, SpaceError):
        return
    assert space.pattern(space.upper) and space.size >= 1


def test_a_run_folder_s_configuration_that_was_edited_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    for text in ("", "[]", "identity: {}", "identity: {}\nexecution: {}", "\0", "{" * 2000):
        folder.config.write_text(text)
        with pytest.raises(EvopruneError):
            folder.load()
