"""The subscription of an event loop: a feed that watches the wanted ids, and is reopened when it is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from typing import Final, Protocol

from aioresult.abc import Feed, Store
from aioresult.background import Background, is_being_cancelled, owned_task, unasked_cancellation
from aioresult.backoff import Backoff
from aioresult.batching import Batcher
from aioresult.errors import StoreUnavailable
from aioresult.openfeed import OpenFeed
from aioresult.polling import PollingFeed
from aioresult.record import Record
from aioresult.stream import News

_SURPLUS: Final = 10_000
"""How many surplus subscriptions are kept while results arrive, because unsubscribing would delay the results."""
_BURST: Final = 4
"""When results arrive fast: the surplus subscriptions of so many seconds are kept."""
_TICK: Final = 1.0
"""Seconds between two rounds of housekeeping; a round sends something only if it is due."""
_SECOND_CHANCE: Final = 300.0
"""Seconds after which a store that is polled because it could not push is asked again."""
_SHORTEST_REST: Final = 0.05
"""The shortest pause between two rounds, for an ``idle_timeout`` that is shorter than a tick, perhaps 0."""


class Subscriber(Protocol):
    """What receives the events. The hub implements and documents this."""

    outage: StoreUnavailable | None
    closed: bool
    delivered: int

    def deliver(self, task_id: str, record: Record | None) -> None: ...
    def tell(self, task_id: str, news: News) -> None: ...
    def fail_all(self, exc: Exception) -> None: ...
    def read_all(self) -> None: ...


class Subscription:
    """Opens a feed when something is wanted, watches and unwatches ids on it, and closes it when nothing is wanted.

    Args:
        store: opens feeds.
        batcher: reads, for a store that cannot push, or where ``push`` is off.
        wanted: the ids that are waited for; its owner changes them.
        streams: the ids whose streams are read; its owner changes them.
        subscriber: receives the events.
    """

    def __init__(
        self,
        store: Store,
        batcher: Batcher,
        wanted: Collection[str],
        streams: Collection[str],
        subscriber: Subscriber,
    ) -> None:
        self._store = store
        self._batcher = batcher
        self._wanted = wanted
        self._streams = streams
        self._subscriber = subscriber
        self._loop = asyncio.get_running_loop()
        self._serving = Background(self._serve, "aioresult hub", pending=self._is_needed)
        self._fresh: set[str] = set()
        self.watched: set[str] = set()
        """The ids that the feed is subscribed to, a small surplus included."""
        self._unfollowed: set[str] = set()
        self._followed: set[str] = set()
        self._wake = asyncio.Event()
        self._closings: set[asyncio.Task[None]] = set()
        self._delivered_before = 0
        self.reconnects = 0

    def _is_needed(self) -> bool:
        return bool(self._wanted or self._streams) and not self._subscriber.closed

    def watch(self, ids: Collection[str]) -> None:
        """Watch ``ids``, even those that are watched already: each must get an event."""
        self._fresh.update(ids)
        self._wake.set()
        self._serving.begin()

    def follow(self, ids: Collection[str]) -> None:
        """Follow the streams of ``ids``, even those that are followed already: each must get an event."""
        self._unfollowed.update(ids)
        self._wake.set()
        self._serving.begin()

    async def open_feed(self) -> Feed:
        """Return a new feed of the store, or one that polls it."""
        settings = self._store.settings
        feed = await self._store.feed() if settings.push else None
        if feed is None:
            feed = PollingFeed(self._batcher.get_many, settings.poll_interval, settings.poll_min_interval)
            feed.read_streams_by(self._batcher.read_stream)
        return feed

    async def _serve(self) -> None:
        """Serve with one feed after the other, until nothing has been wanted for a while."""
        backoff = Backoff()
        self._plan_fallback()
        try:
            while True:
                try:
                    await self._serve_once(backoff)
                except StoreUnavailable as exc:
                    await self._rest_after(exc, backoff)
                except asyncio.CancelledError:
                    if is_being_cancelled():
                        raise
                    await self._rest_after(unasked_cancellation(self._store.location), backoff)
                if not self._wanted and not self._streams:
                    return
        except Exception as exc:  # noqa: BLE001  (given to all waiters)
            self._subscriber.fail_all(exc)
        finally:
            self._fallback.cancel()

    async def _rest_after(self, error: StoreUnavailable, backoff: Backoff) -> None:
        self._subscriber.outage = error
        self.reconnects += 1
        await asyncio.sleep(backoff.next())

    def _plan_fallback(self) -> None:
        """Plan the next fallback read, with jitter, so that many processes do not read in step.

        It happens even without a feed, because a store may be readable while subscribing fails.
        """
        interval = self._store.settings.fallback_interval * random.uniform(0.8, 1.2)
        self._fallback = self._loop.call_later(interval, self._fall_back)

    def _fall_back(self) -> None:
        self._plan_fallback()
        if self._wanted or self._streams:
            self._subscriber.read_all()

    async def _serve_once(self, backoff: Backoff) -> None:
        """Keep one feed. Raises if it fails; returns if it is not needed, or if a better one may be available."""
        opened = await self.open_feed()
        feed = OpenFeed(opened, self._subscriber.deliver, self._store.location, self._wake.set)
        self._fresh.update(self._wanted)
        self._unfollowed.update(self._streams)
        try:
            await self._steer(feed, backoff, polls=isinstance(opened, PollingFeed))
        finally:
            self.watched.clear()
            self._followed.clear()
            await asyncio.shield(self._begin_closing(feed))

    async def _steer(self, feed: OpenFeed, backoff: Backoff, *, polls: bool) -> None:
        """Watch and unwatch ids as needed, until the feed is not needed any more or another one may be better."""
        settings = self._store.settings
        opened = idle_since = prune_at = self._loop.time()
        while True:
            self._wake.clear()
            feed.check()
            await self._watch_fresh(feed)
            self._subscriber.outage = None
            now = self._loop.time()
            if now >= opened + _TICK:
                backoff.reset()
            if polls and settings.push and now >= opened + _SECOND_CHANCE:
                return
            if self._wanted or self._streams:
                idle_since = now
            elif now >= idle_since + settings.idle_timeout:
                return
            if now >= prune_at + _TICK:
                prune_at = now
                await self._drop_surplus(feed)
            await self._rest(min(_TICK, max(settings.idle_timeout, _SHORTEST_REST)))

    async def _watch_fresh(self, feed: OpenFeed) -> None:
        fresh, self._fresh = self._fresh, set()
        fresh.intersection_update(self._wanted)
        if fresh:
            await feed.run(feed.feed.watch(fresh))
            self.watched |= fresh
        streams, self._unfollowed = self._unfollowed, set()
        streams.intersection_update(self._streams)
        if streams:
            await feed.run(feed.feed.follow(streams, self._subscriber.tell))
            self._followed |= streams

    async def _drop_surplus(self, feed: OpenFeed) -> None:
        """Unsubscribe from ids without a waiter; while many results arrive, later and in fewer calls."""
        total = self._subscriber.delivered
        delivered, self._delivered_before = total - self._delivered_before, total
        if delivered and len(self.watched) - len(self._wanted) <= max(_SURPLUS, _BURST * delivered):
            return
        surplus = self.watched.difference(self._wanted)
        if surplus:
            self.watched -= surplus
            await feed.run(feed.feed.unwatch(surplus))
        streams = self._followed.difference(self._streams)
        if streams:
            self._followed -= streams
            await feed.run(feed.feed.unfollow(streams))

    async def _rest(self, seconds: float) -> None:
        """Sleep until there is something to do, or for ``seconds``."""
        if not self._wake.is_set():
            timer = self._loop.call_later(seconds, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    # --- closing ---

    def _begin_closing(self, feed: OpenFeed) -> asyncio.Task[None]:
        """Close ``feed`` in a task of its own, which is started again if it is cancelled."""
        closing = owned_task(feed.aclose(), "aioresult closing of a feed")
        self._closings.add(closing)

        def ended(_: object) -> None:
            self._closings.discard(closing)
            if closing.cancelled():
                self._begin_closing(feed)

        closing.add_done_callback(ended)
        return closing

    async def aclose(self) -> None:
        """End the background task, and close its feed."""
        await self._serving.cancel()
        while self._closings:
            await asyncio.wait(self._closings)
