"""Finding the part of a value that a serializer refuses, so that the error can name it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from aioresult.codec.plain import fields_of, has_fields

Judge = Callable[[Any], str | None]
"""Returns why a value cannot be encoded, or ``None``. Of dicts, lists and tuples, only the parts are judged."""

_PLAIN_CONTAINERS: Final = frozenset({dict, list, tuple})
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)


class _Field(str):
    """The name of an attribute, as a step of a path."""

    __slots__ = ()


def has_parts(value: object) -> bool:
    """Return whether the parts of a value are searched."""
    return isinstance(value, _CONTAINERS) or has_fields(value)


def first_problem(root: Any, name: str, judge: Judge, judge_key: Judge) -> str | None:
    """Return ``"name['key'][3]: why"`` for the first part of ``root`` that cannot be encoded, or ``None``.

    Iterative, so that a value of any depth can be searched.
    """
    path: list[Any] = []
    walks: list[Iterator[tuple[Any, Any]]] = [iter([(None, root)])]
    open_ids: dict[int, None] = {}
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
            if open_ids:
                open_ids.popitem()
                path.pop()
            continue
        key, value = step
        reason = _reason(value, judge, judge_key, open_ids)
        if reason is not None:
            return f"{name}{''.join(map(_part, [*path, key][1:]))}: {reason}"
        if has_parts(value):
            path.append(key)
            open_ids[id(value)] = None
            walks.append(_children(value))
    return None


def _reason(value: Any, judge: Judge, judge_key: Judge, open_ids: dict[int, None]) -> str | None:
    if type(value) not in _PLAIN_CONTAINERS:
        reason = judge(value)
        if reason is not None:
            return reason
    if id(value) in open_ids and has_parts(value):
        return "circular reference to an object that contains it"
    if isinstance(value, dict):
        for key in value:
            reason = judge_key(key)
            if reason is not None:
                return f"dict key {_shown(key)}: {reason}"
    return None


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    if isinstance(value, (set, frozenset)):
        return iter([("a member", member) for member in value])
    if not isinstance(value, _CONTAINERS):
        return ((_Field(name), part) for name, part in fields_of(value))
    return iter(enumerate(value))


def _part(key: Any) -> str:
    if isinstance(key, _Field):
        return f".{key:.60}"
    return f"[{_shown(key)}]"


def _shown(key: Any) -> str:
    """Return a short text for a key: only its type where the class may define its own ``repr``, which may raise."""
    if isinstance(key, (str, int, float, bytes)):
        text = repr(key)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"of type {type(key).__name__}"
