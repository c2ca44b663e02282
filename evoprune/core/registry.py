"""Named parts that are imported only when they are used.

A registry maps a name to ``"module:attribute"``. Packages add names through entry points
(``evoprune.criteria``, ``evoprune.objectives`` …), scripts through ``register`` or ``--plugin``.
"""

import hashlib
import importlib
import importlib.util
import os.path
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from evoprune.core.errors import ConfigError, did_you_mean

# How the modules of plug-ins begin.
PLUGIN = "evoprune_plugin_"


class Registry:
    """The parts of one kind, by name.

    Args:
        kind: the word for one part, used in messages.
        group: the entry-point group that adds parts to it.
        entries: built-in names and where they live (``"module:attribute"``).
        purpose: what its parts are for, in a line for ``evoprune ls``.
    """

    def __init__(
        self, kind: str, group: str, entries: Mapping[str, str], purpose: str = ""
    ) -> None:
        self.kind = kind
        self.group = group
        self.purpose = purpose
        self._entries: dict[str, str | Any] = dict(entries)
        self._entry_points_read = False

    def register(self, name: str, target: str | Any) -> None:
        """Adds a part: an object, or ``"module:attribute"`` to import on first use.

        Raises:
            ConfigError: the name is taken by something else, or a search is going on.
        """
        known = self._all()
        if name in known and not _same(known[name], target):
            raise ConfigError(
                f"There already is a {self.kind} named '{name}'.",
                "Register yours under another name.",
            )
        if _frozen and name not in known:  # a worker of this process loads plug-ins again
            raise ConfigError(
                f"The {self.kind} '{name}' is registered while a search is going on, which has "
                "looked up its parts already.",
                "Register it before, in a plug-in file (`plugins:` or --plugin) or an entry point.",
            )
        self._entries[name] = target

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        return sorted(self._all())

    def load(self, name: str) -> Any:
        """Returns the part, importing it if need be.

        Raises:
            ConfigError: no such name.
        """
        known = self._all()
        if name not in known:
            raise ConfigError(f"There is no {self.kind} '{name}'.", did_you_mean(name, known))
        target = known[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"The {self.kind} '{name}' cannot be imported from '{target}': {error}.",
                    "Install what it needs, or mend the package that adds it.",
                ) from error
            self._entries[name] = target
        return target

    def origin(self, name: str) -> str:
        """Returns where a part comes from: the package, or the file of a plug-in."""
        target = self._all()[name]
        if isinstance(target, str):
            return target.partition(":")[0].partition(".")[0]
        module = str(getattr(target, "__module__", ""))
        file = getattr(sys.modules.get(module), "__file__", None)
        return str(file) if module.startswith(PLUGIN) and file else module.partition(".")[0]

    def _all(self) -> dict[str, str | Any]:
        # Entry points are read late so that `import evoprune` does not walk site-packages.
        if not self._entry_points_read:
            self._entry_points_read = True
            for point in entry_points(group=self.group):
                self._entries.setdefault(point.name, point.value)
        return self._entries


_frozen = False


@contextmanager
def frozen() -> Iterator[None]:
    """Lets nothing be registered while the context lasts: what a search is made of is settled."""
    global _frozen
    before, _frozen = _frozen, True
    try:
        yield
    finally:
        _frozen = before


def _same(known: Any, target: Any) -> bool:
    """Returns whether two parts are one, maybe loaded twice from one plug-in."""
    if known is target or known == target:
        return True
    places = [
        (getattr(part, "__module__", None), getattr(part, "__qualname__", part))
        for part in (known, target)
    ]
    return places[0] == places[1] and str(places[0][0]).startswith(PLUGIN)


