"""Reading a stream: every item after a cursor once and in order, then the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from aioresult.backoff import Backoff
from aioresult.channels import PAGE, Channel, Entry
from aioresult.errors import DecodeError, StoreUnavailable, Unsupported
from aioresult.record import Record
from aioresult.runtime import LOOK_ONCE, Runtime
from aioresult.stream import Cursor, Item, items_behind


class Reader:
    """One reader of a stream, which begins after the item ``after``.

    Attributes:
        final: the task's final (or unreadable) record, once nothing follows any more; the caller passes it in if it has
            seen it.
    """

    __slots__ = ("_channel", "_cursor", "_id", "_runtime", "final")

    def __init__(self, runtime: Runtime, task_id: str, after: int, final: Record | None) -> None:
        if not runtime.store.keeps_streams:
            where = runtime.store.location
            raise Unsupported(f"{where} keeps no streams; watch the task's states by updates() instead")
        self._runtime = runtime
        self._id = runtime.check(task_id)
        self._cursor = after
        self._channel: Channel | None = None
        self.final = final

    async def next(self, deadline: float | None) -> Collection[Item]:
        """Return the next items, at least one; none once the task is final and all are read, or at ``deadline``.

        Raises:
            StreamGap: the next item is not there any more.
            DecodeError: the next item cannot be read. The next call returns the item after it.
            StoreUnavailable: the store cannot be reached at all.
        """
        if deadline == LOOK_ONCE or self.final is not None:
            return self._taken(await self._stored(deadline))
        channel, cursor = self._channel, self._cursor
        if channel is None:
            channel = self._channel = self._runtime.hub.open_channel(self._id)
        while not (entries := channel.window_after(cursor)):
            if channel.has_ended(cursor):
                self.final = channel.final
                break
            if deadline is not None and self._runtime.loop.time() >= deadline:
                break
            if channel.lacks(cursor):
                if entries := await self._read(channel, deadline):
                    break
            else:
                waiter = channel.wait(deadline)
                try:
                    page = await waiter
                finally:
                    channel.leave(waiter, deadline)
                if page is not None and (entries := items_behind(self._id, cursor, page)):
                    break
        return self._taken(entries)

    async def _read(self, channel: Channel, deadline: float | None) -> Collection[Entry]:
        """Return what follows, from the store, which may be down for a while; nothing if nothing follows in time."""
        backoff = Backoff()
        while deadline is None or self._runtime.loop.time() < deadline:
            changes, last = channel.changes, channel.last
            waiter = channel.read(self._cursor, deadline)
            try:
                page = await waiter
                if page is None:
                    return ()
                channel.took(page, changes, last)
                return items_behind(self._id, self._cursor, page)
            except StoreUnavailable:
                if not self._runtime.batcher.reached:
                    raise
            finally:
                channel.leave(waiter, deadline)
            seconds = backoff.next()
            await asyncio.sleep(seconds if deadline is None else min(seconds, deadline - self._runtime.loop.time()))
        return ()

    def _taken(self, entries: Collection[Entry]) -> Collection[Item]:
        """Move the cursor after ``entries``, or after the first one that cannot be read."""
        if DecodeError in map(type, entries):
            entries = list(entries)
            readable = [type(entry) for entry in entries].index(DecodeError)
            if not readable:
                self._cursor += 1
                raise entries[0]  # type: ignore[misc]  # it is the DecodeError
            entries = entries[:readable]
        self._cursor += len(entries)
        return entries  # type: ignore[return-value]  # none of them is an error

    async def _stored(self, deadline: float | None) -> Collection[Entry]:
        """Return what is stored now. The state is read first, because items are stored before a final state."""
        if self.final is None:
            record = await self._runtime.look(self._id)
            if record is not None and record.ended:
                self.final = record
        async with asyncio.timeout_at(deadline or None):
            cursor = Cursor(self._id, self._cursor, PAGE, self.final is not None)
            page = await self._runtime.batcher.read_stream(cursor)
        return items_behind(self._id, self._cursor, page)

    def close(self) -> None:
        """Leave the stream."""
        if self._channel is not None:
            self._runtime.hub.close_channel(self._channel)
            self._channel = None
