"""The configuration: what it refuses and how it says so, overrides, identity and parts."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from evoprune import cli
from evoprune.config.parts import build
from evoprune.config.schema import Config, load_config
from evoprune.config.sections import Part
from evoprune.config.settings import apply_overrides, read_yaml
from evoprune.core.errors import ConfigError
from evoprune.core.registry import OBJECTIVES, REGISTRIES, Registry, load_plugin

SETTINGS = {
    "model": {"name_or_path": "somewhere"},
    "data": {"type": "text", "files": ["a.txt"]},
    "space": "decoder/depth",
    "objectives": ["kl", "sparsity"],
    "search": {"n_eval": 5},
}
RULES = {"family": "decoder", "genes": [{"kind": "block", "drop": True}]}


def refused(overrides=(), **sections):
    """Returns what is said about settings that are refused."""
    with pytest.raises(ConfigError) as error:
        load_config(SETTINGS | sections, overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"modle": {}}, "There is no setting 'modle'. Did you mean 'model'?"),
        (
            {"search": {"n_evals": 5}},
            "There is no setting 'search.n_evals'. Did you mean 'n_eval'?",
        ),
        (
            {"rungs": [{"samples": 5, "kep": 0.5}]},
            "There is no setting 'rungs.0.kep'. Did you mean 'keep'?",
        ),
        (
            {"space": {"family": "decoder", "genes": [{"kind": "block", "dropp": True}]}},
            "There is no setting 'space.genes.0.dropp' (1 more after it). Did you mean 'drop'?",
        ),
        (
            {"data": {"type": "text", "files": [], "chunk_token": 9}},
            "There is no setting 'data.chunk_token'. Did you mean 'chunk_tokens'?",
        ),
        (
            {"data": {"type": "text", "file": []}},
            "There is no setting 'data.file'. Did you mean 'files'?",
        ),
    ],
)
def test_an_unknown_setting_is_named_with_its_near_miss(sections, message):
    assert refused(**sections) == message


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"files": []}}, "The setting 'data.type' is missing. Add it: csv, dat"),
        ({"space": {**RULES, "genes": [{"drop": True}]}}, "'space.genes.0.kind' is missing"),
        ({"search": {"n_eval": 0}}, "'search.n_eval' is 0: Input should be greater"),
        ({"search": {}}, "In 'search': a search needs an end: set n_eval or n_gen."),
        (
            {"search": {"n_eval": 5, "algorithm": {"pop_size": 8}}},
            "The setting 'search.algorithm.type' is missing. Add it.",
        ),
        ({"objectives": "kl"}, "'objectives' is 'kl': Input should be a list."),
        ({"objectives": []}, "'objectives' is []: List should have at least 1 item"),
        ({"objectives": ["kl", "kl"]}, "an objective stands twice in objectives."),
        ({"model": "x"}, "'model' is 'x': Input should be a mapping."),
        ({"workers": {"backend": "rays"}}, "'workers.backend' is 'rays': Input should be 'auto'"),
        ({"constraints": {"params": "70"}}, "The constraint 'params: 70' cannot be read."),
        ({"constraints": {"rung": "homogenous"}}, "rung: homogenous' names no rung that a search"),
        ({"rungs": [{"samples": 5}, {"samples": 48}]}, "every rung but the last needs keep."),
        ({"rungs": [{"samples": 9, "keep": 0.5}, {"samples": 9}]}, "rungs must grow"),
        ({"rungs": [{"samples": 9}]}, "the last rung must have calibration.samples samples"),
        ({"rungs": [{"samples": 48, "keep": 0.5}]}, "the last rung cannot have keep"),
        (
            {"rungs": [{"samples": 48, "positions_per_example": 0}]},
            "'rungs.0.positions_per_example' is 0: Input should be greater",
        ),
        (
            {"rungs": [{"samples": 48, "positions_per_example": 128}]},
            "positions_per_example is 128, and an example of data.chunk_tokens=128 tokens has 127",
        ),
        (
            {
                "rungs": [
                    {"samples": 9, "keep": 0.5, "positions_per_example": 9},
                    {"samples": 48, "positions_per_example": 8},
                ]
            },
            "a rung cannot score fewer positions_per_example than the one before",
        ),
        (
            {
                "rungs": [
                    {"samples": 9, "keep": 0.5},
                    {"samples": 48, "positions_per_example": 8},
                ]
            },
            "a rung cannot score fewer positions_per_example than the one before",
        ),
        (
            {"data": {"type": "text", "files": [], "fractions": {"search": 1}}},
            "In 'data': it needs",
        ),
        ({"space": {**RULES, "genes": [{"kind": "mlp", "round_to": 0}]}}, "round_to is 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_quoted(sections, message):
    assert message in refused(**sections)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("search:\n  n_eval: 3\n  seed: 1\n  n_eval: 4\n")
    with pytest.raises(ConfigError, match=r"the key 'n_eval' stands twice .* line 4, column 3"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("a: 1\n\tb: 2", "is not valid YAML"),
        ("- 1", "holds no settings"),
        ("", "holds no settings"),
        ("1: 2", "holds no settings"),
        ("a: " + "[" * 500, "is not valid YAML"),
    ],
)
def test_files_that_are_no_settings_are_refused(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_folder_or_bytes_are_no_settings(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(path)


def test_a_missing_file_is_named_with_the_nearest_shipped_one():
    with pytest.raises(ConfigError) as error:
        load_config("experiments/quikstart/config.yaml")
    assert error.value.remedy == "Did you mean 'experiments/quickstart/config.yaml'?"


def test_overrides_are_read_as_yaml():
    overrides = ["search.n_eval=7", "search.seed=3", "objectives=[nll, sparsity]", "output=a=b"]
    config = load_config(SETTINGS, overrides)
    assert (config.search.n_eval, config.search.seed) == (7, 3)
    assert [part.type for part in config.objectives] == ["nll", "sparsity"]
    assert config.output == "a=b"


def test_an_override_adds_to_a_list_what_is_not_in_it():
    overrides = ["objectives+=[nll, kl]", "plugins+=[a.py]", "plugins+=[b.py, a.py]"]
    config = load_config(SETTINGS, overrides)
    assert [part.type for part in config.objectives] == ["kl", "sparsity", "nll"]
    assert config.plugins == ("a.py", "b.py")


@pytest.mark.parametrize("override", ["space+=[a]", "objectives+=nll", "search+=[3]"])
def test_an_override_adds_lists_to_lists_only(override):
    with pytest.raises(ConfigError, match=r"adds to a list, and .* is none"):
        load_config(SETTINGS, [override])


def test_overrides_may_be_a_mapping():
    overrides = {"search.n_eval": 7, "output": Path("there"), "objectives": ["nll"]}
    config = load_config(SETTINGS, overrides)
    assert (config.search.n_eval, config.output, len(config.objectives)) == (7, "there", 1)


def test_overrides_lead_into_what_is_only_named():
    settings = SETTINGS | {"search": {"n_eval": 5, "algorithm": "nsga2"}, "calibration": None}
    overrides = [
        "search.algorithm.pop_size=8",
        "space.exclude=[layers.0]",
        "calibration.samples=9",
    ]
    config = load_config(settings, overrides)
    assert config.search.algorithm == Part(type="nsga2", options={"pop_size": 8})
    assert (config.space.name, config.space.exclude) == ("decoder/depth", ("layers.0",))
    assert config.calibration.samples == 9


def test_overrides_change_data_that_are_named(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("type: text\nfiles: [a.txt]\nchunk_tokens: 128\n")
    config = load_config(SETTINGS | {"data": str(path)}, ["data.chunk_tokens=64"])
    assert config.data.chunk_tokens == 64
    assert config.data.source.plain() == {"type": "text", "files": ["a.txt"]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nothing", "The override 'nothing' cannot be read."),
        ("=3", "The override '=3' cannot be read."),
        ("search..seed=3", "The override 'search..seed=3' cannot be read."),
        ("search.seed=[1", "The value of the override 'search.seed=[1' is not valid YAML."),
        ("search={n_eval: 3, n_eval: 4}", "is not valid YAML."),
        ("objectives.0=kl", 'The override \'objectives.0=kl\' leads into ["kl", "sparsity"].'),
        ("search.n_eval.x=3", "The override 'search.n_eval.x=3' leads into 5."),
    ],
)
def test_overrides_that_cannot_be_meant_are_refused(override, message):
    assert message in refused([override])


def test_overrides_leave_the_settings_alone():
    settings = {"search": {"n_eval": 5}}
    assert apply_overrides(settings, ["search.n_eval=6"]) == {"search": {"n_eval": 6}}
    assert settings == {"search": {"n_eval": 5}}


def test_a_space_is_a_name_a_path_a_mapping_or_a_name_with_changes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(RULES))
    forms = ["decoder/depth", str(path), RULES, {"base": "decoder/depth", "exclude": ["layers.0"]}]
    spaces = [load_config(SETTINGS | {"space": form}).space for form in forms]
    assert len({space.genes for space in spaces}) == 1
    assert [space.name for space in spaces] == [
        "decoder/depth",
        str(path),
        "custom",
        "decoder/depth",
    ]
    assert spaces[3].exclude == ("layers.0",)


def test_a_missing_space_is_named_with_the_nearest():
    assert "Did you mean 'search_spaces/decoder/depth.yaml'?" in refused(space="decoder/dept")


@pytest.mark.parametrize(
    "override",
    [
        "search.n_eval=6",
        "search.n_gen=3",
        "workers.count=3",
        "controls=[]",
        "export.picks=[]",
        "output=elsewhere",
        "model.device=cuda",
    ],
)
def test_execution_does_not_change_the_identity(override):
    before, after = load_config(SETTINGS), load_config(SETTINGS, [override])
    assert before != after
    assert before.identity() == after.identity()
    assert before.execution() != after.execution()


@pytest.mark.parametrize(
    "override",
    [
        "space=decoder/subblocks",
        "search.seed=1",
        "objectives=[kl]",
        "model.dtype=bfloat16",
        "calibration.samples=9",
        "data.chunk_tokens=64",
        "constraints={params: <=70%}",
    ],
)
def test_what_changes_values_changes_the_identity(override):
    assert load_config(SETTINGS).identity() != load_config(SETTINGS, [override]).identity()


def test_settings_that_came_later_leave_the_identity_of_older_runs_alone():
    plain = load_config(SETTINGS, ["space=decoder/depth"]).identity()
    assert all("at_least" not in gene for gene in plain["space"]["genes"])
    uniform = load_config(SETTINGS, ["space=decoder/uniform"]).identity()
    assert uniform["space"]["genes"][0]["at_least"] == 1


def test_identity_and_execution_together_are_the_configuration():
    config = load_config(SETTINGS, ["search.n_eval=9", "model.device=cuda"])
    whole, execution = config.identity(), config.execution()
    for section in ("search", "model"):
        whole[section] |= execution.pop(section)
    assert Config.model_validate(whole | execution) == config


def test_a_run_is_named_after_its_file(tmp_path):
    for name, stem in (("mine.yaml", "mine"), ("folder/config.yaml", "folder")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(SETTINGS))
        assert load_config(path).output == f"runs/{stem}"


@dataclass(frozen=True)
class Thing:
    """A part."""

    size: int
    kind: str = "plain"

    def __post_init__(self):
        """Refuses sizes below one."""
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")


class Bare:
    """A part that is no dataclass."""


@pytest.fixture
def things():
    return Registry("thing", "nobody.things", {"a_thing": Thing, "bare": Bare, "gone": "no.such:X"})


def test_a_part_is_built_with_its_options(things):
    part = Part.model_validate({"type": "a_thing", "size": 3})
    assert build(things, part) == Thing(3)
    assert build(things, Part(type="a_thing"), size=4) == Thing(4)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("a_think", "There is no thing 'a_think'. Did you mean 'a_thing'?"),
        ("a_thing", "The thing 'a_thing' needs the option 'size'. Add it."),
        (
            {"type": "a_thing", "sise": 3},
            "The thing 'a_thing' has no option 'sise'. Did you mean 'size'?",
        ),
        ({"type": "a_thing", "size": "x"}, "The option 'size' of the thing 'a_thing' is 'x'"),
        ({"type": "a_thing", "size": 0}, "size is 0; it must be at least 1"),
        ("bare", "The thing 'bare' is no dataclass"),
        ("gone", "The thing 'gone' cannot be imported from 'no.such:X'"),
    ],
)
def test_parts_that_cannot_be_built_are_refused(things, part, message):
    with pytest.raises(ConfigError) as error:
        build(things, Part.model_validate(part))
    assert message in str(error.value)


def test_a_name_is_registered_once(things):
    things.register("mine", Thing)
    things.register("mine", Thing)
    with pytest.raises(ConfigError, match="There already is a thing named 'mine'"):
        things.register("mine", Bare)
    assert things.names() == ["a_thing", "bare", "gone", "mine"]


def test_every_shipped_part_can_be_imported():
    for registry in REGISTRIES.values():
        assert all(registry.load(name).__doc__ for name in registry.names())
    assert {OBJECTIVES.load(name).goal for name in OBJECTIVES.names()} == {"min", "max"}


PLUGIN = """
from dataclasses import dataclass
from evoprune.objectives.quality import Nll
from evoprune.core.registry import OBJECTIVES

