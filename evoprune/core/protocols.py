"""The seams between the layers: what an objective, an evaluation and an evaluator are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from evoprune.core.costs import CostTable
from evoprune.core.metrics import Table
from evoprune.core.pattern import Pattern
from evoprune.core.space import Space

Goal = Literal["min", "max"]
Failure = Literal["deterministic", "transient"]
FAILURES: tuple[Failure, ...] = ("deterministic", "transient")
Cause = Literal["memory", "timeout", "crash"]


@runtime_checkable
class TableObjective(Protocol):
    """A number read off the tables of passes, and the tables of the dense model beside them.

    ``deterministic`` is False where the same pattern may get another value on another day.
    ``passes`` names the passes whose tables it needs; objectives that share one share the forward.
    """

    goal: Goal
    unit: str
    deterministic: bool
    passes: tuple[str, ...]

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns the objective's value; not finite where it cannot be told."""
        ...


@runtime_checkable
class CostObjective(Protocol):
    """A number known from the cost table alone, for a whole population at once."""

    goal: Goal
    unit: str
    deterministic: bool

    def costs(self, table: CostTable, space: Space, X: np.ndarray) -> np.ndarray:
        """Returns the value of each candidate of ``X`` (P, n_var), float64 (P,)."""
        ...


Objective = TableObjective | CostObjective


@dataclass(frozen=True)
class Hints:
    """What was measured of the dense network on the calibration set, for rules that go by it.

    Attributes:
        influence: 1 − the mean cosine of what enters and what leaves a site, for every block and
            every part of a block (ShortGPT's block influence).
        parts: the parts of the blocks, in the order in which they run; a block without parts
            stands for itself.
        similarity: the linear CKA of the states after any two of them (parts, parts).
        scores: the criterion's scores of the units of sites with a bits gene, by site.
    """

    influence: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    similarity: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


NO_HINTS = Hints()


@dataclass(frozen=True)
class Evaluation:
    """What became of a pattern at a rung of a split.

    Attributes:
        pattern: the pattern.
        split: ``search``, ``validation`` or ``report``.
        rung: the rung's number; -1 is the whole split.
        values: objective name → value; empty if it failed.
        seconds: worker seconds.
        model_seconds: those of them in which the network was cut and run.
        metric_seconds: those in which its outputs were measured; the rest is overhead.
        tokens: dense-equivalent tokens (or images) that the pattern takes at that rung from
            nothing, in units of dense work: a function of pattern, split and rung alone. What a
            search executed is less where a rung adds rows to another (``search.loop``).
        error: why it failed, if it did.
        failure: ``deterministic`` if it would fail again, ``transient`` if it might not.
        cause: of a transient failure: memory ran out, it took too long, or it killed its worker.
        tables: pass → table, where the caller asked for them.
    """

    pattern: Pattern
    split: str
    rung: int
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: float = 0.0
    error: str | None = None
    failure: Failure | None = None
    cause: Cause | None = None
    model_seconds: float = 0.0
    metric_seconds: float = 0.0
    tables: Mapping[str, Table] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the evaluation as a journal record."""
        record: dict[str, Any] = {
            "type": "evaluation",
            "id": self.pattern.id,
            "pattern": self.pattern.to_json(),
            "split": self.split,
            "rung": self.rung,
            "values": dict(self.values),
            "seconds": round(self.seconds, 6),
            "model_seconds": round(self.model_seconds, 6),
            "metric_seconds": round(self.metric_seconds, 6),
            "tokens": self.tokens,
        }
        if self.error is not None:
            record |= {"error": self.error, "failure": self.failure}
        if self.cause is not None:
            record["cause"] = self.cause
        if self.tables:
            record["tables"] = {name: table.to_json() for name, table in self.tables.items()}
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Evaluation":
        """Returns the evaluation of a journal record.

        Raises:
            ValueError: it is no whole evaluation.
        """
        try:
            return cls._read(record)
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"no evaluation: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, record: Mapping[str, Any]) -> "Evaluation":
        pattern = Pattern.from_json(record["pattern"])
        if pattern.id != record["id"] or not isinstance(record["split"], str):
            raise ValueError("its id is not that of its pattern")
        for number in (record["seconds"], record["tokens"], *record["values"].values()):
            if type(number) not in (int, float):
                raise ValueError(f"{number!r} is no number")
            float(number)  # a whole number may be larger than any float
        if type(record["rung"]) is not int or record.get("failure") not in (None, *FAILURES):
            raise ValueError("its rung or its failure cannot be read")
        if (record.get("error") is None) != (record.get("failure") is None):
            raise ValueError("it failed without a reason")
        return cls(
            pattern=pattern,
            split=record["split"],
            rung=record["rung"],
            values=record["values"],
            seconds=record["seconds"],
            tokens=record["tokens"],
            error=record.get("error"),
            failure=record.get("failure"),
            cause=record.get("cause"),
            model_seconds=record.get("model_seconds", 0.0),
            metric_seconds=record.get("metric_seconds", 0.0),
            tables={
                name: Table.from_json(table) for name, table in record.get("tables", {}).items()
            },
        )


@dataclass(frozen=True)
class Request:
    """Patterns to evaluate.

    Attributes:
        patterns: which.
        split: on which examples.
        rung: on which slice of them; -1 for all.
        tables: whether tables come back.
        stopping: asked before each pattern; once it says yes no further one is begun.
        begun: pattern id → tables of its first rows, by pass, where a lower rung measured them;
            only the rows after them are measured.
    """

    patterns: Sequence[Pattern]
    split: str = "search"
    rung: int = -1
    tables: bool = False
    stopping: Callable[[], bool] = lambda: False
    begun: Mapping[str, Mapping[str, Table]] = field(default_factory=dict)

    def begun_of(self, patterns: Sequence[Pattern]) -> dict[str, Mapping[str, Table]]:
        """Returns what was begun of some of the patterns: what travels with them."""
        return {p.id: self.begun[p.id] for p in patterns if p.id in self.begun}


class Evaluator(Protocol):
    """Evaluates patterns; evaluations come as they finish, in any order."""

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields one evaluation for each pattern of the request."""
        ...

    def close(self) -> None:
        """Frees what the evaluator holds."""
        ...
