"""Coalescing: single reads, writes and deletions become the plural calls of a store.

The first caller of a loop turn starts a flush, which takes whatever has collected by the time it runs; while it is in
flight, the next batch collects. Nothing is delayed when idle, and batches grow with the load.

Where a store has several lanes, one batch is prepared here while another is served there. An id is always written over
the same lane: its states are stored in order, and no two batches under way have a row in common.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

from aioresult.abc import Store
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.record import Record

T = TypeVar("T")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_MAX_WRITES = 2000
"""Most records in one ``put_many``: beyond that a bigger batch gains nothing and delays whoever comes next."""


def owned_task(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a background task that never runs inside the call that starts it, whatever the loop's task factory does.

    Cancelled before it has begun, as the tasks of a loop that ends may be, it does nothing at all, not even its
    ``finally``: whoever keeps it for as long as it runs has to ask whether it is ``done``.
    """
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name)


def lane_of(task_id: str, lanes: int) -> int:
    """Return which of so many lanes ``task_id`` takes."""
    return hash(task_id) % lanes


class _Lane(ABC, Generic[Item, Outcome]):
    """One kind of call: collects items, and flushes them one batch at a time."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._task: asyncio.Task[None] | None = None
        self._abandoned = False
        self.answered = False

    def submit(self, item: Item) -> asyncio.Future[Outcome]:
        """Add ``item`` to the next batch; the future gives its outcome. Cancelling it leaves the batch alone."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._pending.append((item, future))
        if self._task is None or self._task.done():
            self._begin()
        return future

    def _begin(self) -> None:
        """Take care of what is pending."""
        if self._abandoned:
            self._task = None
            self._refuse()
        else:
            self._task = owned_task(self._flush(), self._name)

    def _refuse(self) -> None:
        for _, future in self._pending:
            if not future.done():
                future.set_exception(AioResultError(f"the backend of {self._store.location} was closed meanwhile"))
        self._pending.clear()

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch = self._take()
                try:
                    await self._call(batch)
                except asyncio.CancelledError:
                    self._pending[:0] = [entry for entry in batch if not entry[1].done()]
                    raise
                except Exception as exc:  # noqa: BLE001  (handed to every caller of the batch)
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(exc)
        finally:
            self._task = None
            if self._pending:  # somebody has cancelled all tasks, and some callers go on
                self._begin()

    @abstractmethod
    def _take(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        """Remove the next batch from what is pending."""

    @abstractmethod
    async def _call(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        """Call the store for ``batch`` and set every future's outcome."""

    async def aclose(self) -> None:
        """Let what has been submitted finish."""
        while (task := self._task) is not None:
            await asyncio.wait([task])
            if self._task is task:  # it was cancelled before it began
                self._begin()

    async def abandon(self) -> None:
        """End what has been submitted; its callers get an error, and so does whoever comes later."""
        self._abandoned = True
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])
        self._refuse()


class _Reads(_Lane[Sequence[str], Mapping[str, Record]]):
    def _take(self) -> list[tuple[Sequence[str], asyncio.Future[Mapping[str, Record]]]]:
        batch, self._pending = self._pending, []
        return batch

    async def _call(self, batch: list[tuple[Sequence[str], asyncio.Future[Mapping[str, Record]]]]) -> None:
        if len(batch) == 1:
            ids = batch[0][0]
        else:
            ids = list(dict.fromkeys(task_id for item, _ in batch for task_id in item))
        records = await self._store.get_many(ids)
        self.answered = True
        for _, future in batch:
            if not future.done():
                future.set_result(records)


class _Writes(_Lane[Record, bool]):
    def _take(self) -> list[tuple[Record, asyncio.Future[bool]]]:
        """Take records with distinct ids: a second write of an id waits for the next batch, which keeps their order."""
        ids: set[str] = set()
        batch: list[tuple[Record, asyncio.Future[bool]]] = []
        rest: list[tuple[Record, asyncio.Future[bool]]] = []
        for entry in self._pending:
            if entry[0].id in ids or len(batch) == _MAX_WRITES:
                rest.append(entry)
            else:
                batch.append(entry)
            ids.add(entry[0].id)
        self._pending = rest
        return batch

    async def _call(self, batch: list[tuple[Record, asyncio.Future[bool]]]) -> None:
        try:
            written = await self._store.put_many([record for record, _ in batch])
            self.answered = True
        except StoreUnavailable:
            raise
        except Exception:
            if len(batch) == 1:
                raise
            for entry in batch:  # one record is at fault: the others must not suffer
                await self._call_alone(entry)
            return
        for (_, future), wrote in zip(batch, written, strict=True):
            if not future.done():
                future.set_result(wrote)

    async def _call_alone(self, entry: tuple[Record, asyncio.Future[bool]]) -> None:
        try:
            await self._call([entry])
        except Exception as exc:  # noqa: BLE001  (handed to the caller that it concerns)
            if not entry[1].done():
                entry[1].set_exception(exc)


class _Deletions(_Lane[str, None]):
    def _take(self) -> list[tuple[str, asyncio.Future[None]]]:
        batch, self._pending = self._pending, []
        return batch

    async def _call(self, batch: list[tuple[str, asyncio.Future[None]]]) -> None:
        await self._store.delete_many(list(dict.fromkeys(task_id for task_id, _ in batch)))
        self.answered = True
        for _, future in batch:
            if not future.done():
                future.set_result(None)


class Batcher:
    """The only caller of a store's reads and writes, within one event loop.

    Its methods return futures instead of being coroutines, which is a frame less for each of very many callers.
    """

    def __init__(self, store: Store) -> None:
        self._reads = [_Reads(store, "aioresult reads") for _ in range(store.lanes)]
        self._writes = [_Writes(store, "aioresult writes") for _ in range(store.lanes)]
        self._deletions = _Deletions(store, "aioresult deletions")

    @property
    def reached(self) -> bool:
        """Whether the store has answered before: from then on an outage is something to wait out."""
        return self._deletions.answered or any(
            reads.answered or writes.answered for reads, writes in zip(self._reads, self._writes, strict=True)
        )

    def get_many(self, ids: Sequence[str]) -> asyncio.Future[Mapping[str, Record]]:
        """Give the records of ``ids``, of which there is at least one, and perhaps of others of the same batch."""
        lanes = self._reads
        return lanes[lane_of(ids[0], len(lanes))].submit(ids)

    def put(self, record: Record) -> asyncio.Future[bool]:
        """Store ``record``, which comes from ``Store.encode``; give whether it was written."""
        lanes = self._writes
        return lanes[lane_of(record.id, len(lanes))].submit(record)

    def delete(self, task_id: str) -> asyncio.Future[None]:
        """Delete the record of ``task_id``, if there is one."""
        return self._deletions.submit(task_id)

    async def aclose(self) -> None:
        """Let writes and deletions finish; a read that is still under way has nothing to lose."""
        for reads in self._reads:
            await reads.abandon()
        for writes in self._writes:
            await writes.aclose()
        await self._deletions.aclose()
