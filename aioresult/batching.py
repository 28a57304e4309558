"""Coalescing: single reads, writes and deletions become the plural calls of a store.

The first caller of a loop turn starts a flush, which takes whatever has collected by the time it runs; while it is in
flight, the next batch collects. Nothing is delayed when idle, and batches grow with the load.

Where a store has several lanes, one batch is prepared here while another is served there. An id is always written over
the same lane: its states are stored in order, and no two batches under way have a row in common.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from aioresult.abc import PartlyUnavailable, Store
from aioresult.background import Background, is_being_cancelled, unasked_cancellation
from aioresult.errors import AioResultError, ResultTooLarge, StoreUnavailable, StreamFull
from aioresult.record import Record
from aioresult.stream import Append, Chunk, Cursor

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_MAX_CHANGES: Final = 2000
"""Most items in one batch of changes: beyond that a bigger batch gains nothing, and delays the next one."""

_MAX_CURSORS: Final = 500
"""Most streams that are read in one batch: each may give many items."""


def lane_of(task_id: str, lanes: int) -> int:
    """Return which of so many lanes ``task_id`` takes."""
    return hash(task_id) % lanes


class _Lane(ABC, Generic[Item, Outcome]):
    """One kind of call: collects items, and flushes them one batch at a time."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._flushing = Background(self._flush, name, pending=lambda: self._pending)
        self._abandoned = False
        self.answered = False
        """Whether the store has ever answered a call of this lane."""

    def submit(self, item: Item) -> asyncio.Future[Outcome]:
        """Add ``item`` to the next batch; the future gives its outcome. Cancelling it leaves the batch alone."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._pending.append((item, future))
        self._flushing.begin()
        return future

    async def _flush(self) -> None:
        while self._pending and not self._abandoned:
            batch = self._take()
            try:
                await self._call(batch)
                self.answered = True
            except asyncio.CancelledError:
                if is_being_cancelled():
                    self._pending[:0] = [entry for entry in batch if not entry[1].done()]
                    raise
                _fail(batch, unasked_cancellation(self._store.location))
            except Exception as exc:  # noqa: BLE001  (handed to every caller of the batch)
                _fail(batch, exc)
        if self._pending:
            _fail(self._pending, AioResultError(f"the backend of {self._store.location} was closed meanwhile"))
            self._pending.clear()

    @abstractmethod
    def _take(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        """Remove the next batch from what is pending."""

    @abstractmethod
    async def _call(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        """Call the store for ``batch`` and set every future's outcome."""

    async def aclose(self) -> None:
        """Let what has been submitted finish."""
        await self._flushing.finish()

    async def abandon(self) -> None:
        """End what has been submitted; its callers get an error, and so does everybody who comes later."""
        self._abandoned = True
        await self._flushing.cancel()
        await self._flushing.finish()


