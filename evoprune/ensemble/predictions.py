"""What members are chosen by: their answers on the validation split, held in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evoprune.core.pattern import Option
from evoprune.data.examples import Examples, Pass
from evoprune.ensemble.mixture import Mixture
from evoprune.evaluation.runner import Runner

if TYPE_CHECKING:
    import torch

Measure = Literal["nll", "accuracy"]
# Numbers held for selection: P patterns × M positions × S events.
HELD = 1 << 25


@dataclass(frozen=True)
class Predictions:
    """The answers of P patterns at M positions.

    Attributes:
        logits: (P, M, S) over the events that the task tells apart.
        targets: the right event (M,).
        rows: the example of each position (M,).
        clusters: that of its example (M,).
    """

    logits: "torch.Tensor"
    targets: "torch.Tensor"
    rows: np.ndarray
    clusters: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def nll(self) -> np.ndarray:
        """The negative log-likelihood of each pattern at each position, float64 (P, M)."""
        return np.stack([self._nll(one) for one in self.logits])

    @cached_property
    def wrong(self) -> np.ndarray:
        """Where each pattern's most likely event is not the right one, boolean (P, M).

        Nothing is most likely where a logit is not a number: that is wrong.
        """
        lost = self.logits.isnan().any(dim=-1)
        return ((self.logits.argmax(dim=-1) != self.targets) | lost).numpy()

    @cached_property
    def choices(self) -> np.ndarray:
        """Each pattern's most likely event at each position (P, M)."""
        return self.logits.argmax(dim=-1).numpy()

    def losses(self, measure: Measure) -> np.ndarray:
        """Returns what each pattern loses at each position, float64 (P, M): nats, or errors."""
        return self.nll if measure == "nll" else self.wrong.astype(np.float64)

    def order(self, measure: Measure) -> list[int]:
        """Returns the patterns from the best; equals by their nll, then by position."""
        keys = np.stack([self.losses(measure).mean(axis=1), self.nll.mean(axis=1)])
        return [int(i) for i in np.lexsort(keys[::-1])]

    def loss(self, mixture: Mixture, measure: Measure) -> tuple[float, float]:
        """Returns how a mixture does, to be minimised: the measure, then its nll.

        For ``accuracy`` the first is the share of errors.
        """
        answer = mixture.answer(self.logits, self.clusters)
        nll = float(self._nll(answer).mean())
        if measure == "nll":
            return nll, nll
        return float((answer.argmax(dim=-1) != self.targets).double().mean()), nll

    def _nll(self, logits: "torch.Tensor") -> np.ndarray:
        import torch

        nll = torch.nn.functional.cross_entropy(logits, self.targets, reduction="none")
        found: np.ndarray = nll.double().numpy()
        return found


def predict(
    runner: Runner, task: Any, options: Sequence[Mapping[str, Option]], examples: Examples
) -> Predictions:
    """Returns what patterns answer to the examples themselves.

    Of many or long examples an evenly spread part is taken, so that the answers can be held.

    Args:
        runner: runs the patterns.
        task: says which events are told apart (``events``).
        options: of each pattern.
        examples: the validation split.
    """
    import torch

    clean = examples.clean
    wide = sum(value.shape[-1] for value in clean.arrays.values() if value.ndim == 3)
    numbers = len(options) * float(clean.sizes.mean()) * max(wide, 1)
    count = max(1, min(len(clean), int(HELD / numbers)))
    chosen = np.linspace(0, len(clean) - 1, count).round().astype(np.int64)
    part = _taken(clean, chosen)
    pieces = []
    for block in runner.outputs(options, Examples({"clean": part})):
        logits, targets = task.events(block.logits, block.known)
        pieces.append((logits.cpu(), targets.cpu(), block.rows))
    logits, targets, found = zip(*pieces, strict=True)
    rows = torch.cat(found).numpy()
    held = torch.cat(logits, dim=1), torch.cat(targets)
    return Predictions(*held, chosen[rows], part.groups[rows])


def _taken(one: Pass, rows: np.ndarray) -> Pass:
    arrays = {name: value[rows] for name, value in one.arrays.items()}
    return Pass(arrays, one.groups[rows], one.sizes[rows])
