"""Plain forms of values that neither a serializer nor msgspec can encode.

Types of other libraries are recognised by their methods, without importing the library: a pydantic model has
``model_dump``, a NumPy scalar has ``dtype`` and ``item``.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any


def plain_form(value: Any) -> Any:
    """Return the plain form of a value; its parts may need this function again.

    Raises:
        TypeError, ValueError: it has none.
    """
    cls = type(value)
    if isinstance(value, deque):
        return list(value)
    if hasattr(cls, "model_dump"):
        try:
            return value.model_dump(mode="json")
        except ValueError as exc:  # its text names the kind of the value, and not the value
            raise ValueError(f"{exc!s:.200}") from exc
    if hasattr(cls, "dtype") and hasattr(cls, "item"):
        return _of_array(value)
    return base_form(value)


def _of_array(value: Any) -> Any:
    """Return a NumPy scalar or array, or another library's array of no dimensions, as numbers of Python."""
    if not hasattr(type(value), "__array_interface__"):
        if getattr(value, "shape", ()) != ():
            raise TypeError(f"an array of type {type(value).__qualname__} has no plain form; store its list of numbers")
        return value.item()
    if value.dtype.kind in "mM":  # dates and intervals; units finer than microseconds would become mere numbers
        value = value.astype(f"{value.dtype.kind}8[us]")
    plain = value.tolist()
    if type(plain) is type(value):
        raise TypeError(f"a number of type {type(value).__qualname__} has no plain form")
    return plain


def base_form(value: Any) -> Any:
    """Return an instance of a subclass of ``str``, ``int``, ``float`` or ``bytes`` as one of that type itself.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    raise TypeError(f"object of type {type(value).__qualname__} has no plain form")


def has_fields(value: object) -> bool:
    """Return whether a value is a dataclass, a msgspec struct or an instance of an attrs class."""
    return not isinstance(value, type) and any(hasattr(type(value), name) for name in _FIELDS)


def fields_of(value: object) -> list[tuple[str, Any]]:
    """Return the names and values of the fields that msgspec stores of such a value: for attrs, the public ones."""
    declared = next(getattr(type(value), name) for name in _FIELDS if hasattr(type(value), name))
    public_only = hasattr(type(value), "__attrs_attrs__")
    fields = []
    for item in declared:
        name = item if isinstance(item, str) else item.name
        if not (public_only and name.startswith("_")):
            with suppress(Exception):  # a field may be unset, or computed by the value's own code
                fields.append((name, getattr(value, name)))
    return fields


_FIELDS = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__")
