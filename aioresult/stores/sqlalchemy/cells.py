"""Values of columns as drivers return them: a value of the wrong type is an error of its record only.

The types of a foreign table's columns, and of every single value in SQLite, may be any. ``what`` and ``of`` name the
value in errors: ``"the status of task"``, and the id. They are put together only for an error, since that takes as long
as the check itself.
"""

from __future__ import annotations

from decimal import Decimal

from aioresult.errors import DecodeError


def text(value: object, what: str, of: str) -> str | None:
    """Return ``value``, which should be text.

    Raises:
        DecodeError: it is not.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    raise _refusal(value, what, of, "text")


def payload(value: object, what: str, of: str) -> bytes | str | None:
    """Return ``value``, which should be an encoded value. Raises as ``text``."""
    if value is None or isinstance(value, bytes | str):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise _refusal(value, what, of, "bytes or text")


def number(value: object, what: str, of: str) -> int | None:
    """Return ``value``, which should be a whole number. Raises as ``text``."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    raise _refusal(value, what, of, "a whole number")


def _refusal(value: object, what: str, of: str, expected: str) -> DecodeError:
    return DecodeError(
        f"{what} {of!r} cannot be read: its column holds a value of type {type(value).__name__}, not {expected}"
    )
