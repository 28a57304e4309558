"""``memory://``: results within one process. The reference implementation of a store, and the fastest one for tests.

``memory://`` is private to its backend; ``memory://name`` is shared by all backends of the process that use this name.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import ClassVar, Final, TypeVar
from weakref import WeakValueDictionary

from aioresult.abc import Capabilities, Event, Feed, NewsSink, Sink, Store
from aioresult.errors import AioResultError
from aioresult.record import Record, ResultTree
from aioresult.settings import Settings
from aioresult.stream import EMPTY, LOOK, REPEATED_AMONG, Append, Chunk, Cursor, News, stream_ended, stream_full


class _Expiring:
    """Something that expires at a time of the monotonic clock."""

    __slots__ = ("_expires_at",)

    def expire_in(self, ttl: float | None) -> None:
        self._expires_at = math.inf if ttl is None else time.monotonic() + ttl

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self._expires_at


class _Item(_Expiring):
    """An encoded record or group, and what is needed to decide whether it may be replaced."""

    __slots__ = ("head", "payload")

    def __init__(self, payload: bytes, head: Record | None, ttl: float | None) -> None:
        self.payload = payload
        self.head = head
        self.expire_in(ttl)


class _Stream(_Expiring):
    """A stream's encoded items, and how many before them were deleted."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.trimmed = 0

    @property
    def last(self) -> int:
        return self.trimmed + len(self.items)

    def after(self, cursor: Cursor) -> Chunk:
        start = max(cursor.after - self.trimmed, 0)
        return Chunk(self.trimmed + 1, self.last, self.items[start : start + cursor.limit])


