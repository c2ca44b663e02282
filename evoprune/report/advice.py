"""Which points of a front to take: three of them, or why there are fewer."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprune.core.constraints import SLACK
from evoprune.core.errors import ConfigError
from evoprune.core.export_rungs import rung_of
from evoprune.core.pattern import Pattern
from evoprune.core.quality import SAFE, USEFUL
from evoprune.folder.front import Front, FrontPoint
from evoprune.report.kept import KEPT, Meaning
from evoprune.report.reading import RunData, inside
from evoprune.report.words import is_number

AIMS = {
    "safe": f"cheapest that keeps at least {SAFE:.0%} on validation",
    "balanced": f"best bargain that keeps at least {USEFUL:.0%} on validation",
    "small": f"cheapest that keeps at least {USEFUL:.0%} on validation",
}
# What is left to recommend where nothing says what is kept.
BARGAIN = {"knee": "best bargain over all objectives"}
# How the rungs of the export ladder load, in words.
LOADING = {
    "homogeneous": "plain transformers",
    "heterogeneous": "transformers with trust_remote_code, or evoprune.load",
    "dense-masked": "any loader, but it is masked: it saves nothing",
    "standalone": "evoprune.load, or torch alone with the file beside it",
    "head-only": "evoprune.load, on features of your own backbone",
}
# The control that a point is set beside: the first of these that the run has.
RIVALS = ("uniform", "last_k", "greedy", "random")
# A front of models that were not cut but trained at their size, if somebody put one beside.
TRAINED = "trained"


@dataclass(frozen=True)
class Advice:
    """One of the recommendations.

    Attributes:
        name: of the recommendation.
        aim: what it is, in words.
        point: None where the front has none.
        pick: how ``evoprune export -p`` names it.
        warning: what to know before taking it, or why there is none; empty if nothing.
        same: the recommendation before it that is the same point; empty if none.
    """

    name: str
    aim: str
    point: FrontPoint | None
    pick: str = ""
    warning: str = ""
    same: str = ""


def advice(front: Front, kept: Meaning) -> list[Advice]:
    """Returns the recommendations, the safest first; only the knee where quality is not known."""
    found: list[Advice] = []
    for name, aim in (AIMS if kept.words else BARGAIN).items():
        try:
            choice = front.choose(name)
        except ConfigError as error:
            found.append(Advice(name, aim, None, warning=error.cause))
            continue
        same = next((a.name for a in found if a.point and a.point.id == choice.point.id), "")
        # A run that does not know its quality itself would choose otherwise by this name.
        pick = name if kept.own or not kept.words else choice.point.id
        found.append(Advice(name, aim, choice.point, pick, choice.warning or "", same))
    return found


def command(run: RunData, verb: str = "export", pick: str = "") -> str:
    """Returns what to type for a run; an export's pick may be left to whoever completes it."""
    # Quoted, for a folder that came from elsewhere may name its points as it likes.
    chosen = f" -p {shlex.quote(pick)}" if pick else ""
    return f"evoprune {verb} {shlex.quote(_shown(run.path))}{chosen}"


def _shown(path: Path) -> str:
    """Returns a path as one would type it here."""
    here = Path.cwd()
    below = path.is_absolute() and path.is_relative_to(here)
    return (path.relative_to(here) if below else path).as_posix()


def model_of(run: RunData, point: FrontPoint) -> Mapping[str, Any]:
    """Returns what lies beside the export of a point; nothing where it was not exported."""
    found: list[Mapping[str, Any]] = [
        model
        for name, model in run.models.items()
        if name == point.id or inside(model, "pattern").get("id") == point.id
    ]
    measured = [model for model in found if model.get("speed")]
    return (measured or found or [{}])[0]


def rung(run: RunData, point: FrontPoint) -> str:
    """Returns the export rung of a point; empty where the run folder does not tell."""
    told = point.rung or model_of(run, point).get("rung")
    if told:
        return str(told)
    blocks = run.space and any(site.kind == "block" for site in run.space.sites.values())
    if run.space and blocks and isinstance(point.pattern, list | tuple):
        return rung_of(run.space, Pattern.from_json(list(point.pattern)))[0]
    # All heads of a run are exported alike.
    rungs = {str(model["rung"]) for model in run.models.values() if model.get("rung")}
    return rungs.pop() if len(rungs) == 1 and not blocks else ""


def speed(run: RunData, point: FrontPoint, dense: Mapping[str, float]) -> tuple[str, bool]:
    """Returns how fast a point is in words, and whether that was measured."""
    timed = inside(model_of(run, point), "speed")
    told = ratios(timed)
    if told:
        where = f"{timed.get('hardware', 'hardware unknown')}, threads: {timed.get('threads', '?')}"
        return f"{told} as fast as dense (measured on {where})", True
    flops, whole = point.values.get("flops"), dense.get("flops")
    if is_number(flops) and is_number(whole) and whole:
        return f"{flops / whole:.0%} of the FLOPs (not timed: export with --measure)", False
    return "", False


def ratios(timed: Mapping[str, Any]) -> str:
    """Returns how many times as fast as the dense model an export is; empty if not measured."""
    told = []
    for key, what in (("prompt_ms", "prompts"), ("decode_ms", "decoding"), ("batch_ms", "batches")):
        ratio = inside(timed, key).get("ratio")
        if is_number(ratio) and ratio > 0:
            told.append(f"{what} {1 / ratio:.2f} ×")
    return ", ".join(told)


def beside(run: RunData, point: FrontPoint) -> dict[str, FrontPoint | None]:
    """Returns what else there is of equal or fewer parameters: by name the best of it, or None.

    That is a control, and a smaller model that was trained so if the run folder has one. The best
    goes by quality kept on validation; controls that do not know theirs are left out.
    """
    size, kept = "params", f"val_{KEPT}"
    known = [n for n, front in run.controls.items() if kept in front.columns()]
    most = point.values.get(size, math.nan) * (1 + SLACK)
    found: dict[str, FrontPoint | None] = {}
    for name in [*[n for n in RIVALS if n in known][:1], *[n for n in known if n == TRAINED]]:
        there = [
            rival
            for rival in run.controls[name]
            if is_number(rival.values.get(kept)) and rival.values.get(size, math.inf) <= most
        ]
        found[name] = max(there, key=lambda rival: rival.values[kept], default=None)
    return found
