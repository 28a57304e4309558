"""Records as Celery's documents and back: no I/O.

Celery keeps the result alone serialized, in ``result``; everything else is native BSON. Two fields are ours:
``expires_at``, a date under a TTL index (it cannot be ``date_done``, which has an ordinary index from Celery), and
``date_done_us``, the microseconds of ``date_done`` that BSON's milliseconds lose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import bson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from aioresult.codec import Codec
from aioresult.codec.exceptions import clip
from aioresult.errors import DecodeError, EncodeError, ResultTooLarge
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import Settings
from aioresult.stores.mongodb.generations import modern

Document = dict[str, Any]

CODEC_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    # One malformed document must not make a whole batch unreadable:
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
READING: Final = CODEC_OPTIONS.with_options(uuid_representation=UuidRepresentation.UNSPECIFIED)
"""The options for reading: UUIDs are decoded later, so that an invalid one affects only its own document."""
_UUID_LENGTH: Final = 16
MAX_DOCUMENT: Final = 16 * 2**20
"""MongoDB's limit for one document, in bytes."""

_EXTENDED: Final = ("name", "args", "kwargs", "worker", "retries", "queue")
_BASIC: Final = ("_id", "status", "result", "traceback", "children", "date_done", "group_id", "parent_id")
_RESERVED: Final = frozenset((*_BASIC, *_EXTENDED, "stamped_headers", "expires_at", "date_done_us"))
_UNENCODABLE: Final = (BSONError, OverflowError, ValueError, TypeError, RecursionError)
_MAX_PATH: Final = 100
_LONGEST: Final = 1e10
"""Seconds, about three centuries: a longer lifetime would exceed the range of dates."""
_T = TypeVar("_T")


class Documents:
    """The documents of one backend, by its codec and settings."""

    def __init__(self, codec: Codec, settings: Settings) -> None:
        self._codec = codec
        self._settings = settings

    def encode(self, record: Record) -> Encoded:
        """Return ``record`` as a BSON document, including its expiry.

        Raises:
            EncodeError: the result, or a native value such as ``args``, cannot be stored; names the part.
            ResultTooLarge: the document exceeds ``max_result_bytes`` or MongoDB's own limit.
        """
        document = self._document(record)
        try:
            encoded = bson.encode(document, codec_options=CODEC_OPTIONS)
        except _UNENCODABLE as exc:
            path, reason = _culprit(document)
            raise EncodeError(
                f"task {record.id!r}: {path} cannot be stored in MongoDB: {reason or exc}"[:1000]
            ) from exc
        if len(encoded) > MAX_DOCUMENT:
            raise ResultTooLarge(
                f"the result of task {record.id!r} takes {len(encoded)} bytes, more than the {MAX_DOCUMENT} of a "
                f"MongoDB document; nothing was stored; store it elsewhere and keep a reference to it here"
            )
        return Encoded(encoded)

    def _document(self, record: Record) -> Document:
        document: Document = {
            "_id": record.id,
            "status": record.status,
            "result": self._stored(self._codec.encode_result(record)),
            "traceback": _storable(record.traceback),
            "children": record.children,
            "date_done": record.date_done,
        }
        if record.date_done is not None:
            document["date_done_us"] = record.date_done.microsecond % 1000
        if record.group_id is not None:
            document["group_id"] = record.group_id
        if record.parent_id is not None:
            document["parent_id"] = record.parent_id
        # Always present, since Celery up to 5.6 fails without these fields when it reads with result_extended.
        extended = self._settings.result_extended
        document.update({name: getattr(record, name) if extended else None for name in _EXTENDED})
        if extended and record.stamps:
            document["stamped_headers"] = list(record.stamps)
            document.update({name: value for name, value in record.stamps.items() if name not in _RESERVED})
        return document | expiry(self._settings.expires_for(record.status))

    def _stored(self, payload: bytes) -> str | bytes:
        """Return a serialized value as Celery stores it: as text where it is text."""
        return payload.decode() if self._codec.is_text else payload

    def decode(self, document: Document) -> Record:
        """Return a stored document as a record; anything unreadable gives ``Record.undecodable``."""
        task_id = document["_id"]
        try:
            return self._record(task_id, modern(document, self._codec))
        except DecodeError as exc:
            return Record.undecodable(task_id, exc)
        except (ArithmeticError, TypeError, ValueError) as exc:  # because of an unexpected value
            error = DecodeError(f"the document of task {task_id!r} cannot be read: {exc!s:.400}")
            error.__cause__ = exc
            return Record.undecodable(task_id, error)

    def _record(self, task_id: str, document: Document) -> Record:
        status = _field(document, "status", str)
        if status is None:
            raise DecodeError(f"the document {task_id!r}: its field 'status' is missing")
        traceback = _field(document, "traceback", str)
        headers = [name for name in _field(document, "stamped_headers", list) or () if isinstance(name, str)]
        return Record(
            id=task_id,
            status=status,
            result=self._codec.decode_result(task_id, status, _payload(document), traceback=traceback),
            traceback=clip(traceback) if traceback else traceback,
            children=_native(_field(document, "children", list)),
            date_done=_date_done(document),
            group_id=_field(document, "group_id", str),
            parent_id=_field(document, "parent_id", str),
            name=_field(document, "name", str),
            args=_native(document.get("args")),
            kwargs=_native(document.get("kwargs")),
            worker=_field(document, "worker", str),
            retries=_field(document, "retries", int),
            queue=_field(document, "queue", str),
            stamps={name: _native(document.get(name)) for name in headers if name not in _RESERVED} or None,
        )

    def is_replaceable(self, document: Document, now: datetime) -> bool:
        """Return whether a document is so old that any state may replace it.

        Its own expiry has passed or, if it has none, it became final longer ago than ``result_expires``.
        """
        if document.get("expires_at") is not None:
            return is_over(document, now)
        date_done, ttl = document.get("date_done"), self._settings.result_expires
        return bool(ttl) and isinstance(date_done, datetime) and now - date_done >= _lifetime(ttl or 0)

    def expired(self, now: datetime) -> Document:
        """Return the filter for the documents that ``purge`` deletes: the replaceable ones."""
        clauses: list[Document] = [{"expires_at": {"$lte": now}}]
        if self._settings.result_expires:
            cutoff = now - _lifetime(self._settings.result_expires)
            clauses.append({"expires_at": None, "date_done": {"$lte": cutoff}})
        return {"$or": clauses}

    def encode_group(self, group_id: str, tree: ResultTree) -> Document:
        """Return a group as Celery's document, a flat list of ids; the field ``tree`` keeps what the list loses.

        Raises:
            EncodeError: the tree cannot be encoded.
        """
        what = f"group {group_id}"
        members = [_member_id(member) for member in tree[1] or ()]
        document: Document = {
            "_id": group_id,
            "result": self._stored(self._codec.encode_value(members, what, compress=True)),
            "date_done": datetime.now(UTC),
            "tree": self._stored(self._codec.encode_value(tree, what, compress=True)),
        }
        return document | expiry(self._settings.result_expires or None)

    def decode_group(self, document: Document) -> ResultTree:
        """Return a stored group's tree; one that Celery saved has plain members and no parent.

        Raises:
            DecodeError: it cannot be read.
        """
        group_id = document["_id"]
        what = f"group {group_id}"
        if "tree" in document:
            return self._codec.as_tree(self._codec.decode_value(_payload(document, "tree"), what), what)
        members = self._codec.decode_value(_payload(document), what)
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise DecodeError(f"{what} cannot be read: it holds {members!r:.100}, expected a list of ids")
        return [[group_id, None], [[[member, None], None] for member in members]]


