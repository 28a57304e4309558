"""The page of errors knows each class, each message and each warning, and quotes what is really said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from aioresult import errors
from aioresult.errors import AioResultError
from tests.project.said import CLASSES, GAP, messages, texts, warnings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()


def quoted_in(section: str) -> list[str]:
    """Return the messages in the first column of a section's tables; several in one cell have one entry."""
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return [quoted for cell in cells for quoted in re.findall(r"`([^`]+)`", cell)]


SECTIONS = {
    title: quoted_in(body)
    for title, _, body in (part.partition("\n") for part in re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:])
}
QUOTED = sorted({quoted for section in SECTIONS.values() for quoted in section})


def says(quoted: str, text: str) -> bool:
    """Return whether ``quoted``, in which ``...`` stands for anything, is what ``text`` says."""
    return re.fullmatch(".*".join(map(re.escape, quoted.split("..."))), text, re.DOTALL) is not None


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_of_errors_has_an_entry_and_knows_its_address(kind: type[AioResultError]) -> None:
    assert kind.__name__ in SECTIONS
    assert kind.documentation == f"{errors.DOCUMENTATION}#{kind.__name__.lower()}"


def test_the_address_is_that_of_the_page_in_the_repository() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = f"{project['urls']['Source']}/blob/main/docs/howto/troubleshooting.md"
    assert page == errors.DOCUMENTATION


@pytest.mark.slow
def test_each_message_is_quoted_in_the_entry_of_its_class() -> None:
    unquoted = [
        f"{where} says `{text.replace(GAP, '...')}`: quote it in a table under '### {kind}', with ... for what differs"
        for where, kind, text in messages()
        if not any(says(quoted, text) for quoted in SECTIONS[kind])
    ]
    assert not unquoted, "\n".join(unquoted)


@pytest.mark.slow
def test_each_warning_has_an_entry() -> None:
    fragments = {where: max(text.split(GAP), key=len).strip(" :;,()")[:60] for where, text in warnings()}
    unquoted = [
        f"{where}: {fragment}"
        for where, fragment in fragments.items()
        if not any(fragment in quoted for quoted in QUOTED)
    ]
    assert fragments
    assert not unquoted, "\n".join(unquoted)


@pytest.mark.slow
def test_a_message_that_is_quoted_is_in_the_code() -> None:
    invented = []
    for quoted in QUOTED:
        fragments = [fragment.strip(" :") for fragment in quoted.split("...")]
        assert any(fragments), f"{quoted!r} says nothing"
        found = texts()
        for fragment in fragments:
            found = {text for text in found if fragment in text}
        if not found:
            invented.append(quoted)
    assert not invented, "\n".join(invented)
