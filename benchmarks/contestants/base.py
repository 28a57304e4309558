"""The operations of all contestants, each in a process of its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from benchmarks.values import value_of

_CONCURRENCY = 2000


class Items(Protocol):
    """The iterator of a stream's reader."""

    def __aiter__(self) -> AsyncIterator[object]: ...

    def __anext__(self) -> Coroutine[Any, Any, object]: ...

    def aclose(self) -> Coroutine[Any, Any, None]: ...


class Contestant(ABC):
    """One way to store results and to wait for them, or to append to streams and to read them.

    Args:
        url: the store's.
        options: what distinguishes this contestant from others of its class.

    Attributes:
        restless: whether it is busy even while nothing happens, because it polls.
    """

    restless = False

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url

    @abstractmethod
    async def open(self) -> None:
        """Connect, so that no connecting is measured."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything."""

    def wait(self, task: str, timeout: float | None = None) -> Coroutine[Any, Any, object]:
        """Wait for ``task`` and return its value."""
        raise NotImplementedError(f"{type(self).__name__} cannot wait")

    async def store(self, task: str, value: object) -> None:
        """Store a value and wake its waiter; return when the store has confirmed it."""
        raise NotImplementedError(f"{type(self).__name__} cannot store")

    def read(self, task: str) -> Awaitable[object]:
        """Return the value of a finished task, or something that ``decoded`` converts to it."""
        return self.wait(task)

    def decoded(self, value: object) -> object:
        """Return the value from the result of ``read``; called after the measurement."""
        return value

    def prepare(self, tasks: Sequence[str]) -> Any:
        """Prepare everything possible for ``store_all``; called before the measurement."""
        return tasks

    async def store_all(self, prepared: Any) -> None:
        """Store the values of many tasks as fast as possible."""
        limit = asyncio.Semaphore(_CONCURRENCY)

        async def one(task: str) -> None:
            async with limit:
                await self.store(task, value_of(task))

        await asyncio.gather(*[one(task) for task in prepared])

    async def join(self, tasks: Sequence[str]) -> list[object]:
        """Wait for all tasks together and return their values."""
        return await asyncio.gather(*[self.wait(task) for task in tasks])

    def blocking(self) -> Callable[[str], object]:
        """Return a function that waits for a task and returns its value, for threads without an event loop."""
        raise NotImplementedError(f"{type(self).__name__} has no blocking mirror")

    # --- tasks ---

    def runner(self) -> Any:
        """Return the object that runs tasks in this process."""
        raise NotImplementedError(f"{type(self).__name__} runs no tasks")

    async def revoke(self, task: str) -> bool:
        """Stop a task that runs in any process, and return whether it was stopped."""
        raise NotImplementedError(f"{type(self).__name__} cannot stop tasks")

    # --- streams ---

    def keeps_streams(self) -> bool:
        """Return whether there are streams on this store."""
        return True

    async def begin(self, task: str) -> None:
        """Prepare a stream in its producer, before readers begin."""
        del task  # usually nothing

    def items(self, task: str) -> Items:
        """Iterate the items of a stream from the first on, including those that are appended later."""
        raise NotImplementedError(f"{type(self).__name__} cannot read streams")

    def value_of_item(self, item: object) -> object:
        """Return the value of an item from ``items`` or ``replay``; called after the measurement."""
        return item

    async def append(self, task: str, value: object) -> None:
        """Append to a stream, and wake its readers; return when that is confirmed."""
        raise NotImplementedError(f"{type(self).__name__} cannot append")

    async def fill(self, task: str, values: Sequence[object]) -> None:
        """Append all of ``values``, and finish the task."""
        raise NotImplementedError(f"{type(self).__name__} keeps nothing for those who come late")

    async def replay(self, task: str, count: int) -> list[object]:
        """Return all ``count`` items of a finished stream."""
        raise NotImplementedError(f"{type(self).__name__} keeps nothing for those who come late")

    def commands(self) -> int:
        """Return how many commands this process has sent, if that is counted."""
        return 0
