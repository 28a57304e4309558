"""The exit codes of the command, in one table that the help is made from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from aioresult.errors import (
    AioResultError,
    BackendNotConfigured,
    DecodeError,
    InvalidTaskId,
    MissingDriver,
    ResultTimeout,
    SettingsError,
    StoreUnavailable,
)


class Exit(IntEnum):
    """The exit code of a command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    TIMEOUT = 3
    UNAVAILABLE = 4
    UNREADABLE = 5
    REFUSED = 6
    BUG = 70
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final[dict[Exit, str]] = {
    Exit.OK: "done; every task asked for has succeeded",
    Exit.FAILED: "a task has failed or was revoked",
    Exit.USAGE: "wrong usage: arguments, URL or settings; a missing extra",
    Exit.TIMEOUT: "a task was not final in time",
    Exit.UNAVAILABLE: "the store cannot be reached, or refuses the connection",
    Exit.UNREADABLE: "a stored record cannot be read with these settings",
    Exit.REFUSED: "nothing was done: the task is final, a right is missing, ...",
    Exit.BUG: "a bug in aioresult; please report the traceback",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.PIPE: "the program that reads the output has ended",
}

_BY_ERROR: Final[tuple[tuple[type[AioResultError], Exit], ...]] = (
    (StoreUnavailable, Exit.UNAVAILABLE),
    (ResultTimeout, Exit.TIMEOUT),
    (DecodeError, Exit.UNREADABLE),
    (SettingsError, Exit.USAGE),
    (InvalidTaskId, Exit.USAGE),
    (MissingDriver, Exit.USAGE),
    (BackendNotConfigured, Exit.USAGE),
)
_SEVERITY: Final = (Exit.OK, Exit.TIMEOUT, Exit.FAILED, Exit.UNREADABLE)


def exit_for(error: AioResultError) -> Exit:
    """Return the exit code for an error of this package."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.REFUSED)


def worst(codes: Iterable[Exit]) -> Exit:
    """Return one code for the outcomes of several tasks: unreadable wins over failed, and failed over late."""
    return max(codes, key=_SEVERITY.index, default=Exit.OK)
