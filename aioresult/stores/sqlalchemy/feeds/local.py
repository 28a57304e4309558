"""News of writes within one process: from every store of a database to every feed of it, in any event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Hashable, Sequence
from typing import Final
from weakref import WeakSet

from aioresult.abc import NewsSink
from aioresult.stores.sqlalchemy.rows import Row, Rows
from aioresult.stores.waking import WakingFeed
from aioresult.stream import LOOK, News

_FEEDS: Final[dict[Hashable, WeakSet[LocalFeed]]] = {}
_LOCK: Final = threading.Lock()


def announce(key: Hashable, rows: Sequence[Row] = (), news: Sequence[tuple[str, News]] = ()) -> None:
    """Announce what has been committed to all feeds of the database ``key``; callable in any running loop."""
    with _LOCK:
        feeds = list(_FEEDS.get(key, ()))
    for feed in feeds:
        feed.receive(rows, news)


class LocalFeed(WakingFeed):
    """Emits the records that stores of the same process write.

    ``key`` is the same for all stores and feeds of a database.
    """

    def __init__(self, key: Hashable, rows: Rows) -> None:
        super().__init__()
        self._key = key
        self._rows = rows
        self._process = os.getpid()
        self._watched: set[str] = set()
        self._fresh: set[str] = set()
        self._tell: NewsSink | None = None
        self._followed: dict[str, int] = {}
        """The streams that are followed, with the number of the last item that was announced or found."""
        self._fresh_streams: set[str] = set()
        with _LOCK:
            _FEEDS.setdefault(key, WeakSet()).add(self)

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        self._fresh.update(ids)
        self._wake.set()

    async def unwatch(self, ids: Collection[str]) -> None:
        self._watched.difference_update(ids)
        self._fresh.difference_update(ids)

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        for task_id in ids:
            self._followed.setdefault(task_id, 0)
        self._fresh_streams.update(ids)
        self._wake.set()

    async def unfollow(self, ids: Collection[str]) -> None:
        self._fresh_streams.difference_update(ids)
        for task_id in ids:
            self._followed.pop(task_id, None)

    def receive(self, rows: Sequence[Row], news: Sequence[tuple[str, News]]) -> None:
        """Receive news; called in any loop's thread, and after a fork perhaps in another process."""
        if self._process != os.getpid():
            return
        if asyncio.get_running_loop() is self._loop:
            self._take(rows, news)
            return
        try:
            self._loop.call_soon_threadsafe(self._take, rows, news)
        except RuntimeError:  # its loop has ended without closing it
            self._retire()

    def _take(self, rows: Sequence[Row], news: Sequence[tuple[str, News]]) -> None:
        for task_id, items in news:
            if task_id in self._followed and self._tell is not None:
                self._followed[task_id] = items.first + len(items.items) - 1
                self._tell(task_id, items)
        for row in rows:
            if row[0] in self._watched:
                self._emit(row[0], self._rows.to_record(row))

    async def _do_pending(self) -> None:
        """Do the pending work: here, emit the first event of each new id."""
        fresh, self._fresh = self._fresh, set()
        for task_id in fresh:
            self._emit(task_id, None)
        self._tell_to_look(self._take_fresh_streams())

    def _take_fresh_streams(self) -> set[str]:
        fresh, self._fresh_streams = self._fresh_streams, set()
        return fresh

    def _tell_to_look(self, ids: Collection[str]) -> None:
        for task_id in ids:
            if task_id in self._followed and self._tell is not None:
                self._tell(task_id, LOOK)

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
