"""From a front to an ensemble: chosen on validation, judged on report, written to the run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from evoprune.core.errors import ConfigError, RunFolderError, unwritable
from evoprune.core.files import replacing, write_atomically
from evoprune.core.pattern import Pattern
from evoprune.data.examples import Examples
from evoprune.ensemble import compare as comparison
from evoprune.ensemble.costs import Bill, Limit
from evoprune.ensemble.members import Choice, Recipe, choose, draw_sets, parse_budget
from evoprune.ensemble.mixture import Mixture
from evoprune.ensemble.predictions import Predictions, predict
from evoprune.ensemble.routed import CENTROIDS, nearest, read_centroids
from evoprune.ensemble.scoring import Stand, score
from evoprune.ensemble.verdict import cost_words, verdict
from evoprune.evaluation.runner import Tables
from evoprune.evaluation.worker import Worker
from evoprune.families.flops import executed_flops
from evoprune.folder.front import Front
from evoprune.folder.journal import decode, encode
from evoprune.folder.layout import plain_name

VERSION = 1
FILE = "ensemble.json"
MEMBERS = "members.safetensors"
RANDOM_SETS = 20


@dataclass(frozen=True)
class Member:
    """A pattern inside an ensemble.

    Attributes:
        id: the pattern's.
        pattern: as JSON stores it.
        weight: how often it counts.
        clusters: those that it answers for, if the ensemble is routed.
    """

    id: str
    pattern: object
    weight: int = 1
    clusters: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Ensemble:
    """Members that answer together.

    Attributes:
        name: that of its folder.
        recipe: how it was made.
        members: in the order of their ids.
        costs: metric → what was counted: ``total`` (of one answer, or of what is held), ``sum`` of
            the members alone, ``dense``; of routed members also ``told``, what an answer costs in
            the mean where the cluster is told, and of FLOPs ``routing``, what learning it costs.
        selection: what was seen when members were chosen.
        rivals: contender → id of the pattern, or the ids of a set.
        rows: the comparison on the report split; empty until ``compare``.
        origin: what the members' base is, and where it comes from.
    """

    name: str
    recipe: Recipe
    members: tuple[Member, ...]
    costs: Mapping[str, Mapping[str, float]]
    selection: Mapping[str, Any]
    rivals: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether it beats the best single point and a single model of equal cost, as a sentence.

        On the report split, by what members were chosen by, where 95 % intervals leave no doubt.
        """
        if len(self.members) == 1:
            point, cost = self.members[0].id, cost_words(self.costs)
            return f"It has one member, so it is the point {point} and no ensemble, with {cost}."
        return verdict(self.rows, self.recipe.measure, self.rivals, self.costs)

    def __repr__(self) -> str:
        count = len(self.members)
        return f"Ensemble '{self.name}': {count} member{'s' * (count != 1)}. {self.verdict}"

    def to_json(self) -> dict[str, Any]:
        """Returns the ensemble as JSON."""
        return {
            "version": VERSION,
            "name": self.name,
            "recipe": vars(self.recipe),
            "members": [vars(member) for member in self.members],
            "costs": self.costs,
            "selection": self.selection,
            "rivals": self.rivals,
            "rows": self.rows,
            "origin": self.origin,
        }

    def write(self, folder: Path) -> None:
        """Writes ``ensemble.json``; equal ensembles give equal bytes.

        Raises:
            RunFolderError: it cannot be written.
        """
        text = json.dumps(encode(self.to_json()), indent=1, allow_nan=False)
        write_atomically(folder / FILE, text + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "Ensemble":
        """Returns the ensemble that ``write`` wrote.

        Raises:
            RunFolderError: there is none, or it is damaged or of a newer version.
        """
        path = Path(folder) / FILE
        try:
            data = decode(json.loads(path.read_bytes()))
            if data.pop("version") != VERSION:
                raise ValueError(f"another version than {VERSION}")
            members = [
                Member(**{**one, "clusters": tuple(one["clusters"])}) for one in data["members"]
            ]
            if not members:
                raise ValueError("no members")
            data |= {"recipe": Recipe(**data["recipe"]), "members": tuple(members)}
            data["recipe"].check()
            return cls(**{**data, "rows": tuple(data["rows"])})
        except OSError as error:
            raise RunFolderError(
                f"'{path}' cannot be read: {error.strerror or error}.",
                "Give a folder that `evoprune ensemble` wrote, such as RUN/ensembles/greedy.",
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise RunFolderError(
                f"'{path}' is damaged or is no ensemble: {error!r}.", "Make it again."
            ) from error


@dataclass(frozen=True)
class Selected:
    """An ensemble with what its comparison needs; nothing of it was read from report.

    Attributes:
        ensemble: without rows.
        patterns: the points of the front, and the dense pattern last.
        contenders: the ensemble, its rivals and the random sets.
    """

    ensemble: Ensemble
    patterns: tuple[Pattern, ...]
    contenders: Mapping[str, Mixture]


def ensemble(worker: Worker, front: Front, recipe: Recipe, name: str | None = None) -> Ensemble:
    """Returns an ensemble of a front's points, compared and written to ``ensembles/<name>``.

    Args:
        worker: of the run.
        front: whose points may be members.
        recipe: how to choose and combine them.
        name: of its folder; ``<method>-<combine>`` by default.

    Raises:
        ConfigError: the recipe or the name makes no sense, or nothing fits its budget.
        RunFolderError: the run folder cannot be written.
    """
    if name is not None:
        plain_name(name)
    made = compare(worker, select(worker, front, recipe, name))
    folder = worker.folder / "ensembles" / made.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_members(worker, made, folder)
    except (OSError, SafetensorError) as error:
        raise unwritable(folder, error) from error
    made.write(folder)
    return made


def select(worker: Worker, front: Front, recipe: Recipe, name: str | None = None) -> Selected:
    """Returns an ensemble, chosen on the validation split; the report split is not read.

    Raises:
        ConfigError: the recipe makes no sense, or nothing fits its budget.
    """
    recipe.check()
    if not len(front):
        raise ConfigError("The front is empty, so there are no members.", "Search longer.")
    points = sorted(front, key=lambda point: point.id)
    found = [Pattern.from_json(point.pattern) for point in points]  # type: ignore[arg-type]
    patterns = (*found, worker.space.dense)
    options = [worker.space.options(pattern) for pattern in patterns]
    runner = worker.runner
    X, held = worker.space.encode(patterns), (runner.shared, runner.frozen)
    bill = Bill(worker.table, worker.space, X, *held, lookup_flops(worker))
    limit = Limit(bill, parse_budget(recipe.budget, bill.metrics), recipe.method == "routed")
    everyone = predict(runner, worker.task, options, worker.examples("validation"))
    # The dense pattern is a rival, and no member unless it is on the front.
    members = replace(everyone, logits=everyone.logits[:-1])
    n_clusters = _cluster_count(worker, everyone)
    chosen = choose(recipe, members, limit, n_clusters)
    contenders = _contenders(chosen.mixture, recipe, everyone, limit)
    named = {key: _ids(mixture, patterns) for key, mixture in contenders.items()}
    made = Ensemble(
        name or f"{recipe.method}-{recipe.combine}",
        recipe,
        _members(chosen.mixture, patterns),
        _costs(bill, chosen.mixture, members, n_clusters),
        _seen(everyone, contenders)
        | {"steps": [_readable(step, patterns) for step in chosen.steps]},
        {key: ids for key, ids in named.items() if key != comparison.ENSEMBLE},
        origin=_origin(worker),
    )
    return Selected(made, patterns, contenders)


def compare(worker: Worker, selected: Selected) -> Ensemble:
    """Returns the ensemble with its comparison on the report split, which is read here."""
    examples = worker.examples("report")
    options = [worker.space.options(pattern) for pattern in selected.patterns]
    used = sorted({i for m in selected.contenders.values() for i in m.weights})
    place = {position: i for i, position in enumerate(used)}
    contenders = {name: _moved(m, place) for name, m in selected.contenders.items()}
    stand = Stand(
        worker.runner,
        worker.task,
        [options[i] for i in used],
        examples,
        clusters(worker, examples),
    )
    scored: dict[str, Tables] = score(stand, contenders)
    measured = comparison.measures(worker.objectives, tuple(examples.passes))
    rows = comparison.rows(scored, examples.dense, measured)
    return replace(selected.ensemble, rows=tuple(rows))


def clusters(worker: Worker, examples: Examples) -> dict[str, np.ndarray]:
    """Returns by pass the calibration cluster of every example, where it is known.

    Those of the examples themselves are stored; those of what lies outside are looked up by the
    centroids, if the run has kept them.
    """
    found = {"clean": examples.clean.groups}
    centroids = read_centroids(worker.folder / "calibration" / CENTROIDS)
    if centroids is not None:
        for name, one in examples.passes.items():
            if name != "clean":
                found[name] = nearest(worker.runner.embedding(one), centroids)
    return found


def lookup_flops(worker: Worker) -> float:
    """Returns the FLOPs that the embedding of an example executes, per token or image."""
    one = worker.examples("search").clean.first(1)
    width = one.arrays["tokens"].shape[1] if "tokens" in one.arrays else 1
    return executed_flops(lambda: worker.runner.embedding(one)) / width


def _cluster_count(worker: Worker, predictions: Predictions) -> int:
    centroids = read_centroids(worker.folder / "calibration" / CENTROIDS)
    groups = worker.examples("search").clean.groups
    seen = int(max(groups.max(), predictions.clusters.max())) + 1
    return seen if centroids is None else len(centroids)


def _contenders(
    mixture: Mixture, recipe: Recipe, everyone: Predictions, limit: Limit
) -> dict[str, Mixture]:
    """Returns the ensemble and its rivals, named by validation alone."""
    dense = len(everyone) - 1
    single = [i for i in everyone.order(recipe.measure) if i != dense]
    best_member = next(i for i in single if i in mixture.weights)
    found = {
        comparison.ENSEMBLE: mixture,
        "best_member": Mixture.single(best_member),
        "best_single": Mixture.single(single[0]),
    }
    by_accuracy = [i for i in everyone.order("accuracy") if i != dense]
    if by_accuracy[0] != single[0]:
        found["best_single_by_accuracy"] = Mixture.single(by_accuracy[0])
    found["equal_cost"] = Mixture.single(_equal_cost(mixture, everyone, limit.bill))
    found["dense"] = Mixture.single(dense)
    # The sets answer together, whatever the ensemble does.
    limit = replace(limit, routed=False)
    fitting = tuple(i for i in range(dense) if limit.fits([i]))
    choice = Choice(recipe, everyone, limit, fitting)
    rng = np.random.default_rng([recipe.seed, 11])
    rule = "probability" if mixture.routes else mixture.rule
    for n, drawn in enumerate(draw_sets(choice, len(mixture.weights), RANDOM_SETS, rng)):
        found[f"{comparison.RANDOM} {n}"] = Mixture.of(drawn, rule)
    return found


def _equal_cost(mixture: Mixture, everyone: Predictions, bill: Bill) -> int:
    """Returns the pattern of the largest FLOPs that are no more than the ensemble's."""
    shares = _shares(everyone, len(mixture.routes)) if mixture.routes else None
    total, each = bill.total("flops", mixture, shares), bill.each("flops")
    order = everyone.order("nll")
    fitting = [i for i in order if each[i] <= total * (1 + 1e-9)]
    return max(fitting or [int(each.argmin())], key=lambda i: (each[i], -order.index(i)))


def _shares(predictions: Predictions, n_clusters: int) -> np.ndarray:
    """Returns the share of the validation examples in each cluster (G,)."""
    _, first = np.unique(predictions.rows, return_index=True)
    counts = np.bincount(predictions.clusters[first], minlength=n_clusters)
    return counts / counts.sum()


def _costs(
    bill: Bill, mixture: Mixture, predictions: Predictions, n_clusters: int
) -> dict[str, dict[str, float]]:
    """Returns by metric what the ensemble costs."""
    shares = _shares(predictions, n_clusters) if mixture.routes else None
    found = {}
    for metric in bill.metrics:
        one = {
            "total": bill.total(metric, mixture, shares),
            "sum": float(bill.each(metric)[mixture.members].sum()),
            "dense": bill.dense(metric),
        }
        if mixture.routes:
            one["told"] = bill.told(metric, mixture, shares)
        if mixture.routes and metric == "flops":
            one["routing"] = bill.routing(metric)
        found[metric] = one
    return found


def _members(mixture: Mixture, patterns: Sequence[Pattern]) -> tuple[Member, ...]:
    return tuple(
        Member(
            patterns[i].id,
            patterns[i].to_json(),
            mixture.weights[i],
            tuple(c for c in sorted(mixture.routes) if mixture.routes[c] == i),
        )
        for i in mixture.members
    )


def _ids(mixture: Mixture, patterns: Sequence[Pattern]) -> Any:
    ids = [patterns[i].id for i in mixture.members]
    return ids[0] if len(ids) == 1 else ids


def _seen(everyone: Predictions, contenders: Mapping[str, Mixture]) -> dict[str, Any]:
    """Returns what selection read, and how the contenders did there."""
    return {
        "split": "validation",
        "examples": len(np.unique(everyone.rows)),
        "positions": len(everyone.rows),
        "front": len(everyone) - 1,
        "nll": {name: everyone.loss(m, "nll")[0] for name, m in contenders.items()},
    }


def _readable(step: Mapping[str, object], patterns: Sequence[Pattern]) -> dict[str, object]:
    """Returns a step with the id of the pattern that it added, not its position."""
    added = step.get("added")
    return {**step, "added": patterns[added].id} if isinstance(added, int) else dict(step)


def _moved(mixture: Mixture, place: Mapping[int, int]) -> Mixture:
    return Mixture(
        {place[i]: weight for i, weight in mixture.weights.items()},
        mixture.rule,
        {cluster: place[i] for cluster, i in mixture.routes.items()},
    )


def _origin(worker: Worker) -> dict[str, Any]:
    """Returns what the module and a reader need to know of the run."""
    path = worker.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    spec = worker.spec
    return {
        "family": spec.family,
        "task": dict(spec.task),
        "space": dict(spec.space),
        "dtype": spec.dtype,
        "trust_remote_code": spec.trust_remote_code,
        "adapt": None if spec.adapt is None else dict(spec.adapt),
        "run": manifest.get("identity"),
        "source": _label(manifest.get("source")),
        "base_sha256": manifest.get("base_sha256"),
        "pools": manifest.get("pools"),
        "versions": manifest.get("versions"),
    }


def _label(source: str | None) -> str | None:
    """Returns a model's name; of a folder its last part, so that no path is published."""
    if source is None:
        return None
    path = Path(source)
    return path.resolve().name if path.exists() else source


def write_members(worker: Worker, made: Ensemble, folder: Path) -> None:
    """Writes what was fitted for the members, where the run fits something (``states``)."""
    states = getattr(worker.runner, "states", None)
    if states is None:
        return
    from safetensors.torch import save_file

    patterns = [Pattern.from_json(one.pattern) for one in made.members]  # type: ignore[arg-type]
    found = states([worker.space.options(pattern) for pattern in patterns])
    tensors = {
        f"{member.id}.{name}": tensor.contiguous()
        for member, state in zip(made.members, found, strict=True)
        for name, tensor in state.items()
    }
    with replacing(folder / MEMBERS) as temporary:
        save_file(tensors, temporary)
