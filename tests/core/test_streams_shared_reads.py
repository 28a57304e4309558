"""Readers at the same place share one read of the store, and a reader whose read is under way costs little.

A read that fails because the store is away is made again.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from aioresult import AsyncResult, Backend, StoreUnavailable
from aioresult.abc import Feed
from aioresult.codec import Codec
from aioresult.codec.payloads import Payload
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import LOOK, Chunk, Cursor, Item, Page
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually
from aioresult.testing.streams import numbered, read

MANY = 2000
MOST = 3600
"""Bytes of a reader: its task, its coroutines and its ``AsyncResult`` are most of it; 600 are the store's own."""


class SilentStore(MemoryStore):
    """Does not answer a reader."""

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))
        self.asked = asyncio.Event()

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        self.asked.set()
        await asyncio.Event().wait()
        return await super().read_many(cursors)


class CountingCodec(Codec):
    """Counts the items that it decodes."""

    decoded = 0

    def decode_item(self, task_id: str, seq: int, payload: Payload) -> Item:
        self.decoded += 1
        return super().decode_item(task_id, seq, payload)


class CountingStore(MemoryStore):
    """Keeps the cursors that it is asked to read."""

    codec: CountingCodec

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))
        self.cursors: list[Cursor] = []
        self.codec = CountingCodec(self.settings)

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        self.cursors += [cursor for cursor in cursors if cursor.limit]
        return await super().read_many(cursors)


async def test_readers_that_come_together_are_answered_by_one_read_of_each_page() -> None:
    store = CountingStore()
    async with Backend(store) as backend:
        await backend.append("t", *range(1200))
        await backend.mark_as_done("t", None)
        found = await asyncio.gather(*(read(backend, "t") for _ in range(50)))
    assert found == [numbered(list(range(1200)))] * 50
    assert len(store.cursors) <= 8
    assert store.codec.decoded <= 2 * 1200


async def test_any_number_of_readers_of_one_stream_share_one_read() -> None:
    store = CountingStore()
    async with Backend(store) as backend:
        await backend.append("t", "stored")
        readers = [asyncio.create_task(read(backend, "t")) for _ in range(MANY)]
        await _come_to_rest()
        assert len(store.cursors) <= 3  # at once; after the subscription; and an item later
        await backend.mark_as_done("t", None)
        assert await asyncio.gather(*readers) == [[(1, "stored")]] * MANY


@pytest.mark.all_loops
async def test_readers_that_are_cancelled_together_all_end() -> None:
    store = SilentStore()
    async with Backend(store) as backend:
        readers = [asyncio.create_task(read(backend, "t")) for _ in range(5)]
        await store.asked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        for reader in readers:
            reader.cancel()
        done, _ = await asyncio.wait(readers, timeout=10)
        assert len(done) == len(readers)
        assert all(reader.cancelled() for reader in done)


async def _come_to_rest() -> None:
    """Let everything happen that has been begun: the store in memory needs no time, only turns of the loop."""
    for _ in range(50):
        await asyncio.sleep(0)


