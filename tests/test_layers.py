"""Who may import whom (DESIGN §2), read off the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import evoprune

ROOT = Path(evoprune.__file__).parent
PURE = {"errors", "registry", "pattern", "space", "genes", "constraints", "costs", "metrics"}
PURE |= {"quality", "picks"}
PURE |= {"arithmetic", "front", "journal", "lock", "pareto", "protocols", "shipped", "__init__"}
PURE |= {"ladder", "tying", "picture", "figure", "showing"}
TOP = {
    "run",
    "cli",
    "session",
    "plan",
    "init",
    "listing",
    "starting",
    "dtypes",
    "doctor",
    "controls",
    "scoring",
    "console",
    "course",
    "summary",
    "many",
    "front_table",
    "finished",
    "forecast",
    "machines",
    "timing",
    "workers",
    "provisional",
    "measured",
}
HIGH = {"export", "ensemble", "explain", "report"}
LAYER = (
    dict.fromkeys(PURE, 0)
    | {
        "config": 1,
        "keys": 1,
        "sections": 1,
        "settings": 1,
        "wording": 1,
        "folder": 1,
        "loggers": 1,
    }
    | {"live": 3, "testing": 5, "loading": 5}
    | dict.fromkeys(TOP, 6)
)
LAYER |= dict.fromkeys(("data", "tasks", "families", "calibration", "criteria"), 2)
LAYER |= dict.fromkeys(("objectives", "recover"), 3) | {"evaluation": 4, "search": 4}
LAYER |= dict.fromkeys(HIGH, 5)
HEAVY = {"torch", "transformers", "ray", "sklearn", "pymoo", "moocore", "pandas", "datasets"}


def files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts)


def unit(module: str) -> str:
    """Returns the part of the house that a module of evoprune belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yields import nodes outside of TYPE_CHECKING, and whether they stand in a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, inside
        deeper = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _nodes(node, inside or deeper)


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Returns what a file imports, and whether only within a function."""
    found = []
    for node, inside in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, inside) for alias in node.names]
            continue
        assert node.level == 0, f"{path} has a relative import"
        for alias in node.names:
            module = f"{node.module}.{alias.name}"
            known = node.module.startswith("evoprune") and module in MODULES
            found.append((module if known else node.module, inside))
    return found


MODULES = {name_of(path) for path in files()}
EVERY = pytest.mark.parametrize("path", files(), ids=name_of)
PURE_ONES = [path for path in files() if unit(name_of(path)) in PURE]
LAYERED = [path for path in files() if unit(name_of(path)) not in ("__init__", "testing")]


def imported_units(path: Path) -> set[str]:
    own = unit(name_of(path))
    found = {unit(name) for name, _ in imports(path) if name.split(".")[0] == "evoprune"}
    return found - {own}


def outside(path: Path, at_import: bool = False) -> set[str]:
    roots = {name.split(".")[0] for name, inside in imports(path) if not (at_import and inside)}
    return roots - set(sys.stdlib_module_names) - {"evoprune"}


def test_every_part_of_the_house_has_a_layer():
    assert {unit(name) for name in MODULES} <= LAYER.keys()


@pytest.mark.parametrize("path", LAYERED, ids=name_of)
def test_imports_go_downwards(path):
    own = unit(name_of(path))
    above = {other for other in imported_units(path) if LAYER[other] > LAYER[own]}
    assert not above


@pytest.mark.parametrize("path", PURE_ONES, ids=name_of)
def test_pure_modules_need_numpy_alone(path):
    lazily = {"pareto.py": {"moocore"}, "front.py": {"pandas"}, "figure.py": {"plotly"}}.get(
        path.name, set()
    )
    assert outside(path, at_import=True) <= {"numpy"}
    assert outside(path) <= {"numpy"} | lazily


@EVERY
def test_heavy_libraries_are_imported_within_functions(path):
    allowed = {"pymoo"} if path.name == "operators.py" else set()
    if path.name == "modeling_evoprune.py":
        allowed |= {"torch", "transformers"}  # travels with exported models, without evoprune
    if path.parts[-2:] == ("ensemble", "module.py"):
        allowed |= {"torch"}  # an ensemble is a torch module; its package imports it lazily
    if path.parent.name == "sparse_head":
        allowed |= {"torch"}  # its networks are torch modules; the family imports them lazily
    assert not outside(path, at_import=True) & HEAVY - allowed


@EVERY
def test_who_may_use_which_library(path):
    own, used = unit(name_of(path)), outside(path)
    if own in ("search", "report"):
        assert not used & {"torch", "transformers", "ray"}
    if own not in ("config", "sections", "settings", "wording", "folder", "starting"):
        assert not used & {"pydantic", "yaml"}
    if "ray" in used:
        assert path.name == "ray_pool.py"
    if "pymoo" in used:
        assert own == "search"
    if "typer" in used:
        assert own == "cli"


@EVERY
def test_search_and_evaluation_stay_apart_and_exports_know_no_search(path):
    own, used = unit(name_of(path)), imported_units(path)
    if own == "search":
        assert {LAYER[other] for other in used} <= {0}
    if own == "evaluation":
        assert "search" not in used
    if own in HIGH:
        assert "search" not in used


def test_modules_import_each_other_without_circles():
    edges = {
        name_of(path): {n for n, inside in imports(path) if n in MODULES and not inside}
        for path in files()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in sorted(edges[name] - {name}):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())
    assert done >= edges.keys()


LOOK = (
    "import sys; print([n for n in ('torch', 'transformers', 'ray', 'pymoo') if n in sys.modules])"
)
STARTS = {
    "import": "import evoprune",
    "help": "import sys; sys.argv = ['evoprune', '--help']\nfrom evoprune import cli\n"
    "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert stop.code == 0",
    "search": "import evoprune.search\nassert callable(evoprune.search)",
}


@pytest.mark.parametrize("start", STARTS)
def test_nothing_heavy_is_loaded_to_begin_with(start):
    script = f"{STARTS[start]}\n{LOOK}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_can_be_searched_with_before_and_after_its_parts_are_imported():
    import evoprune.search.loop

    assert callable(evoprune.search)
    assert evoprune.search.loop.Budget
