"""What every family promises, checked by random patterns of a space."""

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.costs import Row, entries
from evoprune.core.metrics import Table
from evoprune.core.pattern import Drop, Option, Pattern
from evoprune.core.space import Space
from evoprune.data.examples import Examples
from evoprune.evaluation.live import Live
from evoprune.evaluation.prepare import open_experiment
from evoprune.evaluation.realise import Realised
from evoprune.evaluation.runners import make_runner
from evoprune.evaluation.worker import Worker
from evoprune.families.flops import executed_flops
from evoprune.families.load import weights_digest
from evoprune.families.stages import batch_of, forward
from evoprune.folder.journal import encode
from evoprune.objectives.function import objective
from evoprune.progress.console import Console
from evoprune.run import search
from evoprune.searching.starts import stratified
from evoprune.session import open_session

if TYPE_CHECKING:
    import torch

# Of about how many patterns FLOPs are counted, and values compared: both are slow.
COUNTED, VALUED = 30, 64
SEARCH_EVALUATIONS = 20


def candidates(space: Space, count: int, seed: int = 0) -> np.ndarray:
    """Returns distinct canonical candidates (P, n_var): the extremes, then ``count`` random ones.

    Extremes are the dense pattern, all that can be removed, each variable at its most alone, and
    each alone left. Of a space that has no more candidates all are returned.
    """
    rng, upper = np.random.default_rng(seed), space.upper
    alone = np.diag(upper)
    found = [np.stack([np.zeros_like(upper), upper]), alone, upper - alone]
    wanted = len(np.unique(space.canonical(np.concatenate(found)), axis=0)) + count
    for _ in range(50):
        X = space.canonical(np.concatenate(found))
        _, first = np.unique(X, axis=0, return_index=True)
        X = X[np.sort(first)]
        if len(X) >= wanted:
            break
        found = [X, stratified(space, count, rng), rng.integers(0, upper + 1, (count, len(upper)))]
    return X[:wanted]


@dataclass(frozen=True)
class Standalone:
    """A pattern as a network of its own, built without what evaluates patterns.

    Attributes:
        params: how many parameters it holds.
        logits: of the contract's inputs (M, C).
    """

    params: int
    logits: "torch.Tensor"


