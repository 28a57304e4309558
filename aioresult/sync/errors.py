"""Errors of blocking calls when Celery is loaded: they are instances of this package's and of Celery's classes.

Code written for Celery has ``except celery.exceptions.TimeoutError`` around its ``get``; a missing class would show
only in production. The errors keep their names, their texts and their other base classes.
"""

from __future__ import annotations

import sys
from typing import Any, Final, TypeVar, cast

from aioresult.errors import AioResultError, ResultTimeout, TaskRevokedError

E = TypeVar("E", bound=AioResultError)

_CELERYS: Final[dict[type[AioResultError], str]] = {
    ResultTimeout: "TimeoutError",
    TaskRevokedError: "TaskRevokedError",
}
_made: Final[dict[tuple[type, type], type[AioResultError]]] = {}


def as_celerys(error: E, name: str | None = None) -> E:
    """Return an error as an instance of Celery's class, too, if there is one and Celery is loaded.

    Args:
        error: one of this package.
        name: the class in ``celery.exceptions``; by default the one with the same meaning.
    """
    ours: type[AioResultError] = type(error)
    name = name or _CELERYS.get(ours)
    theirs = getattr(sys.modules.get("celery.exceptions"), name or "", None)
    if theirs is None or isinstance(error, theirs):
        return error
    both = _both(ours, theirs)(*error.args)
    both.__cause__ = error.__cause__
    return cast("E", both)


def _both(ours: type[AioResultError], theirs: type[Exception]) -> type[AioResultError]:
    def reduce(error: AioResultError) -> tuple[Any, ...]:
        return as_celerys, (ours(*error.args), theirs.__name__)  # Celery may be missing where it is unpickled

    made = _made.get((ours, theirs))
    if made is None:
        made = type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__reduce__": reduce})
        made = _made.setdefault((ours, theirs), made)
    return made
