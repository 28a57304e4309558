"""Imports point one way, and importing the package loads no driver."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import aioresult

PACKAGE = Path(__file__).parents[2] / "aioresult"
ROOT = "the package itself"

# From the bottom up; a module may import what stands on lines before its own. Those on one line do not know each other.
LAYERS = [
    ["collection", "credentials", "errors", "forks", "patches", "states"],
    ["background", "backoff", "partly", "record", "stream"],
    ["settings"],
    ["codec"],
    ["abc"],
    ["deadlines", "lanes", "members", "openfeed", "values"],
    ["changes"],
    ["batching"],
    ["channels", "looking", "losses", "polling", "purging"],
    ["subscription", "stores"],
    ["hub"],
    ["runtime"],
    ["default", "reading", "revoking", "waiting", "writing"],
    ["stored"],
    ["result"],
    ["collecting"],
    ["groups"],
    ["backend", "many"],
    ["leases", "stopping"],
    ["emitting", "recording", "reporting"],
    ["jobs", "performing"],
    ["runner"],
    [ROOT],
    ["sync"],
    ["integrations", "testing"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BRIDGE = ("sync", "integrations")
"""A Celery application that the blocking API is handed is understood by the integration, which needs Celery and is
therefore imported by the function that is handed one."""
DRIVERS = frozenset(
    """
    aiosqlite asyncmy asyncpg attr attrs backports brotli celery django fastapi gevent hiredis hypercorn inotify_simple
    kombu motor msgpack numpy opentelemetry psycopg pydantic pydantic_core pymongo redis rich sqlalchemy sse_starlette
    starlette taskiq typer uvloop yaml
    """.split()
)


class Import(NamedTuple):
    """One import statement of a module of this package."""

    where: str
    module: str
    name: str | None
    in_function: bool

    @property
    def own(self) -> bool:
        return self.module.partition(".")[0] == "aioresult"

    @property
    def part(self) -> str:
        """Which of ``LAYERS`` is imported."""
        below = self.module.split(".")[1:2]
        if not below and self.name in LEVEL:
            return str(self.name)
        return below[0] if below else ROOT


def part_of(path: Path) -> str:
    """Return which of ``LAYERS`` the file at ``path`` belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return ROOT if first == "__init__.py" else first.removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements_in(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in ``node``, and what holds some; expressions, which are most of a tree, hold none."""
    kinds = (ast.stmt, ast.excepthandler, ast.match_case)
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, kinds))


def imports_of(path: Path) -> Iterator[Import]:
    """Yield the imports that happen at run time: those for type checkers are left out."""
    file = path.relative_to(PACKAGE.parent)
    pending: list[tuple[ast.AST, bool]] = [(parsed(path), False)]
    while pending:
        node, in_function = pending.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.If(test=ast.Attribute(attr="TYPE_CHECKING")):
                pending += [(child, in_function) for child in node.orelse]
                continue
            case ast.Import():
                where = f"{file}:{node.lineno}"
                yield from (Import(where, alias.name, None, in_function) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                where = f"{file}:{node.lineno}"
                yield from (Import(where, module, alias.name, in_function) for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"{file}:{node.lineno}: a relative import; this package imports by full names")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                in_function = True
        pending += [(child, in_function) for child in statements_in(node)]


PARTS = {path: part_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


# All files are parsed by the first test that needs it, and not by every process that collects tests.
@cache
def all_imports() -> list[tuple[str, Import]]:
    """Return every import, each with the part of the package that it stands in."""
    return [(part, found) for path, part in PARTS.items() for found in imports_of(path)]


def own_imports() -> list[tuple[str, Import]]:
    """Return the imports of one part of this package by another."""
    return [(part, found) for part, found in all_imports() if found.own and found.part != part]


def test_every_module_has_its_place() -> None:
    assert set(PARTS.values()) <= set(LEVEL), "say in LAYERS where the new module stands"


def test_imports_point_one_way() -> None:
    assert not [
        f"{found.where} imports {found.part}"
        for part, found in own_imports()
        if LEVEL.get(found.part, len(LAYERS)) >= LEVEL.get(part, 0)
        and not (found.in_function and (part, found.part) == BRIDGE)
    ]


def test_functions_import_no_other_part_of_this_package() -> None:
    """Drivers, and what needs them, may be imported where they are used; all else stands at the top of the file."""
    assert not [
        f"{found.where} imports {found.module}"
        for part, found in own_imports()
        if found.in_function and found.part != "stores" and (part, found.part) != BRIDGE
    ]


def modules_imported_by(path: Path) -> set[str]:
    """Return the modules of this package that the file at ``path`` imports: anywhere in it, for types only included."""
    found: set[str] = set()
    pending: list[ast.AST] = [parsed(path)]
    while pending:
        node = pending.pop()
        match node:
            case ast.Import():
                found.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                names = [f"{module}.{alias.name}" for alias in node.names]
                found.update(name if name in MODULES else module for name in names)
        pending += statements_in(node)
    return found & MODULES.keys()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PARTS}


def test_no_modules_import_each_other_in_a_ring() -> None:
    # The package itself is left out: it loads each name when it is first used, so that anything may import it.
    graph = {name: modules_imported_by(path) - {"aioresult", name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" -> ".join(reversed(exc.args[1])))


def test_only_stores_and_outer_layers_know_drivers() -> None:
    assert not [
        f"{found.where} imports {found.module}"
        for part, found in all_imports()
        if found.module.partition(".")[0] in DRIVERS
        and not found.in_function
        and part not in ("stores", "integrations", "cli")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["aioresult", "aioresult.sync", "aioresult.stores", "aioresult.integrations.asgi"])
def test_importing_loads_no_driver(module: str) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "aioresult" in run.stdout.split()
    assert not DRIVERS.intersection(run.stdout.split())


def test_the_package_itself_loads_nothing_until_it_is_asked_for_something() -> None:
    program = "import sys, aioresult; print(*{name for name in sys.modules if 'aio' in name or 'asyncio' in name})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["aioresult"]


def test_type_checkers_and_the_interpreter_find_each_name_in_the_same_place() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module)[:9] == "aioresult"
    ]
    told = {alias.name: node.module for node in imports for alias in node.names}
    assert told == {name: f"aioresult.{module}" for name, module in aioresult._HOME.items()}
    assert told.keys() | {"__version__"} == set(aioresult.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(aioresult._HOMES))
def test_a_name_can_be_the_first_that_is_asked_for(module: str) -> None:
    names = ", ".join(aioresult._HOMES[module].split())
    subprocess.run([sys.executable, "-W", "error", "-c", f"from aioresult import {names}"], check=True)