class _Space:
    """What is stored under one name; used by every loop and thread of the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[str, _Item] = {}
        self.groups: dict[str, _Item] = {}
        self.streams: dict[str, _Stream] = {}
        self.leases: dict[str, float] = {}
        self.feeds: defaultdict[str, set[MemoryFeed]] = defaultdict(set)
        self.followers: defaultdict[str, set[MemoryFeed]] = defaultdict(set)


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


_Kept = TypeVar("_Kept", bound=_Expiring)


def _alive(kept: Mapping[str, _Kept], key: str) -> _Kept | None:
    found = kept.get(key)
    return None if found is None or found.expired else found


class MemoryFeed(Feed):
    """Receives each record directly from its writer, which may run in another thread."""

    def __init__(self, store: MemoryStore, space: _Space) -> None:
        self._store = store
        self._space = space
        self._loop = asyncio.get_running_loop()
        self._watched: set[str] = set()
        self._followed: set[str] = set()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._sink: Sink = lambda task_id, record: self._events.put_nowait((task_id, record))
        self._tell: NewsSink | None = None

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    async def watch(self, ids: Collection[str]) -> None:
        self._listen(self._space.feeds, self._watched, ids)
        found = await self._store.get_many(list(ids))
        for task_id in ids:
            self._sink(task_id, found.get(task_id) or Record(id=task_id))

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        self._listen(self._space.followers, self._followed, ids)
        for task_id in ids:
            tell(task_id, LOOK)

    async def unwatch(self, ids: Collection[str]) -> None:
        self._forget(self._space.feeds, self._watched, ids)

    async def unfollow(self, ids: Collection[str]) -> None:
        self._forget(self._space.followers, self._followed, ids)

    def _listen(self, feeds: defaultdict[str, set[MemoryFeed]], own: set[str], ids: Collection[str]) -> None:
        with self._space.lock:
            own.update(ids)
            for task_id in ids:
                feeds[task_id].add(self)

    def _forget(self, feeds: defaultdict[str, set[MemoryFeed]], own: set[str], ids: Collection[str]) -> None:
        with self._space.lock:
            for task_id in own.intersection(ids):
                feeds[task_id].discard(self)
                if not feeds[task_id]:
                    del feeds[task_id]
            own.difference_update(ids)

    def announce(self, task_id: str, written: bytes | News) -> None:
        """Take the news of a write, from any loop and thread."""
        if asyncio.get_running_loop() is self._loop:
            self._loop.call_soon(self._receive, task_id, written)
        elif not self._loop.is_closed():  # a loop may end without closing its backend
            self._loop.call_soon_threadsafe(self._receive, task_id, written)

    def _receive(self, task_id: str, written: bytes | News) -> None:
        if isinstance(written, News):
            if task_id in self._followed and self._tell is not None:
                self._tell(task_id, written)
        elif task_id in self._watched:
            self._sink(task_id, self._store.codec.decode_record(task_id, written))

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def aclose(self) -> None:
        self._forget(self._space.feeds, self._watched, list(self._watched))
        self._forget(self._space.followers, self._followed, list(self._followed))
        self._events.put_nowait(None)


class MemoryStore(Store):
    """Keeps encoded records in a dictionary, so that reading returns the same as with any other store."""

    loop_bound: ClassVar[bool] = False
    keeps_streams: ClassVar[bool] = True
    keeps_leases: ClassVar[bool] = True
    needs_purge: ClassVar[bool] = True

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        name = url.partition("://")[2].strip("/")
        self.location = f"memory://{name.rpartition('@')[2]}"  # a URL meant for another store may hold a password
        self._space = _space(name)

    def _command(self) -> threading.Lock:
        """Count a command, and return the lock to hold meanwhile."""
        self.commands += 1
        return self._space.lock

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        with self._command():
            found = {i: item.payload for i in ids if (item := _alive(self._space.items, i)) is not None}
        return {task_id: self.codec.decode_record(task_id, payload) for task_id, payload in found.items()}

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        payloads = [self.codec.encode_record(record) for record in records]
        with self._command():
            return [self._put(record, payload) for record, payload in zip(records, payloads, strict=True)]

    def _put(self, record: Record, payload: bytes) -> bool:
        old = _alive(self._space.items, record.id)
        if not record.goes_over(None if old is None else old.head):
            return old is not None and old.payload == payload
        head = Record(id=record.id, status=record.status, traceback=record.traceback)
        self._space.items[record.id] = _Item(payload, head, self.settings.expires_for(record.status))
        for feed in self._space.feeds.get(record.id, ()):
            feed.announce(record.id, payload)
        return True

    async def delete_many(self, ids: Sequence[str]) -> None:
        with self._command():
            for task_id in ids:
                self._space.items.pop(task_id, None)
                self._space.streams.pop(task_id, None)

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        with self._command():
            return [self._append(append) for append in appends]

    def _append(self, append: Append) -> int | AioResultError:
        record = _alive(self._space.items, append.id)
        if record is not None and record.head is not None and record.head.ready:
            return stream_ended(append.id)
        stream = _alive(self._space.streams, append.id) or _Stream()
        items = append.items
        known: dict[bytes, int] = {}
        if append.repeated:
            known = {item: stream.last - back for back, item in enumerate(reversed(stream.items[-REPEATED_AMONG:]))}
            items = [item for item in items if item not in known]
        surplus = len(stream.items) + len(items) - (self.settings.stream_max_items or math.inf)
        if surplus > 0 and not self.settings.stream_trim:
            return stream_full(append.id, self.settings.stream_max_items)
        self._space.streams[append.id] = stream
        first = stream.last + 1
        stream.items += items
        if surplus > 0:
            del stream.items[: int(surplus)]
            stream.trimmed += int(surplus)
        stream.expire_in(self.settings.result_expires or None)
        for feed in self._space.followers.get(append.id, ()):
            feed.announce(append.id, News(first, items) if items else LOOK)
        return known.get(append.items[-1], stream.last)

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        with self._command():
            streams = [_alive(self._space.streams, cursor.id) for cursor in cursors]
            return [stream.after(cursor) if stream else EMPTY for stream, cursor in zip(streams, cursors, strict=True)]

    async def renew_lease(self, runner: str, seconds: float) -> None:
        with self._command():
            self._space.leases[runner] = time.monotonic() + seconds

    async def end_lease(self, runner: str) -> None:
        with self._command():
            self._space.leases.pop(runner, None)

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        with self._command():
            return [runner for runner in runners if self._space.leases.get(runner, 0.0) <= time.monotonic()]

    async def feed(self) -> Feed:
        return MemoryFeed(self, self._space)

    async def purge(self) -> int:
        with self._command():
            expired = [
                (space, key) for space in (self._space.items, self._space.groups) for key in space if space[key].expired
            ]
            for space, key in expired:
                del space[key]
            for key in [key for key, stream in self._space.streams.items() if stream.expired]:
                del self._space.streams[key]
        return len(expired)

    async def capabilities(self) -> Capabilities:
        return Capabilities(push=True, mechanism="direct, within this process")

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        item = _Item(self.codec.encode_group(tree), None, self.settings.result_expires or None)
        with self._command():
            self._space.groups[group_id] = item

    async def get_group(self, group_id: str) -> ResultTree | None:
        with self._command():
            item = _alive(self._space.groups, group_id)
        return None if item is None else self.codec.decode_group(group_id, item.payload)

    async def delete_group(self, group_id: str) -> None:
        with self._command():
            self._space.groups.pop(group_id, None)
