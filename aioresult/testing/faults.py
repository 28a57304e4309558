"""A store that fails on demand, for faults that a real server cannot be made to have."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from aioresult.abc import Event, Feed, Sink
from aioresult.errors import StoreUnavailable
from aioresult.record import Record
from aioresult.settings import Settings, make_settings
from aioresult.stores.memory import MemoryFeed, MemoryStore
from aioresult.stream import News

_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])


def _unless_down(method: _Method) -> _Method:
    """``method``, which the store refuses while it is down."""

    @functools.wraps(method)
    async def call(store: FaultyStore, *args: Any, **named: Any) -> Any:
        store._check()
        return await method(store, *args, **named)

    return cast("_Method", call)


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

    delete_many = _unless_down(MemoryStore.delete_many)
    append_many = _unless_down(MemoryStore.append_many)
    read_many = _unless_down(MemoryStore.read_many)
    renew_lease = _unless_down(MemoryStore.renew_lease)
    end_lease = _unless_down(MemoryStore.end_lease)
    ended_leases = _unless_down(MemoryStore.ended_leases)
    purge = _unless_down(MemoryStore.purge)
    put_group = _unless_down(MemoryStore.put_group)
    get_group = _unless_down(MemoryStore.get_group)
    delete_group = _unless_down(MemoryStore.delete_group)

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        self.reads.append(list(ids))
        self._check()
        return await super().get_many(ids)

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        self.writes.append([record.id for record in records])
        self._check()
        return await super().put_many(records)

    async def feed(self) -> Feed:
        self._check()
        self.feeds_opened += 1
        feed = FaultyFeed(self, self._space)
        self._open.add(feed)
        return feed

    def closed(self, feed: FaultyFeed) -> None:
        """Note that ``feed`` has been closed."""
        self._open.discard(feed)


class FaultyFeed(MemoryFeed):
    """Ends by ``break_with``. While the store is deaf, only the first events of ids and streams are emitted."""

    _store: FaultyStore
    _failure: Exception | None = None

    def attach(self, sink: Sink) -> None:
        """Keep the events for the iteration, so that those before a failure come before it."""

    def break_with(self, error: Exception) -> None:
        """End the iteration with ``error``."""
        self._failure = error
        self._events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in super().__aiter__():
            yield event
        if self._failure is not None and not isinstance(self._failure, StopAsyncIteration):
            raise self._failure

    def _receive(self, task_id: str, written: bytes | News) -> None:
        if not self._store.deaf:
            super()._receive(task_id, written)

    async def aclose(self) -> None:
        self._store.closed(self)
        await super().aclose()
