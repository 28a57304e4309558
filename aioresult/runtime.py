"""What a backend keeps for each event loop: a store, its batcher and its hub."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from aioresult import forks
from aioresult.abc import Store
from aioresult.batching import Batcher
from aioresult.errors import AioResultError, ResultTimeout
from aioresult.hub import Hub
from aioresult.purging import Purging
from aioresult.record import Record, check_task_id

LOOK_ONCE: Final = 0.0
"""The deadline of a caller that does not wait: in every loop's time it has passed already."""


def deadline_after(timeout: float | None) -> float | None:
    """Return when ``timeout`` seconds will have passed, in the running loop's time.

    ``None`` means never, and is also returned for an infinite ``timeout``; ``LOOK_ONCE`` for a timeout of 0 or less.
    """
    if timeout is None or timeout == math.inf:
        return None
    return asyncio.get_running_loop().time() + timeout if timeout > 0 else LOOK_ONCE


def check_timeout(timeout: float | None) -> None:
    """Refuse a ``timeout`` that is not a number of seconds."""
    try:
        wrong = timeout is not None and math.isnan(timeout)
    except TypeError:
        raise TypeError(f"timeout is a number of seconds or None, not {timeout!r:.100}") from None
    if wrong:
        raise ValueError("timeout is a number of seconds or None, not nan")


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's counters in the running event loop.

    Attributes:
        waiting: ids that have a waiter or listener.
        watched: ids that the feed is subscribed to.
        commands: commands, statements or requests sent to the store.
        delivered: final records that reached a waiter.
        reconnects: feeds that were lost.
        fallback_reads: reads of everything outstanding, made in case a notification was lost.
    """

    waiting: int
    watched: int
    commands: int
    delivered: int
    reconnects: int
    fallback_reads: int


class Runtime:
    """One backend within one event loop."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = open_store()
        self.batcher = Batcher(self.store)
        self.hub = Hub(self.store, self.batcher)
        self.purging = Purging(self.store, self.batcher)
        self._calls: set[asyncio.Future[None]] = set()
        self._keeper = self._close_at_end()
        with suppress(StopIteration):  # run it up to its yield, so that it is registered with the loop
            self._keeper.__anext__().send(None)

    async def look(self, task_id: str) -> Record | None:
        """Return what is stored under ``task_id`` now."""
        return (await self.batcher.get_many((self.check(task_id),))).get(task_id)

    async def look_many(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return what is stored under ``ids`` now."""
        if not ids:
            return {}
        found = await self.batcher.get_many([self.check(task_id) for task_id in ids])
        return {task_id: found[task_id] for task_id in ids if task_id in found}

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Store]:
        """Give the store for a call that does not go through the batcher; ``aclose`` waits until it has returned."""
        returned = self.loop.create_future()
        self._calls.add(returned)
        try:
            yield self.store
        finally:
            self._calls.discard(returned)
            returned.set_result(None)

    def put(self, record: Record) -> asyncio.Future[bool]:
        """Store ``record``; give whether it was written."""
        self.check(record.id)
        return self.batcher.put(self.store.encode(record))

    def check(self, task_id: str) -> str:
        """Return ``task_id``, or raise ``InvalidTaskId`` where this store cannot hold it."""
        limit = self.store.max_id_length
        return task_id if limit is None else check_task_id(task_id, limit)

    async def final(self, task_id: str, timeout: float | None, deadline: float | None) -> Record:
        """Return the final record of ``task_id``, waiting for it until ``deadline``.

        A store that has answered before may be unavailable for a while; one that has never answered fails at once.
        ``deadline`` is what ``deadline_after`` made of ``timeout``.

        Raises:
            ResultTimeout: it did not become final in time; with ``LOOK_ONCE``: it is not final now.
        """
        record: Record | None
        if deadline == LOOK_ONCE:
            record = await self.look(task_id)
            if record is None or not record.ended:
                raise self.timeout_error([task_id], 1, timeout)
            return record
        self.check(task_id)
        waiter = self.hub.add(task_id, deadline)
        try:
            record = await waiter
        except asyncio.CancelledError:
            self.hub.leave((task_id,), waiter)
            raise
        finally:
            if deadline is not None:
                self.hub.deadlines.discard(waiter, deadline)
        if record is None:
            self.hub.leave((task_id,), waiter)
            raise self.timeout_error([task_id], 1, timeout)
        return record

    def timeout_error(self, ids: Sequence[str], missing: int, timeout: float | None) -> ResultTimeout:
        """Return the error that ``missing`` of ``ids`` have not become final in time.

        If the store is unavailable, the error says so too.
        """
        what = f"task {ids[0]!r}" if len(ids) == 1 else f"{missing} of {len(ids)} results"
        verb = "was" if missing == 1 else "were"
        error = ResultTimeout(f"{what} {verb} not ready within {timeout or 0:g} s (store: {self.store.location})")
        if self.hub.outage is not None:
            error = ResultTimeout(f"{error}; the store is unavailable: {self.hub.outage}")
            error.__cause__ = self.hub.outage
        return error

    def stats(self) -> Stats:
        """Return the counters."""
        hub = self.hub
        return Stats(
            waiting=hub.waiting,
            watched=hub.watched,
            commands=self.store.commands,
            delivered=hub.delivered,
            reconnects=hub.reconnects,
            fallback_reads=hub.fallback_reads,
        )

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        """Wait to be closed: ``asyncio.run`` finishes the loop's asynchronous generators at its end."""
        try:
            yield
        finally:
            await self._close()

    async def aclose(self) -> None:
        """Let the submitted calls finish, and close what was opened."""
        await self._keeper.aclose()

    async def _close(self) -> None:
        await self.purging.aclose()
        await self.hub.aclose()
        await self.batcher.aclose()
        if self._calls:
            await asyncio.wait(self._calls)
        await self.store.aclose()


class Runtimes:
    """Gives each event loop a runtime of its own. A forked child starts afresh."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()
        self._lock = Lock()
        self._last: Runtime | None = None
        forks.follow(self)

    def all(self) -> list[Runtime]:
        """Return the runtimes that are in use."""
        return list(self._by_loop.values())

    def current(self) -> Runtime:
        """Return the runtime of the running event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise AioResultError(
                "no event loop of asyncio is running in this thread: call this in a coroutine that asyncio or uvloop "
                "runs; in blocking code, and in trio by trio.to_thread.run_sync, use aioresult.sync"
            ) from None
        last = self._last
        if last is not None and last.loop is loop:
            return last
        with self._lock:
            runtime = self._by_loop.get(loop)
            if runtime is None:
                for other in [other for other in self._by_loop if other.is_closed()]:
                    del self._by_loop[other]
                runtime = self._by_loop[loop] = Runtime(self._open_store)
            self._last = runtime
        return runtime

    async def aclose(self) -> None:
        """Close the runtime of the running event loop, if it has one."""
        loop = asyncio.get_running_loop()
        with self._lock:
            runtime = self._by_loop.pop(loop, None)
            if self._last is runtime:
                self._last = None
        if runtime is not None:
            await runtime.aclose()

    def _start_afresh(self) -> None:
        """Forget what belongs to the parent process: a forked child must neither use nor close its connections."""
        forks.keep(self._by_loop)
        self._by_loop = WeakKeyDictionary()
        self._lock = Lock()
        self._last = None
