"""Readers of a stream at the same place share a read of the store; each one can leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aioresult import Backend
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import Chunk, Cursor
from aioresult.testing.streams import read


class SlowStore(MemoryStore):
    """Answers reads of streams once it is told to."""

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.reads = 0

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        self.reads += 1
        self.asked.set()
        await self.go_on.wait()
        return await super().read_many(cursors)


@pytest.mark.parametrize("leaving", [range(5), range(4), range(1, 5), range(1)])
async def test_readers_that_leave_end_and_the_others_go_on(leaving: Sequence[int]) -> None:
    store = SlowStore()
    async with Backend(store) as backend:
        await backend.append("a", 1)
        readers = [asyncio.create_task(read(backend, "a")) for _ in range(5)]
        await store.asked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        for index in leaving:
            readers[index].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert [reader.cancelled() for reader in readers] == [index in leaving for index in range(5)]
        store.go_on.set()
        await backend.mark_as_done("a", None)
        for index, reader in enumerate(readers):
            if index not in leaving:
                assert await reader == [(1, 1)]
        assert store.reads <= 3
