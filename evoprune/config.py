"""The configuration of an experiment: the only place that validates what a person typed."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from evoprune.constraints import parse_constraints
from evoprune.errors import ConfigError, did_you_mean
from evoprune.genes import GeneSpec, build_space
from evoprune.registry import DATA, Registry
from evoprune.settings import apply_overrides, read_yaml
from evoprune.shipped import find
from evoprune.space import Site, Space
from evoprune.wording import explained, plainly

Count = Annotated[int, Field(ge=1)]
EXECUTION = {"workers", "controls", "export", "loggers", "output"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _holds_nan(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_nan, value))
    return isinstance(value, float) and math.isnan(value)


class Part(_Section):
    """A registered part by name, with its options: ``kl`` or ``{type: cvar_kl, alpha: 0.2}``."""

    type: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"type": value}
        if isinstance(value, Mapping) and set(value) != {"type", "options"}:
            own = {"type": value["type"]} if "type" in value else {}
            return {**own, "options": {key: value[key] for key in value if key != "type"}}
        return value

    @field_validator("options")
    @classmethod
    def _no_nan(cls, options: dict[str, Any]) -> dict[str, Any]:
        if name := next((name for name, value in options.items() if _holds_nan(value)), None):
            raise ValueError(f"{name} is not a number")
        return options

    def plain(self) -> dict[str, Any]:
        """Returns the part as it would be written in YAML."""
        return {"type": self.type, **self.options}


class ModelConfig(_Section):
    """Which model is pruned, and how it is loaded (Hugging Face's words).

    A model that is no Hugging Face model comes from a ``factory``: a shipped backbone's name, or
    ``package.module:function``, with ``weights`` as safetensors. ``options`` are the family's.
    ``device_map: balanced`` spreads the blocks over all GPUs that a worker sees (``num_gpus``);
    ``streamed`` keeps them in the machine's memory and brings each to the device once for as many
    candidates as ``workers.boundary_mb`` has room for.
    """

    name_or_path: str = Field(default="", validate_default=False)
    factory: str | None = None
    weights: str | None = None
    options: dict[str, Any] = {}
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    device: str = "cpu"
    device_map: Literal["balanced", "streamed"] | None = None
    trust_remote_code: bool = False
    family: str = "auto"

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        if bool(self.name_or_path) == bool(self.factory):
            raise ValueError("it needs either name_or_path or factory")
        if self.device_map == "balanced" and self.device != "cuda":
            raise ValueError("device_map: balanced spreads a model over GPUs: set device: cuda")
        return self

    @property
    def label(self) -> str:
        """What the model is called."""
        return self.name_or_path or str(self.factory)


class CalibrationConfig(_Section):
    """How the calibration set is picked from the pool of the search split."""

    sampler: Part = Part(type="ccds")
    samples: Count = 48
    clusters: Count = 8
    pool: Count | None = None
    seed: int = 0


class RungConfig(_Section):
    """A nested slice of the calibration set, and the share of candidates that goes on from it.

    ``positions_per_example`` scores only so many evenly spaced positions of each example: the
    blocks run on all of them, the head only there.
    """

    samples: Count
    keep: float | None = Field(default=None, gt=0, lt=1)
    positions_per_example: Count | None = None

    def shares_rows(self, before: "RungConfig") -> bool:
        """Returns whether this rung only adds rows to those of the one before it."""
        return self.positions_per_example == before.positions_per_example


SIZES = ("n_eval", "n_gen", "tokens", "seconds", "patience")


class SearchConfig(_Section):
    """The algorithm, its budget and its seed (pymoo's words).

    The first bound that is reached ends the search: evaluations, generations, dense-equivalent
    tokens, seconds, or generations without a larger hypervolume (``patience``).
    """

    algorithm: Part = Part(type="surrogate_nsga2")
    n_eval: Count | None = None
    n_gen: Count | None = None
    tokens: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)
    patience: Count | None = None
    seed: int = Field(default=0, ge=0)
    warm_starts: tuple[str, ...] = ("dense", "uniform", "last_k")

    @model_validator(mode="after")
    def _some_end(self) -> "SearchConfig":
        if all(getattr(self, size) is None for size in SIZES):
            raise ValueError("a search needs an end: set n_eval or n_gen")
        return self


class SplitConfig(_Section):
    """How much of a split is scored."""

    samples: Count = 96


class ExportConfig(_Section):
    """What is exported when the search has ended."""

    picks: tuple[str, ...] = ("balanced",)
    verify: bool = True


class WorkersConfig(_Section):
    """Who evaluates: this process, or Ray actors on this machine or a cluster.

    ``num_cpus``, ``num_gpus`` and ``resources`` are what Ray sets aside for each actor
    (``num_cpus`` is its ``threads`` by default); ``runtime_env`` is passed to it as it is.
    ``boundary_mb`` bounds the states between blocks that each keeps for candidates that begin
    alike; with 0 they share nothing.
    """

    backend: Literal["auto", "local", "ray"] = "auto"
    count: Count | Literal["auto"] = "auto"
    threads: Count = 1
    num_cpus: float | None = Field(default=None, gt=0)
    num_gpus: float = Field(default=0, ge=0)
    resources: dict[str, Annotated[float, Field(gt=0)]] = {}
    address: str | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    boundary_mb: int = Field(default=512, ge=0)
    runtime_env: dict[str, Any] = {}

    @model_validator(mode="after")
    def _only_ray_can(self) -> "WorkersConfig":
        asked = [name for name in ("address", "timeout_s", "runtime_env") if getattr(self, name)]
        if self.backend == "local" and asked:
            raise ValueError(f"{asked[0]} needs backend: ray")
        if self.resources and not self.address:
            raise ValueError("resources are those of a cluster: give its address")
        if {"CPU", "GPU", "memory"} & set(self.resources):
            raise ValueError("resources are named by a cluster; CPU and GPU are num_cpus, num_gpus")
        return self

    @property
    def in_ray(self) -> bool:
        """Whether only Ray can do what is asked, however many workers there are."""
        return bool(self.address or self.timeout_s or self.runtime_env) or self.backend == "ray"


class SpaceConfig(_Section):
    """A search space: rules that turn a model's sites into genes."""

    family: str
    genes: tuple[GeneSpec, ...] = Field(min_length=1)
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    name: str = "custom"

    def build(self, sites: Sequence[Site]) -> Space:
        """Returns the space over a model's sites.

        Raises:
            SpaceError: a rule matches nothing, or no gene remains.
        """
        return build_space(self.name, sites, self.genes, self.include, self.exclude)


def _load_space(value: Any) -> Any:
    """A space is named (``decoder/depth``), a path, a mapping, or a named one with changes."""
    if isinstance(value, str):
        return {"name": value, **_read_space(value)}
    if isinstance(value, Mapping) and "base" in value:
        changes = {key: entry for key, entry in value.items() if key != "base"}
        return {"name": value["base"], **_read_space(str(value["base"])), **changes}
    return value


def _read_space(name: str) -> dict[str, Any]:
    return read_yaml(find(name if name.endswith(".yaml") else f"search_spaces/{name}.yaml"))


def _load_data(value: Any) -> Any:
    """Data are a path, a mapping, or a path with changes (``base``)."""
    if isinstance(value, str):
        return read_yaml(find(value))
    if isinstance(value, Mapping) and "base" in value:
        changes = {key: entry for key, entry in value.items() if key != "base"}
        return {**read_yaml(find(str(value["base"]))), **changes}
    return value


def with_source(section: Any, source: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a ``data`` section whose examples come from another source, cut as it says.

    Args:
        section: what a person wrote, if anything.
        source: type and options of the source.
    """
    found = _load_data(section or {})
    if not isinstance(found, Mapping):
        return found  # type: ignore[no-any-return]
    named = {"source", "type"} & set(found)
    own = {key: found[key] for key in found if key in DataConfig.model_fields or not named}
    return {**own, "source": dict(source)}


class DataConfig(_Section):
    """Where examples come from, how they are cut and how they are split."""

    source: Part
    fractions: dict[str, float] = {"search": 0.6, "validation": 0.2, "report": 0.2}
    chunk_tokens: Annotated[int, Field(ge=8)] = 128
    max_chunks_per_document: Count | None = 4

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "source" not in value:
            if "type" not in value:
                choices = ", ".join(DATA.names())
                raise ConfigError("The setting 'data.type' is missing.", f"Add it: {choices}.")
            own = {key: value[key] for key in value if key in cls.model_fields}
            source = {key: value[key] for key in value if key not in cls.model_fields}
            cls._check_options(source)
            return {"source": source, **own}
        return value

    @classmethod
    def _check_options(cls, source: Mapping[str, Any]) -> None:
        """Refuses what neither this section nor the source knows; near misses may be of either."""
        if source["type"] not in DATA.names():
            return  # a plug-in may add it, or what builds it refuses it
        made = DATA.load(source["type"])
        known = {"type", *(f.name for f in fields(made))} if is_dataclass(made) else set(source)
        for name in source:
            if name not in known:
                raise ConfigError(
                    f"There is no setting 'data.{name}'.",
                    did_you_mean(name, known | {*cls.model_fields} - {"source"}),
                )

    @model_validator(mode="after")
    def _three_splits(self) -> "DataConfig":
        missing = {"search", "validation", "report"} - set(self.fractions)
        strange = set(self.fractions) - {"training", "search", "validation", "report"}
        if strange:
            raise ValueError(f"there is no split '{min(strange)}'")
        shares = self.fractions.values()
        if missing or min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError("it needs search, validation and report: shares that sum to <= 1")
        return self


class Config(_Section):
    """One experiment. Everything but ``EXECUTION`` says what is searched and names the run;
    those sections may change between one call and the next.
    """

    model: ModelConfig
    data: Annotated[DataConfig, BeforeValidator(_load_data)]
    task: Part = Part(type="causal_lm")
    calibration: CalibrationConfig = CalibrationConfig()
    rungs: tuple[RungConfig, ...] = ()
    criterion: Part = Part(type="activation")
    adapt: Part | None = None
    space: Annotated[SpaceConfig, BeforeValidator(_load_space)]
    objectives: tuple[Part, ...] = Field(min_length=1)
    columns: tuple[Part, ...] | None = None
    constraints: dict[str, str | float] = {}
    search: SearchConfig
    validation: SplitConfig = SplitConfig()
    report: SplitConfig = SplitConfig()
    controls: tuple[str, ...] = ("uniform", "last_k", "greedy", "random")
    export: ExportConfig = ExportConfig()
    workers: WorkersConfig = WorkersConfig()
    loggers: tuple[Part, ...] = ()
    plugins: tuple[str, ...] = ()
    output: str = Field(default="runs/{name}", min_length=1)

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
        settings = read_yaml(path)
        stem = path.parent.name if path.stem == "config" else path.stem
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


def build(registry: Registry, part: Part, **given: Any) -> Any:
    """Returns a registered part made with its options.

    Args:
        registry: where the part is looked up.
        part: its name and options.
        given: further arguments that are not for a person to set.

    Raises:
        ConfigError: no such part, no such option, or a value that it does not take.
    """
    made = registry.load(part.type)
    if not is_dataclass(made):
        raise ConfigError(
            f"The {registry.kind} '{part.type}' is no dataclass, so it cannot be given options.",
            "Decorate its class with @dataclass(frozen=True).",
        )
    known = {f.name: f for f in fields(made) if f.init and f.name not in given}
    for name in part.options:
        if name not in known:
            raise ConfigError(
                f"The {registry.kind} '{part.type}' has no option '{name}'.",
                did_you_mean(name, known),
            )
    for name, f in known.items():
        if name not in part.options and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(
                f"The {registry.kind} '{part.type}' needs the option '{name}'.", "Add it."
            )
    try:
        return TypeAdapter(made).validate_python({**part.options, **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = plainly(first["msg"])
        raise ConfigError(
            f"The option '{where}' of the {registry.kind} '{part.type}' is "
            f"{first['input']!r}: {message}.",
            "Mend that option.",
        ) from error
