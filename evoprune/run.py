"""One search from its configuration to its front: the story that everything else serves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from evoprune.config.schema import Config, load_config
from evoprune.core.errors import EvopruneError, RunFolderError, missing
from evoprune.core.pattern import Pattern
from evoprune.core.quality import COLUMN
from evoprune.core.registry import frozen
from evoprune.data.examples import Examples
from evoprune.ensemble.ensemble import Ensemble
from evoprune.ensemble.ensemble import ensemble as make_ensemble
from evoprune.ensemble.members import Recipe, recipe_of
from evoprune.evaluation.live import NOTHING, Live
from evoprune.export.order import Order, exporter_of
from evoprune.export.writing import Exported
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.layout import RunFolder, plain_name
from evoprune.folder.showing import front_html
from evoprune.progress.console import Console
from evoprune.progress.forecast import Forecast, Phase, Work
from evoprune.provisional import is_provisional, provisional
from evoprune.report.html import write_report
from evoprune.searching.budget import per_candidate
from evoprune.searching.controls import Controlled, Setting, control
from evoprune.searching.exhaustive import instead_of
from evoprune.searching.loop import Progress, box
from evoprune.searching.loop import search as search_loop
from evoprune.searching.warm import Warm, add_known
from evoprune.session import Session, open_session, source_of, space_of, worker_of
from evoprune.summary import write_fronts


@dataclass(frozen=True)
class Run:
    """A finished search.

    Attributes:
        folder: where everything lies.
        config: the experiment.
        front: its non-dominated patterns, re-scored on validation, read on report.
        live: the functions that its search was handed; of a run that is loaded none.
        failed: the picks of ``export.picks`` that could not be exported when its search ended, and
            why; of a run that is loaded none.
    """

    folder: RunFolder
    config: Config
    front: Front
    live: Live = NOTHING
    failed: Mapping[str, EvopruneError] = field(default_factory=dict)

    def __repr__(self) -> str:
        failed = "".join(f"\n  not exported: {p}: {error}" for p, error in self.failed.items())
        return f"{self._head}\n{self.front!r}{failed}"

    def _repr_html_(self) -> str:
        return f"<div><p><b>{escape(self._head)}</b></p>{front_html(self.front)}</div>"

    @property
    def _head(self) -> str:
        config = self.config
        return f"Run '{self.folder.path}': {config.model.label}, {config.outline}"

    def __getattr__(self, name: str) -> Any:
        raise missing("A run", name, [*(one.name for one in fields(self)), *dir(type(self))])

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Returns the run in a folder; of one that was interrupted its provisional front.

        Raises:
            RunFolderError: there is none, or it has not evaluated anything yet.
        """
        folder = RunFolder.existing(path)
        config = folder.load()
        if not folder.front_json.is_file():
            return cls(folder, config, provisional(folder, config))
        return cls(folder, config, Front.from_json(folder.front_json))

    def export(
        self,
        pick: str | FrontPoint = "balanced",
        path: str | Path | None = None,
        *,
        verify: bool | None = None,
        dtype: str | None = None,
        measure: bool = False,
    ) -> Exported:
        """Returns what became of a point exported as a model.

        Args:
            pick: which point (``Front.choose``), or the point itself.
            path: the folder to write; ``models/<id>`` in the run folder by default.
            verify: load it in a fresh process and compare; as configured by default.
            dtype: of the weights written; that of the source model by default.
            measure: time it against the dense model (``Exported.speed``, and in its card).

        Raises:
            EvopruneError: no such point, or the export is not what was searched.
        """
        return export_point(self, pick, path, verify=verify, dtype=dtype, measure=measure)

    def ensemble(
        self, recipe: Recipe | str | None = None, name: str | None = None, **options: Any
    ) -> Ensemble:
        """Returns an ensemble of points of the front, written to ``ensembles/<name>``.

        Members are chosen on validation; the comparison with the best member, the best single
        point, an equal-cost single model and random sets is read on report.

        Args:
            recipe: how to choose and combine, or a method's name; greedy by probability at the
                dense model's FLOPs by default.
            name: of its folder; made of the recipe by default.
            options: fields of the recipe, such as ``size=3``.

        Raises:
            EvopruneError: the recipe makes no sense, or nothing fits its budget.
        """
        recipe = recipe_of(recipe, options)
        if is_provisional(self.front):
            raise RunFolderError(
                f"The search in '{self.folder.path}' was interrupted: nothing was scored on "
                "validation, where members are chosen.",
                "Give its command again to finish it.",
            )
        worker = worker_of(self.config, self.folder, self.live)
        return make_ensemble(worker, self.front, recipe, name)


