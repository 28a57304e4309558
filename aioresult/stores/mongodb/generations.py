"""Converting documents of older versions of Celery to today's form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aioresult.codec import Codec
from aioresult.codec.records import in_utc
from aioresult.errors import DecodeError


def modern(document: dict[str, Any], codec: Codec) -> dict[str, Any]:
    """Return ``document`` with the fields that older versions store in another form converted.

    Celery 4.2 serializes traceback and children like the result. From 4.4 to 5.3.1, ``date_done`` is text in UTC.
    Programs that copy documents turn integers into floating-point numbers.

    Raises:
        DecodeError: such a field cannot be read.
    """
    changed: dict[str, Any] = {}
    children, traceback = document.get("children"), document.get("traceback")
    date_done, retries = document.get("date_done"), document.get("retries")
    if isinstance(children, str | bytes):
        changed["children"] = _unserialized(document, "children", codec)
    if isinstance(traceback, bytes) or traceback == "null":
        changed["traceback"] = _unserialized(document, "traceback", codec)
    elif isinstance(traceback, str) and changed:
        changed["traceback"] = _unquoted(document, codec)
    if isinstance(date_done, str):
        changed["date_done"] = _parsed(date_done, document["_id"])
    if isinstance(retries, float) and retries.is_integer():
        changed["retries"] = int(retries)
    return {**document, **changed} if changed else document


def _unserialized(document: dict[str, Any], name: str, codec: Codec) -> Any:
    return codec.decode_value(document[name], f"{name} of task {document['_id']!r}")


def _unquoted(document: dict[str, Any], codec: Codec) -> Any:
    """Return the traceback of a document whose children are serialized: it is most likely serialized, too."""
    try:
        return _unserialized(document, "traceback", codec)
    except DecodeError:
        return document["traceback"]


def _parsed(text: str, task_id: str) -> datetime:
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError as exc:
        raise DecodeError(
            f"the document {task_id!r}: its field 'date_done' holds {text!r:.100}, expected a date: {exc}"
        ) from exc
