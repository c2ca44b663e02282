"""What a search takes on workers that nobody has yet: arithmetic, not measurement.

Memory is what the staged runner holds: the weights, the states of one micro-batch between blocks
and those that are kept, and one piece of logits. Seconds are those of one dense pass, scaled.
"""

import math
from dataclasses import dataclass

from evoprune.core.costs import CostTable

# Bytes that a worker's process holds before it has a model: Python, torch, transformers and Ray.
PROCESS = 0.5e9
# What an accelerator's context takes beside them, of the accelerator's memory.
CONTEXT = 0.5e9
# Bytes that an evaluation's journal record takes: with a dozen genes, and for each gene more.
RECORD, GENE = 650, 3
# Bytes that the calibration set takes per token: the token, and the dense model's 64 likeliest.
TOKEN = 8 + 64 * 8


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network in stages that its memory follows from.

    Attributes:
        weights: bytes of its parameters, as they are computed with.
        flops: of a dense pass, per token.
        itemsize: bytes of a number.
        hidden: width of the state between two blocks.
        widest: largest width inside a block.
        vocabulary: logits per position.
        blocks: stages between embedding and head.
    """

    weights: float
    flops: float
    itemsize: int
    hidden: int
    widest: int
    vocabulary: int
    blocks: int

    @classmethod
    def of(cls, table: CostTable, vocabulary: int, blocks: int, itemsize: int) -> "Sizes":
        """Returns the sizes that a cost table tells.

        Args:
            table: of a network whose head is a matrix (vocabulary, hidden).
            vocabulary: rows of that matrix.
            blocks: stages between embedding and head.
            itemsize: bytes of a number.
        """
        shapes = {
            row.name: (tuple(sum(part.size for part in dim) for dim in row.dims), row)
            for row in table.rows
        }
        matrices = [(shape, row) for shape, row in shapes.values() if len(shape) == 2]
        total = {
            metric: sum(
                row.weights.get(metric, 0.0) * math.prod(shape) for shape, row in shapes.values()
            )
            for metric in ("bytes", "flops")
        }
        return cls(
            weights=total["bytes"],
            flops=total["flops"],
            itemsize=itemsize,
            hidden=max((shape[1] for shape, _ in matrices if shape[0] == vocabulary), default=0),
            widest=max(
                (max(shape) for shape, row in matrices if row.gates and row.tensor), default=0
            ),
            vocabulary=vocabulary,
            blocks=blocks,
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker.

    Attributes:
        weights: of the base: mapped once per node, or one copy on each worker's accelerator.
        states: of one micro-batch after every block, and what is widest within one; and those that
            are kept for candidates that begin alike.
        logits: of the positions that are scored at once, in float32, and one working copy.
        examples: the calibration set with the dense model's reference.
    """

    weights: float
    states: float
    logits: float
    examples: float

    @property
    def on_device(self) -> float:
        """Bytes of an accelerator that one worker takes."""
        return CONTEXT + self.weights + self.states + self.logits

    @property
    def private(self) -> float:
        """Bytes of the machine's memory that a worker without accelerator does not share."""
        return PROCESS + self.states + self.logits + self.examples


def memory(
    sizes: Sizes,
    batch_tokens: int,
    logits_at_once: int,
    positions: int,
    tokens: float,
    boundary_mb: int,
) -> Memory:
    """Returns what one worker holds.

    Args:
        sizes: of the network.
        batch_tokens: in a micro-batch.
        logits_at_once: that are held, in numbers.
        positions: that are scored at once at least.
        tokens: of the calibration set.
        boundary_mb: ``workers.boundary_mb``.
    """
    inside = (sizes.blocks + 2) * sizes.hidden + 3 * sizes.widest
    rows = max(positions, logits_at_once // sizes.vocabulary)
    return Memory(
        weights=sizes.weights,
        states=float(batch_tokens * inside * sizes.itemsize + (boundary_mb << 20)),
        logits=float(2 * rows * sizes.vocabulary * 4),
        examples=tokens * TOKEN,
    )


def seconds(n_eval: int, together: int, each: float, workers: int) -> float:
    """Returns the seconds of a search.

    A generation is done when its last candidate is: workers beyond its size find nothing to do.

    Args:
        n_eval: evaluations.
        together: that the algorithm asks for at once.
        each: seconds of one, on one worker.
        workers: how many there are.
    """
    whole, rest = divmod(n_eval, together)
    rounds = whole * math.ceil(together / workers) + math.ceil(rest / workers)
    return rounds * each


def journal_bytes(n_eval: int, genes: int) -> float:
    """Returns about how long the journal of a search gets."""
    return float(n_eval * (RECORD + GENE * genes))