def export_point(
    run: Run,
    pick: str | FrontPoint,
    path: str | Path | None = None,
    *,
    verify: bool | None = None,
    verifying: Callable[[], None] = lambda: None,
    dtype: str | None = None,
    measure: bool = False,
) -> Exported:
    """Returns what became of a point exported as a model (``Run.export``).

    Args:
        run, pick, path, verify, dtype, measure: as there.
        verifying: called when the model is written and its verification begins.
    """
    chosen = run.front.choose(pick) if isinstance(pick, str) else None
    point = chosen.point if chosen else run.front.pick(pick)
    named = pick if isinstance(pick, str) else point.id
    manifest = run.folder.read_manifest() or {}
    exporter = exporter_of(manifest["family"])
    order = Order(
        source_of(run.config, run.folder),
        space_of(run.folder),
        Pattern.from_json(point.pattern),  # type: ignore[arg-type]
        scores=point.values,
        provenance={"pick": named, "run": manifest["identity"], "base": run.config.model.label}
        | {"base_sha256": manifest["base_sha256"], "versions": manifest["versions"]},
        examples=Examples.load(run.folder.calibration / "validation.safetensors"),
        worker=lambda: worker_of(run.config, run.folder, run.live),
        verifying=verifying,
    )
    target = Path(path) if path is not None else run.folder.models / plain_name(point.id)
    verify = run.config.export.verify if verify is None else verify
    made = exporter.write(order, target, verify=verify, dtype=dtype)
    if chosen is not None:
        made = replace(made, rule=chosen.rule, warning=chosen.warning)
    if measure:
        made = replace(made, speed=exporter.measure(order, made.path))
    return made


def search(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    model: Any = None,
    data: Any = None,
    objectives: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    quiet: bool = False,
) -> Run:
    """Runs a search, or goes on with it where it stopped, and returns its run.

    Args:
        config: a YAML file, a shipped experiment's path, or the settings as a mapping.
        overrides: ``["search.n_eval=500"]`` or ``{"search.n_eval": 500}``.
        model: a live model instead of the weights that ``model`` names: of transformers, or a
            module that gives features, for a head. It needs no name there.
        data: a list, a data set of PyTorch or Hugging Face, or a PyTorch loader, instead of what
            ``data`` names (``evoprune.data.memory.in_memory`` says of what).
        objectives: functions made objectives by ``evoprune.objective``, by name; those that the
            configuration does not name are added to its objectives.
        tokenizer: that of the model, where none lies beside its weights; data of ``input_ids``
            need none.
        quiet: print nothing.

    Raises:
        EvopruneError: cause and remedy of whatever cannot be done.
    """
    live = Live.of(model, data, objectives, tokenizer)
    checked = load_config(config, overrides, live.named_in)
    console = Console(stream=None) if quiet else Console()
    with console.phase("prepare"):
        session = open_session(checked, console, live)
    try:
        session.archive.event("begin", n_eval=checked.search.n_eval, n_gen=checked.search.n_gen)
        forecast = Forecast.of(session, session.splits)
        console.course.expect(forecast.phases, session.splits)
        with console.phase("search"), frozen():
            found, warm = _search(session)
        console.course.expect(
            partial(forecast.phases, found=_ended(found, session)), session.splits
        )
        fronts, taken = _fronts(session, found, warm)
        write_fronts(session, found, fronts, taken)
        reached = {"n_eval": found.n_eval, "n_gen": found.n_gen, "tokens": found.tokens}
        session.archive.event("end", **reached, computed=session.archive.computed)
    finally:
        session.close()
    run = Run(session.folder, checked, fronts["search"], Live(objectives=live.objectives))
    run = replace(run, failed=_export_picks(run, console))
    with console.phase("report"):
        console.say(f"report    {write_report([session.folder.path])}")
    console.say(f"time      all {console.course.elapsed:.1f} s")
    return run


def _ended(found: Progress, session: Session) -> Phase:
    """Returns what a search came to, as the forecast of what comes after it takes it."""
    read = found.n_eval * per_candidate(session.rungs, session.splits.rungs)
    return Phase("search", Work(found.n_eval, found.tokens, read), points=len(found.front))


def _export_picks(run: Run, console: Console) -> dict[str, EvopruneError]:
    """Returns the configured picks that could not be exported; no such one ends a search."""
    failed: dict[str, EvopruneError] = {}
    exported: dict[str, str] = {}
    for pick in run.config.export.picks:
        try:
            chosen = run.front.choose(pick)
            console.say(f"pick      {pick}: {chosen.point.id}, {chosen.rule}")
            if chosen.warning:
                console.say(f"warning   {pick}: {chosen.warning}")
            if chosen.point.id in exported:
                console.say(f"export    {pick}: the same point as {exported[chosen.point.id]}")
                continue
            with console.phase("export"):
                made = export_point(run, pick, verifying=partial(console.then, "verify"))
            console.say(_exported(pick, made))
            exported[chosen.point.id] = pick
        except EvopruneError as error:
            failed[pick] = error
            console.say(f"warning   the export of '{pick}' failed: {error}")
    return failed


