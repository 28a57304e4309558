"""How many tasks of a runner may run at a time."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext


class Slots:
    """A limit of its own in each event loop, since a runner may be used in one loop after the other.

    Args:
        limit: how many there are; ``None`` for any number.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"max_running is a positive number of tasks, or None for any number, not {limit!r}")
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free: asyncio.Semaphore

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Return what a task enters when it begins, where it waits for its turn."""
        if self._limit is None:
            return nullcontext()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._free = loop, asyncio.Semaphore(self._limit)
        return self._free