@dataclass(frozen=True)
class Doubled(Nll):
    factor: float = 2.0

    def value(self, tables, dense):
        return self.factor * super().value(tables, dense)

OBJECTIVES.register("doubled_nll", Doubled)
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    OBJECTIVES._entries.pop("doubled_nll", None)


def test_a_plugin_registers_an_objective_and_may_be_loaded_twice(plugin):
    load_plugin(plugin)
    load_plugin(plugin)
    part = Part.model_validate({"type": "doubled_nll", "factor": 3})
    assert build(OBJECTIVES, part).factor == 3.0


def test_a_plugins_objective_is_searched(plugin, tiny_config):
    import evoprune

    settings = tiny_config(objectives=["doubled_nll", "sparsity"], plugins=[str(plugin)])
    front = evoprune.search(settings, {"search.n_eval": 4}, quiet=True).front
    values = front.points[0].values
    assert values["search_doubled_nll"] == pytest.approx(2 * values["search_nll"])


def test_the_command_line_adds_plugins_to_those_of_the_configuration(
    plugin, tmp_path, tiny_config, monkeypatch, capsys
):
    here, more = tmp_path / "mine.yaml", tmp_path / "it's more.py"
    more.write_text("from evoprune.core.registry import ALGORITHMS\n")
    settings = tiny_config(objectives=["doubled_nll", "sparsity"], plugins=[str(plugin)])
    here.write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(sys, "argv", ["evoprune", "plan", str(here), "--plugin", str(more)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0, capsys.readouterr().err
    missing = [*sys.argv[:3], "--plugin", str(tmp_path / "none.py")]
    monkeypatch.setattr(sys, "argv", missing)
    with pytest.raises(SystemExit):
        cli.main()
    assert "none.py' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"), [(None, "does not exist"), ("1 / 0", "failed: ZeroDivisionError")]
)
def test_a_plugin_that_cannot_be_loaded_is_refused(tmp_path, text, message):
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_plugin(path)


@pytest.mark.parametrize("overrides", ["search.n_eval=3", 3])
def test_overrides_are_a_list_or_a_mapping(overrides):
    with pytest.raises(ConfigError, match=r"The overrides are .*Give a list or a mapping"):
        load_config({}, overrides)
