"""News of writes within one process: from any store of a database to any feed of it, whatever loops they run in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection, Hashable, Sequence
from typing import Final
from weakref import WeakSet

from aioresult.abc import Event, Feed, Sink
from aioresult.errors import StoreUnavailable
from aioresult.record import Record
from aioresult.stores.sqlalchemy.rows import Row, Rows

_FEEDS: Final[dict[Hashable, WeakSet[LocalFeed]]] = {}
_LOCK: Final = threading.Lock()


def announce(key: Hashable, rows: Sequence[Row]) -> None:
    """Tell all feeds of the database ``key`` of ``rows``, which have been committed; callable in any running loop."""
    with _LOCK:
        feeds = list(_FEEDS.get(key, ()))
    for feed in feeds:
        feed.hear(rows)


class LocalFeed(Feed):
    """Emits what stores of the same process write, with the record itself.

    Args:
        key: which database; the same for all stores and feeds of it.
        rows: decodes what is heard.
    """

    def __init__(self, key: Hashable, rows: Rows) -> None:
        self._key = key
        self._rows = rows
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._watched: set[str] = set()
        self._fresh: set[str] = set()
        self._events: deque[Event] = deque()
        self._sink: Sink | None = None
        self._wake = asyncio.Event()
        self._failure: StoreUnavailable | None = None
        self._closed = False
        with _LOCK:
            _FEEDS.setdefault(key, WeakSet()).add(self)

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        self._fresh.update(ids)
        self._wake.set()

    async def unwatch(self, ids: Collection[str]) -> None:
        self._watched.difference_update(ids)
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

    def _emit(self, task_id: str, record: Record | None) -> None:
        if self._sink is not None:
            self._sink(task_id, record)
        else:
            self._events.append((task_id, record))
            self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            await self._attend()
            while self._events:
                yield self._events.popleft()

    async def _attend(self) -> None:
        """Do what is due since the last time: here, pay the events that are owed."""
        fresh, self._fresh = self._fresh, set()
        for task_id in fresh:
            self._emit(task_id, None)

    def _fail(self, error: StoreUnavailable) -> None:
        self._failure = error
        self._wake.set()

    def _retire(self) -> None:
        with _LOCK:
            feeds = _FEEDS.get(self._key)
            if feeds is not None:
                feeds.discard(self)
                if not feeds:
                    del _FEEDS[self._key]

    async def aclose(self) -> None:
        self._closed = True
        self._retire()
        self._wake.set()
