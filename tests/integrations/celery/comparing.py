"""What Celery's own client and aioresult say about the same task, in one form, so that it can be compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery.result import AsyncResult as CeleryResult
from celery.utils.serialization import UnpickleableExceptionWrapper

from aioresult import AsyncResult, Record
from aioresult.codec.exceptions import identity

ATTRIBUTES = ("name", "args", "kwargs", "worker", "retries", "queue")


def by_celery(result: CeleryResult) -> dict[str, Any]:
    """Return everything that Celery's client says of a task; one read for each attribute."""
    return {
        "status": result.status,
        "result": _plain(result.result),
        "traceback": result.traceback,
        "date_done": _instant(result.date_done),
        "children": [_tree(child) for child in result.children or []],
        "ready": result.ready(),
        "successful": result.successful(),
        "failed": result.failed(),
        **{name: _plain(getattr(result, name)) for name in ATTRIBUTES},
    }


async def by_aioresult(result: AsyncResult[Any]) -> dict[str, Any]:
    """Return what aioresult says of a task."""
    record = await result.fetch()
    children = await result.children()
    return {
        **_of_record(record),
        "children": _plain([child.as_tuple() for child in children or []]),
        "ready": await result.ready(),
        "successful": await result.successful(),
        "failed": await result.failed(),
    }


def _of_record(record: Record) -> dict[str, Any]:
    if record.date_done is not None:
        assert record.date_done.utcoffset() == timedelta(0), "dates are always aware, in UTC"
    return {
        "status": record.status,
        "result": _plain(record.result),
        "traceback": record.traceback,
        "date_done": _instant(record.date_done),
        **{name: _plain(getattr(record, name)) for name in ATTRIBUTES},
    }


def in_milliseconds(seen: dict[str, Any]) -> dict[str, Any]:
    """Return the same with a date as exact as Celery gets it from MongoDB, where aioresult keeps it more exactly."""
    moment = seen["date_done"]
    return {**seen, "date_done": moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000)}


def lineage(result: Any) -> Any:
    """Return the ids of a result of either side with those of its ancestors and members."""
    return _plain(result.as_tuple())


def _tree(child: Any) -> Any:
    """Return the tuple form of a child, which is what Celery gives anyway as long as the task is not final."""
    return _plain(child if isinstance(child, (list, tuple)) else child.as_tuple())


def _instant(moment: datetime | None) -> datetime | None:
    """Bring a moment to UTC; Celery gives a naive one where the store has no zone, and means UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _plain(value: Any) -> Any:
    """Make exceptions comparable, and lists of tuples."""
    if isinstance(value, UnpickleableExceptionWrapper):  # Celery leaves it so in JSON; aioresult tells what was wrapped
        return value.exc_module, value.exc_cls_name, _plain(list(value.exc_args))
    if isinstance(value, BaseException):
        module, name, args = identity(value)
        return module, name, _plain(list(args))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