def _exported(pick: str, exported: Exported) -> str:
    return (
        f"export    {pick}: {exported.path} ({exported.rung}, {exported.params:,} parameters, "
        f"{exported.bytes / 1e6:.1f} MB)"
    )


def _search(session: Session) -> tuple[Progress, Warm]:
    """Returns what the algorithm found within its budget, and where it started."""
    settings, problem, console = session.config.search, session.problem, session.console
    console.say(
        f"space     {problem.space.name}: {len(problem.space.genes)} genes, "
        f"{problem.space.size_text} candidates"
    )
    budget = session.budget
    algorithm = instead_of(session.algorithm, problem, budget, len(session.rungs))
    if algorithm is session.algorithm:
        warm = session.warm
    else:
        warm = Warm(problem.space.corners[:0])
        console.say(f"search    exhaustive: n_eval={budget.n_eval} covers every candidate")
    _fix_box(session)
    found = search_loop(
        problem,
        algorithm.begin(problem, warm.X, settings.seed),
        session.archive,
        budget,
        session.rungs,
        console.watch("search", budget),
        warm.spent,
    )
    add_known(found, session.archive, warm, session.rungs[-1].index)
    console.say(
        f"search    {found.n_eval} evaluations, {found.tokens:,.0f} dense-equivalent tokens, "
        f"front {len(found.front)}, hypervolume {found.hypervolume:.4f}"
    )
    if found.seconds:
        console.say(
            f"seconds   {found.seconds:.1f} of workers for these; {found.own_seconds:.1f} "
            f"({found.own_seconds / found.seconds:.1%}) of the algorithm itself"
        )
    if found.worthless:
        console.say(
            f"note      {found.worthless} patterns are no better than knowing frequencies "
            "only: they are on no front"
        )
    for note in found.notes:
        console.say(note)
    return found, warm


def _fix_box(session: Session) -> None:
    """Writes into the manifest the bounds, in their units, in which hypervolume is measured."""
    problem, folder = session.problem, session.folder
    bounds = box(problem, session.archive, session.rungs[-1].index)
    corners = {"ideal": bounds.ideal, "reference": bounds.reference}
    named = {
        corner: dict(zip(problem.objectives, (row * problem.signs).tolist(), strict=True))
        for corner, row in corners.items()
    }
    manifest = folder.read_manifest()
    assert manifest is not None  # an open session is prepared
    folder.write_manifest({**manifest, "hypervolume": named})


def _fronts(
    session: Session, found: Progress, warm: Warm
) -> tuple[dict[str, Front], dict[str, Controlled]]:
    """Returns the fronts of the search and of each control, re-scored, and what controls took."""
    problem, scorer, console = session.problem, session.scorer, session.console
    taken = _controls(session, found, warm)
    candidates = {"search": tuple(found.patterns[i] for i in found.front)}
    candidates |= {name: one.patterns for name, one in taken.items()}
    distinct = {pattern for patterns in candidates.values() for pattern in patterns}
    beside = f", {len(distinct)} with those of the controls" if taken else ""
    console.say(f"score     {len(found.front)} patterns on validation and report{beside}")
    with console.phase("score"):
        points = scorer.fronts(candidates)
    if scorer.worthless:
        console.say(
            f"note      {len(scorer.worthless)} patterns are on validation no better than knowing "
            "frequencies only: they left the fronts"
        )
    dense = scorer.points([problem.space.dense], "dense")[0].values
    zero = scorer.zero()
    if f"val_{COLUMN}" not in zero:
        console.say(
            "note      quality kept has no scale: the dense model is no better than knowing "
            "frequencies only, or the task names no measure of quality"
        )
    return {
        name: Front(tuple(points[name]), problem.goals, dense, zero) for name in candidates
    }, taken


def _controls(session: Session, found: Progress, warm: Warm) -> dict[str, Controlled]:
    """Returns what each control found; the journal says where the search ended."""
    session.archive.event("controls")
    rung, seed = session.rungs[-1].index, session.config.search.seed + 1000
    setting = Setting(session.problem, session.archive, warm, found.tokens, seed, rung)
    taken = {}
    for name in session.config.controls:
        with session.console.phase(name):
            taken[name] = one = control(name)(setting)
        session.console.say(
            f"control   {name}: {one.n_eval} evaluations, {one.tokens:,.0f} dense-equivalent "
            f"tokens ({one.tokens / found.tokens:.0%} of the search's), front {len(one.patterns)}"
        )
        for note in one.notes:
            session.console.say(note)
    return taken
