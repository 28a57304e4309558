"""Retrying calls that failed because the store was unavailable, and the pauses between the attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aioresult.errors import StoreUnavailable

T = TypeVar("T")


class Backoff:
    """Pauses that double up to a limit, with full jitter."""

    def __init__(self, base: float = 0.05, limit: float = 2.0) -> None:
        self._base = base
        self._limit = limit
        self._attempt = 0

    def reset(self) -> None:
        """Begin again with short pauses."""
        self._attempt = 0

    def next(self) -> float:
        """Return the next pause, in seconds."""
        ceiling = min(self._limit, self._base * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return random.uniform(ceiling / 10, ceiling)


async def retried(call: Callable[[], Awaitable[T]], backoff: Backoff, *, give_up: Callable[[], bool]) -> T:
    """Return the result of ``call``; while the store is unavailable, call again after each pause of ``backoff``.

    Raises:
        StoreUnavailable: the store was still unavailable when ``give_up`` returned true.
    """
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if give_up():
                raise
        await asyncio.sleep(backoff.next())


def time_is_up(seconds: float) -> Callable[[], bool]:
    """Return a ``give_up`` that is true once ``seconds`` have passed since this call."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    return lambda: loop.time() >= deadline
