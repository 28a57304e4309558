"""Fixtures for all parts of the conformance suite: backends on the store under test, feeds, and how to wait."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from aioresult import Backend, Record
from aioresult.abc import Feed

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds after which an expected event counts as missing."""


def fresh_id() -> str:
    """Return an unused id."""
    return str(uuid.uuid4())


async def eventually(condition: Callable[[], Awaitable[bool]], promise: str = "") -> None:
    """Wait until ``condition`` holds, by calling it repeatedly; fail if it does not within ``PATIENCE``.

    The pause between two calls grows up to 0.05 s. ``promise`` names the expected event in the error's text; by
    default, the condition's name is used.
    """
    patience, pause = asyncio.timeout(PATIENCE), 0.01
    try:
        async with patience:
            while not await condition():
                await asyncio.sleep(pause)
                pause = min(1.1 * pause, 0.05)
    except TimeoutError:
        if not patience.expired():  # the condition itself has raised it
            raise
        raise AssertionError(_missed(promise or getattr(condition, "__name__", repr(condition)))) from None


def _missed(promise: str) -> str:
    return f"not within {PATIENCE:g} s: {promise}"


class Tasks:
    """The background work of a test. It ends with the test, even if the test fails."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that does ``work``, and return it."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def aclose(self) -> None:
        """Cancel the remaining tasks. Their errors are dropped, since they would hide the error of the test."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Collected:
    """Collects what a feed emits, in the background."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[tuple[str, Record | None]] = []
        self._arrived = asyncio.Condition()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for event in self.feed:
            async with self._arrived:
                self.events.append(event)
                self._arrived.notify_all()

    async def expect(self, wanted: Callable[[list[tuple[str, Record | None]]], bool], promise: str = "") -> None:
        """Wait until the events so far satisfy ``wanted``; ``promise`` names the expected events in the error."""
        try:
            async with asyncio.timeout(PATIENCE), self._arrived:
                await self._arrived.wait_for(lambda: self._task.done() or wanted(self.events))
        except TimeoutError:
            seen = f"the feed's events so far: {self.events[-5:]}"
            raise AssertionError(f"{_missed(promise or 'the events that are expected')}; {seen}") from None
        if not wanted(self.events):
            raise AssertionError("the feed ended, though nobody has closed it") from self._task.exception()

    async def aclose(self) -> None:
        """Stop collecting and close the feed."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.feed.aclose()


class StoreFixtures:
    """The store under test, and the fixtures of the tests."""

    url: ClassVar[str] = ""
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    def make_backend(self, **settings: Any) -> Backend:
        """Return a new backend on the store under test, with these settings.

        All backends of one test see the same data, and are open at the same time, in one process. If the store is
        polled, keep the short ``idle_timeout`` and ``poll_interval`` of this method, or the tests take long.
        """
        return Backend(self.url, **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        """Replace what is stored under ``task_id`` by an undecodable value, without using the store."""
        raise NotImplementedError(f"{type(self).__name__}.poison has to say how to store garbage in this store")

    @pytest_asyncio.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        """Give a backend on the store under test."""
        async with self.make_backend() as backend:
            yield backend

    @pytest_asyncio.fixture
    async def other(self) -> AsyncIterator[Backend]:
        """Give a second backend, with its own connections, on the same store."""
        async with self.make_backend() as other:
            yield other

    @pytest_asyncio.fixture
    async def tasks(self) -> AsyncIterator[Tasks]:
        """Give an object that starts background tasks, and ends them after the test."""
        tasks = Tasks()
        yield tasks
        await tasks.aclose()

    @pytest_asyncio.fixture
    async def feed(self, backend: Backend) -> AsyncIterator[Collected]:
        """Give the feed that serves waiters, while its events are collected."""
        collected = Collected(await backend._runtime.hub.open_feed())
        yield collected
        await collected.aclose()
