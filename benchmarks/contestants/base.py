"""What every contestant can do, in its own way, inside a process of its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from benchmarks.values import value_of

_CONCURRENCY = 2000


class Contestant(ABC):
    """One way to store results and to wait for them.

    Args:
        url: the store's.
        options: what distinguishes this contestant from others of its class.

    Attributes:
        restless: whether it is busy even while nothing happens, because it polls.
    """

    restless = False

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.options = options

    @abstractmethod
    async def open(self) -> None:
        """Connect, so that no connecting is measured."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    def wait(self, task: str, timeout: float | None = None) -> Coroutine[Any, Any, object]:
        """Wait for ``task`` and return its value."""
        raise NotImplementedError(f"{type(self).__name__} cannot wait")

    @abstractmethod
    async def store(self, task: str, value: object) -> None:
        """Store a value and wake whoever waits for it; return when the store has confirmed it."""

    def read(self, task: str) -> Awaitable[object]:
        """Return the value of a finished task, or what ``decoded`` turns into it."""
        return self.wait(task)

    def decoded(self, value: object) -> object:
        """Return the value in what ``read`` returned; called after the clock has stopped."""
        return value

    def prepare(self, tasks: Sequence[str]) -> Any:
        """Do, before the clock starts, what can be done for ``store_all``."""
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
        """Return what waits for a task and returns its value, for threads without an event loop."""
        raise NotImplementedError(f"{type(self).__name__} has no blocking mirror")

    def commands(self) -> int:
        """Return how many commands this process has sent, where that is counted."""
        return 0
