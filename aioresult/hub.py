"""Many waiters over one feed.

Callers register under their ids before anything is awaited. What is ready already is answered by one coalesced read;
for the rest one background task per event loop, alive only while it is needed, opens the store's feed, watches what is
wanted, and delivers. Every waiter is owed a look behind an effective subscription; a connection that is lost is
replaced and everything outstanding is looked at again; and as a last resort everything outstanding is read every
``fallback_interval`` seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from aioresult.abc import Feed, Store
from aioresult.backoff import Backoff
from aioresult.batching import Batcher, owned_task
from aioresult.deadlines import Deadlines
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.looking import Looker
from aioresult.polling import PollingFeed
from aioresult.record import ENDS, Record

logger = logging.getLogger("aioresult")

_SURPLUS: Final = 10_000
"""Subscriptions that are kept for nobody while results arrive: unsubscribing takes time better spent on these."""
_BURST: Final = 4
"""Seconds' worth of results whose subscriptions are kept, where results arrive faster than that."""
_TICK: Final = 1.0
"""Seconds between two rounds of housekeeping; a round sends nothing unless something is due."""

_SECOND_CHANCE: Final = 300.0
"""Seconds after which a store that had to be polled is asked again whether it can push: obstacles come and go."""
_SHORTEST_REST: Final = 0.05
"""The same where ``idle_timeout`` is shorter than a tick, and may be 0."""

Waiter = asyncio.Future[Record | None]
"""Resolves to the final record, or to ``None`` at its deadline."""


class Listener(Protocol):
    """Hears every state of the ids it has joined; final records end its membership."""

    def push(self, record: Record) -> None:
        """Take a record; called in the loop's thread, must neither block nor raise."""

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting."""


Entry = Waiter | Listener | set[Waiter | Listener]
"""One id's members; the only one is kept bare, a set comes into being with the second."""


def _members(entry: Entry) -> Collection[Waiter | Listener]:
    return entry if isinstance(entry, set) else (entry,)


@asynccontextmanager
async def _unless_ended(reader: asyncio.Task[None]) -> AsyncIterator[None]:
    """Interrupt a call of a feed once its reader has ended, and raise why: over a dead connection the call may hang."""
    try:
        async with asyncio.timeout(None) as limit:

            def interrupt(_: object) -> None:
                with suppress(RuntimeError):  # the call has returned meanwhile
                    limit.reschedule(asyncio.get_running_loop().time())

            reader.add_done_callback(interrupt)
            try:
                yield
            finally:
                reader.remove_done_callback(interrupt)
    except TimeoutError:
        if reader.done():
            reader.result()
        raise


