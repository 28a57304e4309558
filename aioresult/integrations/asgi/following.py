"""Following one task: its states and the items of its stream, in the order in which the store gives them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from aioresult.channels import Channel, Entry, Waiter
from aioresult.reading import Reader
from aioresult.record import Record
from aioresult.runtime import Runtime
from aioresult.states import PENDING
from aioresult.stream import Item, Page
from aioresult.waiting import Inbox

UNREAD_STATES: Final = 100
"""How many states are kept for a client that is slower than the task; older ones are dropped."""


class StreamFollower(Reader):
    """A reader of a stream that also receives the task's states.

    Each state is kept with the number of the newest item at that time, and returned after that item.
    """

    __slots__ = ("_states", "_waiter", "_woken")

    def __init__(self, runtime: Runtime, task_id: str, after: int, known: Record | None) -> None:
        super().__init__(runtime, task_id, after, known)
        self._states: deque[tuple[int, Record]] = deque(maxlen=UNREAD_STATES)
        self._waiter: Waiter | None = None
        self._woken = False

    @property
    def cursor(self) -> int:
        """The number of the last item that was returned, or could not be read."""
        return self._cursor

    # --- called by the hub ---

    def push(self, record: Record) -> None:
        """Take a state; final ones are ignored here, because the channel receives them too."""
        if self._channel is None or record.ended or record.status == PENDING:
            return
        self._states.append((self._channel.last, record))
        self._resume()

    def _resume(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Ignore the error, because the channel receives it too and raises it."""

    # --- for the client ---

    async def step(self, deadline: float) -> Record | Sequence[Item]:
        """Return the next state, or the next items; no items at ``deadline``, once ``wake`` was called, and at the end,
        where ``final`` is set.

        Raises:
            StreamGap, DecodeError, StoreUnavailable: as ``next`` does.
        """
        channel = self._channel or self._open()
        page: Page | None = None
        while True:
            if (state := self._due_state(channel)) is not None:
                return state
            entries = self._in_window(channel) or self._in_page(channel, page)
            if not entries and self._lacks(channel):
                entries = await self._read(channel, deadline)
            if entries:
                return self._taken(self._before_state(entries))
            if self._has_ended(channel) and not self._states:
                self.final = channel.final
                return ()
            if self._woken or self._runtime.loop.time() >= deadline:
                return ()
            if not self._states and not self._lacks(channel):
                page = await self._pause(channel, deadline)

    def wake(self) -> None:
        """Make ``step`` return now, and not wait any more."""
        self._woken = True
        self._resume()

    def _due_state(self, channel: Channel) -> Record | None:
        """Return the next state, if all items that belong before it were returned or are gone."""
        if self._states and (self._states[0][0] <= self._cursor or self._is_exhausted(channel)):
            return self._states.popleft()[1]
        return None

    def _open(self) -> Channel:
        channel = super()._open()
        if self._known is None:
            self._runtime.hub.join((self._id,), self)
        return channel

    def _is_exhausted(self, channel: Channel) -> bool:
        """Return whether nothing follows at present."""
        return not self._in_window(channel) and not self._lacks(channel)

    def _before_state(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return those of ``entries`` that belong before the next state."""
        return entries[: self._states[0][0] - self._cursor] if self._states else entries

    async def _pause(self, channel: Channel, deadline: float) -> Page | None:
        """Wait for items, a state, the end or ``deadline``; return the page of items, if one was read."""
        self._waiter = waiter = channel.wait(deadline)
        try:
            page = await waiter
        finally:
            self._waiter = None
            channel.leave(waiter, deadline)
        channel.check()
        return page

    def close(self) -> None:
        if self._channel is not None:
            self._runtime.hub.leave((self._id,), self)
        super().close()


class StateFollower(Inbox):
    """Follows the states alone, for a store that keeps no streams."""

    cursor = 0

    def __init__(self, runtime: Runtime, task_id: str, final: Record | None) -> None:
        super().__init__(finals_only=False, limit=UNREAD_STATES)
        self._runtime = runtime
        self._id = runtime.check(task_id)
        self.final = final
        if final is None:
            runtime.hub.join((task_id,), self)

    async def step(self, deadline: float) -> Record | Sequence[Item]:
        """Return the next state, or nothing: at the end, where ``final`` is set, or at ``deadline``."""
        record = None if self.final is not None else await self.next(deadline)
        if record is None or record.status == PENDING:
            return ()
        if record.ended:
            self.final = record
            return ()
        return record

    def close(self) -> None:
        self._runtime.hub.leave((self._id,), self)


Follower = StreamFollower | StateFollower


def follower(runtime: Runtime, task_id: str, after: int, final: Record | None) -> Follower:
    """Return an object that follows the task after item ``after``. The caller must close it."""
    if runtime.store.keeps_streams:
        return StreamFollower(runtime, task_id, after, final)
    return StateFollower(runtime, task_id, final)
