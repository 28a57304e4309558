"""Batching: single reads, writes and deletions become the plural calls of a store.

If a store has several lanes, one batch is prepared here while the server handles another. An id is always written over
the same lane, so its states are stored in order, and no two batches in flight have a row in common.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aioresult.abc import Store
from aioresult.changes import ChangeLane
from aioresult.lanes import Lane, Submitted, answer, fail, lane_of
from aioresult.partly import PartlyUnavailable
from aioresult.record import Record
from aioresult.stream import Append, Chunk, Cursor, Page

_MAX_CURSORS: Final = 500
"""The most streams that are read in one batch, because each may return many items."""


class _ReadLane(Lane[Sequence[str], Mapping[str, Record]]):
    async def _make(self, batch: list[Submitted[Sequence[str], Mapping[str, Record]]]) -> None:
        if len(batch) == 1:
            ids = batch[0][0]
        else:
            ids = list(dict.fromkeys(task_id for asked, _ in batch for task_id in asked))
        records: Mapping[str, Record]
        try:
            records = await self._store.get_many(ids)
        except PartlyUnavailable as exc:
            fail([submitted for submitted in batch if not exc.outcomes.keys() >= set(submitted[0])], exc)
            records = {task_id: record for task_id, record in exc.outcomes.items() if record is not None}
        answer(batch, [records] * len(batch))


class _StreamReadLane(Lane[Cursor, Page]):
    """Reads of streams. Readers at the same position share one read and its decoded items."""

    def _take(self) -> list[Submitted[Cursor, Page]]:
        cursors: set[Cursor] = set()
        count = 0
        for cursor, _ in self._pending:
            if len(cursors) == _MAX_CURSORS and cursor not in cursors:
                break
            cursors.add(cursor)
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        return batch

    async def _make(self, batch: list[Submitted[Cursor, Page]]) -> None:
        cursors = list(dict.fromkeys(cursor for cursor, _ in batch))
        chunks = await self._store.read_many(cursors)
        pages = {cursor: self._page(cursor, chunk) for cursor, chunk in zip(cursors, chunks, strict=True)}
        answer(batch, [pages[cursor] for cursor, _ in batch])

    def _page(self, cursor: Cursor, chunk: Chunk) -> Page:
        first = max(cursor.after + 1, chunk.oldest)
        items = self._store.codec.decode_items(cursor.id, first, chunk.items)
        return Page(chunk.oldest, chunk.last, items, sum(map(len, chunk.items)))


class Batcher:
    """The only caller of a store's reads and writes, within one event loop.

    Its methods return futures instead of being coroutines, which saves each of very many callers a frame.
    """

    def __init__(self, store: Store) -> None:
        self._reads = [_ReadLane(store, "aioresult reads") for _ in range(store.lanes)]
        self._changes = [ChangeLane(store, "aioresult writes") for _ in range(store.lanes)]
        self._stream_reads = [_StreamReadLane(store, "aioresult reads of streams") for _ in range(store.lanes)]

    @property
    def reached(self) -> bool:
        """Whether the store has answered before: after that, callers wait during an outage instead of failing."""
        lanes: tuple[Lane[Any, Any], ...] = (*self._reads, *self._changes, *self._stream_reads)
        return any(lane.answered for lane in lanes)

    @property
    def has_written(self) -> bool:
        """Whether something has been stored or deleted through this."""
        return any(lane.answered for lane in self._changes)

    def get_many(self, ids: Sequence[str]) -> asyncio.Future[Mapping[str, Record]]:
        """Give the records of ``ids`` (at least one id), and perhaps those of other ids of the same batch."""
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

    def read_stream(self, cursor: Cursor) -> asyncio.Future[Page]:
        """Give what a stream holds after ``cursor``."""
        lanes = self._stream_reads
        return lanes[lane_of(cursor.id, len(lanes))].submit(cursor)

    async def aclose(self) -> None:
        """Let writes and deletions finish; reads are dropped, because that loses nothing."""
        reading: tuple[Lane[Any, Any], ...] = (*self._reads, *self._stream_reads)
        for reads in reading:
            await reads.abandon()
        for changes in self._changes:
            await changes.aclose()
