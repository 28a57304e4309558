"""Lanes: each collects single calls of one kind, and sends them in batches, one batch after the other.

The first caller of a loop turn starts a flush, which takes all calls submitted by the time it runs. The next batch is
collected while this one is in flight. An idle lane delays nothing, and batches grow with the load.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from aioresult.abc import Store
from aioresult.background import Background, is_being_cancelled, unasked_cancellation
from aioresult.errors import AioResultError

Call = TypeVar("Call")
Outcome = TypeVar("Outcome")

Submitted = tuple[Call, asyncio.Future[Outcome]]
"""A call, and the future that gives its outcome to the caller."""


def lane_of(task_id: str, lanes: int) -> int:
    """Return the number of the lane that ``task_id`` uses."""
    return hash(task_id) % lanes


class Lane(ABC, Generic[Call, Outcome]):
    """Collects calls of one kind. Calls made while the last batch is in flight are in the next one."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._pending: list[Submitted[Call, Outcome]] = []
        self._flushing = Background(self._flush, name, pending=lambda: self._pending)
        self._abandoned = False
        self.answered = False
        """Whether the store has ever answered a call of this lane."""

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Add ``call`` to the next batch; the future gives its outcome. Cancelling it does not affect the batch."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._pending.append((call, future))
        self._flushing.begin()
        return future

    async def _flush(self) -> None:
        while self._pending and not self._abandoned:
            batch = self._take()
            try:
                await self._make(batch)
                self.answered = True
            except asyncio.CancelledError:
                if is_being_cancelled():
                    self._pending[:0] = [submitted for submitted in batch if not submitted[1].done()]
                    raise
                fail(batch, unasked_cancellation(self._store.location))
            except Exception as exc:  # noqa: BLE001  (given to every caller of the batch)
                fail(batch, exc)
        if self._pending:
            fail(self._pending, AioResultError(f"the backend of {self._store.location} was closed meanwhile"))
            self._pending.clear()

    def _take(self) -> list[Submitted[Call, Outcome]]:
        """Remove the next batch from the pending calls and return it: all of them, unless a subclass overrides this."""
        batch, self._pending = self._pending, []
        return batch

    @abstractmethod
    async def _make(self, batch: list[Submitted[Call, Outcome]]) -> None:
        """Call the store for ``batch``, and set the outcome of every future."""

    async def aclose(self) -> None:
        """Let the submitted calls finish."""
        await self._flushing.finish()

    async def abandon(self) -> None:
        """End the submitted calls with an error for their callers. Later calls get the same error."""
        self._abandoned = True
        await self._flushing.cancel()
        await self._flushing.finish()


def answer(batch: Sequence[Submitted[Call, Outcome]], outcomes: Iterable[Outcome]) -> None:
    """Give each caller of ``batch`` its outcome, except callers that have given up or got an error."""
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if not future.done():
            future.set_result(outcome)


def fail(batch: Sequence[Submitted[Call, Outcome]], error: Exception) -> None:
    """Give ``error`` to each caller of ``batch`` that still waits."""
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
