"""What drivers hand over for one column of one row: what can be read is, and the rest is an error of that record.

The types of a table that others have made, and of every single value in SQLite, are none of our choice.
"""

from __future__ import annotations

from decimal import Decimal

from aioresult.errors import DecodeError


def text(value: object, what: str) -> str | None:
    """Return ``value``, which is meant to be text.

    Raises:
        DecodeError: it is none.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    raise _refusal(value, what, "text")


def payload(value: object, what: str) -> bytes | str | None:
    """Return ``value``, which is meant to be something encoded. Raises as ``text``."""
    if value is None or isinstance(value, bytes | str):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise _refusal(value, what, "bytes or text")


def number(value: object, what: str) -> int | None:
    """Return ``value``, which is meant to be a whole number. Raises as ``text``."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    raise _refusal(value, what, "a whole number")


def _refusal(value: object, what: str, expected: str) -> DecodeError:
    return DecodeError(
        f"{what} cannot be read: its column holds a value of type {type(value).__name__}, not {expected}"
    )
