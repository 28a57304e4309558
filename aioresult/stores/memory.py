"""``memory://``: results within one process. The reference for what a store does, and the quickest one for tests.

``memory://`` is private to its backend; ``memory://name`` is shared by all backends of the process that use this name.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import ClassVar, Final
from weakref import WeakValueDictionary

from aioresult.abc import Capabilities, Event, Feed, Sink, Store
from aioresult.record import Record, ResultTree
from aioresult.settings import Settings
from aioresult.states import replaces


class _Item:
    """An encoded record or group, its state, and the monotonic time of its expiry."""

    __slots__ = ("expires_at", "payload", "status")

    def __init__(self, payload: bytes, status: str, ttl: float | None) -> None:
        self.payload = payload
        self.status = status
        self.expires_at = None if ttl is None else time.monotonic() + ttl

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and time.monotonic() >= self.expires_at


class _Space:
    """What is stored under one name; used by every loop and thread of the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[str, _Item] = {}
        self.groups: dict[str, _Item] = {}
        self.feeds: defaultdict[str, set[MemoryFeed]] = defaultdict(set)


_NAMED: Final[WeakValueDictionary[str, _Space]] = WeakValueDictionary()
_NAMED_LOCK: Final = threading.Lock()


def _space(name: str) -> _Space:
    if not name:
        return _Space()
    with _NAMED_LOCK:
        space = _NAMED.get(name)
        if space is None:
            space = _NAMED[name] = _Space()
        return space


class MemoryFeed(Feed):
    """Hears from the writers directly, with the record itself; writers may run in other threads."""

    def __init__(self, store: MemoryStore, space: _Space) -> None:
        self._store = store
        self._space = space
        self._loop = asyncio.get_running_loop()
        self._watched: set[str] = set()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._sink: Sink = lambda task_id, record: self._events.put_nowait((task_id, record))

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    async def watch(self, ids: Collection[str]) -> None:
        with self._space.lock:
            for task_id in ids:
                self._space.feeds[task_id].add(self)
                self._watched.add(task_id)
        found = await self._store.get_many(list(ids))
        for task_id in ids:
            self._sink(task_id, found.get(task_id) or Record(id=task_id))

    async def unwatch(self, ids: Collection[str]) -> None:
        self._forget(ids)

    def _forget(self, ids: Collection[str]) -> None:
        with self._space.lock:
            for task_id in ids:
                self._watched.discard(task_id)
                listeners = self._space.feeds.get(task_id)
                if listeners is not None:
                    listeners.discard(self)
                    if not listeners:
                        del self._space.feeds[task_id]

    def announce(self, task_id: str, payload: bytes) -> None:
        """Take the news of a write, from any loop and thread."""
        if asyncio.get_running_loop() is self._loop:
            self._loop.call_soon(self._receive, task_id, payload)
        elif not self._loop.is_closed():  # a loop may end without closing its backend
            self._loop.call_soon_threadsafe(self._receive, task_id, payload)

    def _receive(self, task_id: str, payload: bytes) -> None:
        if task_id in self._watched:
            self._sink(task_id, self._store.codec.decode_record(task_id, payload))

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def aclose(self) -> None:
        self._forget(list(self._watched))
        self._events.put_nowait(None)


class MemoryStore(Store):
    """Keeps encoded records in a dictionary, so that what is read back is what any other store would give."""

    loop_bound: ClassVar[bool] = False
    needs_purge: ClassVar[bool] = True

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        name = url.partition("://")[2].strip("/")
        self.location = f"memory://{name.rpartition('@')[2]}"  # a URL meant for another store may hold a password
        self._space = _space(name)

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        self.commands += 1
        with self._space.lock:
            found = {
                i: item.payload for i in ids if (item := self._space.items.get(i)) is not None and not item.expired
            }
        return {task_id: self.codec.decode_record(task_id, payload) for task_id, payload in found.items()}

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        payloads = [self.codec.encode_record(record) for record in records]
        self.commands += 1
        with self._space.lock:
            return [self._put(record, payload) for record, payload in zip(records, payloads, strict=True)]

    def _put(self, record: Record, payload: bytes) -> bool:
        old = self._space.items.get(record.id)
        if old is not None and not old.expired and not replaces(record.status, old.status):
            return old.payload == payload
        self._space.items[record.id] = _Item(payload, record.status, self.settings.expires_for(record.status))
        for feed in self._space.feeds.get(record.id, ()):
            feed.announce(record.id, payload)
        return True

    async def delete_many(self, ids: Sequence[str]) -> None:
        self.commands += 1
        with self._space.lock:
            for task_id in ids:
                self._space.items.pop(task_id, None)

    async def feed(self) -> Feed:
        return MemoryFeed(self, self._space)

    async def purge(self) -> int:
        self.commands += 1
        with self._space.lock:
            expired = [
                (space, key) for space in (self._space.items, self._space.groups) for key in space if space[key].expired
            ]
            for space, key in expired:
                del space[key]
        return len(expired)

    async def capabilities(self) -> Capabilities:
        return Capabilities(push=True, mechanism="direct, within this process")

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        item = _Item(self.codec.encode_group(tree), "", self.settings.result_expires or None)
        self.commands += 1
        with self._space.lock:
            self._space.groups[group_id] = item

    async def get_group(self, group_id: str) -> ResultTree | None:
        self.commands += 1
        with self._space.lock:
            item = self._space.groups.get(group_id)
        return None if item is None or item.expired else self.codec.decode_group(group_id, item.payload)

    async def delete_group(self, group_id: str) -> None:
        self.commands += 1
        with self._space.lock:
            self._space.groups.pop(group_id, None)
