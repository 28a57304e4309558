"""Fixtures for all parts of the conformance suite: backends on the store under test, feeds, and how to wait."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from aioresult import Backend, Record
from aioresult.abc import Feed

PATIENCE = 30.0
"""Seconds after which something that should happen at once counts as not happening."""


def fresh_id() -> str:
    """Return an unused id."""
    return str(uuid.uuid4())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until ``condition`` holds, asking again and again; fail when it does not within ``PATIENCE``."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.01)


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

    async def expect(self, wanted: Callable[[list[tuple[str, Record | None]]], bool]) -> None:
        """Wait until the events so far satisfy ``wanted``."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: self._task.done() or wanted(self.events))
        assert wanted(self.events), f"the feed ended: {self._task}"

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
        """Return a new backend on the store under test; all those of one test see the same data."""
        return Backend(self.url, **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        """Replace what is stored under ``task_id`` by something that cannot be decoded, behind the store's back."""
        raise NotImplementedError(f"{type(self).__name__}.poison has to say how to store garbage in this store")

    @pytest_asyncio.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        """Give a backend on the store under test."""
        async with self.make_backend() as backend:
            yield backend

    @pytest_asyncio.fixture
    async def other(self) -> AsyncIterator[Backend]:
        """Give a second backend with connections of its own on the same store."""
        async with self.make_backend() as other:
            yield other

    @pytest_asyncio.fixture
    async def feed(self, backend: Backend) -> AsyncIterator[Collected]:
        """Give the feed that waiters would be served by, with its events being collected."""
        collected = Collected(await backend._runtime.hub.open_feed())
        yield collected
        await collected.aclose()
