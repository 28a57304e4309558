"""What the package says when it raises errors and logs warnings, as its syntax trees have it."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aioresult import errors
from aioresult.errors import AioResultError
from aioresult.integrations.celery import BrokerUnavailable

PACKAGE = Path(errors.__file__).parent
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AioResultError)]
CLASSES.append(BrokerUnavailable)
WRONG_CALLS = "ValueError, TypeError and RuntimeError"
"""The kind of the errors that wrong calls get: those of Python's own classes."""
_OTHERS_WORDS = {"RemoteTaskError", "RemoteTraceback"}
"""Classes whose text is that of a task's own exception."""
_PARTS = {"codec", "rules.py", "spellings.py"}
"""Where errors of Python's own classes are the reason at the end of another message."""
GAP = "\0"
"""Stands for a value in a text."""


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the package's files as syntax trees."""
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def nodes(tree: ast.AST) -> list[ast.AST]:
    """Return a tree's nodes: walking it takes long."""
    return list(ast.walk(tree))


def text_of(node: ast.expr) -> str:
    """Return a string in the source, with a gap for each of its values; constants of the package are filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%(\.?\d*)?[a-z]", GAP, text)
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.FormattedValue(value=ast.Name(id=name)):
            return _constants().get(name, GAP)
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return GAP


@cache
def _assigned_in(scope: ast.AST) -> list[tuple[str, ast.expr]]:
    found = []
    for node in nodes(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.append((name, value))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.append((name, value))
    return found


@cache
def _constants() -> dict[str, str]:
    return {
        name: text_of(value)
        for tree in trees().values()
        for name, value in _assigned_in(tree)
        if name.isupper() and isinstance(value, ast.Constant)
    }


@cache
def texts() -> set[str]:
    """Return all texts of the package."""
    return {
        text_of(node)
        for tree in trees().values()
        for node in nodes(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp)
    }


@cache
def _kinds() -> dict[str, str]:
    """Return the public class that each class of errors is told as, by name: a private one is told as its base."""
    found = {kind.__name__: kind.__name__ for kind in CLASSES}
    found |= dict.fromkeys(("ValueError", "TypeError", "RuntimeError"), WRONG_CALLS)
    for tree in trees().values():
        for node in nodes(tree):
            match node:
                case ast.ClassDef(name=name, bases=[ast.Name(id=base), *_]) if base in found:
                    found.setdefault(name, found[base])
    return {name: kind for name, kind in found.items() if name not in _OTHERS_WORDS}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def _returns() -> dict[tuple[Path | None, str], list[ast.expr]]:
    """Return what functions return, by name; private ones are known in their own file."""
    found: dict[tuple[Path | None, str], list[ast.expr]] = defaultdict(list)
    for path, tree in trees().items():
        for function in _functions(tree):
            ends = [node.value for node in nodes(function) if isinstance(node, ast.Return) and node.value]
            found[path if function.name.startswith("_") else None, function.name] += ends
    return found


def _possible(node: ast.expr, function: ast.AST, path: Path, seen: tuple[str, ...] = ()) -> Iterator[ast.expr]:
    """Yield what an expression may stand for: by its branches, its variable, or the function that it calls."""
    found: list[ast.expr] = []
    match node:
        case ast.IfExp(body=one, orelse=other) | ast.BoolOp(values=[one, other]):
            found = [one, other]
        case ast.Name(id=name) if name not in seen:
            found, seen = [value for assigned, value in _assigned_in(function) if assigned == name], (*seen, name)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name not in {*_kinds(), *seen}:
            found, seen = _returns().get((path if name.startswith("_") else None, name), []), (*seen, name)
        case ast.Subscript(value=value):
            found = [value]
    if not found:
        yield node
    for one in found:
        yield from _possible(one, function, path, seen)


def _made() -> Iterator[tuple[str, str, str]]:
    for path, tree in trees().items():
        for function in _functions(tree):
            for node in nodes(function):
                match node:
                    case ast.Call(func=ast.Name() as called, args=[said, *_]):
                        names = {one.id for one in _possible(called, function, path) if isinstance(one, ast.Name)}
                        texts = (
                            {text_of(one) for one in _possible(said, function, path)} if names & _kinds().keys() else ()
                        )
                        for name in names & _kinds().keys():
                            yield from ((f"aioresult/{path}:{node.lineno}", _kinds()[name], text) for text in texts)


def messages() -> list[tuple[str, str, str]]:
    """Return where errors are made, the public class that each is told as, and its message."""
    return sorted(
        {
            (where, kind, text)
            for where, kind, text in _made()
            if text.strip(f"{GAP} :;")  # not somebody else's words alone
            and not where.startswith("aioresult/testing/")  # for authors of stores
            and not (kind == WRONG_CALLS and _PARTS.intersection(re.split("[/:]", where)))
        }
    )


def warnings() -> Iterator[tuple[str, str]]:
    """Yield where the package logs what people should see, and what it says."""
    for path, tree in trees().items():
        for node in nodes(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="logger"), attr="warning" | "error" | "exception" | "critical"
                    ),
                    args=[said, *_],
                ):
                    pass
                case ast.Call(func=ast.Name(id="warn_once"), args=[_, said]):
                    pass
                case _:
                    continue
            text = text_of(said)
            if text.strip(f"{GAP}: "):  # not that of warn_once itself
                yield f"aioresult/{path}:{node.lineno}", text
