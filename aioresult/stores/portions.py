"""Dividing items into portions that fit into one statement or query each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def portions(
    items: Iterable[T], size: int, *, count: float = math.inf, weight: Callable[[Any], int] = len
) -> Iterator[list[T]]:
    """Give ``items`` in lists of at most ``count``, which weigh at most ``size`` together, or are a single item."""
    portion: list[T] = []
    total = 0
    for item in items:
        own = weight(item)
        if portion and (total + own > size or len(portion) == count):
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += own
    if portion:
        yield portion
