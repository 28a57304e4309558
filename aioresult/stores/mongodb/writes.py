"""Replacing a record only if its state allows it. The server decides: the filter matches, or the upsert collides with
the stored document. What a collision means is decided here, from the stored document.
"""

from __future__ import annotations

from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from aioresult.errors import EncodeError, StoreUnavailable
from aioresult.record import ABSENT, RUNNER, UNFINISHED, Conditional, Record
from aioresult.states import PENDING, READY_STATES, SUCCESS
from aioresult.stores.mongodb.documents import READING, Document, is_same
from aioresult.stores.mongodb.failures import DUPLICATE_KEY, TRANSIENT

Operation = ReplaceOne[Document]


def replacement(record: Record) -> Operation:
    """Return the operation that stores an encoded record, unless it may not replace what is stored.

    It is a replacement, as in Celery, and not an update, so that the change stream contains the document.
    """
    final = sorted(READY_STATES)
    if not isinstance(record, Conditional):
        return _replace(record, {"status": {"$nin": [SUCCESS] if record.status in READY_STATES else final}})
    if record.over == ABSENT:
        return _replace(record, {"status": PENDING})
    if record.over == UNFINISHED:
        return _replace(record, {"status": {"$nin": final}})
    return _replace(record, {"status": {"$nin": final}, "traceback": record.over}, upsert=False)


def _replace(record: Record, condition: Document, *, upsert: bool = True) -> Operation:
    encoded: Any = RawBSONDocument(record.result)  # PyMongo accepts it, but declares another type
    return ReplaceOne({"_id": record.id, **condition}, encoded, upsert=upsert)


def is_refused_silently(record: Record) -> bool:
    """Return whether the server reports no error when it does not store ``record``: it just finds no document."""
    return isinstance(record, Conditional) and record.over.startswith(RUNNER)


def after_refusal(record: Record, stored: Document | None, *, expired: bool) -> Operation | bool:
    """Return the operation to try after a refused one, or else whether the record counts as written.

    When two writers insert the same id at the same time, one of them collides although it may write. An expired
    document counts as deleted. An identical document was stored by a first attempt whose answer was lost.
    """
    if stored is None:
        return not is_refused_silently(record) and replacement(record)
    traceback = stored.get("traceback")
    old = Record(
        id=record.id,
        status=str(stored.get("status")),
        traceback=traceback if isinstance(traceback, str) else None,
    )
    if record.goes_over(old):
        return replacement(record)
    if expired and not is_refused_silently(record):
        return _replace(record, {name: stored.get(name) for name in ("status", "date_done", "expires_at")})
    return is_same(stored, bson.decode(record.result, codec_options=READING))


def refused(exc: BulkWriteError, ids: list[str], location: str) -> list[str]:
    """Return which of ``ids`` collided with a stored document.

    Raises:
        StoreUnavailable: the server could not carry out or confirm all writes.
        EncodeError: the server does not accept a document.
    """
    collided = []
    for error in exc.details.get("writeErrors", ()):
        task_id, code = ids[error["index"]], error.get("code")
        if code in TRANSIENT:
            raise StoreUnavailable(f"{location} could not write now: {_message(error)}") from exc
        if code != DUPLICATE_KEY or set(error.get("keyPattern", ("_id",))) != {"_id"}:
            raise EncodeError(f"task {task_id!r}: {location} does not accept its document: {_message(error)}") from exc
        collided.append(task_id)
    unconfirmed = exc.details.get("writeConcernErrors", ())
    if unconfirmed:
        raise StoreUnavailable(f"{location} could not confirm a write: {_message(unconfirmed[0])}") from exc
    return collided


def _message(error: dict[str, Any]) -> str:
    return f"{str(error.get('errmsg'))[:300]} (code {error.get('code')})"
