"""Encoding and decoding for a store, by its settings: records, results, items, values and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from aioresult.codec import exceptions, failures, hints, pickles
from aioresult.codec.jsonvalues import TYPED
from aioresult.codec.payloads import Payload, Payloads
from aioresult.codec.records import in_utc, layout, record_of, values_of
from aioresult.errors import DecodeError, EncodeError
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import Settings
from aioresult.states import EXCEPTION_STATES, PENDING, SUCCESS
from aioresult.stream import Item

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_read_json: Final = msgspec.json.Decoder(Record).decode
_read_json_item: Final = msgspec.json.Decoder(tuple[_Moment, int, Any], strict=False).decode
"""Reads a number of seconds as a date, which the strict decoder refuses."""


class Codec(Payloads):
    """Encodes and decodes by one backend's settings; stateless after construction, usable from any thread.

    Attributes:
        is_text: whether encoded results are UTF-8 text (which Celery stores as strings in MongoDB), and not binary.

    Raises:
        SettingsError: ``result_compression`` is unknown, or it or ``result_serializer`` needs a missing package.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._layout = layout(settings)
        self._is_json = self._serializer.name == "json"
        self.is_text = self._serializer.text and not settings.result_compression

    # -- records: what key-value stores hold --------------------------------------------------------------------------

    def encode_record(self, record: Record) -> bytes:
        """Return a whole record as Celery's key-value stores hold it, byte for byte what Celery 5.7 writes.

        It is compressed if the settings say so. A result that is ``Encoded`` already is returned as it is.

        Raises:
            EncodeError: a value cannot be encoded; names the path inside it.
            ResultTooLarge: it exceeds ``max_result_bytes``. (A failure is shortened first.)
        """
        if isinstance(record.result, Encoded):
            return record.result
        failed = record.status in EXCEPTION_STATES
        if failed:
            record = self._storable(record)
        payload = self._serialize_record(record)
        if self._limit is None or len(payload) <= self._limit:
            return payload
        if failed:
            payload = self._serialize_record(failures.shortened(record, self._serializer.dumps, self._limit))
        return self._checked_size(payload, f"the result of task {record.id!r}")

    def _serialize_record(self, record: Record) -> bytes:
        try:
            payload = self._serializer.dumps(self._layout.meta(record))
        except Exception as exc:  # encoding calls code of the values, which may raise anything
            raise self._refusal(f"task {record.id!r}", values_of(record), exc) from exc
        return self._compress(payload)

    def decode_record(self, task_id: str, payload: Payload) -> Record:
        """Return the record that ``encode_record`` or Celery encoded; never raises.

        Anything unreadable gives ``Record.undecodable(task_id, DecodeError)``. An empty payload gives a PENDING
        record, as in Celery.
        """
        if self._is_json and isinstance(payload, bytes):
            try:
                record = _read_json(payload)
                if payload.find(TYPED) < 0 and record.stamps is None and record.status != PENDING:
                    return self._finished(task_id, record)
            except (ValueError, RecursionError):
                pass  # the general way below decides, and makes the error
        return self._decode_any_record(task_id, payload)

    def _decode_any_record(self, task_id: str, payload: Payload) -> Record:
        if not payload:
            return Record(id=task_id)
        what = f"the record of task {task_id!r}"
        try:
            return self._finished(task_id, record_of(task_id, self._loads(payload, what)))
        except DecodeError as exc:
            return Record.undecodable(task_id, exc)
        except (TypeError, ValueError, RecursionError) as exc:
            error = DecodeError(f"{what} cannot be read: {hints.reason(exc)}")
            error.__cause__ = exc
            return Record.undecodable(task_id, error)

    def _finished(self, task_id: str, record: Record) -> Record:
        """Return a decoded record with the requested id, its date in UTC and its exception rebuilt."""
        date_done = record.date_done
        if record.status == SUCCESS and record.id == task_id and (date_done is None or date_done.tzinfo is UTC):
            return record  # the usual case
        if date_done is not None and date_done.tzinfo is not UTC:
            record = msgspec.structs.replace(record, date_done=in_utc(date_done))
        if record.id != task_id:
            record = msgspec.structs.replace(record, id=task_id)
        if record.status in EXCEPTION_STATES:
            error = exceptions.restore(record.status, record.result, record.traceback)
            text = record.traceback and exceptions.clip(record.traceback)
            record = msgspec.structs.replace(record, result=error, traceback=text)
        return record

    # -- results alone: what document and SQL stores hold -------------------------------------------------------------

    def encode_result(self, record: Record, *, compress: bool = True, legacy_pickle: bool = False) -> bytes:
        """Return the result alone, as Celery's document and SQL stores hold it; exceptions in Celery's form.

        A result that is ``Encoded`` already is returned as it is.

        Args:
            record: its ``status`` says whether the result is an exception.
            compress: apply ``result_compression``; Celery never does on SQL.
            legacy_pickle: pickle it as plain data, whatever the serializer, as Celery up to 5.6 reads it from SQL
                (``database_result_format="pickle"``).

        Raises:
            EncodeError, ResultTooLarge: as ``encode_record``.
        """
        if isinstance(record.result, Encoded):
            return record.result
        what = f"task {record.id!r}"
        failed = record.status in EXCEPTION_STATES
        if failed:
            record = self._storable(record, legacy_pickle=legacy_pickle)
        payload = self._dumps("result", record.result, what, compress=compress, legacy_pickle=legacy_pickle)
        if failed and self._limit is not None and len(payload) > self._limit:
            dumps = pickles.dumps_plain if legacy_pickle else self._serializer.dumps
            result = failures.shortened(record, dumps, self._limit).result
            payload = self._dumps("result", result, what, compress=compress, legacy_pickle=legacy_pickle)
        return self._checked_size(payload, f"the result of task {record.id!r}")

    def decode_result(
        self,
        task_id: str,
        status: str,
        payload: Payload | None,
        *,
        traceback: str | None = None,
        legacy_pickle: bool = False,
    ) -> Any:
        """Return the result that ``encode_result`` or Celery encoded; an exception instance for EXCEPTION_STATES.

        Args:
            task_id: for error messages.
            status: the record's.
            payload: what is stored; ``None`` (SQL's NULL) is the value ``None``.
            traceback: the record's; becomes the ``__cause__`` of the exception.
            legacy_pickle: also accept the pickles of Celery up to 5.6, as plain data (for SQL).

        Raises:
            DecodeError: it cannot be read; says why, and which setting would help.
        """
        failed = status in EXCEPTION_STATES
        what = f"the result of task {task_id!r}"
        value = None if payload is None else self._loads(payload, what, legacy_pickle=legacy_pickle, failed=failed)
        return exceptions.restore(status, value, traceback) if failed else value

    # -- items of streams ---------------------------------------------------------------------------------------------

    def encode_item(self, task_id: str, value: Any, moment: float, attempt: int) -> bytes:
        """Return an item of a stream as stores hold it: ``[moment, attempt, value]``, perhaps compressed.

        ``moment`` is the time in seconds, see ``aioresult.stream.now``.

        Raises:
            EncodeError, ResultTooLarge: as ``encode_record``.
        """
        what = f"an item of task {task_id!r}"
        payload = self._dumps("item", [moment, attempt, value], what, compress=True, legacy_pickle=False)
        return self._checked_size(payload, what)

    def decode_item(self, task_id: str, seq: int, payload: Payload) -> Item:
        """Inverse of ``encode_item``.

        Raises:
            DecodeError: it cannot be read.
        """
        if self._is_json and type(payload) is bytes and payload.find(TYPED) < 0:
            try:
                at, attempt, value = _read_json_item(payload)
                return Item(seq, value, at, attempt)
            except (ValueError, RecursionError):
                pass  # the general way below decides, and makes the error
        what = f"item {seq} of task {task_id!r}"
        value = self._loads(payload, what)
        try:
            moment, attempt, value = value
            return Item(seq, value, datetime.fromtimestamp(moment, UTC), attempt)
        except (TypeError, ValueError, OverflowError, OSError) as exc:
            raise DecodeError(f"{what} cannot be read: it is not of the form [moment, attempt, value]") from exc

    def decode_items(self, task_id: str, first: int, payloads: Sequence[Payload]) -> list[Item | DecodeError]:
        """Return the items from number ``first`` on; in place of one that cannot be read, the reason."""
        items: list[Item | DecodeError] = []
        for seq, payload in enumerate(payloads, first):
            try:
                items.append(self.decode_item(task_id, seq, payload))
            except DecodeError as exc:
                items.append(exc)
        return items

    # -- other values -------------------------------------------------------------------------------------------------

    def encode_value(self, value: Any, what: str, *, compress: bool = False) -> bytes:
        """Return a plain value (children, args, kwargs, stamps, a group's tree) by the serializer.

        Args:
            value: the value.
            what: names it in errors, for example ``"args of task 'x'"``.
            compress: apply ``result_compression``.

        Raises:
            EncodeError: it cannot be encoded.
        """
        return self._dumps("value", value, what, compress=compress, legacy_pickle=False)

    def decode_value(self, payload: Payload, what: str, *, legacy_pickle: bool = False) -> Any:
        """Inverse of ``encode_value``.

        With ``legacy_pickle``, pickles of Celery up to 5.6 are accepted too, as plain data; a pickled group is returned
        in Celery's tuple form.

        Raises:
            DecodeError: it cannot be read.
        """
        return self._loads(payload, what, legacy_pickle=legacy_pickle)

    def encode_group(self, tree: ResultTree) -> bytes:
        """Return ``{"result": tree}`` as Celery's key-value stores hold a saved group, perhaps compressed.

        Raises:
            EncodeError: it cannot be encoded.
        """
        return self.encode_value({"result": tree}, "a saved group", compress=True)

    def decode_group(self, group_id: str, payload: Payload) -> ResultTree:
        """Inverse of ``encode_group``.

        Raises:
            DecodeError: it cannot be read, or is not a group.
        """
        what = f"the saved group {group_id!r}"
        value = self._loads(payload, what)
        return self.as_tree(value.get("result") if isinstance(value, Mapping) else None, what)

    def encode_group_pickle(self, tree: ResultTree) -> bytes:
        """Return a group as the pickled ``GroupResult`` that Celery up to 5.6 reads from SQL; no URL is in it.

        Raises:
            EncodeError: it is not a tree of ids.
        """
        try:
            return pickles.dumps_group(tree)
        except (TypeError, ValueError, RecursionError) as exc:
            raise EncodeError(f"a saved group has the form [[id, parent], members]; this has not ({exc})") from exc

    def as_tree(self, value: Any, what: str) -> ResultTree:
        """Return a decoded group in Celery's tuple form as nested lists.

        Raises:
            DecodeError: it is not of that form.
        """
        try:
            return _tree(value)
        except (TypeError, ValueError, RecursionError) as exc:
            raise DecodeError(f"{what} cannot be read: it is not of the form [[id, parent], members]") from exc


def _tree(value: Any) -> list[Any]:
    head, members = value
    node_id, parent = (head, None) if isinstance(head, str) else head
    if not isinstance(node_id, str) or isinstance(members, (str, Mapping)):
        raise TypeError("not a tree of ids")
    return [[node_id, parent and _tree(parent)], None if members is None else [_tree(member) for member in members]]
