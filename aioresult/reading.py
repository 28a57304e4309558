"""Reading a stream: every item after a cursor once and in order, then the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from aioresult.backoff import Backoff
from aioresult.channels import Channel, Entry
from aioresult.errors import DecodeError, StoreUnavailable, Unsupported
from aioresult.record import Record
from aioresult.runtime import Runtime
from aioresult.stream import Item, Page, items_behind, stream_gap


class Reader:
    """One reader of a stream, which begins after the item ``after``.

    Args:
        runtime: of the backend in this event loop.
        task_id: the task's id.
        after: the number of the last item that is known already.
        known: the task's final record, if the caller has seen it: then only the stream is read.

    Attributes:
        final: the task's final (or unreadable) record, once nothing follows any more.
    """

    __slots__ = ("_at", "_channel", "_cursor", "_id", "_known", "_runtime", "_sure", "_until", "final")

    def __init__(self, runtime: Runtime, task_id: str, after: int, known: Record | None) -> None:
        if not runtime.store.keeps_streams:
            where = runtime.store.location
            raise Unsupported(f"{where} keeps no streams; watch the task's states by updates() instead")
        self._runtime = runtime
        self._id = runtime.check(task_id)
        self._cursor = after
        self._at: datetime | None = None
        """When the last item that was returned was appended. No two items of a stream have the same time."""
        self._sure = 0
        """How many of the channel's doubts are settled."""
        self._known = known
        self._until: int | None = None
        """The last number to return, once the deadline has passed."""
        self._channel: Channel | None = None
        self.final: Record | None = None

    async def next(self, deadline: float | None) -> Sequence[Item]:
        """Return the next items, at least one; none once the task is final and all are read, or at ``deadline``.

        If the deadline has passed before the call, return what was stored at the first such call, and then none.

        Raises:
            StreamGap: the next item is not there any more.
            DecodeError: the next item cannot be read. The next call returns the item after it.
            StoreUnavailable: the store cannot be reached at all.
        """
        if deadline is not None and self._runtime.loop.time() >= deadline:
            return self._taken(await self._rest())
        channel = self._channel or self._open()
        while not (entries := self._in_window(channel)):
            if self._has_ended(channel):
                self.final = channel.final
                break
            if deadline is not None and self._runtime.loop.time() >= deadline:
                break
            if self._lacks(channel):
                if entries := await self._read(channel, deadline):
                    break
            else:
                waiter = channel.wait(deadline)
                try:
                    page = await waiter
                finally:
                    channel.leave(waiter, deadline)
                if entries := self._in_page(channel, page):
                    break
        return self._taken(entries)

    def _open(self) -> Channel:
        if self._known is not None:
            return self._open_unsubscribed()
        channel = self._channel = self._runtime.hub.open_channel(self._id)
        self._sure = channel.doubts
        return channel

    def _open_unsubscribed(self) -> Channel:
        """Open a channel for reading what is stored; nothing is announced to it."""
        channel = self._channel = self._runtime.hub.unsubscribed_channel(self._id)
        if self._known is not None:
            channel.push(self._known)
        return channel

    # --- what the channel knows; in doubt, nothing ---

    def _in_window(self, channel: Channel) -> Sequence[Entry]:
        return channel.window_after(self._cursor) if self._sure == channel.doubts else ()

    def _in_page(self, channel: Channel, page: Page | None) -> Sequence[Entry]:
        """Return what follows from a page that the channel has read for its readers."""
        if page is None or self._sure != channel.doubts:
            return ()
        return items_behind(self._id, self._cursor, page)

    def _lacks(self, channel: Channel) -> bool:
        """Return whether the store has to be read to know what follows."""
        return self._sure != channel.doubts or channel.lacks(self._cursor)

    def _has_ended(self, channel: Channel) -> bool:
        """Return whether the task is final and nothing follows."""
        return channel.final is not None and not self._lacks(channel)

    # --- reading the store ---

    async def _read(self, channel: Channel, deadline: float | None, *, once: bool = False) -> Sequence[Entry]:
        """Return what follows, from the store, which may be down for a while; nothing if nothing follows in time.

        With ``once``, a store that is down is an error.
        """
        backoff = Backoff()
        while deadline is None or self._runtime.loop.time() < deadline:
            changes, last, doubts = channel.changes, channel.last, channel.doubts
            again = self._sure != doubts and self._at is not None
            waiter = channel.read(self._cursor - again, deadline)
            try:
                page = await waiter
                if page is None:
                    return ()
                channel.took(page, changes, last)
                entries = self._behind_the_same(page) if again else items_behind(self._id, self._cursor, page)
                self._sure = doubts
                return entries
            except StoreUnavailable:
                if once or not self._runtime.batcher.reached:
                    raise
                channel.doubt()
            finally:
                channel.leave(waiter, deadline)
            seconds = backoff.next()
            await asyncio.sleep(seconds if deadline is None else min(seconds, deadline - self._runtime.loop.time()))
        return ()

    def _behind_the_same(self, page: Page) -> Sequence[Entry]:
        """Return the items after the cursor from a page that begins with the item at the cursor.

        Raises:
            StreamGap: it is another item than the one that was returned: the stream was begun again.
        """
        if page.oldest <= self._cursor and page.items:
            if isinstance(same := page.items[0], Item) and same.at != self._at:
                raise stream_gap(self._id, self._cursor, page, "it was deleted, and begun again with other items")
            page = Page(page.oldest, page.last, page.items[1:])
        return items_behind(self._id, self._cursor, page)

    async def _rest(self) -> Sequence[Entry]:
        """Return what was stored at the first call of this and was not returned yet.

        The state is read first, because items are stored before a final state.
        """
        channel = self._channel or self._open_unsubscribed()
        entries: Sequence[Entry] = ()
        if self._until is None:
            record = self._known or await self._runtime.look(self._id)
            if record is not None and record.ended:
                self._known = record
                channel.push(record)
            entries = await self._read(channel, None, once=True)
            self._until = channel.last
        elif self._cursor < self._until:
            entries = await self._read(channel, None, once=True)
        if not entries:
            self.final = self._known
        return entries[: self._until - self._cursor]

    def _taken(self, entries: Sequence[Entry]) -> Sequence[Item]:
        """Move the cursor after ``entries``, or after the first one that cannot be read."""
        if DecodeError in map(type, entries):
            readable = [type(entry) for entry in entries].index(DecodeError)
            if not readable:
                self._cursor += 1
                self._at = None
                raise entries[0]  # type: ignore[misc]  # it is the DecodeError
            entries = entries[:readable]
        if entries:
            self._cursor += len(entries)
            self._at = entries[-1].at  # type: ignore[union-attr]  # none of them is an error
        return entries  # type: ignore[return-value]  # none of them is an error

    def close(self) -> None:
        """Leave the stream."""
        if self._channel is not None:
            self._runtime.hub.close_channel(self._channel)
            self._channel = None
