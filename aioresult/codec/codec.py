"""The facade of this package: everything that a store has to encode and decode, by one backend's settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import Any, Final

import msgspec

from aioresult.codec import exceptions, pickles
from aioresult.codec.compression import MARKER, decompress, make_compressor
from aioresult.codec.jsonvalues import TYPED
from aioresult.codec.paths import first_problem
from aioresult.codec.records import STAMPED, Layout, in_utc, record_of
from aioresult.codec.serializers import make_serializer
from aioresult.errors import DecodeError, EncodeError, ResultTooLarge
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import SERIALIZERS, Settings
from aioresult.states import EXCEPTION_STATES, PENDING

_Payload = bytes | bytearray | memoryview | str
_read_json: Final = msgspec.json.Decoder(Record).decode
_UTC: Final = timezone.utc


class Codec:
    """Encodes and decodes by one backend's settings; stateless after construction, usable from any thread.

    Attributes:
        is_text: whether encoded results are UTF-8 text (which Celery stores as strings in MongoDB), and not binary.

    Raises:
        SettingsError: ``result_compression`` is unknown, or it or ``result_serializer`` needs a package that is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._serializer = make_serializer(SERIALIZERS[settings.result_serializer])
        self._compress = make_compressor(settings.result_compression)
        self._layout = Layout(settings.zone, settings.result_extended)
        self._is_json = self._serializer.name == "json"
        self._limit = settings.max_result_bytes
        self.is_text = self._serializer.text and not settings.result_compression

    # -- records: what key-value stores hold ---------------------------------------------------------------------------

    def encode_record(self, record: Record) -> bytes:
        """Return a whole record as Celery's key-value stores hold it (byte for byte what Celery 5.7 writes), compressed if so set.

        A result that is ``Encoded`` already is returned as it is.

        Raises:
            EncodeError: a value cannot be encoded; names the path inside it.
            ResultTooLarge: it exceeds ``max_result_bytes``. (A failure is first cut down to what fits.)
        """
        if isinstance(record.result, Encoded):
            return record.result
        if record.status in EXCEPTION_STATES:
            record = self._with_failure_form(record)
        payload = self._compress(self._serialize_record(record))
        if self._limit is None or len(payload) <= self._limit:
            return payload
        if record.status in EXCEPTION_STATES:
            shorter = self._shortened(record)
            payload = self._compress(self._serialize_record(shorter))
        return self._checked_size(record.id, payload)

    def _serialize_record(self, record: Record) -> bytes:
        try:
            if self._is_json:
                return self._layout.json(record).encode()
            return self._serializer.dumps(self._layout.meta(record))
        except Exception as exc:  # encoding calls code of the values' own, which raises what it likes
            raise self._refusal(f"task {record.id!r}", self._layout.meta(record), exc) from exc

    def decode_record(self, task_id: str, payload: _Payload) -> Record:
        """Return the record that ``encode_record`` or Celery encoded; total.

        Anything unreadable gives ``Record.undecodable(task_id, DecodeError)``, an empty payload (for Celery: nothing) a PENDING record.
        """
        if self._is_json and isinstance(payload, bytes) and TYPED not in payload and STAMPED not in payload:
            try:
                record = _read_json(payload)
                if record.status != PENDING and record.stamps is None:
                    return self._finished(task_id, record)
            except (ValueError, RecursionError):
                pass  # the general way below decides, and words the error
        return self._decode_any_record(task_id, payload)

    def _decode_any_record(self, task_id: str, payload: _Payload) -> Record:
        if not payload:
            return Record(id=task_id)
        what = f"the record of task {task_id!r}"
        try:
            record = record_of(task_id, self._loads(payload, what))
            return self._finished(task_id, record)
        except DecodeError as exc:
            return Record.undecodable(task_id, exc)
        except (ValueError, RecursionError) as exc:
            error = DecodeError(f"{what} cannot be read: {_reason(exc)}")
            error.__cause__ = exc
            return Record.undecodable(task_id, error)

    def _finished(self, task_id: str, record: Record) -> Record:
        """Return a decoded record with the id that was asked for, its date in UTC and its exception rebuilt."""
        date_done = record.date_done
        if date_done is not None and date_done.tzinfo is not _UTC:
            record = msgspec.structs.replace(record, date_done=in_utc(date_done))
        if record.id != task_id:
            record = msgspec.structs.replace(record, id=task_id)
        if record.status in EXCEPTION_STATES:
            error = exceptions.restore(record.status, record.result, record.traceback)
            text = exceptions.clip(record.traceback) if record.traceback else record.traceback
            record = msgspec.structs.replace(record, result=error, traceback=text)
        return record

    # -- results alone: what document and SQL stores hold --------------------------------------------------------------

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
        if record.status in EXCEPTION_STATES:
            record = self._with_failure_form(record, legacy_pickle=legacy_pickle)
        what = f"task {record.id!r}"
        payload = self._dumps({"result": record.result}, what, compress=compress, legacy_pickle=legacy_pickle)
        if self._limit is not None and len(payload) > self._limit and record.status in EXCEPTION_STATES:
            result = self._shortened(record).result
            payload = self._dumps({"result": result}, what, compress=compress, legacy_pickle=legacy_pickle)
        return self._checked_size(record.id, payload)

    def decode_result(
        self,
        task_id: str,
        status: str,
        payload: _Payload | None,
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
            DecodeError: it cannot be read; says why and which setting would help.
        """
        failed = status in EXCEPTION_STATES
        what = f"the result of task {task_id!r}"
        value = None if payload is None else self._loads(payload, what, legacy_pickle=legacy_pickle, failed=failed)
        return exceptions.restore(status, value, traceback) if failed else value

    # -- other values --------------------------------------------------------------------------------------------------

    def encode_value(self, value: Any, what: str, *, compress: bool = False, legacy_pickle: bool = False) -> bytes:
        """Return a plain value (children, args, kwargs, stamps, a group's tree) by the serializer.

        Args:
            value: the value.
            what: names it in errors, for example ``"args of task 'x'"``.
            compress: apply ``result_compression``.
            legacy_pickle: pickle it as plain data instead.

        Raises:
            EncodeError: it cannot be encoded.
        """
        return self._dumps({"value": value}, what, compress=compress, legacy_pickle=legacy_pickle)

    def decode_value(self, payload: _Payload, what: str, *, legacy_pickle: bool = False) -> Any:
        """Inverse of ``encode_value``.

        With ``legacy_pickle``, pickles of Celery up to 5.6 are accepted too, as plain data; a pickled group comes out in Celery's tuple form.

        Raises:
            DecodeError: it cannot be read.
        """
        return self._loads(payload, what, legacy_pickle=legacy_pickle)

    def encode_group(self, tree: ResultTree) -> bytes:
        """Return ``{"result": tree}`` as Celery's key-value stores hold a saved group, compressed if so set.

        Raises:
            EncodeError: it cannot be encoded.
        """
        return self.encode_value({"result": tree}, "a saved group", compress=True)

    def decode_group(self, group_id: str, payload: _Payload) -> ResultTree:
        """Inverse of ``encode_group``.

        Raises:
            DecodeError: it cannot be read, or is not a group.
        """
        what = f"the saved group {group_id!r}"
        value = self._loads(payload, what)
        tree = value.get("result") if isinstance(value, Mapping) else None
        return self.as_tree(tree, what)

    def encode_group_pickle(self, tree: ResultTree) -> bytes:
        """Return a group as the pickled ``GroupResult`` that Celery up to 5.6 reads from SQL, without the backend's URL in it.

        Raises:
            EncodeError: it is not a tree of ids.
        """
        try:
            return pickles.dumps_group(tree)
        except (TypeError, ValueError, RecursionError) as exc:
            raise EncodeError(
                f"a saved group cannot be encoded: it is not of the form [[id, parent], members] ({exc})"
            ) from exc

    def as_tree(self, value: Any, what: str) -> ResultTree:
        """Return a decoded group in Celery's tuple form as nested lists.

        Raises:
            DecodeError: it is not of that form.
        """
        try:
            return _tree(value)
        except (TypeError, ValueError, RecursionError) as exc:
            raise DecodeError(f"{what} cannot be read: it is not of the form [[id, parent], members]") from exc

    # -- common --------------------------------------------------------------------------------------------------------

    def _dumps(self, fields: dict[str, Any], what: str, *, compress: bool, legacy_pickle: bool) -> bytes:
        """Return the only one of ``fields``, encoded; its name begins the path in errors."""
        (value,) = fields.values()
        try:
            payload = pickles.dumps_plain(value) if legacy_pickle else self._serializer.dumps(value)
        except Exception as exc:  # encoding calls code of the value's own, which raises what it likes
            raise self._refusal(what, fields, exc, legacy_pickle=legacy_pickle) from exc
        return self._compress(payload) if compress else payload

    def _refusal(
        self, what: str, fields: dict[str, Any], cause: Exception, *, legacy_pickle: bool = False
    ) -> EncodeError:
        serializer = self._serializer
        judge, judge_key = serializer.judge, serializer.judge_key
        supported = serializer.supported
        if legacy_pickle:
            judge, judge_key, supported = pickles.judge_plain, pickles.judge_plain_key, pickles.SUPPORTED
        found = (first_problem(value, name, judge, judge_key) for name, value in fields.items())
        problem = next(filter(None, found), None) or f"{type(cause).__name__}: {cause!s:.200}"
        return EncodeError(f"{what}: {problem}; supported are {supported}; nothing was stored")

    def _loads(self, payload: _Payload, what: str, *, legacy_pickle: bool = False, failed: bool = False) -> Any:
        serializer = self._serializer
        try:
            data = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
            data = decompress(data, self._settings.max_decompressed_bytes)
            if serializer.name not in self._settings.accepted:
                raise ValueError(
                    f"{serializer.name} is not accepted; name it in accept_content if every writer is trusted"
                )
            if legacy_pickle and serializer.name != "pickle" and pickles.looks_like_pickle(data):
                return pickles.loads_plain(data, failure=failed)
            if serializer.name == "pickle":
                return pickles.loads_trusted(data, failure=failed)
            return serializer.loads(data)
        except Exception as exc:  # every serializer has errors of its own, and unpickling runs any code
            raise DecodeError(f"{what} cannot be read: {_reason(exc)}{self._hint(payload)}") from exc

    def _hint(self, payload: _Payload) -> str:
        """Say what an unreadable payload looks like, if that is not what was expected; never what it says."""
        head = payload[:64]
        start = head.encode("utf-8", "replace") if isinstance(head, str) else bytes(head)
        seen = _looks_like(start)
        name = self._serializer.name
        if seen is None or seen == name or start.startswith(MARKER):
            return f" (expected is {name}, by result_serializer)"
        trust = " and accept_content=['pickle'], if every writer is trusted" if seen == "pickle" else ""
        return f"; it looks like {seen}, but result_serializer is {name!r}: set result_serializer={seen!r}{trust}"

    def _with_failure_form(self, record: Record, *, legacy_pickle: bool = False) -> Record:
        """Return a failed record with its exception in the form to be serialized; never fails because of the exception."""
        result, traceback = record.result, record.traceback
        if isinstance(result, BaseException):
            result = self._failure(result, legacy_pickle=legacy_pickle)
        else:
            result = exceptions.failure_form(result)
        if traceback is not None and not self._encodable(traceback, legacy_pickle=False):
            traceback = str(traceback).encode("utf-8", "backslashreplace").decode()
        return msgspec.structs.replace(record, result=result, traceback=traceback)

    def _failure(self, exc: BaseException, *, legacy_pickle: bool) -> Any:
        if self._serializer.name == "pickle" and not legacy_pickle and pickles.survives(exc):
            return exc
        return exceptions.describe(exc, lambda arg: self._encodable(arg, legacy_pickle=legacy_pickle))

    def _encodable(self, value: Any, *, legacy_pickle: bool) -> bool:
        try:
            _ = pickles.dumps_plain(value) if legacy_pickle else self._serializer.dumps(value)
        except Exception:  # noqa: BLE001  (whatever it raises, this argument is then stored as its repr)
            return False
        return True

    def _shortened(self, record: Record) -> Record:
        """Return a failed record cut down to fit ``max_result_bytes``: better a short account than none."""
        share = max((self._limit or 0) // 8, 1)
        traceback = record.traceback
        if traceback is not None and len(traceback) > share:
            traceback = f"[...]{traceback[-share:]}"
        result = record.result
        if isinstance(result, BaseException):
            result = exceptions.describe(result, lambda arg: self._encodable(arg, legacy_pickle=False))
        result = exceptions.shortened(result, share)
        return msgspec.structs.replace(record, result=result, traceback=traceback)

    def _checked_size(self, task_id: str, payload: bytes) -> bytes:
        if self._limit is not None and len(payload) > self._limit:
            raise ResultTooLarge(
                f"the result of task {task_id!r} takes {len(payload)} bytes, more than max_result_bytes={self._limit}; nothing was "
                f"stored; store it elsewhere and return a reference to it, or raise max_result_bytes"
            )
        return payload


def _reason(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    if isinstance(exc, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {exc.start})"
    return f"{exc!s:.300}" or type(exc).__name__


def _looks_like(start: bytes) -> str | None:
    if pickles.looks_like_pickle(start):
        return "pickle"
    if start[:1] in (b"{", b"[", b'"'):
        return "json"
    if start[:1] and (0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)):
        return "msgpack"
    if start.startswith((b"children:", b"date_done:", b"status:", b"exc_message:")):
        return "yaml"
    return None


def _tree(value: Any) -> list[Any]:
    head, members = value
    if isinstance(head, str):
        head = [head, None]
    node_id, parent = head
    if not isinstance(node_id, str) or isinstance(members, (str, Mapping)):
        raise TypeError("not a tree of ids")
    return [
        [node_id, None if parent is None else _tree(parent)],
        None if members is None else [_tree(m) for m in members],
    ]
