"""The page of errors knows each class and each warning, and quotes what is really said."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioresult import errors
from aioresult.errors import AioResultError
from aioresult.integrations.celery import BrokerUnavailable

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
QUOTED = [cell for cell in re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE) if "..." in cell or " " in cell]
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AioResultError)]
GAP = "\0"


def text_of(node: ast.expr) -> str:
    """Return a string in the source, with a gap for each of its values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(\.?\d*)?[a-z]", GAP, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return GAP


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in (ROOT / "aioresult").rglob("*.py"):
        yield path, ast.parse(path.read_text())


TEXTS = [
    text_of(node)
    for _, tree in trees()
    for node in ast.walk(tree)
    if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp)
]


def warnings() -> Iterator[tuple[str, str]]:
    """Yield where the package logs what people should see, and what it says."""
    for path, tree in trees():
        for node in ast.walk(tree):
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
                yield f"{path.relative_to(ROOT)}:{node.lineno}", text


@pytest.mark.parametrize("kind", [*CLASSES, BrokerUnavailable], ids=lambda kind: kind.__name__)
def test_each_class_of_errors_has_an_entry_and_knows_its_address(kind: type[AioResultError]) -> None:
    assert kind.__name__ in HEADINGS
    assert kind.documentation == f"{errors.DOCUMENTATION}#{kind.__name__.lower()}"


def test_the_address_is_that_of_the_page_in_the_repository() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = f"{project['urls']['Source']}/blob/main/docs/howto/troubleshooting.md"
    assert page == errors.DOCUMENTATION


@pytest.mark.parametrize(("where", "text"), list(warnings()))
def test_each_warning_has_an_entry(where: str, text: str) -> None:
    longest = max(text.split(GAP), key=len).strip(" :;,()")
    assert any(longest[:60] in quoted for quoted in QUOTED), f"{where}: {longest}"


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_is_quoted_is_in_the_code(quoted: str) -> None:
    fragments = [fragment.strip(" :") for fragment in quoted.split("...")]
    assert any(fragments), "it says nothing"
    assert any(all(fragment in text for fragment in fragments) for text in TEXTS)
