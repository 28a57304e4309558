"""Deadlines of many waiters with one timer for all: one timer each would cost more than the waiting itself."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Any, Final

_PER_SECOND: Final = 500
"""Deadlines are rounded up to the next two milliseconds, so that deadlines close to each other share a slot."""
_FEW: Final = 64


class Deadlines:
    """Resolves futures to ``None`` at their deadlines.

    The caller that adds a future must discard it when it is done before its deadline.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[asyncio.Future[Any]]] = {}
        self._due: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def add(self, future: asyncio.Future[Any], deadline: float) -> None:
        """Resolve ``future`` at ``deadline``, in the loop's time, unless it is done before."""
        slot = int(deadline * _PER_SECOND) + 1
        futures = self._slots.get(slot)
        if futures is not None:
            futures.add(future)
            return
        self._slots[slot] = {future}
        if len(self._due) > 2 * len(self._slots) + _FEW:  # most entries belong to slots that are empty by now
            self._due = sorted(self._slots)
        else:
            heappush(self._due, slot)
        if self._due[0] == slot or self._timer is None:
            self._set_timer()

    def discard(self, future: asyncio.Future[Any], deadline: float) -> None:
        """Remove ``future``, if it is still here; ``deadline`` is the one with which it was added."""
        slot = int(deadline * _PER_SECOND) + 1
        futures = self._slots.get(slot)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._slots[slot]

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due[0] / _PER_SECOND, self._expire) if self._slots else None

    def _expire(self) -> None:
        now = self._loop.time() * _PER_SECOND
        while self._due and self._due[0] <= now:
            for future in self._slots.pop(heappop(self._due), ()):
                if not future.done():
                    future.set_result(None)
        if not self._slots:
            self._due.clear()
        self._set_timer()

    def clear(self) -> None:
        """Forget all of them."""
        self._slots.clear()
        self._due.clear()
        self._set_timer()
