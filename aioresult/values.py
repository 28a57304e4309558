"""What callers get from records and items: the value, converted to a type if requested, or the task's exception."""

from __future__ import annotations

from typing import Any

from aioresult.codec.typed import convert
from aioresult.errors import DecodeError, RemoteTaskError
from aioresult.record import Record
from aioresult.states import PROPAGATE_STATES, SUCCESS
from aioresult.stream import Item


def value_of(record: Record, result_type: Any = None, propagate: bool = True) -> Any:
    """Return what ``get`` makes of a final record: its value, or its exception raised or returned.

    Raises:
        DecodeError: the record cannot be read, or its value is not a ``result_type``.
        Exception: what the task raised, where ``propagate`` is set.
    """
    if record.status == SUCCESS:
        if result_type is None:
            return record.result
        try:
            return convert(record.result, result_type)
        except ValueError as exc:
            raise DecodeError(f"task {record.id!r}: its value is no {result_type!r}: {exc}") from exc
    if record.status not in PROPAGATE_STATES:
        raise record.error or ValueError(f"task {record.id!r} is not final: its state is {record.status}")
    error = record.result
    if not isinstance(error, BaseException):
        error = RemoteTaskError("Exception", None, [error], record.traceback)
    if propagate:
        raise error.with_traceback(None)  # all waiters share the instance: its traceback begins here
    return error


def item_as(item: Item, task_id: str, result_type: Any) -> Item:
    """Return ``item`` with its value converted.

    Raises:
        DecodeError: the value is not a ``result_type``.
    """
    try:
        return Item(item.seq, convert(item.value, result_type), item.at, item.attempt)
    except ValueError as exc:
        raise DecodeError(f"item {item.seq} of task {task_id!r} is no {result_type!r}: {exc}") from exc
