"""Who imports whom: a file imports only from floors below its own, or from its own room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import distdiff

ROOT = Path(distdiff.__file__).parent
FLOORS = {
    "errors": 0, "places": 0, "machine": 0.1, "node": 0.4, "channels": 0.45, "comm": 0.5, "petsc": 0.55, "stages": 0,
    "cancellation": 0.5, "deadline": 0.6,
    "packages": 0.1, "flags": 0,
    "ops": 1, "kernels": 1.05, "tape": 1.1, "strided": 1.15, "spread": 1.16, "tracing": 1.2, "numpy": 1.3,
    "coverage": 1.3,
    "graph": 2, "partition": 2.1,
    "fusion": 2.9, "missing": 2.9, "products": 2.9, "partials": 3, "liveness": 3.05, "calls": 3.07, "evaluate": 3.1,
    "nonfinite": 3.12, "independence": 3.12,
    "components": 3.15, "preaccumulate": 3.2, "filling": 3.2, "blocks": 3.25, "spanning": 3.27, "system": 3.3,
    "assembly": 3.4, "program": 3.5,
    "storage": 1.35, "nest": 1.4, "solvers": 4,
    "settings": 5, "facts": 5, "batches": 5, "report": 5.02, "planning": 5.03, "pictures": 5.06, "nested": 5.05,
    "implicit": 5.07, "solving": 5, "source": 5.05, "single": 5.05, "position": 5.07, "linearization": 5.1,
    "drivers": 6, "draws": 5.8, "purpose": 5.9, "replay": 6, "snapshot": 0, "watch": 0.1,
    "rules": 6.05, "testing": 6.1, "warm": 6, "calibration": 6,
    "service": 6.9, "cli": 7, "examples": 7,
}


def _names(path: Path) -> Iterator[list[str]]:
    """Dotted names that a file imports, at its top, inside a function or for its types."""
    package = ("distdiff", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield from ([*module, alias.name] for alias in node.names)


def _imports(path: Path) -> set[str]:
    """Rooms of this package that a file imports."""
    return {name[1] for name in _names(path) if len(name) > 1 and name[0] == "distdiff"}


def _files(path: Path) -> set[Path]:
    """Files of this package that a file imports, the public face left out."""
    found = set()
    for name in _names(path):
        if name[0] == "distdiff":
            places = [ROOT.joinpath(*name[1:]), ROOT.joinpath(*name[1:-1])]
            files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
            found |= {next(file for file in files if file.exists())}
    return found - {path, ROOT / "__init__.py"}


def test_imports_go_down_only():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        room = parts[0].removesuffix(".py")
        if room == "__init__":
            continue  # the public face looks names up lazily
        assert room in FLOORS, f"{path.name} is in no room of the plan"
        for other in _imports(path) & set(FLOORS):
            if other != room and FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{path.relative_to(ROOT)} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})")
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other():
    """Not within a room either, nor later, nor for types alone."""
    paths = set(ROOT.rglob("*.py")) - {ROOT / "__init__.py"}
    try:
        TopologicalSorter({path: _files(path) for path in paths}).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(str(path.relative_to(ROOT)) for path in error.args[1])) from None


def test_the_note_names_every_room():
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## Rooms")[1].split("\n## ")[0]
    missing = [room for room in FLOORS if f"`{room}.py`" not in table and f"`{room}/`" not in table]
    assert not missing and {path.name.removesuffix(".py") for path in ROOT.iterdir()
                            if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"} == set(FLOORS)


def test_importing_distdiff_starts_nothing():
    import subprocess
    import sys

    code = ("import sys, distdiff; heavy = ('mpi4py.MPI', 'petsc4py.PETSc', 'numba', 'scipy');"
            "started = [m for m in heavy if m in sys.modules]; assert not started, started")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
