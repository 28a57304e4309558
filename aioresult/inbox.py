"""A listener that its reader can wait on: records of many tasks, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque

from aioresult.record import Record


class Inbox:
    """Collects the records that a hub pushes.

    Args:
        finals_only: keep only records that end the waiting.
        limit: how many unread records to keep; older ones give way. ``None`` keeps all.
    """

    def __init__(self, *, finals_only: bool, limit: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._finals_only = finals_only
        self._records: deque[Record] = deque(maxlen=limit)
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    def push(self, record: Record) -> None:
        """Take a record from the hub."""
        if record.ended or not self._finals_only:
            self._records.append(record)
            self._wake()

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting; what has come before is still given out first."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self, deadline: float | None) -> Record | None:
        """Return the next record, or ``None`` once ``deadline`` (in the loop's time) has passed."""
        if not self._records and self._error is None:
            self._reader = self._loop.create_future()
            timer = None if deadline is None else self._loop.call_at(deadline, self._wake)
            try:
                await self._reader
            finally:
                self._reader = None
                if timer is not None:
                    timer.cancel()
        if self._records:
            return self._records.popleft()
        if self._error is not None:
            raise self._error
        return None
