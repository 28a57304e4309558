"""JSON as Celery writes it: Python's own, plus kombu's envelope for values that JSON has no form for.

A ``datetime`` becomes ``{"__type__": "datetime", "__value__": "2026-11-22T12:20:59"}``; likewise date, time, decimal,
uuid, and bytes, which are ``"bytes"`` where they are UTF-8 and ``"base64"`` otherwise. ``NaN`` and ``Infinity`` are
bare tokens.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

TYPED: Final = b"__type__"
"""Occurs in every payload that holds an envelope; where it does not, the fast decoder gives the same values."""


def _envelope(kind: str, value: Any) -> dict[str, Any]:
    return {"__type__": kind, "__value__": value}


def _to_jsonable(value: Any) -> Any:
    """Return what stands for ``value``, asked for by the encoder when it has no form of its own."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    if isinstance(value, datetime):  # before date, of which it is a subclass
        return _envelope("datetime", value.isoformat())
    if isinstance(value, date):
        return _envelope("date", value.isoformat())
    if isinstance(value, time):
        return _envelope("time", value.isoformat())
    if isinstance(value, Decimal):
        return _envelope("decimal", str(value))
    if isinstance(value, UUID):
        return _envelope("uuid", {"hex": value.hex})
    if isinstance(value, bytes):
        try:
            return _envelope("bytes", value.decode())
        except UnicodeDecodeError:
            return _envelope("base64", b64encode(value).decode())
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encode() -> Callable[[Any], str]:
    """Return what ``JSONEncoder.encode`` does, with its set-up done once: that takes twice as long as the encoding."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return json.JSONEncoder(default=_to_jsonable).encode
    text = json.encoder.encode_basestring_ascii
    pieces = make(None, _to_jsonable, text, None, ": ", ", ", False, False, True)
    return lambda value: "".join(pieces(value, 0))


encode: Final = _make_encode()
"""Return the JSON text of a value; ASCII only, with Python's default separators, as Celery's readers expect it."""

_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda text: datetime.fromisoformat(text).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda fields: UUID(**fields),
    "bytes": lambda text: text.encode(),
    "base64": lambda text: b64decode(text.encode()),
}


def _open_envelope(found: dict[str, Any]) -> Any:
    if len(found) != 2 or "__type__" not in found or "__value__" not in found:
        return found
    kind = found["__type__"]
    decode = _KINDS.get(kind) if isinstance(kind, str) else None
    if decode is None:
        raise ValueError(f"it holds a value of the unknown __type__ {kind!r:.50}")
    try:
        return decode(found["__value__"])
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        # Without the cause, which quotes the value.
        raise ValueError(f"it holds a malformed value of __type__ {kind!r}") from None


def decode(payload: bytes) -> Any:
    """Return the value of a JSON payload.

    Raises:
        ValueError, RecursionError: it is not JSON in UTF-8, or holds an envelope that cannot be opened.
    """
    if TYPED not in payload:
        try:
            return msgspec.json.decode(payload)
        except ValueError:
            # NaN, Infinity, 1e999 and lone surrogates are stored by Python's JSON and refused by the fast decoder.
            return json.loads(payload.decode())
    return json.loads(payload.decode(), object_hook=_open_envelope)
