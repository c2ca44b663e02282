"""Writes the page: one file that opens without a network."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from evoprune.core.errors import EvopruneError, RunFolderError
from evoprune.core.files import write_atomically
from evoprune.report import sections
from evoprune.report.clusters import losses
from evoprune.report.compare import comparison, merge
from evoprune.report.lead import lead
from evoprune.report.payload import inline, merged, payload
from evoprune.report.reading import RunData, read_runs
from evoprune.report.words import card, escape

_AXES = '<label>{0} <select data-role="{0}"></select></label>'
_PICK = "".join(_AXES.format(role) for role in ("x", "y", "split"))
_SPACE = "".join(_AXES.format(role) for role in ("x", "y", "z", "split"))
_SPLIT = _AXES.format("split")
_SAVE = "<button type=button class=save data-role=save>save picture</button>"
# In the order in which they need one another.
SCRIPTS = ("base", "chart", "drawer", "front", "budget", "space", "figures", "table", "start")
FILTER = "sparsity>=0.25 params&lt;=60% safe"


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Writes a report of one run or several and returns its path.

    Args:
        runs: run folders; unfinished ones are shown as far as they came.
        out: the file; by default ``report.html`` in the first run's folder.

    Raises:
        RunFolderError: there is no run in a folder, or one of its files is damaged.
        EvopruneError: no run is given.
    """
    if not runs:
        raise EvopruneError("There is no run to report on.", "Name at least one run folder.")
    read = read_runs(runs)
    target = Path(out) if out is not None else read[0].path / "report.html"
    if not target.absolute().parent.is_dir():
        raise RunFolderError(
            f"The folder of '{target}' does not exist.", "Make it, or name another file."
        )
    write_atomically(target, page(read))
    return target


def page(runs: Sequence[RunData]) -> str:
    """Returns the whole page."""
    parts, data = [], []
    if len(runs) > 1:
        best, why = merge(runs)
        parts.append(comparison(runs, best, why, _figure("overlay", "all", _PICK)))
        data.append(_data("all", merged(runs, best)) if best is not None else "")
        options = [f"<option value={i}>{escape(run.name)}</option>" for i, run in enumerate(runs)]
        parts.append(f"<p class=which><label>Run <select id=which>{''.join(options)}</select>")
        parts.append("</label></p>")
    for i, run in enumerate(runs):
        parts.append(f"<div class=run data-run={i}{' hidden' if i else ''}>{_run(run, i)}</div>")
        data.append(_data(str(i), payload(run, len(runs))))
    values = {
        "title": escape(runs[0].name if len(runs) == 1 else f"{len(runs)} runs"),
        "style": _asset("page.css"),
        "body": "".join(parts),
        "data": "".join(data),
        "script": _script(),
    }
    # Pieces are joined, never formatted into one another: a name may look like a placeholder.
    pieces = _asset("page.html").split("@@")
    return "".join(values[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _asset(name: str) -> str:
    return files("evoprune.report").joinpath("page", name).read_text(encoding="utf-8")


def _script() -> str:
    """Returns the page's script: its files in one function, so that no name leaks."""
    text = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{text}}})();\n'


def _data(name: str, data: object) -> str:
    return f'<script type="application/json" id="data-{name}">{inline(data)}</script>'


def _figure(kind: str, data: str, controls: str = "", below: str = "") -> str:
    """Returns the place of a figure, with what is to be chosen and said around it."""
    bar = f"<div class=controls>{controls}{_SAVE}</div>"
    return (
        f"<div class=figure>{bar}<div class=legend data-role=legend></div>"
        f'<div class="chart {kind}" data-chart={kind} data-of={data}></div>{below}'
        "<p class=caption data-role=caption></p></div>"
    )


# The front is asked for a size first; where that is no count the page hides this.
_BUDGET = (
    "<div class=budget hidden><input type=range step=0.5 aria-label='Budget in per cent'>"
    "<p><label>At most <input type=number value=60 min=0 max=100 step=0.5> "
    "<span data-role=cost></span></label></p><output aria-live=polite></output></div>"
)


def _run(run: RunData, index: int) -> str:
    """Returns everything about one run: what to take first, then what it rests on."""
    of = str(index)
    drawn = run.front is not None and len(run.front) > 0
    parts = [lead(run, losses(run))]
    title = "The front" if drawn else "What was evaluated"
    parts.append(card(title, _figure("front", of, _PICK, _BUDGET), kind="wide"))
    if drawn:
        parts.append(card("Points of the front", _points(of), kind="wide"))
    parts += [sections.exports(run), sections.ensembles(run)]
    if drawn:
        parts.append(card("What survives", _survival(of), kind="wide"))
    parts += [sections.objectives(run), sections.related(run), sections.clusters(run)]
    if drawn and len(run.goals) >= 3:
        parts.append(card("Three objectives at once", _figure("space", of, _SPACE), kind="wide"))
    progress = _figure("progress", of) + sections.volumes(run) + sections.rungs(run)
    parts.append(card("The search itself", sections.cost_of_search(run) + progress, kind="wide"))
    parts.append(sections.provenance(run))
    return "".join(parts)


def _survival(of: str) -> str:
    return _figure("survival", of) + _figure("units", of)


def _points(of: str) -> str:
    """Returns the place of the table, with its filter."""
    return (
        f"<div class=listing data-of={of}><div class=controls>"
        f'<label class=grow>filter <input type=search placeholder="{FILTER}" data-role=filter '
        f"spellcheck=false></label>{_SPLIT}<output data-role=count></output></div>"
        "<p class=caption data-role=caption></p>"
        "<div class='scroll tall'><table data-role=table></table></div></div>"
    )
