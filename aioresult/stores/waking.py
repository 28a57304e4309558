"""The common part of feeds: they sleep until they are woken, and emit to a sink or to their iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import ClassVar

from aioresult.abc import Event, Feed, Sink
from aioresult.record import Record


class WakingFeed(Feed):
    """A feed that does its work in the task that iterates it. Events that came before an error are emitted before it.

    Attributes:
        patience: seconds without a wake-up after which ``_check`` is called; ``None`` for never.
    """

    patience: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._sink: Sink = self._keep
        self._wake = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    def _keep(self, task_id: str, record: Record | None) -> None:
        self._events.append((task_id, record))
        self._wake.set()

    def _emit(self, task_id: str, record: Record | None) -> None:
        self._sink(task_id, record)

    def _fail(self, error: Exception) -> None:
        """End the iteration by ``error``."""
        self._failure = self._failure or error
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return
            try:
                async with asyncio.timeout(self.patience):
                    await self._wake.wait()
            except TimeoutError:
                await self._check()
            self._wake.clear()
            if self._failure is None:
                await self._do_pending()

    async def _do_pending(self) -> None:
        """Do the pending work."""

    async def _check(self) -> None:
        """Check whether the source of events is still alive; raise ``StoreUnavailable`` if not."""

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