class SlowStore(CountingStore):
    """Answers the first read of streams when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        chunks = await super().read_many(cursors)
        await self.answer.wait()
        return chunks


@pytest.mark.slow
async def test_of_a_crowd_only_the_first_streams_are_read_before_the_subscription() -> None:
    store = SlowStore()
    ids = [f"t{number}" for number in range(MANY)]
    async with Backend(store) as backend:
        readers = [asyncio.create_task(read(backend, task_id)) for task_id in ids]
        await _come_to_rest()
        assert backend.stats().watched == MANY
        early = len(store.cursors)
        assert 0 < early <= MANY / 10
        store.answer.set()
        await _come_to_rest()
        assert sorted({cursor.id for cursor in store.cursors}) == sorted(ids)
        assert len(store.cursors) == MANY + early
        await asyncio.gather(*(backend.append(task_id, "later") for task_id in ids))
        await asyncio.gather(*(backend.mark_as_done(task_id, None) for task_id in ids))
        assert await asyncio.gather(*readers) == [[(1, "later")]] * MANY


async def test_readers_that_wait_are_read_for_together_and_woken_by_news_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their notifications may be lost: one read for all of them finds that out, and has what they lack."""
    store = FaultyStore()
    async with Backend(store) as backend:
        await backend.append("t", "one")
        readers = [asyncio.create_task(read(backend, "t")) for _ in range(MANY)]
        await _come_to_rest()
        hub, batcher = backend._runtime.hub, backend._runtime.batcher
        asked: list[Cursor] = []
        read_stream = batcher.read_stream

        def note(cursor: Cursor) -> asyncio.Future[Page]:
            asked.append(cursor)
            return read_stream(cursor)

        monkeypatch.setattr(batcher, "read_stream", note)
        for _ in range(3):
            hub.read_all()
        await _come_to_rest()
        assert [cursor.after for cursor in asked] == [1]
        store.deaf = True
        await backend.append("t", "two")
        hub.read_all()
        await _come_to_rest()
        assert [cursor.after for cursor in asked] == [1, 1]
        store.deaf = False
        await backend.append("t", "three")
        await backend.mark_as_done("t", None)
        assert await asyncio.gather(*readers) == [numbered(["one", "two", "three"])] * MANY
        assert [(cursor.after, cursor.final) for cursor in asked[2:]] == [(3, True)]


class UnsubscribableStore(MemoryStore):
    """Can be read, but opens no feed."""

    async def feed(self) -> Feed:
        raise StoreUnavailable("memory:// opens no feed on purpose")


async def test_a_crowd_reads_what_is_stored_also_where_subscribing_fails() -> None:
    async with Backend(UnsubscribableStore("memory://", make_settings({"fallback_interval": 1e6}))) as backend:
        ids = [f"t{number}" for number in range(MANY)]
        await asyncio.gather(*(backend.append(task_id, "stored") for task_id in ids))
        streams = [backend.AsyncResult(task_id).stream() for task_id in ids]
        items = await asyncio.gather(*(anext(stream) for stream in streams))
        assert [item.value for item in items] == ["stored"] * MANY
        await asyncio.gather(*(stream.aclose() for stream in streams))


async def _follow(backend: Backend, task_id: str, timeout: float | None) -> None:
    async for _ in AsyncResult(task_id, backend).stream(timeout=timeout):
        raise AssertionError("nothing was appended")


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 3600.0])
async def test_readers_that_wait_for_their_first_read_take_little_memory(timeout: float | None) -> None:
    """They come at once, when a page is loaded or a connection is back. A process keeps the memory of its peak."""
    store = SilentStore()
    async with Backend(store) as backend:
        ids = [f"t{number}" for number in range(MANY)]
        gc.collect()
        tracemalloc.start()
        try:
            readers = [asyncio.create_task(_follow(backend, task_id, timeout)) for task_id in ids]
            while backend.stats().watched < MANY:  # noqa: ASYNC110  (nobody tells when the last reader has come)
                await asyncio.sleep(0)
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    assert taken / MANY <= MOST


class Away(FaultyStore):
    """Streams cannot be read while the store is down."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        if self.down:
            self.refused += 1
            raise StoreUnavailable("memory:// is down on purpose")
        return await super().read_many(cursors)


async def test_a_reader_waits_for_a_store_that_is_away() -> None:
    store = Away()
    seen: list[Any] = []

    async def read() -> None:
        async for item in backend.AsyncResult("task").stream(timeout=30):
            seen.append(item.value)  # noqa: PERF401  (looked at while it grows)

    async def refused() -> bool:
        return store.refused >= 2

    async def has_seen_one() -> bool:
        return seen == ["one"]

    async with Backend(store) as backend:
        await backend.append("task", "one")
        reading = asyncio.create_task(read())
        await eventually(has_seen_one)
        store.down = True
        backend._runtime.hub.tell("task", LOOK)
        await eventually(refused)
        assert not reading.done()
        store.down = False
        await backend.append("task", "two")
        await backend.mark_as_done("task", None)
        await reading
    assert seen == ["one", "two"]
