"""The floors of the house: who may import whom, how long a file may be, what is public."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import boltzgen

ROOT = Path(boltzgen.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = [
    {"errors"},
    {"processes"},
    {"arguments", "units", "files", "progress"},
    {"checkpoint"},
    {"autosave"},
    {"energies", "flows"},
    {"molecule"},
    {"coordinates"},
    {"training", "sampling"},
    {"reweighting"},
    {"reporting", "run_folder"},
    {"generator"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FORBIDDEN_NAMES = {"utils", "core", "base", "common", "helpers"}


def module(path: Path) -> tuple[str, ...]:
    """("energies", "toys") for boltzgen/energies/toys.py; a room's __init__ is the room."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def imports(path: Path) -> list[tuple[str, ...]]:
    """Modules of the package a file imports, lazily or not; those for type checkers only are left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = path.relative_to(ROOT).parts[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            found += [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("boltzgen"):
            base = tuple(node.module.split(".")[1:])
            found += [(*base, alias.name) for alias in node.names]
    return found


def external(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_floors_below_or_the_own_room(path):
    room = module(path)[0]
    for target in imports(path):
        if target[0] != room and target[0] in LEVEL:
            assert LEVEL[target[0]] < LEVEL[room], f"{room} imports {'.'.join(target)}"


def test_every_room_has_a_floor():
    assert {module(path)[0] for path in FILES} <= set(LEVEL)


def test_no_import_runs_in_a_circle():
    known = {module(path) for path in FILES}

    def resolve(target):
        return next((target[:k] for k in range(len(target), 0, -1) if target[:k] in known), None)

    graph = {}
    for path in FILES:
        graph[module(path)] = {resolve(t) for t in imports(path)} - {None, module(path)}
    # a room's __init__ re-exports its modules; a module imports from siblings, not from its own __init__
    done, active = set(), []

    def visit(node):
        assert node not in active, f"circle: {[*active, node]}"
        if node in done:
            return
        active.append(node)
        for following in graph[node]:
            visit(following)
        done.add(active.pop())

    for node in graph:
        visit(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path):
    parts, names = module(path), external(path)
    if "openmm" in names:
        assert parts[0] in ("energies", "molecule") or parts == ("sampling", "dynamics")
    if "mdtraj" in names:
        assert parts[0] == "sampling"
    if parts[0] == "flows":
        assert not names & {"openmm", "mdtraj", "matplotlib"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_one_idea_per_file(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says its idea in one sentence"


def public_functions(path):
    """Names of the functions that a module, or a room, shows."""
    found = importlib.import_module(".".join(("boltzgen", *(part for part in module(path) if part != "__init__"))))
    return {name for name in getattr(found, "__all__", ()) if inspect.isfunction(getattr(found, name))}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem != "__main__"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_module_shares_a_name_with_a_public_function_beside_it(path):
    """Or `from .room import name` would mean the one or the other, by what was imported first."""
    beside = {other.stem for other in path.parent.glob("*.py")}
    if path.stem == "__init__":  # what the package shows, it shows beside all its rooms' modules
        beside |= {other.stem for other in (FILES if path.parent == ROOT else path.parent.rglob("*.py"))}
    assert public_functions(path) & beside <= {"main"}  # the name that every program's entry has


def test_the_public_names_exist_and_are_sorted():
    assert list(boltzgen.__all__) == sorted(boltzgen.__all__)
    assert all(hasattr(boltzgen, name) for name in boltzgen.__all__)


def test_the_public_names_are_those_that_type_checkers_see_and_come_late():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    rooms = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(rooms) == boltzgen.__all__
    for name, room in rooms.items():
        assert getattr(boltzgen, name) is getattr(importlib.import_module(f"boltzgen.{room}"), name)
    code = (
        "import sys, boltzgen; print({'torch', 'openmm', 'mdtraj', 'matplotlib'} & set(sys.modules)); boltzgen.nothing"
    )
    late = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert late.stdout == "set()\n"
    assert "module 'boltzgen' has no attribute 'nothing'" in late.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_global_state_is_touched(path):
    text = path.read_text()
    calls = ["torch.manual_seed(", "set_default_dtype(", "np.random.seed(", "warnings.simplefilter(", "basicConfig("]
    if module(path) == ("cli", "main"):  # a program, which prints the verdict in place of the warnings
        calls.remove("warnings.simplefilter(")
    for call in calls:
        assert call not in text.replace("Generator().manual_seed(", ""), call
