"""The texts of exceptions: texts that differ from the arguments, and texts at the end of a traceback."""

from __future__ import annotations

import re
from typing import Any, Final

from aioresult.errors import RemoteTaskError

PLAIN_STR: Final = frozenset({cls.__str__ for cls in (BaseException, KeyError, OSError, ImportError, ExceptionGroup)})
"""Methods ``__str__`` that use the arguments only."""
_MAX_TEXT: Final = 2**16
_SECTIONS: Final = (
    "\nThe above exception was the direct cause of the following exception:\n\n",
    "\nDuring handling of the above exception, another exception occurred:\n\n",
)
_EXCEPTION: Final = re.compile(r"([^\W\d][\w.<>]*)(?:: (.*))?", re.DOTALL)
_ABOVE: Final = (" ", "Traceback (")
"""How lines above the exception itself begin."""


def own_text(exc: BaseException, args: tuple[Any, ...]) -> str | None:
    """Return ``str(exc)`` if its arguments do not contain it already, else ``None``; never fails."""
    if isinstance(exc, RemoteTaskError):
        in_traceback = exc.traceback and text_in(exc.traceback, exc.exc_module, exc.exc_type, args)
        return None if in_traceback == exc.message else exc.message  # the traceback is stored, too
    cls = type(exc)
    if cls.__module__ == "builtins" or (args and cls.__str__ in PLAIN_STR):
        return None
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001  (the exception's own code must not prevent storing the failure)
        return None
    return text[:_MAX_TEXT] if text and not _is_contained_in(args, text) else None


def text_in(traceback: str, module: str | None, name: str, args: tuple[Any, ...]) -> str | None:
    """Return the text of a task's exception from its traceback, if its arguments do not contain it already."""
    shown, text = exception_at_end(traceback)
    return text if text and shown in (name, f"{module}.{name}") and not _is_contained_in(args, text) else None


def last_section(traceback: str) -> str:
    """Return a traceback without the tracebacks of its causes, which come before it."""
    return traceback[max((at + len(mark) for mark in _SECTIONS if (at := traceback.rfind(mark)) >= 0), default=0) :]


def exception_at_end(traceback: str) -> tuple[str, str]:
    """Return the qualified name and the text of the exception at the end of a traceback; empty where there is none."""
    section = last_section(traceback)
    lines = section[section.rfind('\n  File "') + 1 :].split("\n")
    first = next((at for at, line in enumerate(lines) if line and not line.startswith(_ABOVE)), len(lines))
    found = _EXCEPTION.fullmatch("\n".join(lines[first:]).rstrip("\n"))
    return ("", "") if found is None else (found[1], (found[2] or "")[:_MAX_TEXT])


def with_text(exc: Exception, text: str | None) -> Exception:
    """Return a rebuilt exception; one that has neither arguments nor text gets ``text`` as its argument."""
    try:
        silent = text and not exc.args and not str(exc)
    except Exception:  # noqa: BLE001  (a registered class's own code)
        return exc
    if silent:
        exc.args = (text,)
    return exc


def _is_contained_in(args: tuple[Any, ...], text: str) -> bool:
    try:
        return text == str(Exception(*args)) or (len(args) == 1 and text == repr(args[0]))
    except Exception:  # noqa: BLE001  (the code of an argument)
        return False