class FamilyContract:
    """A prepared run of a family's tiny network, with the patterns to check it by.

    A family whose networks are no modules with the tensors of its cost table overrides
    ``standalone``, ``realised``, ``forward``, ``poison`` and ``weights``, and leaves out with
    ``skipped`` what it does not promise.

    Args:
        settings: of a search on a tiny network; in float64, or tolerances are too narrow.
        data: instead of those that the settings name.
        count: how many random patterns, beside the extremes.
        seed: of the random patterns.
    """

    CHECKS = ("dense", "original", "shrunk", "flops", "values", "failures", "search")
    skipped: tuple[str, ...] = ()
    tolerance = 1e-9  # relative to the largest logit, in float64

    def __init__(
        self, settings: Mapping[str, Any], data: Any = None, count: int = 200, seed: int = 0
    ) -> None:
        self.live = Live.of(None, data, None)
        self.settings, self.data = dict(settings), data
        self.config = load_config(settings, change=self.live.named_in)
        session = open_session(self.config, Console(stream=None), self.live)
        session.close()
        self.worker = Worker(session.spec)
        self.space, self.table = self.worker.space, self.worker.table
        self.candidates = candidates(self.space, count, seed)
        self.patterns = self.space.patterns(self.candidates)
        self.extremes = len(candidates(self.space, 0))
        self.parents = {site.name: site.parent for site in self.space.sites.values()}
        self._shell, self._whole = copy.deepcopy(self.worker.model), {}
        self._places: dict[int, list[tuple[Any, str]]] = {}
        if hasattr(self._shell, "modules"):
            if hasattr(self.worker.family, "layout"):
                self.worker.family.layout(self._shell)  # while it is whole
            self._whole = dict(self._shell.named_parameters(remove_duplicate=False))
            for module in self._shell.modules():
                for leaf, parameter in module._parameters.items():
                    self._places.setdefault(id(parameter), []).append((module, leaf))

    def check(self) -> None:
        """Checks all that is promised."""
        for name in self.CHECKS:
            if name not in self.skipped:
                getattr(self, f"check_{name}")()

    # What a family may do in its own way.

    @property
    def inputs(self) -> Examples:
        """The examples whose logits are compared."""
        return self.worker.examples("search").first(2)

    def realised(self, patterns: Sequence[Pattern]) -> "torch.Tensor":
        """Returns the logits of patterns (K, M, C), as they are evaluated."""
        return _logits(self.worker.runner, [self.space.options(one) for one in patterns], self)

    def standalone(self, pattern: Pattern) -> Standalone:
        """Returns a pattern as a network that holds nothing but what it keeps."""
        options = self.space.options(pattern)
        kept = Realised.of(options)
        cut = {}
        for row in self.table.tensors():
            whole = self._whole[row.name].data
            if kept.gone(row, self.parents):
                cut[row.name] = whole[:0]
            elif _touched(row, kept):
                cut[row.name] = _taken(whole, row, kept)
        drops = {site: option for site, option in options.items() if isinstance(option, Drop)}
        with self._with(cut, self._numbers(kept)) as network:
            params = sum(parameter.numel() for parameter in network.parameters())
            return Standalone(params, self._outputs(network, drops))

    def zeroed(self, pattern: Pattern) -> "torch.Tensor | None":
        """Returns the logits of the whole network with zeros for what a pattern removes (M, C).

        None for a family in which to remove is something else.
        """
        kept = Realised.of(self.space.options(pattern))
        zeros = {}
        for row in self.table.tensors():
            whole = self._whole[row.name].data
            if kept.gone(row, self.parents):
                zeros[row.name] = whole.new_zeros(whole.shape)
            elif _touched(row, kept):
                zeros[row.name] = _blanked(whole, row, kept)
        with self._with(zeros) as network:
            return self._outputs(network, {})

    def forward(self, pattern: Pattern) -> tuple[int, int]:
        """Returns the FLOPs of a forward pass as it is evaluated, and its tokens or images."""
        import torch

        runner, options = self.worker.runner, self.space.options(pattern)
        if not hasattr(self.worker.family, "stages"):
            return executed_flops(lambda: list(runner.outputs([options], self.inputs))), (
                self.inputs.work
            )
        clean = self.inputs.clean
        batch = batch_of(clean.arrays, slice(None), "cpu")
        stages = runner.stages  # type: ignore[attr-defined]
        with torch.inference_mode(), runner.realiser.apply(options) as realised:  # type: ignore[attr-defined]
            flops = executed_flops(lambda: stages.logits(forward(stages, batch, realised.dropped)))
        return flops, len(clean) * stages.positions(clean.arrays)

    def poison(self, worker: Worker) -> None:
        """Makes a worker's network give NaN."""
        for parameter in worker.model.parameters():
            parameter.data = parameter.data * np.nan

    def weights(self) -> str:
        """Returns a digest of the worker's network."""
        return weights_digest(self.worker.model)

    # What is checked.

    def check_dense(self) -> None:
        """The dense pattern is the base, bit for bit."""
        for split in ("search", "validation", "report"):
            found = self.worker.evaluate(self.space.dense, split, keep=True)
            assert found.error is None, f"the dense pattern fails on {split}: {found.error}"
            assert _same(found.tables, self.worker.examples(split).dense), (
                f"the dense pattern is not the base on {split}"
            )

    def check_original(self) -> None:
        """The base is the network as it was loaded, but for the order of sums."""
        opened = open_experiment(self.config, live=self.live)
        table = opened.family.table(opened.model, self.config.data.chunk_tokens)
        runner = make_runner(opened.family, opened.model, opened.task, table)
        theirs = _logits(runner, [{}], self)
        self._close(self.realised([self.space.dense])[0], theirs[0], "the base is not the network")

    def check_shrunk(self) -> None:
        """A realised pattern is the smaller network, and that holds what is counted."""
        counted = self.table.cost("params", self.space, self.candidates)
        realised = self.realised(self.patterns)
        for i, (pattern, logits) in enumerate(zip(self.patterns, realised, strict=True)):
            alone, name = self.standalone(pattern), f"the pattern {pattern.key}"
            same = alone.params == counted[i]
            assert same, f"{name} holds {alone.params}, {counted[i]:.0f} are counted"
            self._close(logits, alone.logits, f"{name} is not the network that it shrinks to")
            # The extremes come first; of the random ones every other is enough for this.
            zeroed = self.zeroed(pattern) if i % 2 == 0 or i < self.extremes else None
            if zeroed is not None:
                self._close(logits, zeroed, f"{name} is not the network with zeros")

    def check_flops(self) -> None:
        """Executed FLOPs are the counted ones, in some 30 patterns spread over all of them."""
        chosen = [0, 1, *range(2, len(self.patterns), max(1, len(self.patterns) // COUNTED))]
        counted = self.table.cost("flops", self.space, self.candidates[chosen])
        for i, per_one in zip(chosen, counted, strict=True):
            executed, work = self.forward(self.patterns[i])
            assert executed == round(per_one * work), (
                f"the pattern {self.patterns[i].key} executes {executed} FLOPs, "
                f"{per_one * work:.0f} are counted"
            )

    def check_values(self) -> None:
        """Values do not depend on the batch, the order, or what came before; no trace is left."""
        before = self.weights()
        some = self.patterns[:: max(1, len(self.patterns) // VALUED)]
        found = self._evaluated(self.worker, some)
        assert not any(one.error for one in found.values()), "a pattern fails"
        some.reverse()
        fresh = Worker(self.worker.spec)
        fresh.evaluate(some[0], "report")
        for size in (1, 3):
            part = some[size - 1 :: 2]
            for key, one in self._evaluated(fresh, part, size).items():
                same = encode(one.values) == encode(found[key].values)
                assert same, f"{key} has other values in other company"
                assert _same(one.tables, found[key].tables), f"{key} has another table"
        assert self.weights() == before, "realising patterns changed the base"

    def check_failures(self) -> None:
        """A network that breaks gives evaluations with errors, and no value."""
        broken = Worker(self.worker.spec)
        self.poison(broken)
        for one in self._evaluated(broken, self.patterns[:5]).values():
            assert one.error and one.failure and not one.values, "a broken network is not told"

    def check_search(self) -> None:
        """The same seed gives the same journal, the budget is met, failures are on record only."""

        @objective(goal="min")
        def fragile(tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
            """Fails for a third of the patterns, and is not a number for another."""
            if _same(tables, dense):
                return 0.0
            bits = int(np.float64(tables["clean"].columns["nll"].sum()).view(np.uint64)) % 3
            return float(["x", "nan", "1"][bits])

        runs = []
        with tempfile.TemporaryDirectory(prefix="evoprune-contract-") as scratch:
            for name in ("one", "two"):
                changes = {"output": f"{scratch}/{name}", "search.n_eval": SEARCH_EVALUATIONS}
                changes |= {"controls": [], "export.picks": []}
                handed = {"fragile": fragile}
                run = search(self.settings, changes, data=self.data, objectives=handed, quiet=True)
                runs.append((run, _journal(run.folder.journal)))
            summary = json.loads(Path(runs[0][0].folder.summary).read_text(encoding="utf-8"))
        (run, records), (_, again) = runs
        assert records == again, "the same seed gives another journal"
        budget = min(SEARCH_EVALUATIONS, self.space.size)
        assert summary["n_eval"] == budget, f"{summary['n_eval']} of {budget} evaluations"
        judged = [record for record in records if record["split"] != "report"]
        failed = {record["id"] for record in judged if "error" in record}
        assert failed, "no pattern failed"
        assert not failed & {point.id for point in run.front}, "a failed pattern is on the front"
        assert np.isfinite(run.front.array("val")).all(), "the front holds what is not finite"

    def _evaluated(
        self, worker: Worker, patterns: Sequence[Pattern], size: int | None = None
    ) -> dict[str, Any]:
        """Returns evaluations by pattern, made so many at a time."""
        size = size or worker.runner.batch
        found = {}
        for start in range(0, len(patterns), size):
            for one in worker.evaluate_batch(patterns[start : start + size], keep=True):
                found[one.pattern.key] = one
        return found

    def _close(self, found: "torch.Tensor", expected: "torch.Tensor", what: str) -> None:
        error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300))
        assert error <= self.tolerance, f"{what} (by {error:.1e} of the largest logit)"

    def _outputs(self, network: Any, options: Mapping[str, Option]) -> "torch.Tensor":
        worker = self.worker
        runner = make_runner(worker.family, network, worker.task, self.table, worker.spec.device)
        return _logits(runner, [options], self)[0]

    def _numbers(self, kept: Realised) -> dict[tuple[str, str], int]:
        """Returns the numbers of modules that follow what a pattern keeps, by module and name."""
        family = self.worker.family
        attrs = family.attrs(self.worker.model) if hasattr(family, "attrs") else ()
        return {
            (one.module, one.name): one.per_unit * len(kept.kept[one.site])
            for one in attrs
            if one.site in kept.kept
        }

    @contextmanager
    def _with(
        self, tensors: Mapping[str, "torch.Tensor"], numbers: Mapping[tuple[str, str], int] = {}
    ) -> Iterator[Any]:
        """Gives a copy of the network other tensors, wherever they are shared, for a while."""
        import torch

        places = {(self._shell.get_submodule(m), name): n for (m, name), n in numbers.items()}
        whole = {place: getattr(*place) for place in places}
        try:
            for (module, name), number in places.items():
                setattr(module, name, number)
            for name, tensor in tensors.items():
                made = torch.nn.Parameter(tensor, requires_grad=False)
                for module, leaf in self._places[id(self._whole[name])]:
                    module._parameters[leaf] = made
            yield self._shell
        finally:
            for name in tensors:
                for module, leaf in self._places[id(self._whole[name])]:
                    module._parameters[leaf] = self._whole[name]
            for (module, name), number in whole.items():
                setattr(module, name, number)


def _logits(
    runner: Any, options: Sequence[Mapping[str, Option]], contract: FamilyContract
) -> "torch.Tensor":
    """Returns the logits of patterns on the contract's inputs (K, M, C)."""
    import torch

    found = []
    for start in range(0, len(options), 16):
        blocks = runner.outputs(options[start : start + 16], contract.inputs)
        found.append(torch.cat([one.logits for one in blocks if one.name == "clean"], dim=1))
    return torch.cat(found).double()


def _same(a: Mapping[str, Table], b: Mapping[str, Table]) -> bool:
    """Returns whether the tables of two patterns are equal to the last bit."""
    return a.keys() == b.keys() and all(
        a[name].columns.keys() == b[name].columns.keys()
        and all(
            a[name].columns[c].tobytes() == b[name].columns[c].tobytes() for c in b[name].columns
        )
        for name in a
    )


def _touched(row: Row, kept: Realised) -> bool:
    return any(part.site in kept.kept for dim in row.dims for part in dim)


def _taken(tensor: "torch.Tensor", row: Row, kept: Realised) -> "torch.Tensor":
    """Returns a copy of the entries of a tensor that stay."""
    import torch

    for axis, dim in enumerate(row.dims):
        tensor = tensor.index_select(axis, torch.from_numpy(entries(dim, kept.kept)))
    return tensor


def _blanked(tensor: "torch.Tensor", row: Row, kept: Realised) -> "torch.Tensor":
    """Returns a copy of a tensor with zeros for the entries that go."""
    import torch

    for axis, dim in enumerate(row.dims):
        gone = np.ones(tensor.shape[axis], dtype=bool)
        gone[entries(dim, kept.kept)] = False
        tensor = tensor.index_fill(axis, torch.from_numpy(np.flatnonzero(gone)), 0.0)
    return tensor


def _journal(path: Path) -> list[dict[str, Any]]:
    """Returns the evaluations of a journal without their seconds; numbers that are none as text."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    records = [record for record in map(json.loads, lines) if record["type"] == "evaluation"]
    return [
        {key: record[key] for key in record if not key.endswith("seconds")} for record in records
    ]
