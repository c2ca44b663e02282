"""The command line: verbs that call the API, and errors in two sentences."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evoprune import __version__
from evoprune.core.errors import EvopruneError
from evoprune.core.registry import kinds
from evoprune.core.splits import SPLIT_OF

app = typer.Typer(
    name="evoprune",
    help="One search for the whole trade-off of a trained network: accuracy, sparsity, robustness.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the path of a shipped experiment.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as search.n_eval=500."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file that registers parts, beside those that CONFIG names; repeatable.",
    ),
]


# As the columns of a front begin.


def _settings(overrides: list[str] | None, plugins: list[str] | None) -> list[str]:
    found = list(overrides or [])
    if plugins:
        found.append(f"plugins+={json.dumps(plugins)}")
    return found


@app.command()
def init(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, a hub id, or a shipped backbone.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="A file (txt, jsonl, npz), a folder of text, or a data type; by default what "
            "ships.",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="What the search may take.")] = 20.0,
    task: Annotated[
        str | None, typer.Option(help="What the model is for; that of its family by default.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; by default MODEL.yaml.")
    ] = None,
) -> None:
    """Write a configuration for a model and data, with the reason for every line."""
    from evoprune.starting.start import Request
    from evoprune.starting.start import init as make

    make(Request(model, data, minutes, task, output))


@app.command()
def plan(
    config: ConfigArgument,
    overrides: Overrides = None,
    plugin: Plugins = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="bfloat16", help="Also measure candidates in this number format."),
    ] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Also count what 1, 8 and 64 workers and a GPU take.")
    ] = False,
) -> None:
    """Say what a search would take, without searching: evaluations, time, memory, disk."""
    from evoprune.planning.dtypes import rows
    from evoprune.planning.plan import plan as make

    settings = _settings(overrides, plugin)
    other = rows(config, settings, dtype) if dtype else []
    _table(["what", "how much"], make(config, settings, scale) + other)


@app.command()
def search(
    config: ConfigArgument,
    overrides: Overrides = None,
    plugin: Plugins = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="Search once with each of these seeds.")
    ] = None,
) -> None:
    """Search, or go on with a search: the same command on the same run folder resumes it."""
    from evoprune.many import compare, search_seeds, seeds_of
    from evoprune.run import search as run_search

    with _Interrupts():
        if seeds is None:
            runs = [run_search(config, _settings(overrides, plugin))]
        else:
            runs = search_seeds(config, _settings(overrides, plugin), seeds_of(seeds))
            _table(*compare([run.folder.path for run in runs]))
    if any(run.failed for run in runs):
        raise typer.Exit(1)  # said above; a script that goes on with the model must not


@app.command()
def front(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    split: Annotated[str, typer.Option(help="search, val or report.")] = "report",
) -> None:
    """Show the front of a run; of several the merged one, and how they compare."""
    from evoprune.core.errors import ConfigError, did_you_mean
    from evoprune.folder.front_table import front_table, has_intervals, pick_notes
    from evoprune.many import compare
    from evoprune.many import merged as merge
    from evoprune.provisional import NOTE, is_provisional

    if split not in SPLIT_OF:
        raise ConfigError(f"There is no split '{split}'.", did_you_mean(split, SPLIT_OF))
    merged, owners = merge(runs)
    if is_provisional(merged):
        split = "search"
        print(NOTE)
    _table(*front_table(merged, split, owners if len(runs) > 1 else None))
    ends = " 95 % intervals;" if has_intervals(merged, split) else ""
    print(f"{SPLIT_OF[split]} split;{ends} sizes beside those of the dense model")
    for note in pick_notes(merged):
        print(note)
    if len(runs) > 1:
        print()
        _table(*compare(runs, split))


@app.command()
def export(
    run: RunArgument,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            "--pick",
            "-p",
            help="safe, balanced, small, knee, best:OBJECTIVE, bounds such as 'params<=60%', "
            "'perplexity<=40' or rung=homogeneous, or an id; repeatable.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every point of the front.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write (one pick).")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights written.")] = None,
    verify: Annotated[bool, typer.Option(help="Load it in a fresh process and compare.")] = True,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time it against the dense model.")
    ] = False,
) -> None:
    """Export points of a front as models."""
    from evoprune.core.errors import ConfigError
    from evoprune.export.measure import speed_lines
    from evoprune.provisional import NOTE, is_provisional
    from evoprune.run import Run

    if every and pick:
        raise ConfigError("Both --all and --pick are given.", "Leave one of them out.")
    found = Run.load(run)
    if is_provisional(found.front):
        print(NOTE)
    picks = [point.id for point in found.front] if every else pick or ["balanced"]
    if output is not None and len(picks) > 1:
        raise ConfigError(
            f"One folder cannot hold {len(picks)} models.", "Leave --output out, or pick one."
        )
    for each in picks:
        made = found.export(each, output, verify=verify, dtype=dtype, measure=measure)
        print(f"{each}: {made.path}")
        print(f"  {made.rule}")
        if made.warning:
            print(f"  warning: {made.warning}")
        print(f"  {made.rung}: {made.reason}")
        print(f"  {made.params:,} parameters, {made.bytes / 1e6:.2f} MB")
        if made.max_error is not None:
            print(f"  verified in a fresh process without evoprune (error {made.max_error:.1e})")
        for line in speed_lines(made.speed) if made.speed else ():
            print(f"  {line}")


@app.command()
def ensemble(
    run: RunArgument,
    method: Annotated[
        str, typer.Option(help="greedy, disagreement, double_fault, percentile, random or routed.")
    ] = "greedy",
    combine: Annotated[str, typer.Option(help="probability, logit or vote.")] = "probability",
    budget: Annotated[
        str, typer.Option(help="Of all members together, such as 'flops<=100%'; 'none' for none.")
    ] = "flops<=100%",
    size: Annotated[int | None, typer.Option(help="The most members.")] = None,
    least: Annotated[int, typer.Option(help="The fewest members, of greedy.")] = 1,
    name: Annotated[str | None, typer.Option(help="Of its folder.")] = None,
) -> None:
    """Make an ensemble of points of a front, and compare it with single models."""
    from evoprune.ensemble.members import Recipe
    from evoprune.run import Run

    bound = None if budget == "none" else budget
    recipe = Recipe(method, combine, bound, size=size, least=least)
    opened = Run.load(run)
    made = opened.ensemble(recipe, name)
    folder = run / "ensembles" / made.name
    print(f"{folder}: {len(made.members)} members; all measures in ensemble.json")
    flops, params = made.costs["flops"], made.costs["params"]
    print(
        f"  of the dense model's FLOPs {flops['total'] / flops['dense']:.0%}, "
        f"of its parameters {params['total'] / params['dense']:.0%}"
    )
    if "routing" in flops:
        print(f"  {flops['routing'] / flops['dense']:.0%} of them to learn which cluster it is")
    shown = {*opened.front.goals, "nll", "ece"}
    chosen = [row for row in made.rows if row["metric"] in shown]
    rows = [[str(row.get(key, "")) for key in ("name", "metric", "split")] for row in chosen]
    for cells, row in zip(rows, chosen, strict=True):
        low, high = row.get("low"), row.get("high")
        interval = f"[{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
        cells += [f"{row['value']:.4f}", interval]
    _table(["who", "metric", "split", "value", "95 %"], rows)
    print(made.verdict)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.")
    ] = None,
) -> None:
    """Write a report: one HTML file that needs no network, of one run or several."""
    from evoprune.report.html import write_report

    print(write_report(runs, output))


@app.command()
def calibrate(config: ConfigArgument, overrides: Overrides = None, plugin: Plugins = None) -> None:
    """Pick the calibration set alone, and show its clusters."""
    from evoprune.planning.plan import clusters

    header, rows = clusters(config, _settings(overrides, plugin))
    _table(header, rows)


@app.command("ls")
def list_parts(
    what: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help=f"One of: {', '.join(kinds())}.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|CONFIG|KEY]", help="For sites: whose. For keys: how they begin."
        ),
    ] = None,
    plugin: Plugins = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page.")] = False,
) -> None:
    """List what can be named in a configuration; without KIND, what can be listed."""
    from evoprune import listing

    header, rows = listing.listing(what, subject, plugin or [])
    if markdown:
        print(listing.markdown(what, header, rows), end="")
    else:
        _table(header, rows)


@app.command()
def doctor(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder to examine.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged lines of its journal aside first.")
    ] = False,
) -> None:
    """Check this machine, or a run: what it holds and which exports its front allows."""
    from evoprune.core.errors import ConfigError
    from evoprune.planning.doctor import examine, machine, mend

    if repair:
        if run is None:
            raise ConfigError("There is no run to repair.", "Name its folder.")
        print(mend(run))
    header, rows = machine() if run is None else examine(run)
    _table(header, rows)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _table(header: list[str], rows: list[list[str]]) -> None:
    """Prints aligned columns; plain text, so that it can be piped."""
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


class _Interrupts:
    """The first Ctrl-C or SIGTERM stops after what is being evaluated, the second at once.

    SIGTERM is how a cluster takes a machine back; it kills some time later.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> None:
        self._before = {one: signal.signal(one, self._first) for one in self.SIGNALS}

    def __exit__(self, *details: Any) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def _first(self, *details: Any) -> None:
        from evoprune.searching.archive import Archive

        print("\nStopping after what is being evaluated; Ctrl-C again stops at once.", flush=True)
        Archive.draining = True
        for one in self.SIGNALS:
            signal.signal(one, signal.default_int_handler)


def main() -> None:
    """Runs the command line; status 2 for a mistake in what was asked, 130 if it was stopped."""
    try:
        app(standalone_mode=True)
    except EvopruneError as error:
        print(f"evoprune: {error.cause}\n          {error.remedy}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into the status 130 without a word.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print("evoprune: stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
