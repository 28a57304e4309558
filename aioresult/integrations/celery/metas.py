"""Records as the ``meta`` dictionaries of Celery's clients, with exceptions and dates as Celery has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from aioresult.codec.exceptions import identity
from aioresult.codec.messages import with_text
from aioresult.errors import RemoteTaskError, TaskRevokedError
from aioresult.record import EXTENDED_FIELDS, Record
from aioresult.states import EXCEPTION_STATES

Meta = dict[str, Any]
"""status, result, traceback, children, date_done, task_id, and further keys where they are known."""
Rebuild = Callable[[dict[str, Any]], object]
"""Celery's own way to make an exception of ``exc_type``, ``exc_module`` and ``exc_message``."""

DateForm = Callable[[datetime], datetime]
"""Converts an aware date to Celery's form."""

_WALL: Final = frozenset({"sqlite", "mysql", "mariadb"})
_NAIVE_UTC: Final = frozenset({"mongodb", "postgresql"})
"""PostgreSQL's column holds the time in the zone of the writer's session, which is nearly always UTC."""
_OPTIONAL: Final = ("group_id", "parent_id", *EXTENDED_FIELDS)


def meta_of(record: Record, rebuild: Rebuild, date_form: DateForm) -> Meta:
    """Return the dictionary that Celery's own backend would make from a stored record."""
    result = record.result
    if record.status in EXCEPTION_STATES and isinstance(result, BaseException):
        result = _as_celery_has_it(result, rebuild)
    meta = {
        "task_id": record.id,
        "status": record.status,
        "result": result,
        "traceback": record.traceback,
        "children": record.children,
        "date_done": None if record.date_done is None else date_form(record.date_done),
    }
    meta.update({name: value for name in _OPTIONAL if (value := getattr(record, name)) is not None})
    if record.stamps:
        meta = {**record.stamps, **meta, "stamped_headers": list(record.stamps)}
    return meta


def _as_celery_has_it(error: BaseException, rebuild: Rebuild) -> BaseException:
    """Return an exception of the class that Celery's clients expect, if the codec did not know the class.

    As in Celery that may be any exception class of a loaded module, or else a new class of that name. Exceptions that
    end the process, such as ``SystemExit``, stay a ``RemoteTaskError``.
    """
    if isinstance(error, ExceptionGroup):
        return _with_members(error, [_as_celery_has_it(member, rebuild) for member in error.exceptions])
    if not isinstance(error, (RemoteTaskError, TaskRevokedError)):
        return error
    module, name, args = identity(error)
    try:
        rebuilt = rebuild({"exc_type": name, "exc_message": list(args), "exc_module": module})
    except Exception:  # noqa: BLE001  (it refuses other classes, and calls the class's own code)
        return error
    if not isinstance(rebuilt, Exception) or type(rebuilt).__qualname__ != name:
        return error  # not an ordinary exception, or Celery's stand-in for one that cannot be made
    rebuilt.__cause__ = error.__cause__
    return with_text(rebuilt, error.message) if isinstance(error, RemoteTaskError) else rebuilt


def _with_members(group: ExceptionGroup[Exception], members: list[Any]) -> ExceptionGroup[Exception]:
    if all(new is old for new, old in zip(members, group.exceptions, strict=True)):
        return group
    made: ExceptionGroup[Exception] = group.derive(members)
    made.__cause__ = group.__cause__
    return made


def date_form_of(location: str, zone: tzinfo | None) -> DateForm:
    """Return the form in which Celery's own backends give ``date_done``, which depends on the store.

    Code that computes with these dates expects this form, because aware and naive dates do not mix.

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
