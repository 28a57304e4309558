"""A store that fails on demand, for faults that a real server cannot be made to have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from aioresult.abc import Event, Feed, NewsSink
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.record import Record, ResultTree
from aioresult.settings import Settings, make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import Append, Chunk, Cursor, News


class FaultyStore(MemoryStore):
    """A memory store that can be unavailable, lose its feeds, and lose notifications.

    Pass an instance to ``Backend`` and set its switches.

    Attributes:
        down: every call raises ``StoreUnavailable``; ``break_feeds`` ends existing feeds.
        deaf: the feeds get no events about later writes.
        feeds_opened: how many feeds have been opened so far.
        reads, writes: the ids of each ``get_many`` and ``put_many`` so far.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__("memory://", settings or make_settings({}))
        self.down = False
        self.deaf = False
        self.feeds_opened = 0
        self.reads: list[list[str]] = []
        self.writes: list[list[str]] = []
        self._open: set[FaultyFeed] = set()

    @property
    def open_feeds(self) -> int:
        """How many feeds are open now."""
        return len(self._open)

    def break_feeds(self, error: Exception | None = None) -> None:
        """End every open feed with ``error``, by default ``StoreUnavailable``; ``StopAsyncIteration`` ends them
        without an error.
        """
        for feed in list(self._open):
            feed.break_with(error or StoreUnavailable("the feed of memory:// was broken on purpose"))

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("memory:// is down on purpose")

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        self.reads.append(list(ids))
        self._check()
        return await super().get_many(ids)

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        self.writes.append([record.id for record in records])
        self._check()
        return await super().put_many(records)

    async def delete_many(self, ids: Sequence[str]) -> None:
        self._check()
        await super().delete_many(ids)

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        self._check()
        return await super().append_many(appends)

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        self._check()
        return await super().read_many(cursors)

    async def renew_lease(self, runner: str, seconds: float) -> None:
        self._check()
        await super().renew_lease(runner, seconds)

    async def end_lease(self, runner: str) -> None:
        self._check()
        await super().end_lease(runner)

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        self._check()
        return await super().ended_leases(runners)

    async def purge(self) -> int:
        self._check()
        return await super().purge()

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        self._check()
        await super().put_group(group_id, tree)

    async def get_group(self, group_id: str) -> ResultTree | None:
        self._check()
        return await super().get_group(group_id)

    async def delete_group(self, group_id: str) -> None:
        self._check()
        await super().delete_group(group_id)

    async def feed(self) -> Feed:
        self._check()
        self.feeds_opened += 1
        feed = FaultyFeed(self, await super().feed())
        self._open.add(feed)
        return feed

    def closed(self, feed: FaultyFeed) -> None:
        """Note that ``feed`` has been closed."""
        self._open.discard(feed)


class FaultyFeed(Feed):
    """Passes on the events of another feed, until ``break_with``."""

    def __init__(self, store: FaultyStore, source: Feed) -> None:
        self._store = store
        self._source = source
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._watching = False
        source.attach(self._receive)

    def _receive(self, task_id: str, record: Record | None) -> None:
        if self._watching or not self._store.deaf:
            self._events.put_nowait((task_id, record))

    def break_with(self, error: Exception) -> None:
        """End the iteration with ``error``."""
        self._events.put_nowait(error)

    async def watch(self, ids: Collection[str]) -> None:
        """Watch ``ids``; the first event of each is emitted even if the store is deaf."""
        self._watching = True
        try:
            await self._source.watch(ids)
        finally:
            self._watching = False

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        """Follow the streams of ``ids``; the first news of each come even if the store is deaf."""
        following = True

        def pass_on(task_id: str, news: News) -> None:
            if following or not self._store.deaf:
                tell(task_id, news)

        await self._source.follow(ids, pass_on)
        following = False

    async def unfollow(self, ids: Collection[str]) -> None:
        await self._source.unfollow(ids)

    async def unwatch(self, ids: Collection[str]) -> None:
        await self._source.unwatch(ids)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            if isinstance(event, StopAsyncIteration):
                return
            if isinstance(event, Exception):
                raise event
            yield event

    async def aclose(self) -> None:
        self._store.closed(self)
        await self._source.aclose()
