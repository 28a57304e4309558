"""Rules for single options of connections: what a value has to be, and what it becomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

Rule = Callable[[Any], Mapping[str, Any]]
"""Takes an option's value, and returns the driver's arguments for it; its errors say what is expected."""

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
    """Return what a word or number of a URL, or a value of a setting, says: yes or no."""
    text = str(value).lower()
    if text not in TRUE + FALSE:
        raise ValueError("true or false")
    return text in TRUE


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return what takes ``choices`` only."""

    def chosen(value: Any) -> str:
        if str(value) not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return chosen


# --- rules ------------------------------------------------------------------------------------------------------------


def as_(argument: str, convert: Callable[[Any], Any] = same) -> Rule:
    """Pass the value on as ``argument``; ``None`` stays what it is."""
    return lambda value: {argument: None if value is None else convert(value)}


def within(group: str, member: str, convert: Callable[[Any], Any] = str) -> Rule:
    """Pass the value on as one member of the dict ``group``."""
    return lambda value: {group: {member: convert(value)}}


def each(names: str, convert: Callable[[Any], Any] = same) -> dict[str, Rule]:
    """Return rules that pass each of ``names`` on under its own name."""
    return {name: as_(name, convert) for name in names.split()}


def only(*values: str) -> Rule:
    """Take values that ask for nothing."""
    check = one_of(*values)

    def nothing(value: Any) -> dict[str, Any]:
        check(value)
        return {}

    return nothing
