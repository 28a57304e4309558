"""Records to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from aioresult.codec import Codec
from aioresult.errors import DecodeError, EncodeError, InvalidTaskId
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import SERIALIZERS, Settings
from aioresult.states import PENDING
from aioresult.stores.sqlalchemy import cells
from aioresult.stores.sqlalchemy.dates import Dates
from aioresult.stores.sqlalchemy.tables import EXTENDED

Row = tuple[Any, ...]
"""One task's values, in the order of ``COLUMNS``, in the form of statements and rows."""

_TEXT_SERIALIZERS: Final = frozenset({"json", "yaml"})
_STATUS_LENGTH: Final = 50
_NAME_LENGTH: Final = 155
_NOT_EXTENDED: Final = (None,) * len(EXTENDED)


class Rows:
    """Converts records and rows by one store's settings."""

    def __init__(self, settings: Settings, codec: Codec, dates: Dates) -> None:
        self._codec = codec
        self.dates = dates
        self._pickle = settings.database_result_format == "pickle"
        self._extended = settings.result_extended
        self.binary = self._pickle or SERIALIZERS[settings.result_serializer] not in _TEXT_SERIALIZERS
        """Whether results are stored as bytes and not as text."""

    def to_row(self, record: Record) -> Row:
        """Return the row of an encoded ``record``."""
        date = record.date_done
        if date is None and record.ready:
            date = datetime.now(UTC)  # without a date it would never expire
        basic = (
            record.id,
            record.status,
            record.result,
            None if date is None else self.dates.to_column(date),
            _storable(record.traceback),
            record.children,
        )
        if not self._extended:
            return basic + _NOT_EXTENDED
        return (
            *basic,
            _storable(record.name, _NAME_LENGTH),
            record.args,
            record.kwargs,
            _storable(record.worker, _NAME_LENGTH),
            record.retries,
            _storable(record.queue, _NAME_LENGTH),
            record.stamps,
        )

    def _date(self, value: object) -> datetime | None:
        """Return the date of a column; ``None`` if it is not a date, or out of the calendar's range."""
        try:
            return self.dates.from_column(value)
        except (ArithmeticError, ValueError):
            return None

    def to_record(self, row: Sequence[Any]) -> Record:
        """Return the record in ``row``; ``Record.undecodable`` if it cannot be decoded."""
        try:
            return self._decode(row)
        except DecodeError as exc:
            return Record.undecodable(row[0], exc)
        except (ArithmeticError, TypeError, ValueError) as exc:  # because of an unexpected value
            return self.unreadable(row[0], exc)

    @staticmethod
    def unreadable(task_id: str, exc: Exception) -> Record:
        """Return the stand-in for a row that cannot be read because of ``exc``, for example an error of the driver."""
        error = DecodeError(f"the record of task {task_id!r} cannot be read: {exc!s:.400}")
        error.__cause__ = exc
        return Record.undecodable(task_id, error)

    def encode(self, record: Record) -> Record:
        """Return ``record`` with all values that are stored as bytes encoded; harmless when called twice.

        Raises:
            EncodeError: a value cannot be encoded, or is too large.
            InvalidTaskId: the id contains a null character, which SQL text cannot hold.
        """
        if isinstance(record.result, Encoded):
            return record
        if "\0" in record.id:
            raise null_in(record.id)
        if _storable(record.status, _STATUS_LENGTH) != record.status:
            raise EncodeError(
                f"task {record.id!r}: state {record.status!r:.80} cannot be stored: the column holds {_STATUS_LENGTH} "
                f"characters, none of them null or a surrogate"
            )
        result = Encoded(self._codec.encode_result(record, compress=False, legacy_pickle=self._pickle))
        if record.args is None and record.kwargs is None and not record.children and not record.stamps:
            return msgspec.structs.replace(record, result=result, children=None, stamps=None)
        stamps = record.stamps and {"stamped_headers": list(record.stamps), "stamps": record.stamps}
        return msgspec.structs.replace(
            record,
            result=result,
            children=self._value(record, "children", record.children or None),
            args=self._value(record, "args", record.args),
            kwargs=self._value(record, "kwargs", record.kwargs),
            stamps=self._value(record, "stamps", stamps or None),
        )

    def _value(self, record: Record, field: str, value: Any) -> Encoded | None:
        return None if value is None else Encoded(self._codec.encode_value(value, f"{field} of task {record.id!r}"))

    def _decode(self, row: Sequence[Any]) -> Record:
        task_id, status, result, date, traceback, children, name, args, kwargs, worker, retries, queue, stamps = row
        status = cells.text(status, "the status of task", task_id) or PENDING
        traceback = cells.text(traceback, "the traceback of task", task_id)
        payload = cells.payload(result, "the result of task", task_id)
        stamps = self._read(task_id, "stamps of task", stamps)
        return Record(
            id=task_id,
            status=status,
            result=self._codec.decode_result(task_id, status, payload, traceback=traceback, legacy_pickle=True),
            traceback=traceback,
            children=self._read(task_id, "children of task", children),
            date_done=self._date(date),
            name=cells.text(name, "the name of task", task_id),
            args=self._read(task_id, "args of task", args),
            kwargs=self._read(task_id, "kwargs of task", kwargs),
            worker=cells.text(worker, "the worker of task", task_id),
            retries=cells.number(retries, "the number of retries of task", task_id),
            queue=cells.text(queue, "the queue of task", task_id),
            stamps=stamps.get("stamps") if isinstance(stamps, dict) else None,
        )

    def _read(self, task_id: str, what: str, value: object) -> Any:
        payload = cells.payload(value, what, task_id)
        return None if payload is None else self._codec.decode_value(payload, f"{what} {task_id!r}")

    def encode_group(self, group_id: str, tree: ResultTree) -> bytes:
        """Return ``tree`` in the form of the groups' table.

        Raises:
            EncodeError: it is not a tree of ids.
        """
        if self._pickle:
            return self._codec.encode_group_pickle(tree)
        return self._codec.encode_value(tree, f"group {group_id!r}")

    def decode_group(self, group_id: str, value: object) -> ResultTree | None:
        """Return the tree in a column's ``value``, written by any version of Celery; ``None`` for none.

        Raises:
            DecodeError: it cannot be read.
        """
        payload = cells.payload(value, "the saved group", group_id)
        if payload is None:
            return None
        what = f"the saved group {group_id!r}"
        return self._codec.as_tree(self._codec.decode_value(payload, what, legacy_pickle=True), what)


def null_in(task_id: str) -> InvalidTaskId:
    """Return the error for an id that contains a null character."""
    return InvalidTaskId(f"task id {task_id!r:.100} contains a null character, which a database cannot store")


def _storable(text: str | None, length: int | None = None) -> str | None:
    """Return ``text`` without characters that SQL text cannot hold; a traceback may quote any text."""
    if text is None:
        return None
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")[:length]
