"""A page of large items: one read of the store returns a few of them, so that a slow reader keeps little in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from aioresult import Backend
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import Chunk, Cursor, Item, Page

MEBIBYTE = 2**20
ITEM = "x" * MEBIBYTE


class MeasuringStore(MemoryStore):
    """Notes how many bytes of items each read has returned."""

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))
        self.read: list[int] = []

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        chunks = await super().read_many(cursors)
        self.read += [sum(map(len, chunk.items)) for chunk in chunks if chunk.items]
        return chunks


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [0, 60])
@pytest.mark.parametrize("known", [False, True])
async def test_large_items_are_read_a_few_at_a_time(timeout: float, known: bool) -> None:
    store, count = MeasuringStore(), 0
    async with Backend(store) as backend:
        for _ in range(50):
            await backend.append("task", ITEM)
        await backend.mark_as_done("task", None)
        result = backend.AsyncResult("task")
        if known:
            await result.wait()
        async for item in result.stream(timeout=timeout):
            count += len(item.value) // MEBIBYTE
    assert count == 50
    assert store.read[0] <= 33 * MEBIBYTE, "how large they are is not known before"
    assert max(store.read[1:]) <= 5 * MEBIBYTE


async def test_small_items_are_read_in_large_pages() -> None:
    store = MeasuringStore()
    async with Backend(store) as backend:
        await backend.append("task", *range(5000))
        await backend.mark_as_done("task", None)
        assert len([item async for item in backend.AsyncResult("task").stream()]) == 5000
    assert len(store.read) <= 13


async def test_an_item_that_is_larger_than_a_page_is_read_alone() -> None:
    store = MeasuringStore()
    async with Backend(store) as backend:
        channel = backend._runtime.hub.unsubscribed_channel("task")
        channel.took(Page(1, 3, [Item(1, "", datetime.now(UTC))], size=2**30), changes=0, last=0)
    assert channel.limit == 1
