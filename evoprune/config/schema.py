"""The configuration of an experiment: the only place that validates what a person typed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from evoprune.config.sections import (
    SIZES,
    CalibrationConfig,
    DataConfig,
    ExportConfig,
    ModelConfig,
    Part,
    RungConfig,
    SearchConfig,
    Section,
    SpaceConfig,
    SplitConfig,
    WorkersConfig,
    load_data,
    load_space,
)
from evoprune.config.settings import PARTS, apply_overrides, joined, read_yaml
from evoprune.config.shipped import find
from evoprune.config.wording import explained
from evoprune.core.constraints import asked_rung, parse_constraints
from evoprune.core.errors import ConfigError
from evoprune.core.space import Space
from evoprune.core.tying import homogeneous_part

EXECUTION = {"workers", "controls", "export", "loggers", "output"}


class Config(Section):
    """One experiment. Everything but ``EXECUTION`` says what is searched and names the run;
    those sections may change between one call and the next.
    """

    model: ModelConfig
    """Which model is pruned."""
    data: Annotated[DataConfig, BeforeValidator(load_data)]
    """Examples, and their splits."""
    task: Part = Part(type="causal_lm")
    """What the model is for (`ls tasks`)."""
    calibration: CalibrationConfig = CalibrationConfig()
    """How the calibration set is picked."""
    rungs: tuple[RungConfig, ...] = ()
    """Cheap looks first: slices of the calibration set, and who goes on from each."""
    criterion: Part = Part(type="activation")
    """Ranks the units inside a site (`ls criteria`)."""
    adapt: Part | None = None
    """Mends what stays after a cut, without training (`ls adapts`)."""
    space: Annotated[SpaceConfig, BeforeValidator(load_space)]
    """What may be removed (`ls spaces`)."""
    objectives: tuple[Part, ...] = Field(min_length=1)
    """What is traded off (`ls objectives`); two or three of them."""
    columns: tuple[Part, ...] | None = None
    """Objectives measured for the front beside those searched; by default what the task has."""
    constraints: dict[str, str | float] = Field(default={})
    """Bounds on costs and objectives, such as `{params: "<=70%"}`; `{rung: homogeneous}` beside
    them leaves only what the model's stock class loads: equal widths, whole blocks."""
    search: SearchConfig
    """The algorithm and its budget."""
    validation: SplitConfig = SplitConfig()
    """The split that re-scores the front."""
    report: SplitConfig = SplitConfig()
    """The split that is read once, for the report."""
    controls: tuple[str, ...] = ("uniform", "last_k", "greedy", "random")
    """Simple ways to prune that the search is compared with (`ls controls`); `[]`: none."""
    export: ExportConfig = ExportConfig()
    """What is exported at the end."""
    workers: WorkersConfig = WorkersConfig()
    """Who evaluates."""
    loggers: tuple[Part, ...] = ()
    """Who is told of the course of a search (`ls loggers`)."""
    plugins: tuple[str, ...] = ()
    """Python files that register parts of your own."""
    output: str = Field(default="runs/{name}", min_length=1)
    """The run folder; `{name}` is what the file is called."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        names = [part.type for part in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError("an objective stands twice in objectives")
        for where, listed in {
            "columns": [part.type for part in self.columns or ()],
            "loggers": self.loggers,
            "controls": self.controls,
            "search.warm_starts": self.search.warm_starts,
            "export.picks": self.export.picks,
        }.items():
            if any(entry in listed[:i] for i, entry in enumerate(listed)):
                raise ValueError(f"an entry stands twice in {where}")
        parse_constraints(self.constraints)
        asked_rung(self.constraints)
        self._check_rungs()
        return self

    def _check_rungs(self) -> None:
        if any(rung.keep is None for rung in self.rungs[:-1]):
            raise ValueError("every rung but the last needs keep")
        if self.rungs and self.rungs[-1].keep is not None:
            raise ValueError("the last rung cannot have keep: nothing comes after it")
        sizes = [rung.samples for rung in self.rungs]
        if sizes != sorted(set(sizes)):
            raise ValueError("rungs must grow: each needs more samples than the one before")
        if sizes and sizes[-1] != self.calibration.samples:
            raise ValueError("the last rung must have calibration.samples samples")
        most = self.data.chunk_tokens - 1
        scored = [rung.positions_per_example or most + 1 for rung in self.rungs]
        for rung in self.rungs:
            asked = rung.positions_per_example
            if asked is not None and asked > most:
                raise ValueError(
                    f"positions_per_example is {asked}, and an example of data.chunk_tokens="
                    f"{most + 1} tokens has {most} positions"
                )
        if scored != sorted(scored):
            raise ValueError("a rung cannot score fewer positions_per_example than the one before")

    @property
    def held_to(self) -> str | None:
        """The rung of the export ladder that every pattern must reach, None if any will do."""
        return asked_rung(self.constraints) or self.space.rung

    def space_over(self, family: Any, model: Any) -> Space:
        """Returns the space that is searched over a model: what reaches the rung asked for.

        Args:
            family: that takes the model apart.
            model: as the family works on it.

        Raises:
            SpaceError: a rule matches nothing, no gene remains, or no pattern reaches the rung.
        """
        space = self.space.build(family.sites(model))
        if self.held_to is None:
            return space
        if not hasattr(family, "refusal"):
            return homogeneous_part(space)
        return homogeneous_part(space, partial(family.refusal, model.config))

    def __repr__(self) -> str:
        objectives = ", ".join(part.type for part in self.objectives)
        bounds = "".join(f", {name} {bound}" for name, bound in self.constraints.items())
        return (
            f"Config: {self.model.label}, data {self.data.source.type}, objectives {objectives}"
            f"{bounds}, {self.outline}, output '{self.output}'"
        )

    __str__ = __repr__

    @property
    def outline(self) -> str:
        """The space, the algorithm, the budget and the seed, in words."""
        search = self.search
        ends = [f"{s}={getattr(search, s):g}" for s in SIZES if getattr(search, s) is not None]
        parts = [f"space {self.space.name}", search.algorithm.type, *ends, f"seed {search.seed}"]
        return ", ".join(parts)

    def identity(self) -> dict[str, Any]:
        """Returns what names the run: everything that could change a value of it."""
        plain = json.loads(self.model_dump_json(exclude=EXECUTION))
        for size in SIZES:
            plain["search"].pop(size)
        for place in ("device", "device_map"):
            plain["model"].pop(place)
        for rung in plain["rungs"]:
            # A run that began before there was such a setting goes on.
            if rung["positions_per_example"] is None:
                rung.pop("positions_per_example")
        if plain["space"]["rung"] is None:
            plain["space"].pop("rung")
        for gene in plain["space"]["genes"]:
            if not gene["at_least"]:
                gene.pop("at_least")
        return dict(plain)

    def execution(self) -> dict[str, Any]:
        """Returns what may differ between two calls on one run folder."""
        plain = json.loads(self.model_dump_json(include=EXECUTION))
        plain["search"] = {size: getattr(self.search, size) for size in SIZES}
        plain["model"] = {"device": self.model.device, "device_map": self.model.device_map}
        return dict(plain)


def digest(value: Any) -> str:
    """Returns the SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    change: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
) -> Config:
    """Returns the validated configuration of a YAML file or a mapping.

    Args:
        source: a path (also of a shipped experiment) or the settings themselves.
        overrides: ``["search.n_eval=500"]`` or ``{"search.n_eval": 500}``.
        change: returns the settings that are validated, given those that were read.

    Raises:
        ConfigError: anything in it cannot be meant; names the key, the value and the remedy.
    """
    if isinstance(source, Mapping):
        settings, stem = dict(source), "run"
    else:
        path = find(str(source))
        settings = _of_run(path, read_yaml(path))
        stem = path.parent.name if path.stem == "config" else path.stem
    if isinstance(overrides, str) or not isinstance(overrides, Sequence | Mapping):
        raise ConfigError(
            f"The overrides are {overrides!r}.",
            "Give a list or a mapping: ['search.n_eval=500'] or {'search.n_eval': 500}.",
        )
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]
    settings = change(apply_overrides(settings, overrides))
    try:
        json.dumps(settings, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"A text of the configuration holds {error.object[error.start]!r}, half a character.",
            "Write the character itself.",
        ) from error
    if isinstance(settings.get("output", ""), str):
        settings["output"] = settings.get("output", "runs/{name}").replace("{name}", stem)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise explained(error, Config) from error


def _of_run(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings in a file; those of a run's own config.yaml go on with that run.

    Raises:
        ConfigError: a run's parts are damaged.
    """
    if set(settings) != PARTS:
        return settings
    try:
        whole = joined(settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"'{path}' is a run's configuration, and damaged: {type(error).__name__}: {error}.",
            "Restore it, or start from the file that the run was begun with.",
        ) from error
    # Beside a journal it names that run, wherever the folder was moved; a copy names a new one.
    in_run = path.name == "config.yaml" and (path.parent / "journal.jsonl").is_file()
    folder, here = path.parent, Path.cwd()
    if folder != here and folder.is_relative_to(here):
        folder = folder.relative_to(here)  # as it was given, so that messages stay short
    return {**whole, "output": str(folder) if in_run else "runs/{name}"}
