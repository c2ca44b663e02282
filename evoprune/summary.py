"""What a finished search comes to: its fronts on disk, and how good they are together."""

import json
from collections.abc import Mapping

from evoprune.core.files import write_atomically
from evoprune.core.pareto import correlations, hypervolume, oriented
from evoprune.core.splits import SPLIT_OF
from evoprune.folder.front import Front
from evoprune.searching.controls import Controlled
from evoprune.searching.loop import Box, Progress, box
from evoprune.session import Session

# Above this rank correlation, both turned so that less is better, a second objective is a copy of
# the first; a trade-off correlates negatively.
COPY = 0.95


def write_fronts(
    session: Session,
    found: Progress,
    fronts: Mapping[str, Front],
    taken: Mapping[str, Controlled],
) -> None:
    """Writes the fronts of the search and its controls, and the summary; says what they hold."""
    folder = session.folder
    fronts["search"].to_csv(folder.front_csv)
    fronts["search"].to_json(folder.front_json)
    for name in session.config.controls:
        folder.controls.mkdir(exist_ok=True)
        fronts[name].to_csv(folder.controls / f"{name}.csv")
        fronts[name].to_json(folder.controls / f"{name}.json")
    write_atomically(folder.costs, _costs(session))
    boxes = {prefix: _box(session, split) for prefix, split in SPLIT_OF.items()}
    volumes = {
        name: {prefix: volume(front, prefix, b) for prefix, b in boxes.items()}
        for name, front in fronts.items()
    }
    goals = session.problem.goals
    F = oriented(fronts["search"].array("val"), list(goals.values()))
    related = correlations(F, list(goals))
    summary = {
        "n_eval": found.n_eval,
        "tokens": found.tokens,
        "search_hypervolume": found.hypervolume,
        "controls": {n: {"n_eval": c.n_eval, "tokens": c.tokens} for n, c in taken.items()},
        "measures": _measures(session),
        "boxes": {p: [b.ideal.tolist(), b.reference.tolist()] for p, b in boxes.items()},
        "hypervolumes": volumes,
        "correlations": {" ~ ".join(pair): value for pair, value in related.items()},
        "rungs": [one.to_json() for one in found.agreements],
    }
    write_atomically(folder.summary, json.dumps(summary, indent=1) + "\n")
    _say(session, fronts, volumes, related)


def _measures(session: Session) -> dict[str, dict[str, str]]:
    """Returns goal, unit and words of everything measured, for readers without its plug-in."""
    return {
        name: {"goal": made.goal, "unit": made.unit, "words": " ".join(_words(made).split())}
        for name, made in session.problem.measures.items()
    }


def _words(made: object) -> str:
    """Returns the first paragraph of a part's documentation, without its name."""
    return (made.__doc__ or "").split("\n\n")[0].rpartition("``: ")[2]


def _costs(session: Session) -> str:
    """Returns what every evaluated pattern costs, as CSV by id: the journal holds measures only."""
    found = {e.pattern.id: e.pattern for e in session.archive.evaluations("search")}
    patterns = [found[name] for name in sorted(found)]
    rows = session.problem.counted(patterns)
    lines = [",".join(["id", *(rows[0] if rows else [])])]
    lines += [
        ",".join([pattern.id, *(repr(value) for value in row.values())])
        for pattern, row in zip(patterns, rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def volume(front: Front, split: str, box: Box) -> float:
    """Returns the hypervolume of a front on a split, in [0, 1]."""
    if len(front) == 0:
        return 0.0
    F = oriented(front.array(split), list(front.goals.values()))
    return hypervolume(F, box.reference, box.ideal)


def _box(session: Session, split: str) -> Box:
    rung = session.rungs[-1].index if split == "search" else -1
    return box(session.problem, session.archive, rung, split)


def _say(
    session: Session,
    fronts: Mapping[str, Front],
    volumes: Mapping[str, Mapping[str, float]],
    related: Mapping[tuple[str, str], float],
) -> None:
    say = session.console.say
    for name, found in volumes.items():
        say(
            f"front     {name:<8} {len(fronts[name]):>3} points, hypervolume on report "
            f"{found['report']:.4f}"
        )
    for (a, b), value in related.items():
        if value > COPY:
            say(
                f"note      over the front {a} and {b} rise together (rank correlation "
                f"{value:.2f}): one of them adds nothing"
            )
    say(
        f"journal   {session.archive.computed} evaluations computed now, "
        f"{session.archive.known} answers from the journal"
    )