CRITERIA = Registry(
    "criterion",
    "evoprune.criteria",
    {
        "activation": "evoprune.criteria.activation:Activation",
        "flap": "evoprune.criteria.flap:Flap",
        "magnitude": "evoprune.criteria.magnitude:Magnitude",
        "random": "evoprune.criteria.random:Random",
        "taylor": "evoprune.criteria.taylor:Taylor",
    },
    purpose="rank the units inside a site",
)
DATA = Registry(
    "data source",
    "evoprune.data",
    {
        "packages": "evoprune.data.packages:PackagesSource",
        "text": "evoprune.data.sources:TextSource",
        "jsonl": "evoprune.data.sources:JsonLinesSource",
        "csv": "evoprune.data.sources:CsvSource",
        "datasets": "evoprune.data.sources:DatasetsSource",
        "list": "evoprune.data.sources:ListSource",
        "digits": "evoprune.data.image_sources:DigitsSource",
        "npz": "evoprune.data.image_sources:NpzSource",
    },
    purpose="where examples come from",
)
_OBJECTIVES = {
    "token_accuracy": "quality:TokenAccuracy",
    "nll": "quality:Nll",
    "perplexity": "quality:Perplexity",
    "kl": "quality:Kl",
    "worst_cluster_retention": "robustness:WorstClusterRetention",
    "worst_cluster_kl": "robustness:WorstClusterKl",
    "cvar_kl": "robustness:CvarKl",
    "accuracy": "classification:Accuracy",
    "ood_auroc": "classification:OodAuroc",
    "units": "cost:Units",
    "sparsity": "cost:Sparsity",
    "params": "cost:Params",
    "flops": "cost:Flops",
    "bytes": "cost:Bytes",
    "kv_bytes": "cost:KvBytes",
}
OBJECTIVES = Registry(
    "objective",
    "evoprune.objectives",
    {name: f"evoprune.objectives.{place}" for name, place in _OBJECTIVES.items()},
    purpose="what is traded off",
)
FAMILIES = Registry(
    "family",
    "evoprune.families",
    {
        "decoder": "evoprune.families.decoder:Decoder",
        "sparse_head": "evoprune.families.sparse_head.family:SparseHead",
        "transformer": "evoprune.families.transformer.family:Transformer",
    },
    purpose="how networks are taken apart",
)
BACKBONES = Registry(
    "backbone",
    "evoprune.backbones",
    {"digits": "evoprune.families.sparse_head.backbone:train_digits_backbone"},
    purpose="shipped networks that heads are put on",
)
TASKS = Registry(
    "task",
    "evoprune.tasks",
    {
        "causal_lm": "evoprune.tasks.causal_lm:CausalLM",
        "classification": "evoprune.tasks.classification:Classification",
        "image_classification": "evoprune.tasks.labelled:ImageClassification",
        "text_classification": "evoprune.tasks.labelled:TextClassification",
    },
    purpose="what networks are for",
)
# Simple ways to prune: each is a warm start, an algorithm and a control.
_RULES = {
    "uniform": "evoprune.searching.rules:Uniform",
    "last_k": "evoprune.searching.rules:LastK",
    "block_influence": "evoprune.searching.blockwise:BlockInfluence",
    "adapt_pruner": "evoprune.searching.blockwise:AdaptPruner",
    "cka": "evoprune.searching.blockwise:Cka",
    "additive": "evoprune.searching.additive:Additive",
}
ALGORITHMS = Registry(
    "algorithm",
    "evoprune.algorithms",
    {
        "nsga2": "evoprune.searching.algorithms:Nsga2",
        "random": "evoprune.searching.algorithms:Random",
        "exhaustive": "evoprune.searching.exhaustive:Exhaustive",
        "greedy": "evoprune.searching.greedy:Greedy",
        "moevoprune": "evoprune.searching.algorithms:MoEvoPrune",
        "nsga3": "evoprune.searching.algorithms:Nsga3",
        "smsemoa": "evoprune.searching.algorithms:SmsEmoa",
        "surrogate_nsga2": "evoprune.searching.surrogate:SurrogateNsga2",
        "one_plus_lambda": "evoprune.searching.evopress:OnePlusLambda",
        "evop": "evoprune.searching.evop:Evop",
        "evop_corrected": "evoprune.searching.evop:EvopCorrected",
        **_RULES,
    },
    purpose="what proposes candidates",
)
STARTS = Registry(
    "warm start",
    "evoprune.starts",
    {
        "dense": "evoprune.searching.rules:Dense",
        "greedy": "evoprune.searching.greedy:Greedy",
        **_RULES,
    },
    purpose="where a search starts",
)
ADAPTS = Registry(
    "recovery",
    "evoprune.adapts",
    {"bias_compensation": "evoprune.recover.bias:BiasCompensation"},
    purpose="mend what stays after a cut",
)
SAMPLERS = Registry(
    "calibration sampler",
    "evoprune.samplers",
    {
        "ccds": "evoprune.calibration.samplers:Ccds",
        "random": "evoprune.calibration.samplers:Random",
        "first": "evoprune.calibration.samplers:First",
        "evop": "evoprune.calibration.samplers:Evop",
    },
    purpose="pick the calibration set",
)

LOGGERS = Registry(
    "logger",
    "evoprune.loggers",
    {
        "csv": "evoprune.progress.loggers:Csv",
        "mlflow": "evoprune.progress.loggers:MLflow",
        "tensorboard": "evoprune.progress.loggers:TensorBoard",
        "wandb": "evoprune.progress.loggers:WandB",
    },
    purpose="are told of the course of a search",
)

REGISTRIES = {
    "adapts": ADAPTS,
    "criteria": CRITERIA,
    "data": DATA,
    "objectives": OBJECTIVES,
    "families": FAMILIES,
    "loggers": LOGGERS,
    "tasks": TASKS,
    "algorithms": ALGORITHMS,
    "backbones": BACKBONES,
    "samplers": SAMPLERS,
    "starts": STARTS,
}

# What ``evoprune ls`` can list beside the parts of a registry.
OTHERS = {
    "controls": "what a search is compared with",
    "experiments": "configurations that ship",
    "keys": "every key of a configuration, its default and meaning (or `ls keys search.`)",
    "sites": "the prunable places of a model (`ls sites MODEL` or `ls sites CONFIG`)",
    "spaces": "what may be removed",
}


def kinds() -> dict[str, str]:
    """Returns what can be listed, with a line on each, in alphabetical order."""
    purposes = {name: registry.purpose for name, registry in REGISTRIES.items()}
    return dict(sorted({**purposes, **OTHERS}.items()))


def load_plugin(path: str | Path) -> None:
    """Runs a Python file that registers parts.

    Raises:
        ConfigError: the file is missing or fails to run.
    """
    file = Path(path)
    if not os.path.isfile(file):
        raise ConfigError(f"The plug-in '{file}' does not exist.", "Give the path of a .py file.")
    name = f"{PLUGIN}{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"'{file}' is not a Python file.", "Give the path of a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"The plug-in '{file}' failed: {type(error).__name__}: {error}.",
            "Run it with python to see where.",
        ) from error
