"""Background tasks: each has an owner and a name, and its exception is not lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar

from aioresult.errors import StoreUnavailable

T = TypeVar("T")


def owned_task(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a background task that never runs inside the call that starts it, whatever the loop's task factory does.

    A task that is cancelled before its first step does nothing at all, not even its ``finally``. This happens when a
    loop ends, because that cancels all its tasks. ``Background`` handles this case.
    """
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name)


async def together(coroutines: Iterable[Coroutine[Any, Any, T]], name: str) -> list[T]:
    """Run ``coroutines`` at the same time, each in a task. If one fails, or this is cancelled, they all end."""
    tasks = [owned_task(coroutine, name) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_being_cancelled() -> bool:
    """Return whether the current task was asked to end.

    If it is false, a ``CancelledError`` does not concern the current task: something that it waits for was cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unasked_cancellation(place: str) -> StoreUnavailable:
    """Return the error that replaces a ``CancelledError`` that the caller did not request."""
    return StoreUnavailable(f"a call of {place} was cancelled by the store or its driver, not by the caller")


class Background:
    """Work that one task at a time does in the background, as long as there is work.

    The task ends when ``work`` returns. If there is new work by then, another task begins. This also holds when the
    task was cancelled together with all other tasks of its loop, because some callers may continue. ``work`` must not
    return while work is left, or it begins again at once. An exception that it raises is a fault of this library: the
    loop's exception handler reports it, and the work pauses until ``begin`` is called again.

    Args:
        work: does everything that is pending, and returns.
        name: the task's name.
        pending: whether there is work to do.
    """

    __slots__ = ("_pending", "_work", "name", "task")

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str, *, pending: Callable[[], object]
    ) -> None:
        self._work = work
        self._pending = pending
        self.name = name
        self.task: asyncio.Task[None] | None = None
        """The task, while there is one; it may be done already."""

    @property
    def running(self) -> bool:
        """Whether the work is under way."""
        return self.task is not None and not self.task.done()

    def begin(self) -> None:
        """Start the work, unless it is under way. What is pending now will be done."""
        if self.task is None or self.task.done():
            self.task = owned_task(self._work(), self.name)
            self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.task is task:  # it may have been begun again as soon as it was done
            self.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": f"{self.name} failed", "exception": error, "task": task})
        elif self.task is None and self._pending():
            self.begin()

    async def finish(self) -> None:
        """Wait until there is nothing more to do."""
        while (task := self.task) is not None:
            await asyncio.wait([task])

    async def cancel(self) -> None:
        """End the work. It begins again if ``pending`` still returns true."""
        if (task := self.task) is not None:
            task.cancel()
            await asyncio.wait([task])


class Unhooked(Generic[T]):
    """Iterates an asynchronous generator, ``events``, without registering it with the event loop.

    A loop that ends closes all asynchronous generators that are registered with it. A generator that a background task
    is iterating at that moment cannot be closed, and the loop would print an error. It ends with its task anyway.
    """

    def __init__(self, events: AsyncIterable[T]) -> None:
        self._events = aiter(events)
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        if self._begun:
            return anext(self._events)
        self._begun = True
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=None)
        try:
            return anext(self._events)  # a generator reads the hooks of the event loop here, and only here
        finally:
            sys.set_asyncgen_hooks(*hooks)
