"""Background work: begun when there is some, and again where its task was cancelled with all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aioresult import Backend, StoreUnavailable
from aioresult.background import Background, Unhooked, is_being_cancelled
from aioresult.testing import FaultyStore


class Queue:
    """Items that a background task takes out, one a turn."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.done: list[int] = []
        self.work = Background(self._work, "test queue", pending=lambda: self.items)

    async def _work(self) -> None:
        while self.items:
            await asyncio.sleep(0)
            self.done.append(self.items.pop(0))

    def add(self, *items: int) -> None:
        self.items += items
        self.work.begin()


async def test_it_works_until_nothing_is_left_and_then_ends() -> None:
    queue = Queue()
    queue.add(1, 2)
    queue.add(3)
    assert queue.work.running
    await queue.work.finish()
    assert (queue.done, queue.work.running, queue.work.task) == ([1, 2, 3], False, None)


async def test_there_is_one_task_at_a_time() -> None:
    queue = Queue()
    for number in range(5):
        queue.add(number)
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "test queue"]) == 1
    await queue.work.finish()


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_with_all_other_tasks_it_is_done_all_the_same(turns: int) -> None:
    queue = Queue()
    queue.add(1, 2, 3)
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await queue.work.finish()
    assert queue.done == [1, 2, 3]


async def test_an_exception_is_reported_and_the_work_rests_until_it_is_begun_again() -> None:
    calls: list[str] = []
    reported: list[dict[str, Any]] = []

    async def work() -> None:
        calls.append("work")
        if len(calls) == 1:
            raise ValueError("a fault of ours")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    background = Background(work, "test work", pending=lambda: len(calls) < 2)
    background.begin()
    await background.finish()
    assert [str(context["exception"]) for context in reported] == ["a fault of ours"]
    background.begin()
    await background.finish()
    assert calls == ["work", "work"]


async def test_a_cancellation_is_known_from_one_that_something_awaited_raises() -> None:
    async def asks() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return is_being_cancelled()
        return False

    task = asyncio.create_task(asks())
    await asyncio.sleep(0)
    task.cancel()
    assert await task
    broken = asyncio.get_running_loop().create_future()
    broken.cancel()
    with pytest.raises(asyncio.CancelledError):
        await broken
    assert not is_being_cancelled()


@pytest.mark.parametrize("operation", ["get_many", "put_many", "delete_many"])
async def test_a_store_that_raises_a_cancellation_of_its_own_is_unavailable_for_its_callers(operation: str) -> None:
    class Cancelling(FaultyStore):
        async def _cancelled(self, _: object) -> Any:
            raise asyncio.CancelledError

    setattr(Cancelling, operation, Cancelling._cancelled)
    async with Backend(Cancelling()) as backend:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "get_many": lambda: backend.fetch("a"),
            "put_many": lambda: backend.mark_as_done("a", 1),
            "delete_many": lambda: backend.forget("a"),
        }
        with pytest.raises(StoreUnavailable, match="cancelled by the store or its driver"):
            await calls[operation]()


async def test_a_generator_that_a_task_is_in_is_not_closed_by_the_end_of_its_loop(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def program() -> None:
        async def events() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        async def main() -> None:
            async def read() -> None:
                async for _ in Unhooked(events()):
                    loop.set_exception_handler(lambda _, context: print(context["message"]))

            loop = asyncio.get_running_loop()
            task = asyncio.create_task(read())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await loop.shutdown_asyncgens()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())

    await asyncio.to_thread(program)
    assert capfd.readouterr() == ("", "")
