"""Many waiters over one feed.

Callers register under their ids before anything is awaited. One coalesced read answers the callers whose results are
ready. One subscription per event loop watches the other ids, and is closed when it is not needed any more. For every
waiter the store is read once after its subscription has taken effect. When a connection is lost, it is replaced, and
all outstanding ids are read again. In addition, all outstanding ids are read every ``fallback_interval`` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from aioresult.abc import Feed, Store
from aioresult.batching import Batcher
from aioresult.channels import Channel
from aioresult.deadlines import Deadlines
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.looking import Looker
from aioresult.losses import Losses
from aioresult.members import Listener, Member, Members, Waiter, members_of
from aioresult.record import FINISHED, Record
from aioresult.stream import LOOK, News
from aioresult.subscription import Subscription

logger = logging.getLogger("aioresult")
_EAGER: Final = 100
"""How many streams that get a reader at once are read before their subscriptions have taken effect.

They are read again after that. For a few readers this is the fastest way to what is stored. A crowd is served sooner if
each stream is read only once.
"""


class Hub:
    """Delivers final records to futures, and every record to listeners."""

    def __init__(self, store: Store, batcher: Batcher) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._members = Members()
        self._channels: dict[str, Channel] = {}
        self._batcher = batcher
        self._looker = Looker(batcher, self._members, self, store.lanes)
        self._subscription = Subscription(store, batcher, self._members, self._channels, self)
        self._new: set[str] = set()
        """Ids that have got a member since they were last read."""
        self.deadlines = Deadlines(self._loop)
        """The deadlines of waiters."""
        self._losses = Losses(store, batcher, self._looker.look_at)
        self.own_runners = self._losses.own
        """The runners of this process that have tasks: these are not lost, even if their lease has ended."""
        self._outage: StoreUnavailable | None = None
        self.closed = False
        """Whether the hub was closed; nothing can be awaited after that."""
        self.fallback_reads = 0
        self.delivered = 0
        """How many final records have reached a member."""

    @property
    def outage(self) -> StoreUnavailable | None:
        """Why the last attempt to reach the store failed, or ``None`` if it succeeded."""
        return self._outage

    @outage.setter
    def outage(self, reason: StoreUnavailable | None) -> None:
        self._outage = reason
        if reason is None:
            return
        self._losses.steady = False
        for channel in self._channels.values():
            if channel.changes:
                channel.doubt()  # the store may have lost what it held
            else:
                channel.take(LOOK)  # it may be readable even while subscribing fails

    @property
    def waiting(self) -> int:
        """How many ids have a waiter or listener."""
        return len(self._members)

    @property
    def watched(self) -> int:
        """How many ids the feed is subscribed to, a small surplus included."""
        return len(self._subscription.watched)

    @property
    def reconnects(self) -> int:
        """How many feeds were lost."""
        return self._subscription.reconnects

    @property
    def looking(self) -> bool:
        """Whether ids are being read."""
        return self._looker.running

    # --- joining and leaving: no awaits, so that nothing can happen in between ---

    def add(self, task_id: str, deadline: float | None) -> Waiter:
        """Register and return a waiter, which gives ``None`` at ``deadline`` (in the loop's time).

        The caller removes it afterwards: by ``leave``, unless it has got its record, and from the ``deadlines``.
        """
        waiter: Waiter = self._loop.create_future()
        self._join(task_id, waiter)
        if deadline is not None:
            self.deadlines.add(waiter, deadline)
        return waiter

    def join(self, ids: Iterable[str], listener: Listener) -> None:
        """Register ``listener`` under all of ``ids``."""
        for task_id in ids:
            self._join(task_id, listener)

    def _join(self, task_id: str, member: Member) -> None:
        if self.closed:
            raise self._closed_error()
        self._members.join(task_id, member)
        self._new.add(task_id)
        self._looker.look_at(task_id)

    def leave(self, ids: Iterable[str], member: Member) -> None:
        """Remove a waiter or listener; ids under which it is not (or no longer) registered are ignored."""
        self._members.leave(ids, member)

    def open_channel(self, task_id: str) -> Channel:
        """Return the channel of a stream for one more reader, which must call ``close_channel`` at its end.

        A channel whose task is final is left to its readers: a task of the same id may have been started since.
        """
        channel = self._channels.get(task_id)
        if channel is None or channel.final is not None:
            channel = self.unsubscribed_channel(task_id, eager=len(self._new) < _EAGER)
            self._channels[task_id] = channel
            self._join(task_id, channel)
        channel.readers += 1
        return channel

    def unsubscribed_channel(self, task_id: str, *, eager: bool = True) -> Channel:
        """Return a channel for one reader of what is stored. Nothing is announced to it."""
        if self.closed:
            raise self._closed_error()
        return Channel(task_id, self._batcher, self._store.codec, self.deadlines, eager=eager)

    def close_channel(self, channel: Channel) -> None:
        """Remove one reader of a stream."""
        channel.readers -= 1
        if not channel.readers and self._channels.get(channel.id) is channel:
            del self._channels[channel.id]
            self._members.leave((channel.id,), channel)

    # --- delivering ---

    def tell(self, task_id: str, news: News) -> None:
        """Take news of a stream."""
        channel = self._channels.get(task_id)
        if channel is not None:
            channel.take(news)

    def deliver(self, task_id: str, record: Record | None) -> None:
        """Take one event of the feed."""
        if record is None:
            if task_id in self._members:
                self._looker.look_at(task_id)
            return
        if record.status not in FINISHED:
            self._losses.note(record)
            self._tell_listeners(task_id, record)
            return
        registered = self._members.pop(task_id, None)
        if registered is None:
            return
        self.delivered += 1
        if isinstance(registered, asyncio.Future):  # the usual case: nothing more to do
            if not registered.done():
                registered.set_result(record)
            return
        for member in members_of(registered):
            if not isinstance(member, asyncio.Future):
                member.push(record)
            elif not member.done():
                member.set_result(record)

    def _tell_listeners(self, task_id: str, record: Record) -> None:
        registered = self._members.get(task_id)
        if registered is None or isinstance(registered, asyncio.Future):
            return
        self._looker.overtake(task_id)
        for member in members_of(registered):
            if not isinstance(member, asyncio.Future):
                member.push(record)

    def fail(self, ids: Iterable[str], exc: Exception) -> None:
        """End the waiting for ``ids`` with ``exc`` as the reason; later waiters start anew."""
        self._new.difference_update(ids)
        self._members.fail(ids, self._error(exc))

    def _error(self, exc: Exception) -> AioResultError:
        if isinstance(exc, AioResultError):
            return exc
        error = AioResultError(f"waiting on {self._store.location} failed: {exc!r}")
        error.__cause__ = exc
        return error

    def fail_all(self, exc: Exception) -> None:
        """End all waiting with ``exc`` as the reason."""
        if not (self._members or self._channels):
            logger.error("the feed of %s failed while nobody waited", self._store.location, exc_info=exc)
        self.fail(list(self._members), exc)
        for channel in list(self._channels.values()):  # a channel whose task is final is no longer a member
            channel.fail(self._error(exc))

    # --- reading and watching ---

    def looked(self, ids: set[str]) -> None:
        """Watch the new ones of ``ids``: they have been read, or cannot be read before the store is available again."""
        fresh = {task_id for task_id in ids if task_id in self._new and task_id in self._members}
        self._new -= ids
        self._losses.judge()
        if fresh:
            self._subscription.watch(fresh)
            if self._channels:
                self._subscription.follow(fresh & self._channels.keys())

    def read_all(self) -> None:
        """Read every id that is waited for, in case a notification was lost."""
        self.fallback_reads += 1
        self._losses.begin(self._members, self.reconnects)
        for task_id in self._members:
            self._looker.look_at(task_id)
        for channel in self._channels.values():
            channel.take(LOOK)

    async def open_feed(self) -> Feed:
        """Return a new feed of the store, or one that polls it where the store cannot push, or ``push`` is off."""
        return await self._subscription.open_feed()

    def _closed_error(self) -> AioResultError:
        return AioResultError(f"the backend of {self._store.location} was closed meanwhile")

    async def aclose(self) -> None:
        """End the background tasks and close the feed; callers that still wait get an error."""
        self.closed = True
        await self._looker.cancel()
        await self._losses.cancel()
        await self._subscription.aclose()
        if self._members or self._channels:
            self.fail_all(self._closed_error())
        self._new.clear()
        self.deadlines.clear()
