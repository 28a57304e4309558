"""Polling in the form of a feed: one read per tick for everything that is watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from aioresult.abc import Event, Feed, NewsSink
from aioresult.record import Record
from aioresult.stream import CHANGED, Cursor, Page

_GROWTH = 1.5

Read = Callable[[Sequence[str]], Awaitable[Mapping[str, Record]]]
"""Reads many records, such as ``Batcher.get_many``; ids without one are left out."""
ReadStream = Callable[[Cursor], Awaitable[Page]]
"""Reads a stream, such as ``Batcher.read_stream``."""


class PollingFeed(Feed):
    """Reads all watched ids at an interval that is short after each change and grows while nothing happens.

    Args:
        read: reads many records.
        interval: longest pause between two reads, in seconds.
        min_interval: shortest pause, right after an id was watched or became final.
        share: the largest part of the time that reading may take: pauses grow where there is very much to read.
    """

    def __init__(self, read: Read, interval: float, min_interval: float, *, share: float = 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = read
        self._interval = interval
        self._min_interval = min(min_interval, interval)
        self.pause = self._min_interval
        """Seconds until the next read, unless an id is watched before that."""
        self._least_per_read = 1 / share - 1
        self._took = 0.0
        self._timer: asyncio.Timeout | None = None
        self._watched: set[str] = set()
        self._fresh: set[str] = set()
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._read_stream: ReadStream | None = None
        self._tell: NewsSink | None = None
        self._followed: dict[str, int | None] = {}
        """The streams that are followed, and the number of the last item at their last read."""
        self._wake = asyncio.Event()
        self._closed = False

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        self._fresh.update(ids)
        self._wake.set()

    def also_read(self, ids: Collection[str]) -> None:
        """Read ``ids`` as well, once the shortest pause is over. Another feed gives their first event."""
        self._watched.update(ids)
        self.pause = self._min_interval
        if self._timer is not None and not self._timer.expired():
            planned, due = self._timer.when(), self._loop.time() + self._rest()
            if planned is None or due < planned:
                self._timer.reschedule(due)

    def read_streams_by(self, read: ReadStream) -> None:
        """Use ``read`` to read streams."""
        self._read_stream = read

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        self._followed.update(dict.fromkeys(ids))
        self._wake.set()

    async def unfollow(self, ids: Collection[str]) -> None:
        for task_id in ids:
            self._followed.pop(task_id, None)

    async def unwatch(self, ids: Collection[str]) -> None:
        self._watched.difference_update(ids)
        self._fresh.difference_update(ids)
        self._forget(ids)

    def _forget(self, ids: Iterable[str]) -> None:
        for task_id in ids:
            self._seen.pop(task_id, None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._closed:
            for event in await self._tick():
                yield event
            await self._stream_tick()
            self._wake.clear()
            if self._fresh or None in self._followed.values():
                continue
            try:
                async with asyncio.timeout(self._rest() if self._watched or self._followed else None) as self._timer:
                    await self._wake.wait()
            except TimeoutError:
                self.pause = min(self.pause * _GROWTH, self._interval)
            finally:
                self._timer = None

    def _rest(self) -> float:
        return max(self.pause, self._took * self._least_per_read)

    async def _tick(self) -> list[Event]:
        """Read everything watched. Return an event for each new id, and for each other id that has changed."""
        if not self._watched:
            return []
        ids = list(self._watched)
        fresh, self._fresh = self._fresh, set()
        began = self._loop.time()
        found = await self._read(ids)
        self._took = self._loop.time() - began
        events: list[Event] = []
        for task_id in self._watched.intersection(ids):
            record = found.get(task_id)
            if record is not None and self._is_news(record):
                events.append((task_id, record))
            elif task_id in fresh:
                events.append((task_id, record or Record(id=task_id)))
        ended = {task_id for task_id, record in events if record is not None and record.ended}
        self._watched -= ended - self._fresh  # final states do not change; watching the ids again reads them again
        self._forget(ended)
        if events:
            self.pause = self._min_interval
        return events

    async def _stream_tick(self) -> None:
        """Read the last number of each followed stream, and announce those that have grown."""
        if self._read_stream is None or self._tell is None or not self._followed:
            return
        ids = list(self._followed)
        chunks = await asyncio.gather(*(self._read_stream(Cursor(task_id, 0, 0)) for task_id in ids))
        for task_id, chunk in zip(ids, chunks, strict=True):
            if task_id in self._followed and self._followed[task_id] != chunk.last:
                self._followed[task_id] = chunk.last
                self.pause = self._min_interval
                self._tell(task_id, CHANGED)

    def _is_news(self, record: Record) -> bool:
        appearance = record.appearance()
        if self._seen.get(record.id) == appearance:
            return False
        self._seen[record.id] = appearance
        return True

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
