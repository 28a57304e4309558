"""Streams: whatever happens to the notifications and to the readers, each reader gets each item once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioresult import Backend, StreamGap
from aioresult.abc import Feed, NewsSink
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryFeed, MemoryStore
from aioresult.stream import LOOK, News
from aioresult.testing.faults import FaultyStore

TURNS = 30
"""Turns of the loop after which everything that was begun has come to rest: nothing here waits for time."""


class ScriptedFeed(MemoryFeed):
    """Keeps the news of streams until the script says what becomes of them."""

    def __init__(self, store: ScriptedStore) -> None:
        super().__init__(store, store._space)
        self._owner = store
        store.feeds.append(self)

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        def keep(task_id: str, news: News) -> None:
            if news is LOOK:
                tell(task_id, news)
            else:
                self._owner.held.append((tell, task_id, news))

        await super().follow(ids, keep)


class ScriptedStore(FaultyStore):
    """A memory store whose notifications do what a script says."""

    def __init__(self, **options: Any) -> None:
        super().__init__(make_settings({"idle_timeout": 60, "fallback_interval": 1e6, **options}))
        self.held: list[tuple[NewsSink, str, News]] = []
        self.feeds: list[ScriptedFeed] = []

    async def feed(self) -> Feed:
        return ScriptedFeed(self)


class Reader:
    """One reader, which may leave and come back behind the last number that it has seen."""

    def __init__(self, backend: Backend) -> None:
        self.seen: list[tuple[int, Any]] = []
        self._backend = backend
        self.come()

    def come(self) -> None:
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        after = self.seen[-1][0] if self.seen else 0
        async for item in self._backend.AsyncResult("t").stream(after):
            self.seen.append((item.seq, item.value))

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class World:
    """A backend on a scripted store, its readers, and what was appended."""

    def __init__(self) -> None:
        self.store = ScriptedStore()
        self.backend = Backend(self.store)
        self.readers: list[Reader] = []
        self.appended = 0

    async def do(self, step: str) -> None:
        await getattr(self, f"_{step.replace(' ', '_')}")()
        for _ in range(random.choice((0, 1, 3))):
            await asyncio.sleep(0)

    async def _append(self, count: int = 1) -> None:
        values = range(self.appended + 1, self.appended + count + 1)
        self.appended += count
        await self.backend.append("t", *values)

    async def _append_many(self) -> None:
        await self._append(79)

    async def _deliver(self) -> None:
        while self.store.held:
            self.tell(self.store.held.pop(0))

    async def _deliver_backwards(self) -> None:
        while self.store.held:
            self.tell(self.store.held.pop())

    async def _deliver_twice(self) -> None:
        for news in [*self.store.held, *self.store.held]:
            self.tell(news)

    async def _drop(self) -> None:
        self.store.held.clear()

    async def _reconnect(self) -> None:
        for feed in self.store.feeds:
            await feed.aclose()

    async def _fall_back(self) -> None:
        self.backend._runtime.hub.read_all()

    async def _come(self) -> None:
        self.readers.append(Reader(self.backend))

    async def _leave_and_come_back(self) -> None:
        reader = random.choice(self.readers)
        await reader.leave()
        reader.come()

    @staticmethod
    def tell(news: tuple[NewsSink, str, News]) -> None:
        sink, task_id, items = news
        sink(task_id, items)

    def expected(self) -> list[tuple[int, int]]:
        return [(number, number) for number in range(1, self.appended + 1)]


STEPS = [
    "append", "append many", "deliver", "deliver backwards", "deliver twice", "drop", "reconnect", "fall back", "come",
    "leave and come back",
]  # fmt: skip


@pytest.mark.slow
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), seed=st.integers(0, 10**6), eager=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_reader_sees_every_item_once_and_in_order(steps: list[str], seed: int, eager: bool) -> None:
    """Also as one of a crowd, whose streams are first read when their subscriptions have taken effect."""

    async def run() -> None:
        random.seed(seed)
        world = World()
        async with world.backend:
            await world.do("come")
            for step in steps:
                await world.do(step)
            await world.do("fall back")
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert [reader.seen for reader in world.readers] == [world.expected()] * len(world.readers)
            await world.do("append many")
            await world.do("drop")
            await world.backend.mark_as_done("t", "over")
            async with asyncio.timeout(10):
                await asyncio.gather(*(reader.task for reader in world.readers))
            assert [reader.seen for reader in world.readers] == [world.expected()] * len(world.readers)
            assert world.backend._runtime.hub.waiting == 0

    with mock.patch("aioresult.hub._EAGER", 100 if eager else 0):
        asyncio.run(run())


@pytest.mark.slow
@given(limit=st.integers(1, 10), calls=st.lists(st.integers(1, 8), min_size=1, max_size=12), after=st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_a_trimmed_stream_has_no_silent_hole(limit: int, calls: list[int], after: int) -> None:
    async def run() -> None:
        store = MemoryStore("memory://", make_settings({"stream_max_items": limit, "stream_trim": True}))
        async with Backend(store) as backend:
            last = 0
            for count in calls:
                last = await backend.append("t", *range(last + 1, last + count + 1))
            await backend.mark_as_done("t", None)
            oldest = max(1, last - limit + 1)
            if after + 1 < oldest or after > last:
                with pytest.raises(StreamGap) as caught:
                    await anext(backend.AsyncResult("t").stream(after, timeout=10))
                assert (caught.value.first, caught.value.last) == (oldest, last)
            else:
                seen = [item.value async for item in backend.AsyncResult("t").stream(after, timeout=10)]
                assert seen == list(range(after + 1, last + 1))

    asyncio.run(run())
