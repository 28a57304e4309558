"""News of writes within one process: from any store of a database to any feed of it, whatever loops they run in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Hashable, Sequence
from typing import Final
from weakref import WeakSet

from aioresult.stores.sqlalchemy.feeds.waking import WakingFeed
from aioresult.stores.sqlalchemy.rows import Row, Rows

_FEEDS: Final[dict[Hashable, WeakSet[LocalFeed]]] = {}
_LOCK: Final = threading.Lock()


def announce(key: Hashable, rows: Sequence[Row]) -> None:
    """Tell all feeds of the database ``key`` of ``rows``, which have been committed; callable in any running loop."""
    with _LOCK:
        feeds = list(_FEEDS.get(key, ()))
    for feed in feeds:
        feed.hear(rows)


class LocalFeed(WakingFeed):
    """Emits what stores of the same process write, with the record itself.

    Args:
        key: which database; the same for all stores and feeds of it.
        rows: decodes what is heard.
    """

    def __init__(self, key: Hashable, rows: Rows) -> None:
        super().__init__()
        self._key = key
        self._rows = rows
        self._process = os.getpid()
        self._fresh: set[str] = set()
        with _LOCK:
            _FEEDS.setdefault(key, WeakSet()).add(self)

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        self._fresh.update(ids)
        self._wake.set()

    async def unwatch(self, ids: Collection[str]) -> None:
        await super().unwatch(ids)
        self._fresh.difference_update(ids)

    def hear(self, rows: Sequence[Row]) -> None:
        """Take news; called in any loop's thread, and after a fork perhaps in another process."""
        if self._process != os.getpid():
            return
        if asyncio.get_running_loop() is self._loop:
            self._take(rows)
            return
        try:
            self._loop.call_soon_threadsafe(self._take, rows)
        except RuntimeError:  # its loop has ended without closing it
            self._retire()

    def _take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row[0] in self._watched:
                self._emit(row[0], self._rows.to_record(row))

    async def _attend(self) -> None:
        """Do what is due since the last time: here, pay the events that are owed."""
        fresh, self._fresh = self._fresh, set()
        for task_id in fresh:
            self._emit(task_id, None)

    def _retire(self) -> None:
        with _LOCK:
            feeds = _FEEDS.get(self._key)
            if feeds is not None:
                feeds.discard(self)
                if not feeds:
                    del _FEEDS[self._key]

    async def aclose(self) -> None:
        self._retire()
        await super().aclose()
