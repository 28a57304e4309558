"""Deleting expired results at intervals, so that no operator has to call ``purge``."""

from __future__ import annotations

import asyncio
import logging
import random

from aioresult.abc import Store
from aioresult.background import owned_task
from aioresult.batching import Batcher

logger = logging.getLogger("aioresult")


class Purging:
    """Calls a store's ``purge`` every ``purge_interval`` seconds, once something has been stored through ``batcher``.

    The first purge comes at a random time within the interval, so that processes that start together do not purge
    together, and short-lived ones purge as well. Between two purges there is a timer and no task, so that a loop that
    ends without closing its backend leaves no task behind.
    """

    def __init__(self, store: Store, batcher: Batcher) -> None:
        self._store = store
        self._batcher = batcher
        self._interval = store.settings.purge_interval
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[int] | None = None
        self._closed = False
        expires_by_itself = type(store).purge is Store.purge
        if self._interval is not None and not expires_by_itself:
            self._sleep(random.uniform(0, self._interval))

    def _sleep(self, seconds: float) -> None:
        # This keeps no forgotten backend alive, because it holds no reference to the runtime.
        self._timer = self._loop.call_later(seconds, self.begin)

    def begin(self) -> None:
        """Purge now, in a task of its own, unless nothing has been stored from here so far."""
        if not self._batcher.has_written:
            self._end(None)
            return
        self._task = owned_task(self._store.purge(), f"aioresult purge of {self._store.location}")
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[int] | None) -> None:
        self._task = None
        if self._closed:
            return
        if task is not None and not task.cancelled():
            if error := task.exception():
                logger.warning("%s: purging what has expired failed", self._store.location, exc_info=error)
            else:
                logger.debug("%s: %d expired results deleted", self._store.location, task.result())
        self._sleep(self._interval or 0)

    async def aclose(self) -> None:
        """End the timer, and a purge in progress; the next purge deletes the rest."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])
