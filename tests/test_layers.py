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
# Lowest first; those of a row do not know each other.
LAYERS = (
    ("core",),
    ("config", "calibration", "criteria"),
    ("folder", "data", "objectives", "recover"),
    ("tasks", "searching", "report"),
    ("families", "scoring"),
    ("evaluation",),
    ("export", "progress", "listing"),
    ("session", "ensemble"),
    ("provisional", "summary", "loading"),
    ("run",),
    ("many", "planning", "testing"),
    ("starting",),
    ("cli",),
)
LAYER = {name: height for height, names in enumerate(LAYERS) for name in names}
# The run folder's pictures and the like, which a report and a notebook draw with numpy alone.
LAZILY = {"pareto.py": {"moocore"}, "front.py": {"pandas"}, "figure.py": {"plotly"}}
HIGH = {"export", "ensemble", "explain", "report"}
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
CORE = [path for path in files() if unit(name_of(path)) in ("core", "folder")]
LAYERED = [path for path in files() if unit(name_of(path)) != "__init__"]


def imported_units(path: Path) -> set[str]:
    own = unit(name_of(path))
    found = {unit(name) for name, _ in imports(path) if name.split(".")[0] == "evoprune"}
    return found - {own}


def outside(path: Path, at_import: bool = False) -> set[str]:
    roots = {name.split(".")[0] for name, inside in imports(path) if not (at_import and inside)}
    return roots - set(sys.stdlib_module_names) - {"evoprune"}


def test_every_part_of_the_house_has_a_layer():
    assert {unit(name) for name in MODULES} == {*LAYER, "__init__"}


@pytest.mark.parametrize("path", LAYERED, ids=name_of)
def test_imports_go_downwards(path):
    """Within functions as well: nothing calls up."""
    own = unit(name_of(path))
    above = {other for other in imported_units(path) - {"__init__"} if LAYER[other] >= LAYER[own]}
    assert not above


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_needs_numpy_alone(path):
    beside = {"numpy"} | ({"pydantic", "yaml"} if path.name == "layout.py" else set())
    assert outside(path, at_import=True) <= beside
    assert outside(path) <= beside | LAZILY.get(path.name, set())


@EVERY
def test_heavy_libraries_are_imported_within_functions(path):
    allowed = {"pymoo"} if path.name == "operators.py" else set()
    if path.name in ("modeling_evoprune.py", "modeling_evoprune_cut.py"):
        allowed |= {"torch", "transformers"}  # travels with exported models, without evoprune
    if path.parts[-2:] == ("ensemble", "module.py"):
        allowed |= {"torch"}  # an ensemble is a torch module; its package imports it lazily
    if path.parent.name == "sparse_head":
        allowed |= {"torch"}  # its networks are torch modules; the family imports them lazily
    assert not outside(path, at_import=True) & HEAVY - allowed


@EVERY
def test_who_may_use_which_library(path):
    own, used = unit(name_of(path)), outside(path)
    if own in ("searching", "report"):
        assert not used & {"torch", "transformers", "ray"}
    if own not in ("config", "starting") and path.name != "layout.py":
        assert not used & {"pydantic", "yaml"}
    if "ray" in used:
        assert path.name == "ray_pool.py"
    if "pymoo" in used:
        assert own == "searching"
    if "typer" in used:
        assert own == "cli"


@EVERY
def test_searching_knows_patterns_only_and_exports_know_no_search(path):
    own, used = unit(name_of(path)), imported_units(path)
    if own == "searching":
        assert used <= {"core", "folder"}
    if own in ("evaluation", *HIGH):
        assert "searching" not in used


def test_modules_import_each_other_without_circles():
    """Counting what is imported within functions."""
    edges = {name_of(path): {n for n, _ in imports(path) if n in MODULES} for path in files()}
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
    "search": "import evoprune\nassert callable(evoprune.search)",
}


@pytest.mark.parametrize("start", STARTS)
def test_nothing_heavy_is_loaded_to_begin_with(start):
    script = f"{STARTS[start]}\n{LOOK}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