def _fail(batch: Sequence[tuple[object, asyncio.Future[Outcome]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


class _Reads(_Lane[Sequence[str], Mapping[str, Record]]):
    def _take(self) -> list[tuple[Sequence[str], asyncio.Future[Mapping[str, Record]]]]:
        batch, self._pending = self._pending, []
        return batch

    async def _call(self, batch: list[tuple[Sequence[str], asyncio.Future[Mapping[str, Record]]]]) -> None:
        if len(batch) == 1:
            ids = batch[0][0]
        else:
            ids = list(dict.fromkeys(task_id for item, _ in batch for task_id in item))
        records: Mapping[str, Record]
        try:
            records = await self._store.get_many(ids)
        except PartlyUnavailable as exc:
            _fail([entry for entry in batch if not exc.outcomes.keys() >= set(entry[0])], exc)
            records = {task_id: record for task_id, record in exc.outcomes.items() if record is not None}
        for _, future in batch:
            if not future.done():
                future.set_result(records)


Change = Record | Append | str
"""A record to write, items to append, or the id of a record to delete."""


class _Changes(_Lane[Change, Any]):
    """Writes, appends and deletions. They share a lane, so that those of one id are done in their order."""

    def _take(self) -> list[tuple[Change, asyncio.Future[Any]]]:
        """Take changes of distinct ids: a second one of an id waits for the next batch, which keeps their order.

        Only appends to one stream that follow each other are taken together, unless they are repeated: the number of
        what was stored before does not follow from those of others.
        """
        ids: dict[str, bool] = {}  # and whether what was taken of an id may be followed by another append
        batch: list[tuple[Change, asyncio.Future[Any]]] = []
        rest: list[tuple[Change, asyncio.Future[Any]]] = []
        for entry in self._pending:
            change = entry[0]
            task_id = change if isinstance(change, str) else change.id
            appends = type(change) is Append and not change.repeated
            before = ids.get(task_id)
            if (before is None or (before and appends)) and len(batch) < _MAX_CHANGES:
                batch.append(entry)
                ids[task_id] = appends
            else:
                rest.append(entry)
                ids[task_id] = False
        self._pending = rest
        return batch

    async def _call(self, batch: list[tuple[Change, asyncio.Future[Any]]]) -> None:
        if appends := [(change, future) for change, future in batch if type(change) is Append]:
            await self._append(appends)
        if writes := [(change, future) for change, future in batch if type(change) is Record]:
            await self._write(writes)
        if deletions := [(change, future) for change, future in batch if isinstance(change, str)]:
            await self._delete(deletions)

    async def _append(self, batch: list[tuple[Append, asyncio.Future[Any]]]) -> None:
        """Append what there is for each stream in one call, and tell each caller the number of its own last item."""
        by_id: defaultdict[str, list[tuple[Append, asyncio.Future[Any]]]] = defaultdict(list)
        for entry in batch:
            by_id[entry[0].id].append(entry)
        calls = [_joined(task_id, [change for change, _ in own]) for task_id, own in by_id.items()]
        try:
            outcomes = await self._store.append_many(calls)
        except BaseException:
            for change, _ in batch:  # they may have been stored: whoever tries again has to say so
                change.repeated = True
            raise
        for own, outcome in zip(by_id.values(), outcomes, strict=True):
            if isinstance(outcome, StreamFull | ResultTooLarge) and len(own) > 1:
                for entry in own:  # the first ones may still have room, and each for itself be small enough
                    await self._append([entry])
            else:
                _tell_appended(own, outcome)

    async def _delete(self, batch: list[tuple[str, asyncio.Future[Any]]]) -> None:
        try:
            await self._store.delete_many([task_id for task_id, _ in batch])
        except PartlyUnavailable as exc:
            _fail([entry for entry in batch if entry[0] not in exc.outcomes], exc)
        for _, future in batch:
            if not future.done():
                future.set_result(True)

    async def _write(self, batch: list[tuple[Record, asyncio.Future[Any]]]) -> None:
        written: Sequence[bool]
        try:
            written = await self._store.put_many([record for record, _ in batch])
        except PartlyUnavailable as exc:
            _fail([entry for entry in batch if entry[0].id not in exc.outcomes], exc)
            written = [bool(exc.outcomes.get(record.id)) for record, _ in batch]
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001  (handed to the caller that it concerns)
            if len(batch) == 1:
                _fail(batch, exc)
            else:
                for entry in batch:  # one record is at fault: the others must not suffer
                    await self._write([entry])
            return
        for (_, future), wrote in zip(batch, written, strict=True):
            if not future.done():
                future.set_result(wrote)


def _tell_appended(batch: Sequence[tuple[Append, asyncio.Future[Any]]], outcome: int | AioResultError) -> None:
    """Tell the callers of one stream's batch how it ended: by the number of its last item, or by an error."""
    if isinstance(outcome, AioResultError):
        for append, _ in batch:
            append.repeated = append.repeated or isinstance(outcome, StoreUnavailable)
        _fail(batch, outcome)
        return
    for append, future in reversed(batch):
        if not future.done():
            future.set_result(outcome)
        outcome -= len(append.items)


def _joined(task_id: str, appends: Sequence[Append]) -> Append:
    if len(appends) == 1:
        return appends[0]
    items = [item for append in appends for item in append.items]
    return Append(task_id, items, repeated=any(append.repeated for append in appends))


class _StreamReads(_Lane[Cursor, Chunk]):
    def _take(self) -> list[tuple[Cursor, asyncio.Future[Chunk]]]:
        batch, self._pending = self._pending[:_MAX_CURSORS], self._pending[_MAX_CURSORS:]
        return batch

    async def _call(self, batch: list[tuple[Cursor, asyncio.Future[Chunk]]]) -> None:
        chunks = await self._store.read_many([cursor for cursor, _ in batch])
        for (_, future), chunk in zip(batch, chunks, strict=True):
            if not future.done():
                future.set_result(chunk)


class Batcher:
    """The only caller of a store's reads and writes, within one event loop.

    Its methods return futures instead of being coroutines, which is a frame less for each of very many callers.
    """

    def __init__(self, store: Store) -> None:
        self._reads = [_Reads(store, "aioresult reads") for _ in range(store.lanes)]
        self._changes = [_Changes(store, "aioresult writes") for _ in range(store.lanes)]
        self._stream_reads = [_StreamReads(store, "aioresult reads of streams") for _ in range(store.lanes)]

    @property
    def reached(self) -> bool:
        """Whether the store has answered before: from then on an outage is something to wait out."""
        lanes: tuple[_Lane[Any, Any], ...] = (*self._reads, *self._changes, *self._stream_reads)
        return any(lane.answered for lane in lanes)

    @property
    def has_written(self) -> bool:
        """Whether something has been stored or deleted through this."""
        return any(lane.answered for lane in self._changes)

    def get_many(self, ids: Sequence[str]) -> asyncio.Future[Mapping[str, Record]]:
        """Give the records of ``ids``, of which there is at least one, and perhaps of others of the same batch."""
        lanes = self._reads
        return lanes[lane_of(ids[0], len(lanes))].submit(ids)

    def put(self, record: Record) -> asyncio.Future[bool]:
        """Store ``record``, which comes from ``Store.encode``; give whether it was written."""
        lanes = self._changes
        return lanes[lane_of(record.id, len(lanes))].submit(record)

    def delete(self, task_id: str) -> asyncio.Future[bool]:
        """Delete the record of ``task_id``, if there is one, after what was submitted for it before; give ``True``."""
        lanes = self._changes
        return lanes[lane_of(task_id, len(lanes))].submit(task_id)

    def append(self, append: Append) -> asyncio.Future[int]:
        """Append items to a stream, after what was submitted for its task before; give the number of the last one."""
        lanes = self._changes
        return lanes[lane_of(append.id, len(lanes))].submit(append)

    def read_stream(self, cursor: Cursor) -> asyncio.Future[Chunk]:
        """Give what a stream holds behind ``cursor``."""
        lanes = self._stream_reads
        return lanes[lane_of(cursor.id, len(lanes))].submit(cursor)

    async def aclose(self) -> None:
        """Let writes and deletions finish; a read that is still under way has nothing to lose."""
        reading: tuple[_Lane[Any, Any], ...] = (*self._reads, *self._stream_reads)
        for reads in reading:
            await reads.abandon()
        for changes in self._changes:
            await changes.aclose()
