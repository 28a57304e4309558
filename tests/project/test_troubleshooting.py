"""The page of errors knows each class, each message and each warning, and quotes what is really said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from aioresult import errors
from aioresult.errors import AioResultError
from tests.project.said import CLASSES, GAP, TEXTS, messages, warnings

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


@pytest.mark.parametrize(("where", "kind", "text"), messages())
def test_each_message_is_quoted_in_the_entry_of_its_class(where: str, kind: str, text: str) -> None:
    shown = text.replace(GAP, "...")
    assert any(says(quoted, text) for quoted in SECTIONS[kind]), (
        f"{where} says `{shown}`: quote it in a table under '### {kind}', with ... for what differs"
    )


@pytest.mark.parametrize(("where", "text"), list(warnings()))
def test_each_warning_has_an_entry(where: str, text: str) -> None:
    longest = max(text.split(GAP), key=len).strip(" :;,()")
    assert any(longest[:60] in quoted for quoted in QUOTED), f"{where}: {longest}"


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_is_quoted_is_in_the_code(quoted: str) -> None:
    fragments = [fragment.strip(" :") for fragment in quoted.split("...")]
    assert any(fragments), "it says nothing"
    assert any(all(fragment in text for fragment in fragments) for text in TEXTS)
