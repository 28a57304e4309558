"""What a task says on the way: generators and ``emit``, in order, before the end, and no faster than the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any

import pytest

import aioresult
from aioresult import AioResultError, AsyncResult, Backend, StreamFull, TaskRevokedError, TaskRunner
from aioresult.errors import EncodeError, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stream import Append
from aioresult.testing import FaultyStore
from aioresult.testing.streams import numbered, read

PATIENCE = 10.0


class GatedStore(FaultyStore):
    """Keeps appends waiting while its gate is closed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(make_settings({"stream_buffer": 3, **settings}))
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = 0

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        await self.gate.wait()
        outcomes = await super().append_many(appends)
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("the reply was lost on purpose")
        return outcomes


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
async def backend(store: GatedStore) -> AsyncIterator[Backend]:
    async with Backend(store) as backend:
        yield backend


async def words(*given: str) -> AsyncIterator[str]:
    for word in given:
        await asyncio.sleep(0)
        yield word


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def rows(count: int) -> Generator[int, None, str]:
    yield from range(count)
    return f"{count} rows"


async def test_what_an_asynchronous_generator_yields_is_its_stream(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(words, "to", "ken")
        assert await read(backend, result.id) == numbered(["to", "ken"])
        assert (await result.wait(timeout=PATIENCE)).result is None


async def test_what_a_plain_generator_yields_is_its_stream_and_what_it_returns_its_value(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(rows, 20)
        assert await read(backend, result.id) == numbered(list(range(20)))
        assert await result.get(timeout=PATIENCE) == "20 rows"


async def test_a_generator_that_fails_ends_its_stream_with_its_exception(backend: Backend) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("why")

    async with TaskRunner(backend) as runner:
        result = runner.submit(broken)
        assert await read(backend, result.id) == [(1, 1)]
        with pytest.raises(KeyError, match="why"):
            await result.get(timeout=PATIENCE)


async def test_any_function_can_emit_and_what_it_emits_is_stored_before_its_end(backend: Backend) -> None:
    async def coroutine() -> str:
        aioresult.emit("a")
        aioresult.emit("b")
        await aioresult.flush()
        aioresult.emit("c")
        return "over"

    def thread() -> str:
        for number in range(10):
            aioresult.emit(number)
        return "over"

    async with TaskRunner(backend) as runner:
        first, second = runner.submit(coroutine), runner.submit(thread)
        assert [await r.get(timeout=PATIENCE) for r in (first, second)] == ["over", "over"]
        assert await read(backend, first.id) == numbered(["a", "b", "c"])
        assert await read(backend, second.id) == numbered(list(range(10)))


async def test_a_generator_is_paused_while_the_store_is_behind(backend: Backend, store: GatedStore) -> None:
    yielded: list[int] = []

    async def eager() -> AsyncIterator[int]:
        for number in range(50):
            yielded.append(number)
            yield number

    store.gate.clear()
    async with TaskRunner(backend) as runner:
        result = runner.submit(eager)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(yielded) == store.settings.stream_buffer + 1
        store.gate.set()
        assert await read(backend, result.id) == numbered(list(range(50)))


async def test_a_thread_that_emits_faster_than_the_store_takes_it_is_blocked(
    backend: Backend, store: GatedStore
) -> None:
    emitted: list[int] = []
    full = threading.Event()

    def eager() -> None:
        for number in range(20):
            if number == store.settings.stream_buffer:
                full.set()
            aioresult.emit(number)
            emitted.append(number)

    store.gate.clear()
    async with TaskRunner(backend) as runner:
        result = runner.submit(eager)
        await asyncio.to_thread(full.wait, PATIENCE)
        assert len(emitted) == store.settings.stream_buffer
        store.gate.set()
        assert await read(backend, result.id) == numbered(list(range(20)))


async def test_a_coroutine_that_emits_too_much_at_once_is_told_to_flush(backend: Backend) -> None:
    async def eager() -> list[int]:
        stored = []
        for number in range(10):
            try:
                aioresult.emit(number)
            except StreamFull as full:
                assert "await aioresult.flush()" in str(full)  # noqa: PT017  (what it says is part of the promise)
                await aioresult.flush()
                aioresult.emit(number)
                stored.append(number)
        return stored

    async with TaskRunner(backend) as runner:
        result = runner.submit(eager)
        assert await result.get(timeout=PATIENCE) == [3, 6, 9]
        assert await read(backend, result.id) == numbered(list(range(10)))


async def test_items_whose_reply_was_lost_are_stored_once(backend: Backend, store: GatedStore) -> None:
    store.failing = 2
    async with TaskRunner(backend) as runner:
        result = runner.submit(rows, 7)
        assert await read(backend, result.id) == numbered(list(range(7)))


async def test_a_cancelled_generator_is_closed_and_its_stream_ends(backend: Backend) -> None:
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with TaskRunner(backend) as runner:
        result = runner.submit(endless)
        await begun.wait()
        assert runner.cancel(result)
        assert await read(backend, result.id) == [(1, 1)]
        assert closed.is_set()
        with pytest.raises(TaskRevokedError):
            await result.get(timeout=PATIENCE)


async def test_a_thread_whose_task_was_cancelled_is_told_at_its_next_item(backend: Backend) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        try:
            aioresult.emit(1)
        except TaskRevokedError as exc:
            errors.append(exc)
        ended.set()

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await asyncio.to_thread(begun.wait, PATIENCE)
        runner.cancel(result)
        with pytest.raises(TaskRevokedError):
            await result.get(timeout=PATIENCE)
        go_on.set()
        assert await asyncio.to_thread(ended.wait, PATIENCE)
    assert [str(error) for error in errors] == ["cancelled"]


async def test_items_that_the_store_refuses_fail_their_task(store: GatedStore) -> None:
    async with Backend(GatedStore(stream_max_items=5)) as backend, TaskRunner(backend) as runner:
        result = runner.submit(rows, 12)
        with pytest.raises(StreamFull, match="stream_max_items"):
            await result.get(timeout=PATIENCE)


class FaultyAppends(GatedStore):
    """Has a fault: its appends raise an error of no kind that a store may raise."""

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        raise KeyError("a fault of the store")


@pytest.mark.parametrize("fn", [numbers, rows])
async def test_a_store_with_a_fault_fails_the_task_and_nobody_waits_for_ever(fn: Callable[[int], Any]) -> None:
    store = FaultyAppends()
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        result = runner.submit(fn, 5 * store.settings.stream_buffer)
        record = await result.wait(timeout=PATIENCE)
    assert record.failed
    assert "a fault of the store" in str(record.result)


async def test_a_thread_with_an_event_loop_of_its_own_can_flush(backend: Backend, store: GatedStore) -> None:
    loop = asyncio.get_running_loop()

    async def inner() -> int:
        aioresult.emit("from another loop")
        flushing = asyncio.create_task(aioresult.flush())
        await asyncio.sleep(0)
        assert not flushing.done()
        loop.call_soon_threadsafe(store.gate.set)
        await flushing
        return len(store._space.streams)

    def thread() -> int:
        return asyncio.run(inner())

    store.gate.clear()
    async with TaskRunner(backend) as runner:
        result = runner.submit(thread)
        assert await result.get(timeout=PATIENCE) == 1
        assert await read(backend, result.id) == [(1, "from another loop")]


async def test_an_item_that_cannot_be_encoded_is_its_emitter_s_error(backend: Backend) -> None:
    async def work() -> str:
        with pytest.raises(EncodeError):
            aioresult.emit(asyncio.sleep)
        aioresult.emit("good")
        return "over"

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        assert await result.get(timeout=PATIENCE) == "over"
        assert await read(backend, result.id) == [(1, "good")]


async def test_a_task_whose_result_is_ignored_has_no_stream(backend: Backend) -> None:
    done = asyncio.Event()

    async def work() -> None:
        aioresult.emit("dropped")
        await aioresult.flush()
        done.set()

    async with TaskRunner(backend) as runner:
        result: AsyncResult[Any] = runner.with_options(ignore_result=True)(work)
        await done.wait()
    with pytest.raises(AioResultError):
        await anext(backend.AsyncResult(result.id).stream(timeout=0))


async def test_outside_of_a_task_emit_says_what_else_to_use() -> None:
    with pytest.raises(AioResultError, match=r"Backend\.append"):
        aioresult.emit(1)
    with pytest.raises(AioResultError, match="none is running here"):
        await aioresult.flush()
