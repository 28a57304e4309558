"""Links of pages lead somewhere, also where a repository's host shows the files, without Sphinx."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    {
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "examples", "benchmarks") for page in ROOT.glob(f"{folder}/**/*.md")),
    }
    - {ROOT / "docs" / "404.md"}  # which only the built site shows
)
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^( *)(```+|~~~+)(?P<language>[^\n]*)\n.*?^\1\2`*$", re.MULTILINE | re.DOTALL)
INCLUDES = re.compile(r"^```\{include\} \S*?([A-Z]+\.md)", re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its blocks, and with a word in the place of code."""
    return re.sub(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "code", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the addresses of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_has_a_text_and_leads_to_what_is_there(page: Path) -> None:
    for link in LINK.finditer(prose(page)):
        assert link["text"], f"{link[0]} is invisible without Sphinx"
        path, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link[0]
        if target.suffix == ".md":
            included = INCLUDES.findall(target.read_text(encoding="utf-8"))
            assert not included, f"{link[0]} shows nothing without Sphinx: link to {included[0]}"
            assert not anchor or anchor in anchors(target), link[0]


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_a_role_of_sphinx(page: Path) -> None:
    assert not re.findall(r"\{(?:doc|ref)\}`[^`]*`", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("index", sorted(ROOT.glob("docs/*/index.md")), ids=lambda page: page.parent.name)
def test_the_first_page_of_a_folder_links_to_all_others(index: Path) -> None:
    linked = {link["target"].partition("#")[0] for link in LINK.finditer(prose(index))}
    assert {page.name for page in index.parent.glob("*.md")} - {"index.md"} <= linked
