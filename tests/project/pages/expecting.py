"""Whether something has printed what a page shows."""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

_KINDS: Final = (
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",  # a UUID
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.]\d+)?(?:Z|[+]\d\d:\d\d)?)?",  # a date, with or without its time
    r"\d+(?:[.]\d+)?(?= (?:ms|s|seconds?)\b)",  # a duration
    r"(?:Redis|Valkey) \d+[.]\d+[.]\d+",  # the server, either of which may serve the tests
    r"\d+[.]\d+[.]\d+(?![.]?\d)",  # a version
)
_ANY: Final = re.compile("|".join((*(f"({kind})" for kind in _KINDS), r"([.]{3})")))

_OF_A_BUSY_MACHINE: Final = re.compile(r"!\s+advice\s+Push works, but slowly: .*")
"""What ``aioresult doctor`` advises where waking takes long, as it may for any of the values that are not compared."""


class Unexpected(AssertionError):
    """Something else was printed than what the page shows."""


def check(expected: str, printed: str) -> None:
    """Compare all that was printed with what is shown."""
    if not _whole(expected).fullmatch(_tidy(printed)):
        shown = difflib.unified_diff(
            _tidy(expected).splitlines(), _tidy(printed).splitlines(), "shown", "printed", lineterm="", n=100
        )
        raise Unexpected("\n".join(shown))


def begins_with(expected: str, printed: str) -> bool:
    """Return whether what is shown has been printed, whatever follows."""
    return _whole(expected).match(_tidy(printed)) is not None


def check_comments(source: str, printed: str) -> None:
    """Look for what the comments after calls of ``print`` say."""
    lines = printed.splitlines()
    for expected in comments_of_prints(source):
        pattern = re.compile(_pattern(expected))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            raise Unexpected(f"no line like {expected!r} was printed, but:\n{printed}")


def comments_of_prints(source: str) -> Iterator[str]:
    """Yield the comments that are in the last line of a call of ``print``."""
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            comment = comments.get(node.end_lineno or 0)
            if comment:
                yield comment


def _tidy(text: str) -> str:
    lines = [line.rstrip() for line in text.strip("\n").splitlines() if not _OF_A_BUSY_MACHINE.fullmatch(line.rstrip())]
    return "".join(f"{line}\n" for line in lines)


def _whole(expected: str) -> re.Pattern[str]:
    lines = _tidy(expected).splitlines()
    return re.compile("".join(r"(?:.*\n)*?" if line.strip() == "..." else _pattern(line) + r"\n" for line in lines))


def _pattern(line: str) -> str:
    """Return a pattern for a line: what differs from run to run is replaced by a pattern for its kind."""
    pattern, end = "", 0
    for found in _ANY.finditer(line):
        index = found.lastindex or 0
        pattern += re.escape(line[end : found.start()]) + (".*?" if index > len(_KINDS) else _KINDS[index - 1])
        end = found.end()
    return pattern + re.escape(line[end:])
