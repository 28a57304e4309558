"""Readers of streams: one channel for each stream that is being read, with a small window of its newest items.

A reader is a cursor. It takes items from the window. Items that are older, or were missed, are read from the store,
once for all readers at the same position. News may come twice or in another order, because items are numbered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

from aioresult.batching import Batcher
from aioresult.codec import Codec
from aioresult.deadlines import Deadlines
from aioresult.errors import DecodeError
from aioresult.record import Record
from aioresult.stream import Cursor, Item, News, Page

WINDOW: Final = 64
"""How many of the newest items a channel keeps: a reader that is further behind reads from the store."""
PAGE: Final = 500
"""The most items in one read."""
_FIRST_PAGE: Final = 32
"""The most items in a channel's first read, when it is not known how large they are."""
_PAGE_BYTES: Final = 4 * 2**20
"""About how many bytes one read returns, because each slow reader may keep that much in memory."""

Entry = Item | DecodeError
"""An item, or why it cannot be read."""

Waiter = asyncio.Future[Page | None]
"""What a reader waits for: the page after its cursor, or ``None`` after another change or at its deadline."""


class Channel:
    """What is known here of one stream while it has readers.

    Attributes:
        id: the task's id.
        changes: how many notifications have come after which there may be items that are unknown here. An eager channel
            begins as if one had come. Any other is not read before the first one: that the subscription has taken
            effect, or that the task is final.
        doubts: how often the stream may have been deleted and begun again, with the same numbers for other items.
        final: the task's final (or unreadable) record, once it is known.
        limit: the most items that the next read returns.
        last: the highest number that is known to be stored.
        readers: how many there are.
    """

    __slots__ = tuple(
        "_batcher _changes_known _codec _deadlines _doubted _error _first _loop _reading _waiters _window"
        " changes doubts final id last limit readers".split()
    )

    def __init__(self, task_id: str, batcher: Batcher, codec: Codec, deadlines: Deadlines, *, eager: bool) -> None:
        self.id = task_id
        self.changes = int(eager)
        self.doubts = 0
        self.limit = _FIRST_PAGE
        self.final: Record | None = None
        self.readers = 0
        self._batcher = batcher
        self._codec = codec
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._window: list[Entry] = []
        self._first = 1
        """The number of the window's first item; without items, that of the next expected item."""
        self.last = 0
        self._changes_known = 0
        """How many of the changes were followed by a read."""
        self._doubted = False
        """Whether there has been a doubt since the readers that wait began to wait."""
        self._error: Exception | None = None
        self._waiters: Waiter | set[Waiter] | None = None
        """The readers that wait: usually one, which is kept without a set."""
        self._reading = False
        """Whether a read for the readers that wait is planned or in flight."""

    # --- called by the hub: no awaits ---

    def take(self, news: News) -> None:
        """Take news of the feed."""
        first, items = news.first, news.items
        if not first:
            if not news.gapless:
                self.doubt()
            self._change()
            return
        last = first + len(items) - 1
        if first == 1 and self.last:
            self.doubt()
            self.last = 0
        if last <= self.last:
            return
        end = self._first + len(self._window)
        window = self._window
        if first > end or not window:
            window.clear()
            self._first = first
        elif first < end:
            items = items[end - first :]
            first = end
        window += self._codec.decode_items(self.id, first, items)
        if len(window) > WINDOW:
            surplus = len(window) - WINDOW
            del window[:surplus]
            self._first += surplus
        self.last = last
        self._wake()

    def doubt(self) -> None:
        """Note that the stream may have been deleted and begun again: nothing that is known here may be given."""
        self.doubts += 1
        self.changes += 1
        self._doubted = True
        self._window.clear()
        self._first = self.last + 1

    def push(self, record: Record) -> None:
        """Take a state of the task. When it is final, all items appended before it are stored."""
        if record.ended:
            self.final = record
            self._change()

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting."""
        self._error = error
        self._wake()

    def _change(self) -> None:
        """Note that there may be items that are unknown here."""
        self.changes += 1
        if self._changes_known and not self._doubted:
            self._catch_up()
        else:  # each reader may begin at another item, or has to look whether its last one is still there
            self._wake()

    def _catch_up(self) -> None:
        """Read soon for all readers that wait, and wake them only if there is news."""
        if self._waiters and not self._reading:
            self._reading = True
            self._loop.call_soon(self._read_for_all)  # not now, because several changes may come in one turn

    def _read_for_all(self) -> None:
        """Read what follows the newest item, where all readers that wait are."""
        if self._waiters:
            waiter = self.read(self.last, None)
            waiter.add_done_callback(partial(self._have_read, self.changes, self.last, self.doubts))
        else:
            self._reading = False

    def _have_read(self, changes: int, last: int, doubts: int, waiter: Waiter) -> None:
        self._reading = False
        page = None if waiter.cancelled() or waiter.exception() is not None else waiter.result()
        if page is None or (self.last, self.doubts) != (last, doubts):  # each reader has to read for itself
            self._wake()
            return
        if page.last != last or self.final is not None:
            self._wake(page)
        self.took(page, changes, last)
        if self._changes_known < self.changes:
            self._catch_up()

    def _wake(self, page: Page | None = None) -> None:
        waiters, self._waiters = self._waiters, None
        self._doubted = False
        for waiter in waiters if isinstance(waiters, set) else (waiters,):
            if waiter is not None and not waiter.done():
                waiter.set_result(page)

    # --- called by readers ---

    def window_after(self, cursor: int) -> Sequence[Entry]:
        """Return the items that follow ``cursor``, as far as the window holds them."""
        behind = cursor + 1 - self._first
        return self._window[behind:] if behind >= 0 else ()

    def lacks(self, cursor: int) -> bool:
        """Return whether the store has to be read to know what follows ``cursor``."""
        return self._changes_known < self.changes or (cursor != self.last and self.changes > 0)

    def check(self) -> None:
        """Raise the error that ended all waiting, if there is one."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # all readers share the error: begin its traceback here

    def wait(self, deadline: float | None) -> Waiter:
        """Return a future that is set after a change, or at ``deadline``. The caller must pass it to ``leave``.

        The caller has everything that is known here: ``lacks`` is false.
        """
        self.check()
        waiter: Waiter = self._loop.create_future()
        waiters = self._waiters
        if waiters is None:
            self._waiters = waiter
        elif isinstance(waiters, set):
            waiters.add(waiter)
        else:
            self._waiters = {waiters, waiter}
        if deadline is not None:
            self._deadlines.add(waiter, deadline)
        return waiter

    def leave(self, waiter: Waiter, deadline: float | None) -> None:
        """Drop a future that ``wait`` or ``read`` returned, whether or not it has been set."""
        if self._waiters is waiter:
            self._waiters = None
        elif isinstance(self._waiters, set):
            self._waiters.discard(waiter)
        if deadline is not None:
            self._deadlines.discard(waiter, deadline)

    def read(self, cursor: int, deadline: float | None) -> Waiter:
        """Return a future for the page that follows ``cursor``, from the store; otherwise the same as ``wait``.

        Readers at the same position share one read.
        """
        self.check()
        position = Cursor(self.id, cursor, self.limit, self.final is not None)
        waiter = cast("Waiter", self._batcher.read_stream(position))
        if deadline is not None:
            self._deadlines.add(waiter, deadline)
        return waiter

    def took(self, page: Page, changes: int, last: int) -> None:
        """Note a page that was read; ``changes`` and ``last`` are this channel's values at the start of the read."""
        self._changes_known = max(self._changes_known, changes)
        if page.items:
            self.limit = max(1, min(_PAGE_BYTES * len(page.items) // (page.size or 1), 4 * self.limit, PAGE))
        if page.last < last == self.last:  # it was deleted; readers that are further read it, and find that it is gone
            self.last = page.last
            self.doubt()
            self._wake()
        elif page.last > self.last:  # whoever waits has not got these items
            self.last = page.last
            self._wake()
