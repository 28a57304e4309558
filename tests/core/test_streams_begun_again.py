"""A stream that is deleted and begun again under the same id: no reader mixes the items of the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest

from aioresult import Backend, Item, StoreUnavailable, StreamGap, TaskRevokedError
from aioresult.settings import make_settings
from aioresult.stream import Cursor
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually
from aioresult.testing.streams import numbered, read
from tests.servers import RedisServer, TcpProxy

PATIENCE = 20.0
OLD = ["old 1", "old 2", "old 3"]
NEW = [f"new {number}" for number in range(1, 11)]
Stream = AsyncGenerator[Item, None]


async def begun(backend: Backend) -> Stream:
    """Return a stream of which ``OLD`` was read."""
    await backend.append("task", *OLD)
    stream = backend.AsyncResult("task").stream()
    assert [(await anext(stream)).value for _ in OLD] == OLD
    return stream


async def waiting_for(stream: Stream, backend: Backend) -> asyncio.Task[Item]:
    """Wait for the next item in a task, and return once it is subscribed."""

    async def next_item() -> Item:
        return await anext(stream)

    async def is_subscribed() -> bool:
        return backend.stats().watched == 1

    waiting = asyncio.create_task(next_item())
    await eventually(is_subscribed)
    return waiting


async def append_surely(backend: Backend, *values: str) -> None:
    """Append as soon as the store is there."""

    async def is_stored() -> bool:
        try:
            return bool(await backend.append("task", *values))
        except StoreUnavailable:
            return False

    await eventually(is_stored)


@pytest.mark.parametrize("at_once", [True, False])
async def test_who_waits_is_told_although_the_new_stream_is_longer(at_once: bool) -> None:
    async with Backend("memory://") as backend:
        waiting = await waiting_for(await begun(backend), backend)
        await backend.forget("task")
        for values in [NEW] if at_once else [[value] for value in NEW]:
            await backend.append("task", *values)
        with pytest.raises(StreamGap, match="after item 3"):
            await waiting


async def test_who_is_polled_for_is_told_although_both_happened_between_two_reads() -> None:
    async with Backend("memory://", push=False) as backend:
        waiting = await waiting_for(await begun(backend), backend)
        await asyncio.gather(backend.forget("task"), backend.append("task", *NEW))
        with pytest.raises(StreamGap, match="after item 3"):
            await waiting


@pytest.mark.parametrize("count", [len(OLD), len(NEW)])
async def test_who_was_not_connected_meanwhile_is_told_at_once_even_if_the_new_stream_is_as_long(count: int) -> None:
    store = FaultyStore(make_settings({"fallback_interval": 1000}))
    async with Backend(store) as backend:
        waiting = await waiting_for(await begun(backend), backend)
        await eventually(lambda: _has_settled(waiting, store))
        store.deaf = True  # nothing of this is announced
        await backend.forget("task")
        await backend.append("task", *NEW[:count])
        store.deaf = False
        store.break_feeds()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StreamGap, match="begun again"):
                await waiting


async def _has_settled(waiting: asyncio.Task[Item], store: FaultyStore) -> bool:
    """Return whether the reader waits for news, after some turns of the loop without a read."""
    before = store.commands
    for _ in range(20):
        await asyncio.sleep(0)
    return not waiting.done() and store.commands == before


async def test_who_comes_then_reads_the_new_stream_beside_one_who_has_begun_the_old_one() -> None:
    async with Backend("memory://") as backend:
        old = await begun(backend)
        await backend.forget("task")
        await backend.append("task", *NEW)
        new = backend.AsyncResult("task").stream()
        assert [(await anext(new)).value for _ in NEW] == NEW
        with pytest.raises(StreamGap, match="begun again"):
            await anext(old)
        await new.aclose()


async def test_a_task_that_is_started_again_is_not_ended_by_the_end_of_its_former_run() -> None:
    async with Backend("memory://") as backend:
        old = await begun(backend)
        await backend.AsyncResult("task").revoke("the first run")

        async def is_known() -> bool:
            return not backend.stats().waiting

        await eventually(is_known)
        await backend.forget("task")
        await backend.append("task", "new")
        reading = asyncio.create_task(read(backend, "task", propagate=True))
        await eventually(lambda: _is_read(backend))
        await backend.mark_as_done("task", None)
        assert await reading == [(1, "new")]
        with pytest.raises((StreamGap, TaskRevokedError)):
            await anext(old)


async def _is_read(backend: Backend) -> bool:
    return bool(backend.stats().waiting)


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_a_server_that_has_forgotten_everything_leaves_no_silent_hole(own_server: RedisServer) -> None:
    """The producer goes on as soon as the server is back, before the readers can subscribe again."""
    async with (
        TcpProxy(own_server.url) as proxy,
        Backend(proxy.url) as backend,
        Backend(own_server.url) as producer,
    ):
        waiting = await waiting_for(await begun(backend), backend)
        await proxy.refuse()
        await asyncio.to_thread(own_server.restart)
        await append_surely(producer, *NEW)
        await proxy.resume()
        with pytest.raises(StreamGap, match="begun again") as caught:
            await waiting
        assert (caught.value.first, caught.value.last) == (1, len(NEW))
        await producer.mark_as_done("task", None)
        assert await read(backend, "task") == numbered(NEW)


async def test_a_server_that_has_kept_everything_ends_no_stream() -> None:
    with RedisServer(persistent=True) as server:
        async with Backend(server.url) as backend, Backend(server.url) as producer:
            stream = await begun(backend)
            waiting = await waiting_for(stream, backend)
            await asyncio.to_thread(server.restart)
            await append_surely(producer, "next")
            assert (await waiting).value == "next"
            await stream.aclose()


async def test_a_stream_that_expires_while_it_is_read_and_goes_on_leaves_no_silent_hole(redis_url: str) -> None:
    async with Backend(redis_url, result_expires=0.2) as backend:
        waiting = await waiting_for(await begun(backend), backend)

        async def is_gone() -> bool:
            return not (await backend._runtime.store.read_many([Cursor("task", 0, 1)]))[0].last

        await eventually(is_gone)
        for value in NEW:
            await backend.append("task", value)
        with pytest.raises(StreamGap, match="after item 3"):
            await waiting
