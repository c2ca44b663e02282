"""What is known about patterns: the journal's evaluations, and an evaluator for the rest."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from evoprune.core.metrics import Table
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, Evaluator, Request
from evoprune.folder.journal import Journal, evaluation_key


class Archive:
    """Evaluations by pattern, split and rung. Nothing that finished is ever evaluated again.

    Attributes:
        computed: evaluations made by this process.
        known: answers that the journal gave instead.
        draining: set to end every archive of this process once what is being evaluated is
            journalled.
    """

    draining = False

    def __init__(
        self,
        journal: Journal,
        evaluator: Callable[[], Evaluator],
        heard: Callable[[Evaluation, bool], None] = lambda evaluation, new: None,
    ) -> None:
        """Reads the journal.

        Args:
            journal: an open journal.
            evaluator: makes the evaluator when the first unknown pattern comes, so that a
                finished run can be read without workers.
            heard: told every answer, and whether it was made now.
        """
        self._journal, self._heard = journal, heard
        self._make = evaluator
        self._evaluator: Evaluator | None = None
        self._found: dict[str, Evaluation] = {}
        self.computed = self.known = 0
        self._events: list[dict[str, Any]] = []
        for record in journal.records():
            if record.get("type") == "event":
                self._events.append(record)
            if record.get("type") != "evaluation":
                continue
            # A transient failure (out of memory, a lost node) is worth another try.
            if record.get("failure") != "transient":
                evaluation = Evaluation.from_json(record)
                self._found[self._key(evaluation.pattern, evaluation.split, evaluation.rung)] = (
                    evaluation
                )

    @staticmethod
    def _key(pattern: Pattern, split: str, rung: int) -> str:
        return evaluation_key(pattern.id, split, rung)

    def get(
        self,
        patterns: Sequence[Pattern],
        split: str = "search",
        rung: int = -1,
        tables: bool = False,
        observe: Callable[[Evaluation], None] = lambda evaluation: None,
        carry: bool = False,
        begun: Mapping[str, Mapping[str, Table]] = MappingProxyType({}),
    ) -> list[Evaluation]:
        """Returns an evaluation for each pattern, in order; unknown ones are made and journalled.

        Args:
            patterns: the patterns; repetitions are evaluated once.
            split: which examples.
            rung: which slice of them.
            tables: whether tables are journalled with new evaluations.
            observe: called with each new evaluation as it comes.
            carry: whether new evaluations are returned with their tables, which only whoever
                asked then holds.
            begun: pattern id → tables of its first rows, which are not measured again.
        """
        keys = [self._key(pattern, split, rung) for pattern in patterns]
        missing = {
            key: pattern
            for key, pattern in zip(keys, patterns, strict=True)
            if key not in self._found
        }
        self.known += len(patterns) - len(missing)
        for key in keys:
            if key in self._found:
                self._heard(self._found[key], False)
        carried: dict[str, Evaluation] = {}
        if missing:
            if self._evaluator is None:
                self._evaluator = self._make()
            request = Request(
                list(missing.values()),
                split,
                rung,
                tables or carry,
                lambda: Archive.draining,
                begun,
            )
            for evaluation in self._evaluator.evaluate(request):
                key = self._key(evaluation.pattern, split, rung)
                if carry:
                    carried[key] = evaluation
                    evaluation = replace(evaluation, tables=evaluation.tables if tables else {})
                self._journal.append([evaluation.to_json()])
                self._found[key] = evaluation
                self.computed += 1
                self._heard(evaluation, True)
                observe(evaluation)
            if Archive.draining:
                raise KeyboardInterrupt
        return [carried.get(key, self._found[key]) for key in keys]

    def evaluations(self, split: str) -> list[Evaluation]:
        """Returns all that is known of a split, in the journal's order."""
        return [found for found in self._found.values() if found.split == split]

    def event(self, name: str, **details: object) -> None:
        """Journals an event."""
        self._journal.append([{"type": "event", "event": name, **details}])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the events of that name which the journal held when it was opened."""
        return [event for event in self._events if event.get("event") == name]

    def close(self) -> None:
        """Ends the workers, if any were started."""
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None


def usable(evaluation: Evaluation, names: Iterable[str]) -> bool:
    """Returns whether an evaluation has a finite value for each of some objectives."""
    return evaluation.error is None and all(
        math.isfinite(evaluation.values.get(name, math.nan)) for name in names
    )
