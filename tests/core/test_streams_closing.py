"""What readers of streams get when their backend is closed."""

from __future__ import annotations

import asyncio
import traceback

from aioresult import AsyncResult, Backend, Item
from aioresult.errors import AioResultError


async def _read(backend: Backend, task_id: str) -> list[Item]:
    return [item async for item in AsyncResult(task_id, backend).stream()]


async def test_each_of_many_readers_gets_a_traceback_of_its_own_steps_only() -> None:
    """One that grows with each reader takes minutes to print, where very many readers are told of a closed backend."""
    backend = Backend("memory://")
    readers = [asyncio.create_task(_read(backend, f"t{number}")) for number in range(100)]
    await asyncio.sleep(0)  # every reader takes its first steps, up to where it waits
    assert backend.stats().waiting == len(readers)
    await backend.aclose()
    await asyncio.wait(readers)
    for reader in readers:
        error = reader.exception()
        assert isinstance(error, AioResultError)
        assert "closed meanwhile" in str(error)
        assert len(traceback.extract_tb(error.__traceback__)) < 20
