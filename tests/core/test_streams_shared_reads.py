"""Readers at the same place share one read of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aioresult import Backend
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import Chunk, Cursor
from aioresult.testing.streams import read


class SilentStore(MemoryStore):
    """Does not answer a reader."""

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))
        self.asked = asyncio.Event()

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        self.asked.set()
        await asyncio.Event().wait()
        return await super().read_many(cursors)


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