class Hub:
    """Delivers final records to futures, and every record to listeners."""

    def __init__(self, store: Store, batcher: Batcher) -> None:
        self._store = store
        self._batcher = batcher
        self._loop = asyncio.get_running_loop()
        self._entries: dict[str, Entry] = {}
        self._looker = Looker(batcher, self._entries, self, store.lanes)
        self._watched: set[str] = set()
        self._new: set[str] = set()
        self._fresh: set[str] = set()
        self.deadlines = Deadlines(self._loop)
        """When waiters give up."""
        self._wake = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._fallback: asyncio.TimerHandle | None = None
        self.outage: StoreUnavailable | None = None
        """Why the store could not be reached the last time, or ``None`` where it could."""
        self.closed = False
        """Whether it was closed, which ends all waiting for good."""
        self.reconnects = 0
        self.fallback_reads = 0
        self.delivered = 0
        self._delivered_before = 0

    @property
    def waiting(self) -> int:
        """How many ids somebody waits for."""
        return len(self._entries)

    @property
    def watched(self) -> int:
        """How many ids the feed is subscribed to, a small surplus included."""
        return len(self._watched)

    @property
    def looking(self) -> bool:
        """Whether ids are being read."""
        return bool(self._looker.tasks)

    # --- joining and leaving: no awaits, so that nothing can happen in between ---

    def add(self, task_id: str, deadline: float | None) -> Waiter:
        """Register and return a waiter, which gives ``None`` at ``deadline`` (in the loop's time).

        Whoever added it takes it away: by ``leave``, unless it has got its record, and from the ``deadlines``.
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

    def leave(self, ids: Iterable[str], member: Waiter | Listener) -> None:
        """Take a waiter or listener away; ids that it is not (or no longer) registered under are fine."""
        for task_id in ids:
            entry = self._entries.get(task_id)
            if entry is member:
                del self._entries[task_id]
            elif isinstance(entry, set):
                entry.discard(member)
                if not entry:
                    del self._entries[task_id]

    def _join(self, task_id: str, member: Waiter | Listener) -> None:
        if self.closed:
            raise self._closed_error()
        entry = self._entries.get(task_id)
        if entry is None:
            self._entries[task_id] = member
        elif isinstance(entry, set):
            entry.add(member)
        else:
            self._entries[task_id] = {entry, member}
        self._new.add(task_id)
        self._looker.look_at(task_id)

    # --- delivering ---

    def deliver(self, task_id: str, record: Record | None) -> None:
        """Take one event of the feed."""
        if record is None:
            if task_id in self._entries:
                self._looker.look_at(task_id)
            return
        if record.status not in ENDS:
            self._tell_listeners(task_id, record)
            return
        entry = self._entries.pop(task_id, None)
        if entry is None:
            return
        self.delivered += 1
        if isinstance(entry, asyncio.Future):  # the usual case, for which nothing more is to be done
            if not entry.done():
                entry.set_result(record)
            return
        for member in _members(entry):
            if not isinstance(member, asyncio.Future):
                member.push(record)
            elif not member.done():
                member.set_result(record)

    def _tell_listeners(self, task_id: str, record: Record) -> None:
        entry = self._entries.get(task_id)
        if entry is None or isinstance(entry, asyncio.Future):
            return
        self._looker.overtake(task_id)
        for member in _members(entry):
            if not isinstance(member, asyncio.Future):
                member.push(record)

    def fail(self, ids: Iterable[str], exc: Exception) -> None:
        """End the waiting for ``ids`` with ``exc`` as the reason; whoever waits next starts afresh."""
        self._new.difference_update(ids)
        if isinstance(exc, AioResultError):
            error: Exception = exc
        else:
            error = AioResultError(f"waiting on {self._store.location} failed: {exc!r}")
            error.__cause__ = exc
        for entry in [entry for task_id in ids if (entry := self._entries.pop(task_id, None)) is not None]:
            for member in _members(entry):
                if not isinstance(member, asyncio.Future):
                    member.fail(error)
                elif not member.done():
                    member.set_exception(error)

    def _fail_everybody(self, exc: Exception) -> None:
        if not self._entries:
            logger.error("the feed of %s failed while nobody waited", self._store.location, exc_info=exc)
        self.fail(list(self._entries), exc)

    # --- the background task ---

    async def _supervise(self) -> None:
        """Serve the waiters with one feed after the other, until nobody has waited for a while."""
        backoff = Backoff()
        self._plan_fallback()
        try:
            while True:
                try:
                    await self._serve(backoff)
                except StoreUnavailable as exc:
                    self.outage = exc
                    self.reconnects += 1
                    await asyncio.sleep(backoff.next())
                if not self._entries:
                    break
        except Exception as exc:  # noqa: BLE001  (handed to everybody who waits)
            self._fail_everybody(exc)
        finally:  # no await from the last look at the entries to here: whoever joins from now on starts a new task
            self._supervisor = None
            if self._fallback is not None:
                self._fallback.cancel()
            if self._entries and not self.closed:  # somebody has cancelled all tasks, and some waiters go on
                self._begin()

    async def _serve(self, backoff: Backoff) -> None:
        """Open a feed and keep it until it fails (raises), or is not needed or perhaps outdone by another (returns)."""
        feed = await self.open_feed()
        feed.attach(self.deliver)
        reader = owned_task(self._read(feed), "aioresult feed")
        reader.add_done_callback(lambda _: self._wake.set())
        self._fresh.update(self._entries)
        try:
            await self._steer(feed, reader, backoff)
        finally:
            self._watched.clear()
            await asyncio.shield(self._begin_closing(feed, reader))

    def _begin_closing(self, feed: Feed, reader: asyncio.Task[None]) -> asyncio.Task[None]:
        """Close ``feed``, whoever is in a hurry, and whatever is cancelled."""
        closing = owned_task(self._close(feed, reader), "aioresult closing of a feed")
        self._closings.add(closing)

        def ended(_: object) -> None:
            self._closings.discard(closing)
            if closing.cancelled():
                self._begin_closing(feed, reader)

        closing.add_done_callback(ended)
        return closing

    async def _close(self, feed: Feed, reader: asyncio.Task[None]) -> None:
        reader.cancel()
        try:
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()  # has been raised by _steer, or comes too late to matter
        finally:
            await feed.aclose()

    async def open_feed(self) -> Feed:
        """Return a new feed of the store, or one that polls it where it cannot push, or is not to."""
        settings = self._store.settings
        feed = await self._store.feed() if settings.push else None
        return feed or PollingFeed(self._batcher.get_many, settings.poll_interval, settings.poll_min_interval)

    async def _read(self, feed: Feed) -> None:
        async for task_id, record in feed:
            self.deliver(task_id, record)
        raise StoreUnavailable(f"the feed of {self._store.location} ended")

    async def _steer(self, feed: Feed, reader: asyncio.Task[None], backoff: Backoff) -> None:
        settings = self._store.settings
        opened = idle_since = prune_at = self._loop.time()
        while True:
            self._wake.clear()
            if reader.done():
                reader.result()
            await self._watch_fresh(feed, reader)
            self.outage = None
            now = self._loop.time()
            if now >= opened + _TICK:
                backoff.reset()
            if isinstance(feed, PollingFeed) and settings.push and now >= opened + _SECOND_CHANCE:
                return
            if self._entries:
                idle_since = now
            elif now >= idle_since + settings.idle_timeout:
                return
            if now >= prune_at + _TICK:
                prune_at = now
                await self._drop_surplus(feed, reader)
            await self._rest(min(_TICK, max(settings.idle_timeout, _SHORTEST_REST)))

    async def _watch_fresh(self, feed: Feed, reader: asyncio.Task[None]) -> None:
        fresh, self._fresh = self._fresh, set()
        fresh.intersection_update(self._entries)
        if fresh:
            async with _unless_ended(reader):
                await feed.watch(fresh)
            self._watched |= fresh

    async def _drop_surplus(self, feed: Feed, reader: asyncio.Task[None]) -> None:
        """Unsubscribe from what nobody waits for any more; in a burst of results, later and in fewer pieces."""
        delivered, self._delivered_before = self.delivered - self._delivered_before, self.delivered
        if delivered and len(self._watched) - len(self._entries) <= max(_SURPLUS, _BURST * delivered):
            return
        surplus = self._watched.difference(self._entries)
        if surplus:
            self._watched -= surplus
            async with _unless_ended(reader):
                await feed.unwatch(surplus)

    async def _rest(self, seconds: float) -> None:
        """Sleep until there is something to do, or for ``seconds``."""
        if not self._wake.is_set():
            timer = self._loop.call_later(seconds, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    # --- looking ---

    def _plan_fallback(self) -> None:
        """Set the timer for the next fallback read, jittered so that many processes do not read in step.

        It runs whether or not there is a feed: a store that can be read but not listened to is read all the same.
        """
        pause = self._store.settings.fallback_interval * random.uniform(0.8, 1.2)
        self._fallback = self._loop.call_later(pause, self._fall_back)

    def _fall_back(self) -> None:
        self._plan_fallback()
        if self._entries:
            self.fallback_reads += 1
            self._looker.look_at_all(self._entries)

    def looked(self, ids: set[str]) -> None:
        """Hand those of ``ids`` that are new, and not answered yet, to the background task."""
        self._fresh.update(task_id for task_id in ids if task_id in self._new and task_id in self._entries)
        self._new -= ids
        if self._fresh:
            self._wake.set()
            if self._supervisor is None or self._supervisor.done():
                self._begin()

    def _begin(self) -> None:
        self._supervisor = owned_task(self._supervise(), "aioresult hub")

    def _closed_error(self) -> AioResultError:
        return AioResultError(f"the backend of {self._store.location} was closed while waiting")

    async def aclose(self) -> None:
        """End the background task and give back its feed; whoever still waits gets an error."""
        self.closed = True
        tasks = self._looker.tasks
        if self._supervisor is not None:
            tasks.append(self._supervisor)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        while self._closings:
            await asyncio.wait(self._closings)
        if self._entries:
            self._fail_everybody(self._closed_error())
        self._new.clear()
        self.deadlines.clear()
