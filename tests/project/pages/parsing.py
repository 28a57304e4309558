"""What a page contains that can be run: its blocks, with what its comments say of them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

RUN: Final = ("python", "console")
SHOWN: Final = frozenset("text html javascript sql toml yaml ini json dockerfile lua http nginx".split())
_FENCE: Final = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\s`]*)(?P<rest>[^`]*)")
_COMMENT: Final = re.compile(r" *<!-- (?P<verb>no test|file|keeps running|run)(?:: *(?P<text>.*?))?(?P<end> *-->)?$")

Kind = Literal["python", "console", "background", "file", "output", "shown", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a page, or a comment that holds one.

    Attributes:
        line: number of the first line of ``text``.
        about: the name of a file, or the reason for not being run.
    """

    kind: Kind
    language: str
    line: int
    text: str
    about: str = ""


class BadPage(Exception):
    """A block, or a comment before one, that nobody knows what to do with."""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    return list(_Parser(page).blocks())


class _Parser:
    def __init__(self, page: Path) -> None:
        self._page = page
        self._lines = page.read_text(encoding="utf-8").splitlines()
        self._at = 0

    def blocks(self) -> Iterator[Block]:
        """Go through the page."""
        comment: re.Match[str] | None = None
        after_python = False
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if found := _COMMENT.fullmatch(line):
                if comment is not None:
                    raise self._bad("two comments, and no block between them")
                if found["end"] is None:
                    yield self._hidden(found)
                else:
                    comment = found
            elif found := _FENCE.fullmatch(line):
                block = self._block(found, comment, after_python=after_python)
                comment, after_python = None, block is not None and block.kind == "python"
                if block is not None:
                    yield block
            elif line.strip():
                if comment is not None:
                    raise self._bad("a comment for a block, and no block below it")
                after_python = False

    def _bad(self, text: str) -> BadPage:
        return BadPage(f"{self._page}:{self._at}: {text}")

    def _until(self, end: re.Pattern[str]) -> str:
        begin = self._at
        while self._at < len(self._lines):
            self._at += 1
            if end.fullmatch(self._lines[self._at - 1]):
                return textwrap.dedent("\n".join(self._lines[begin : self._at - 1])) + "\n"
        raise self._bad(f"what begins in line {begin} has no end")

    def _hidden(self, comment: re.Match[str]) -> Block:
        line = self._at + 1
        text = self._until(re.compile(r" *-->"))
        if comment["verb"] == "run":
            return Block(kind="python", language="python", line=line, text=text)
        if comment["verb"] == "file" and comment["text"]:
            return Block(kind="file", language="", line=line, text=text, about=comment["text"])
        raise self._bad(f"a comment {comment['verb']!r} of several lines")

    def _block(self, fence: re.Match[str], comment: re.Match[str] | None, *, after_python: bool) -> Block | None:
        line, language = self._at + 1, fence["language"]
        text = self._until(re.compile(rf" *{fence['fence']}{fence['fence'][0]}*\s*"))
        if language.startswith("{"):
            if language.startswith("{code"):
                raise self._bad(f"{language}: write ```python or ```console, so that the block can be run")
            return None
        if language not in SHOWN and language not in RUN:
            raise self._bad(f"a block of {language!r}; known are {', '.join([*RUN, *sorted(SHOWN)])}")
        kind, about = self._kind(language, comment, after_python=after_python)
        return Block(kind=kind, language=language, line=line, text=text, about=about)

    def _kind(self, language: str, comment: re.Match[str] | None, *, after_python: bool) -> tuple[Kind, str]:
        if comment is None:
            if language in RUN:
                return ("python" if language == "python" else "console"), ""
            return ("output" if language == "text" and after_python else "shown"), ""
        about = comment["text"] or ""
        match comment["verb"]:
            case "no test" if len(about.split()) >= 3 and language in (*RUN, "text"):
                return "skipped", about
            case "file" if about:
                return "file", about
            case "keeps running" if language == "console":
                return "background", ""
        raise self._bad(f"{comment[0].strip()}: no reason, or no name, or not for this block")
