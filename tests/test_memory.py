"""The memory store keeps every promise of a store."""

from __future__ import annotations

from aioresult.backend import Backend
from aioresult.stores.memory import MemoryStore
from aioresult.testing import StoreTests


class TestMemoryStore(StoreTests):
    url = "memory://conformance"

    async def poison(self, backend: Backend, task_id: str) -> None:
        store = backend.runtime.store
        assert isinstance(store, MemoryStore)
        store._space.items[task_id].payload = b'{"status": "SUCC'
