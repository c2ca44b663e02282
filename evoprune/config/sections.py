"""The sections of a configuration: what each holds, and what is checked of it by itself.

What stands under a field is what ``evoprune ls keys`` says of it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evoprune.config.settings import read_yaml
from evoprune.config.shipped import find
from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.registry import DATA
from evoprune.core.space import Site, Space
from evoprune.core.splits import SPLITS, WITH_TRAINING

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Some settings that belong together; unknown ones are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yields what is not as by default, which is all that a person wants to read."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.get_default(call_default_factory=True):
                yield name, value


def _holds_nan(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_nan, value))
    return isinstance(value, float) and math.isnan(value)


class Part(Section):
    """A registered part by name, with its options: ``kl`` or ``{type: cvar_kl, alpha: 0.2}``."""

    type: str
    """The name that it is registered by."""
    options: dict[str, Any] = {}
    """What it is made with."""

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

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yields the name, then the options."""
        yield None, self.type
        yield from self.options.items()

    def plain(self) -> dict[str, Any]:
        """Returns the part as it would be written in YAML."""
        return {"type": self.type, **self.options}


class ModelConfig(Section):
    """Which model is pruned, and how it is loaded (Hugging Face's words).

    A model that is no Hugging Face model comes from a ``factory``: a shipped backbone's name, or
    ``package.module:function``, with ``weights`` as safetensors. ``options`` are the family's.
    ``device_map: balanced`` spreads the blocks over all GPUs that a worker sees (``num_gpus``);
    ``streamed`` keeps them in the machine's memory and brings each to the device once for as many
    candidates as ``workers.boundary_mb`` has room for.
    """

    name_or_path: str = Field(default="", validate_default=False)
    """A folder that `save_pretrained` wrote, or a hub id."""
    factory: str | None = None
    """Instead: a shipped backbone (`ls backbones`), or `package.module:function`."""
    weights: str | None = None
    """Weights of what the factory makes, a safetensors file."""
    options: dict[str, Any] = {}
    """The family's own options; `factory` in it are the factory's arguments."""
    revision: str | None = None
    """Of a model on the hub: a branch, tag or commit."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Number format that the model is loaded and evaluated in."""
    device: str = "cpu"
    """Where workers hold it: `cpu`, `cuda`, or one of several, `cuda:1`."""
    device_map: Literal["balanced", "streamed"] | None = None
    """`balanced`: blocks spread over the GPUs that a worker sees (`workers.num_gpus`). `streamed`:
    kept in memory, and each brought to the device once for as many candidates as
    `workers.boundary_mb` has room for.
    """
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run here and in workers."""
    family: str = "auto"
    """How the model is taken apart (`ls families`); `auto` takes the first that fits."""

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


class CalibrationConfig(Section):
    """How the calibration set is picked from the pool of the search split."""

    sampler: Part = Part(type="ccds")
    """How the calibration set is picked (`ls samplers`)."""
    samples: Count = 48
    """Examples of the calibration set, on which every candidate is evaluated."""
    clusters: Count = 8
    """Groups of like examples; the worst one is what `worst_cluster_…` objectives read."""
    pool: Count | None = None
    """Examples of the search split that are embedded and clustered; by default all."""
    seed: int = 0
    """Of the pool, the clustering and the sampler."""


class RungConfig(Section):
    """A nested slice of the calibration set, and the share of candidates that goes on from it.

    ``positions_per_example`` scores only so many evenly spaced positions of each example: the
    blocks run on all of them, the head only there.
    """

    samples: Count
    """How many of the calibration set, the first ones; the last rung has them all."""
    keep: float | None = Field(default=None, gt=0, lt=1)
    """Share of the candidates of a generation that goes on to the next rung; not of the last."""
    positions_per_example: Count | None = None
    """Score only so many evenly spaced positions of each example: the blocks run on all of them,
    the head only there.
    """

    def shares_rows(self, before: "RungConfig") -> bool:
        """Returns whether this rung only adds rows to those of the one before it."""
        return self.positions_per_example == before.positions_per_example


SIZES = ("n_eval", "n_gen", "tokens", "seconds", "patience")


class SearchConfig(Section):
    """The algorithm, its budget and its seed (pymoo's words).

    The first bound that is reached ends the search: evaluations, generations, dense-equivalent
    tokens, seconds, or generations without a larger hypervolume (``patience``).
    """

    algorithm: Part = Part(type="surrogate_nsga2")
    """What proposes candidates (`ls algorithms`)."""
    n_eval: Count | None = None
    """End after so many evaluations."""
    n_gen: Count | None = None
    """End after so many generations."""
    tokens: float | None = Field(default=None, gt=0)
    """End after so many dense-equivalent tokens."""
    seconds: float | None = Field(default=None, gt=0)
    """End after so many seconds."""
    patience: Count | None = None
    """End after so many generations without a larger hypervolume."""
    seed: int = Field(default=0, ge=0)
    """Of the algorithm; the same seed gives the same search."""
    warm_starts: tuple[str, ...] = ("dense", "uniform", "last_k")
    """Where the search starts (`ls starts`)."""

    @model_validator(mode="after")
    def _some_end(self) -> "SearchConfig":
        if all(getattr(self, size) is None for size in SIZES):
            raise ValueError("a search needs an end: set n_eval or n_gen")
        return self


class SplitConfig(Section):
    """How much of a split is scored."""

    samples: Count = 96
    """Examples that are scored, with intervals over them."""


class ExportConfig(Section):
    """What is exported when the search has ended."""

    picks: tuple[str, ...] = ("balanced",)
    """Points of the front that are exported when the search has ended, as `export -p` names them.
    """
    verify: bool = True
    """Load each in a fresh process and compare it with what was searched."""


class WorkersConfig(Section):
    """Who evaluates: this process, or Ray actors on this machine or a cluster.

    ``num_cpus``, ``num_gpus`` and ``resources`` are what Ray sets aside for each actor
    (``num_cpus`` is its ``threads`` by default); ``runtime_env`` is passed to it as it is.
    ``boundary_mb`` bounds the states between blocks that each keeps for candidates that begin
    alike; with 0 they share nothing.
    """

    backend: Literal["auto", "local", "ray"] = "auto"
    """`local` is this process, `ray` are actors; `auto` is local for one worker."""
    count: Count | Literal["auto"] = "auto"
    """How many workers; `auto` takes what the cores, the GPUs or the cluster have room for."""
    threads: Count = 1
    """Threads of each worker."""
    num_cpus: float | None = Field(default=None, gt=0)
    """What Ray sets aside for each worker; by default its threads."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray sets aside for each worker; 0.5 puts two on one."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Further resources of each worker, as the cluster names them."""
    address: str | None = None
    """A running Ray cluster: `auto`, or `ray://HEAD:10001`."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds after which a candidate is given up (Ray only)."""
    boundary_mb: int = Field(default=512, ge=0)
    """MB of states between blocks that each worker keeps for candidates that begin alike; with 0
    they share nothing.
    """
    runtime_env: dict[str, Any] = {}
    """Passed to Ray as it is."""

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


class SpaceConfig(Section):
    """A search space: rules that turn a model's sites into genes."""

    family: str
    """The family whose sites the rules name."""
    genes: tuple[GeneSpec, ...] = Field(min_length=1)
    """The rules, each for sites of one kind; or the space is a name (`ls spaces`)."""
    include: tuple[str, ...] = ("*",)
    """Globs, or patterns after `re:`, of sites that may be pruned."""
    exclude: tuple[str, ...] = ()
    """Globs, or patterns after `re:`, of sites that stay as they are."""
    rung: Literal["homogeneous"] | None = None
    """Leave only patterns that reach this rung of the export ladder, whatever the rules offer."""
    name: str = "custom"
    """What the space is called."""

    def build(self, sites: Sequence[Site]) -> Space:
        """Returns the space over a model's sites.

        Raises:
            SpaceError: a rule matches nothing, or no gene remains.
        """
        return build_space(self.name, sites, self.genes, self.include, self.exclude)


def load_space(value: Any) -> Any:
    """A space is named (``decoder/depth``), a path, a mapping, or a named one with changes."""
    if isinstance(value, str):
        return {"name": value, **_read_space(value)}
    if isinstance(value, Mapping) and "base" in value:
        changes = {key: entry for key, entry in value.items() if key != "base"}
        return {"name": value["base"], **_read_space(str(value["base"])), **changes}
    return value


def _read_space(name: str) -> dict[str, Any]:
    return read_yaml(find(name if name.endswith(".yaml") else f"search_spaces/{name}.yaml"))


def load_data(value: Any) -> Any:
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
    found = load_data(section or {})
    if not isinstance(found, Mapping):
        return found  # type: ignore[no-any-return]
    named = {"source", "type"} & set(found)
    own = {key: found[key] for key in found if key in DataConfig.model_fields or not named}
    return {**own, "source": dict(source)}


class DataConfig(Section):
    """Where examples come from, how they are cut and how they are split."""

    source: Part
    """Where examples come from (`ls data`); its options may also stand beside the other keys."""
    fractions: dict[str, float] = {"search": 0.6, "validation": 0.2, "report": 0.2}
    """Shares of documents for `search`, `validation`, `report` and, for heads, `training`."""
    chunk_tokens: Annotated[int, Field(ge=8)] = 128
    """Tokens of an example: documents are cut into chunks of this length."""
    max_chunks_per_document: Count | None = 4
    """Chunks taken of one document, from its beginning; null takes all."""

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
        missing = set(SPLITS) - set(self.fractions)
        strange = set(self.fractions) - set(WITH_TRAINING)
        if strange:
            raise ValueError(f"there is no split '{min(strange)}'")
        shares = self.fractions.values()
        if missing or min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError("it needs search, validation and report: shares that sum to <= 1")
        return self
