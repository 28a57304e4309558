"""JSON as Celery writes it: Python's own, plus kombu's envelope for values without a JSON form.

A ``datetime`` becomes ``{"__type__": "datetime", "__value__": "2026-11-22T12:20:59"}``; likewise date, time, decimal,
uuid, and bytes, which are ``"bytes"`` where they are UTF-8 and ``"base64"`` otherwise. ``NaN`` and ``Infinity`` are
bare tokens.

A value that kombu refuses is written in its plain form, if it has one, and that is what readers get: dataclasses,
msgspec structs, attrs classes, enums, sets and intervals in msgspec's form, deques as lists, pydantic models as their
``model_dump(mode="json")``, NumPy's scalars as numbers.
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

from aioresult.codec.plain import plain_form

TYPED: Final = b"__type__"
"""Occurs in every payload that holds an envelope; for other payloads the fast decoder gives the same values.

It is searched by ``find``: ``in`` first checks whether it is a number, which takes longer than the search.
"""
_MARKED: Final = (bytes, bytearray, memoryview, date, datetime, time, Decimal, UUID)
"""Types that have an envelope."""


def _envelope(kind: str, value: Any) -> dict[str, Any]:
    return {"__type__": kind, "__value__": value}


def _to_jsonable(value: Any) -> Any:
    """Return what replaces ``value``; the encoder calls this for values that it cannot encode."""
    return _reduced(value, _by_msgspec)


def _by_msgspec(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=_MARKED, enc_hook=lambda part: _reduced(part, plain_form))


def _reduced(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    """Return what replaces ``value`` in kombu's JSON, or the result of ``otherwise`` for a value that kombu refuses."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    if isinstance(value, (date, time)):
        kind = next(cls for cls in (datetime, date, time) if isinstance(value, cls))  # a datetime is a date, too
        return _envelope(kind.__name__, value.isoformat())
    if isinstance(value, Decimal):
        return _envelope("decimal", str(value))
    if isinstance(value, UUID):
        return _envelope("uuid", {"hex": value.hex})
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        try:
            return _envelope("bytes", data.decode())
        except UnicodeDecodeError:
            return _envelope("base64", b64encode(data).decode())
    return otherwise(value)


def _make_encode() -> Callable[[Any], str]:
    """Return a faster ``JSONEncoder.encode``: its set-up, which takes twice as long as the encoding, is done once."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return json.JSONEncoder(default=_to_jsonable).encode
    text = json.encoder.encode_basestring_ascii
    pieces = make(None, _to_jsonable, text, None, ": ", ", ", False, False, True)
    return lambda value: "".join(pieces(value, 0))


_encode: Final = _make_encode()


def encode(value: Any) -> str:
    """Return the JSON text of a value: ASCII only, with Python's default separators, as Celery's readers expect.

    Raises:
        TypeError, ValueError, RecursionError: a part of it has no form in JSON. (The value's own code may raise too.)
    """
    try:
        return _encode(value)
    except TypeError:  # perhaps because of a dict's key, for which the encoder does not call ``default``
        return _encode(_with_plain_keys(value))


def _with_plain_keys(value: Any) -> Any:
    """Return ``value`` in plain form, with dict keys that JSON allows."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        plain = {key_form(key): _with_plain_keys(item) for key, item in value.items()}
        if len(plain) < len(value):
            raise TypeError("two of its dict keys are the same in JSON")
        return plain
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(item) for item in value]
    return _with_plain_keys(_to_jsonable(value))


def key_form(key: Any) -> Any:
    """Return the form in which a dict's key is written: an enum's value, the text of a date or a UUID.

    Raises:
        TypeError: it has none.
    """
    if key is None or isinstance(key, (str, int, float)):
        return key
    plain = None if isinstance(key, (bytes, bytearray, memoryview)) else msgspec.to_builtins(key, enc_hook=plain_form)
    if not isinstance(plain, (str, int, float)):
        raise TypeError(f"object of type {type(key).__qualname__} is no key in JSON")
    return plain


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
        # Without the cause, because its text quotes the value.
        raise ValueError(f"it holds a malformed value of __type__ {kind!r}") from None


def decode(payload: bytes) -> Any:
    """Return the value of a JSON payload.

    Raises:
        ValueError, RecursionError: it is not JSON in UTF-8, or holds an envelope that cannot be opened.
    """
    if payload.find(TYPED) < 0:
        try:
            return msgspec.json.decode(payload)
        except ValueError:
            # The fast decoder refuses NaN, Infinity, 1e999 and lone surrogates, which Python's JSON stores.
            return json.loads(payload.decode())
    return json.loads(payload.decode(), object_hook=_open_envelope)