def is_over(document: Document, now: datetime) -> bool:
    """Return whether a document's own expiry has passed, although MongoDB has not deleted it yet."""
    expires_at = document.get("expires_at")
    return isinstance(expires_at, datetime) and expires_at <= now


def is_same(document: Document, other: Document) -> bool:
    """Return whether two documents are the same except for their expiry."""
    return {**document, "expires_at": None} == {**other, "expires_at": None}


def expiry(seconds: float | None) -> Document:
    """Return the field that makes MongoDB delete a document after so many seconds; empty for never."""
    return {} if seconds is None else {"expires_at": datetime.now(UTC) + _lifetime(seconds)}


def _lifetime(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, _LONGEST))


def _storable(text: str | None) -> str | None:
    """Return ``text`` without lone surrogates, which a traceback may quote and BSON refuses."""
    return text if text is None or text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _field(document: Document, name: str, kind: type[_T]) -> _T | None:
    value = document.get(name)
    if value is None or isinstance(value, kind):
        return value
    found = type(value).__name__
    raise DecodeError(f"the document {document['_id']!r}: its field {name!r} holds {found}, expected {kind.__name__}")


def _native(value: Any) -> Any:
    """Return ``value`` with the binary data of UUIDs replaced by UUIDs."""
    if isinstance(value, Binary):
        return value.as_uuid() if value.subtype == UUID_SUBTYPE and len(value) == _UUID_LENGTH else value
    if isinstance(value, list):
        return [_native(part) for part in value]
    if isinstance(value, dict):
        return {key: _native(part) for key, part in value.items()}
    return value


def _date_done(document: Document) -> datetime | None:
    date_done, microseconds = _field(document, "date_done", datetime), document.get("date_done_us")
    if date_done is None or not isinstance(microseconds, int):
        return date_done
    return date_done.replace(microsecond=date_done.microsecond + microseconds % 1000)


def _payload(document: Document, name: str = "result") -> str | bytes:
    payload = document.get(name)
    if isinstance(payload, str | bytes):
        return payload
    found = type(payload).__name__
    raise DecodeError(f"the document {document['_id']!r}: its field {name!r} holds {found}, expected text or bytes")


def _member_id(member: Any) -> Any:
    """Return the id in a result tuple: ``[[id, parent], nodes]``, or ``[id, nodes]`` with the bare id."""
    node = member[0]
    return node[0] if isinstance(node, list | tuple) else node


def _culprit(document: Document) -> tuple[str, str]:
    """Return the path of the innermost part of ``document`` that cannot be encoded, and why."""
    path, reason, part = "", "", document
    for _ in range(_MAX_PATH):  # a value may contain itself
        failing = next(_failing(part), None)
        if failing is None:
            break
        key, part, reason = failing
        path = f"{path}[{key!r:.100}]" if path else str(key)
    return path, reason


def _failing(value: object) -> Iterator[tuple[object, Any, str]]:
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, part in parts:
        try:
            bson.encode({"": part}, codec_options=CODEC_OPTIONS)
        except _UNENCODABLE as exc:
            yield key, part, str(exc)
