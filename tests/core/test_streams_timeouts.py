"""When the time of a reader is up: what was stored by then is given, and nothing else, whoever is slower."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aioresult import AioResultError, AsyncResult, Backend, ResultTimeout
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stream import Chunk, Cursor
from aioresult.testing import FaultyStore
from aioresult.testing.streams import numbered, read

MANY = 1200


async def time_is_up(seconds: float) -> None:
    """Return when so much time has passed for the event loop."""
    await asyncio.sleep(seconds)


async def read_slowly(backend: Backend, timeout: float) -> list[Any]:
    """Return what a reader gets that is slower than ``timeout``; for each item that it gets, another is appended."""
    seen: list[Any] = []
    try:
        async for item in backend.AsyncResult("task").stream(timeout=timeout):
            if not seen:
                await time_is_up(timeout + 0.01)
            seen.append(item.value)
            assert len(seen) <= 2 * MANY, "it would never end"
            await backend.append("task", "late")
    except ResultTimeout:
        return seen
    raise AssertionError("the task is not final")


async def test_without_a_wait_a_task_that_goes_on_and_on_is_read_up_to_where_it_is() -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", *range(100))
        assert await read_slowly(backend, timeout=0) == list(range(100))


@pytest.mark.parametrize("stored", [10, MANY])
async def test_a_slow_reader_gets_what_was_stored_before_the_end_of_its_time(stored: int) -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", *range(stored))
        assert (await read_slowly(backend, timeout=0.05))[:stored] == list(range(stored))


async def test_a_slow_reader_of_a_task_that_has_ended_in_time_gets_everything_and_no_timeout() -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", *range(MANY))
        await backend.mark_as_done("task", None)
        for result in (backend.AsyncResult("task"), known := backend.AsyncResult("task")):
            if result is known:
                await result.wait()
            seen: list[tuple[int, Any]] = []
            async for item in result.stream(timeout=0.05):
                if not seen:
                    await time_is_up(0.06)
                seen.append((item.seq, item.value))
            assert seen == numbered(list(range(MANY)))


class SilentStore(MemoryStore):
    """Answers no question about streams."""

    def __init__(self) -> None:
        super().__init__("memory://", make_settings({}))

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        await asyncio.Event().wait()
        return await super().read_many(cursors)


async def test_a_store_that_is_silent_is_a_timeout_of_ours_although_the_task_is_known_to_be_final() -> None:
    async with Backend(SilentStore()) as backend:
        await backend.mark_as_done("task", None)
        result = backend.AsyncResult("task")
        await result.wait()
        with pytest.raises(ResultTimeout, match="task 'task'"):
            await anext(result.stream(timeout=0.05))


async def test_a_stream_of_a_task_that_is_known_to_be_final_outlives_an_outage() -> None:
    store = FaultyStore()
    async with Backend(store) as backend:
        await backend.append("task", *range(MANY))
        await backend.mark_as_done("task", None)
        result = AsyncResult("task", backend)
        await result.wait()
        seen: list[tuple[int, Any]] = []
        async for item in result.stream(timeout=30):
            if not seen:
                store.down = True
                asyncio.get_running_loop().call_later(0.1, setattr, store, "down", False)
            seen.append((item.seq, item.value))
    assert seen == numbered(list(range(MANY)))


async def test_a_backend_that_is_closed_ends_a_reader_of_a_task_that_is_known_to_be_final() -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", *range(MANY))
        await backend.mark_as_done("task", None)
        result = backend.AsyncResult("task")
        await result.wait()
        stream = result.stream()
        await anext(stream)
        runtime = backend._runtime
        await runtime.aclose()
        with pytest.raises(AioResultError, match="closed meanwhile"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("after", [-1, 10**16, 2**63, 2**70])
async def test_a_number_that_no_item_can_have_is_refused(after: int) -> None:
    async with Backend("memory://") as backend:
        with pytest.raises(ValueError, match="after is the number of an item"):
            await read(backend, "task", after=after)


@pytest.mark.parametrize("after", [1.0, "1", None])
async def test_what_is_no_number_of_an_item_is_refused(after: object) -> None:
    async with Backend("memory://") as backend:
        with pytest.raises(TypeError):
            await read(backend, "task", after=after)  # type: ignore[arg-type]  # that is the point
