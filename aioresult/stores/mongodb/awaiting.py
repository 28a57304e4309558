"""Awaiting requests, so that cancellations are heeded and nothing goes on behind one's back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")

Call = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Makes a request, which it is given as a function, and repeats it where its connection was dead."""


async def heeding(request: Awaitable[_T]) -> _T:
    """Await a request, and be cancelled if that was asked for meanwhile.

    Of PyMongo alone this cannot be relied upon before Python 3.12, whose ``asyncio.wait_for`` no longer swallows a
    cancellation that comes while what it waits for has just been done.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    answer = await request
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


async def together(one: Awaitable[_T], other: Awaitable[_U]) -> tuple[_T, _U]:
    """Await two requests at once, and both of them even where one fails."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second
