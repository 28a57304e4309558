"""``date_done`` in the form in which Celery's own backends give it, which depends on the store.

Code that computes with these dates expects one of the forms and fails with another: aware and naive dates do not mix.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final

Form = Callable[[datetime], datetime]
"""Makes Celery's form of an aware date."""

_WALL: Final = frozenset({"sqlite", "mysql", "mariadb"})
_NAIVE_UTC: Final = frozenset({"mongodb", "postgresql"})
"""PostgreSQL's column holds the time of the session that has written it, which is hardly ever another one."""


def form_of(location: str, zone: tzinfo | None) -> Form:
    """Return the form in which Celery gives what is stored at ``location``.

    Args:
        location: of the store, as in messages.
        zone: that of the application; ``None`` for local time.
    """
    kind = location.partition("://")[0]
    if kind in _WALL:
        return lambda date: date.astimezone(zone).replace(tzinfo=None)
    if kind in _NAIVE_UTC:
        return lambda date: date.astimezone(UTC).replace(tzinfo=None)
    return lambda date: date.astimezone(zone)
