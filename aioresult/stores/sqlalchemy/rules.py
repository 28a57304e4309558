"""Rules for single connection options: which values are valid, and how they are converted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

Rule = Callable[[Any], Mapping[str, Any]]
"""Converts an option's value to the driver's arguments; its errors say what is expected."""

TRUE: Final = ("1", "true", "yes", "on")
FALSE: Final = ("0", "false", "no", "off")


# --- values -----------------------------------------------------------------------------------------------------------


def same(value: Any) -> Any:
    """Return ``value``."""
    return value


def number(value: Any) -> float:
    """Return a finite number."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number") from None
    if not math.isfinite(found):
        raise ValueError("a number")
    return found


def whole(value: Any) -> int:
    """Return a whole number."""
    found = number(value)
    if not found.is_integer():
        raise ValueError("a whole number")
    return int(found)


def truth(value: Any) -> bool:
    """Return the truth value of a word or number in a URL, or of a setting's value."""
    text = str(value).lower()
    if text not in TRUE + FALSE:
        raise ValueError("true or false")
    return text in TRUE


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return a function that accepts only ``choices``."""

    def chosen(value: Any) -> str:
        if str(value) not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return chosen


# --- rules ------------------------------------------------------------------------------------------------------------


def as_(argument: str, convert: Callable[[Any], Any] = same) -> Rule:
    """Pass the value on as ``argument``; ``None`` is not converted."""
    return lambda value: {argument: None if value is None else convert(value)}


def within(group: str, member: str, convert: Callable[[Any], Any] = str) -> Rule:
    """Pass the value on as one member of the dict ``group``."""
    return lambda value: {group: {member: convert(value)}}


def each(names: str, convert: Callable[[Any], Any] = same) -> dict[str, Rule]:
    """Return rules that pass each of ``names`` on under its own name."""
    return {name: as_(name, convert) for name in names.split()}


def only(*values: str) -> Rule:
    """Accept only these values, which need no argument."""
    check = one_of(*values)

    def nothing(value: Any) -> dict[str, Any]:
        check(value)
        return {}

    return nothing
