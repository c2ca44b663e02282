"""What a search is handed as objects, where a configuration can only name things."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evoprune.config.sections import Part, with_source
from evoprune.core.errors import ConfigError, ModelError
from evoprune.data.memory import DocumentsInMemory, ImagesInMemory, in_memory
from evoprune.objectives.function import FunctionObjective, handed_over


@dataclass(frozen=True)
class Live:
    """The objects of one search; the configuration that it runs by names each by a hash.

    Attributes:
        model: a live module, instead of the weights that ``model`` names.
        source: data, instead of what ``data`` names.
        objectives: functions by the names they have in the configuration.
        tokenizer: of the model, instead of the one that lies beside its weights.
    """

    model: Any = None
    source: DocumentsInMemory | ImagesInMemory | None = None
    objectives: Mapping[str, FunctionObjective] = field(default_factory=dict)
    tokenizer: Any = None

    @classmethod
    def of(
        cls, model: Any, data: Any, objectives: Mapping[str, Any] | None, tokenizer: Any = None
    ) -> "Live":
        """Returns what ``evoprune.search`` was handed, checked.

        Raises:
            ModelError: the model is no module, or the tokenizer none.
            DataError: the data are of no sort that is known.
            ConfigError: an objective is no decorated function.
        """
        if model is not None and not hasattr(model, "state_dict"):
            raise ModelError(
                f"The model handed over is {type(model).__name__}, no module.",
                "Hand over the module itself, or name it in `model.name_or_path`.",
            )
        if tokenizer is not None and not (callable(tokenizer) and hasattr(tokenizer, "decode")):
            raise ModelError(
                f"The tokenizer handed over is {type(tokenizer).__name__}.",
                "Hand over what AutoTokenizer.from_pretrained gives.",
            )
        source = None if data is None else in_memory(data)
        return cls(model, source, handed_over(objectives or {}), tokenizer)

    def named_in(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of an experiment that say what was handed over.

        Objectives that the settings do not name are added to its objectives.

        Raises:
            ConfigError: a function is given options.
        """
        named = dict(settings)
        if self.model is not None:
            named["model"] = self._with_name(named.get("model"), named.get("task"))
        if self.source is not None:
            named["data"] = with_source(named.get("data"), self.source.part)
        missing = dict(self.objectives)
        for section in ("objectives", "columns"):
            entries = named.get(section)
            if isinstance(entries, list):
                named[section] = [self._with_identity(entry) for entry in entries]
                for entry in entries:
                    missing.pop(_name_of(entry), None)
        if missing:
            parts = [self._with_identity(name) for name in missing]
            named["objectives"] = [*(named.get("objectives") or []), *parts]
        return named

    def _with_name(self, section: Any, task: Any) -> Any:
        """Returns the section ``model``, with the model's name where it has none.

        What transformers loaded says where from; another model is called as its class is. A
        network of another sort, for a task that is not about text, is a backbone.

        Args:
            section: what a person wrote, if anything.
            task: the section ``task``.
        """
        section = {} if section is None else section
        if not isinstance(section, Mapping) or {"name_or_path", "factory"} & set(section):
            return section
        config = getattr(self.model, "config", None)
        kind = type(self.model).__name__
        if hasattr(config, "save_pretrained") or _name_of(task or "causal_lm") == "causal_lm":
            return {**section, "name_or_path": getattr(config, "_name_or_path", "") or kind}
        return {"family": "sparse_head", **section, "factory": kind}

    def is_named_as(self, name: str) -> bool:
        """Returns whether a name says no more of the model than its class: it is in no folder."""
        return self.model is not None and name == type(self.model).__name__

    @property
    def reads_tokens(self) -> bool:
        """Whether the data are tokens already, so that no tokenizer is needed."""
        documents = getattr(self.source, "found", ())
        one_each = [one.tokens for one in documents] if isinstance(documents, tuple) else []
        return bool(one_each) and None not in one_each

    def _with_identity(self, entry: Any) -> Any:
        """Returns an entry of a list of objectives; of a function with what identifies it."""
        name = _name_of(entry)
        if name not in self.objectives:
            return entry
        identity = self.objectives[name].identity
        if Part.model_validate(entry).options not in ({}, identity):
            raise ConfigError(
                f"The objective '{name}' is a function, which takes no options.",
                "Name it alone, or write it as a class (README, «adding your own»).",
            )
        return {"type": name, **identity}


NOTHING = Live()


def _name_of(entry: Any) -> str:
    return str(entry.get("type", "") if isinstance(entry, Mapping) else entry)
