"""Converting plain values to the type that a caller asks for: pydantic's types by pydantic, all others by msgspec."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from inspect import signature
from typing import Any, Final, get_args, get_origin

import msgspec

from aioresult.codec import jsonvalues
from aioresult.codec.plain import base_form

_BASES: Final[tuple[Any, ...]] = (dict, list, str, float, int, bytes, set, frozenset, tuple)


def convert(value: Any, wanted: Any) -> Any:
    """Return ``value`` as ``wanted``: any type that msgspec converts to, a pydantic model, or a type made of these.

    A value that is of that type already, as with the pickle serializer, is returned as it is.

    Raises:
        ValueError: it cannot be converted, or ``wanted`` is not supported; says where and why, without quoting a value.
    """
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _member(value, wanted)
    try:
        return msgspec.convert(value, wanted, str_keys=True, dec_hook=_build)
    except TypeError as exc:  # msgspec does not know the type, for example a union of models
        if not any(map(_is_pydantics, _parts(wanted))):
            raise ValueError(f"{exc} as a result_type") from exc
        return _by_pydantic(value, wanted)


def _member(value: Any, wanted: type[Enum]) -> Enum:
    """Return the member of an enum, whose values may have types that msgspec does not support: floats, tuples."""
    try:
        return wanted(value)
    except ValueError as exc:
        for member in wanted:
            if _same_in_json(member.value, value):
                return member
        raise ValueError(f"it is not the value of a member of {wanted.__qualname__}") from exc


def _same_in_json(left: Any, right: Any) -> bool:
    try:
        return jsonvalues.encode(left) == jsonvalues.encode(right)
    except (TypeError, ValueError):
        return False


def _build(wanted: Any, value: Any) -> Any:
    """Return ``value`` as a type that msgspec does not know; errors become msgspec's, with the place."""
    if _is_pydantics(wanted):
        return _by_pydantic(value, wanted)
    cls, args = get_origin(wanted) or wanted, get_args(wanted)
    if isinstance(value, cls):
        return value
    if issubclass(cls, Counter) and args:
        args = (*args, int)
    base = next((base for base in _BASES if issubclass(cls, base)), list if issubclass(cls, deque) else None)
    if base is not None:
        return cls(convert(value, base[args] if args else base))
    if hasattr(cls, "dtype") and hasattr(cls, "item") and not hasattr(cls, "__len__"):  # a NumPy scalar, not an array
        return _scalar(value, cls)
    raise ValueError(f"{wanted!r:.100} is not supported as a result_type")


def _scalar(value: Any, wanted: Callable[[Any], Any]) -> Any:
    try:
        return wanted(value if isinstance(value, bool) else base_form(value))
    except (ArithmeticError, TypeError, ValueError) as exc:
        raise ValueError(f"it does not fit into {wanted!r:.100}") from exc


# -- pydantic, which is imported only for its own types ---------------------------------------------------------------


def _parts(wanted: Any) -> Iterator[Any]:
    yield wanted
    for part in get_args(wanted):
        yield from _parts(part)


def _is_pydantics(wanted: Any) -> bool:
    return hasattr(wanted, "__get_pydantic_core_schema__")


def _by_pydantic(value: Any, wanted: Any) -> Any:
    from pydantic import PydanticUserError, ValidationError
    from pydantic_core import to_json

    if isinstance(wanted, type) and isinstance(value, wanted):
        return value
    try:
        # As JSON, since that is what was stored: a strict model accepts a date as text in JSON, but not in Python.
        return _validator(wanted)(to_json(value))
    except ValidationError as exc:
        raise ValueError("; ".join(map(_shown, exc.errors(include_url=False, include_input=False)))) from exc
    except PydanticUserError as exc:  # it has no schema for a part of the type
        raise ValueError(f"{exc.message} as a result_type") from exc


@lru_cache(maxsize=256)
def _validator(wanted: Any) -> Callable[[bytes], Any]:
    """Return a validator of JSON in which fields have their names and not their aliases, if pydantic supports that."""
    from pydantic import TypeAdapter

    validate: Callable[..., Any] = TypeAdapter(wanted).validate_json
    names = [name for name in ("by_alias", "by_name") if name in signature(validate).parameters]
    return lambda text: validate(text, **dict.fromkeys(names, True))


def _shown(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{error['msg']} - at `{place}`" if place else str(error["msg"])
