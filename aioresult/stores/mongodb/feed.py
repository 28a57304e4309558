"""The feed: one change stream for the results that a process waits for, and one for the streams that it reads.

They receive every write to the collections, including Celery's; events of ids that are not watched are dropped here.
Events include small documents, so that most of them need no further read; big documents must be looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final

from aioresult.abc import NewsSink
from aioresult.background import unasked_cancellation
from aioresult.record import Record
from aioresult.stores.mongodb.changes import Changes, open_pieces
from aioresult.stores.mongodb.connection import Connection
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.pieces import news_of
from aioresult.stores.waking import WakingFeed
from aioresult.stream import LOOK, Chunk, Cursor

_CLEANUP: Final = 0.2
"""Seconds that a reader has for its clean-up before it is cancelled again."""

ReadMany = Callable[[Sequence[Cursor]], Awaitable[Sequence[Chunk]]]


class MongoFeed(WakingFeed):
    """Turns open change streams into events.

    Args:
        connection: opens the change stream of items. If the server refuses that, streams are polled.
        records: the changes of records; effective already, so that the first event of an id can be emitted at once.
        decode: returns the record of a document, or ``None`` if it must be looked up.
        read_many: polls streams.
    """

    def __init__(
        self,
        connection: Connection,
        records: Changes,
        decode: Callable[[Document], Record | None],
        read_many: ReadMany,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._records = records
        self._decode = decode
        self._pieces: Changes | None = None
        self._read_many = read_many
        self._watched: set[str] = set()
        self._followed: dict[str, int | None] = {}
        """The streams that are followed, and the number of the last item at their last poll."""
        self._tell: NewsSink = lambda *_: None
        self._readers: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._begin(records.read(self._take), "aioresult MongoDB change stream")

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        for task_id in ids:
            self._sink(task_id, None)

    async def unwatch(self, ids: Collection[str]) -> None:
        self._watched.difference_update(ids)

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        self._followed.update(dict.fromkeys(ids))
        if self._following is None:
            self._pieces = await open_pieces(self._connection)
            reading = self._poll() if self._pieces is None else self._pieces.read(self._take_piece)
            self._following = self._begin(reading, "aioresult MongoDB change stream of streams")
        for task_id in ids:
            tell(task_id, LOOK)

    async def unfollow(self, ids: Collection[str]) -> None:
        for task_id in ids:
            self._followed.pop(task_id, None)
        if not self._followed and self._following is not None:
            following, self._following = self._following, None
            self._readers.discard(following)
            await _end(following)
            await self._close_pieces()

    def _begin(self, reading: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        reader = asyncio.create_task(reading, name=name)
        self._readers.add(reader)
        reader.add_done_callback(self._on_end)
        return reader

    def _on_end(self, reader: asyncio.Task[None]) -> None:
        if reader in self._readers:  # otherwise it was ended here
            error = None if reader.cancelled() else reader.exception()
            self._fail(error if isinstance(error, Exception) else unasked_cancellation(self._connection.location))

    async def _end_readers(self) -> None:
        while self._readers:
            await _end(self._readers.pop())

    def _take(self, change: Mapping[str, Any]) -> None:
        task_id = change["documentKey"]["_id"]
        if isinstance(task_id, str) and task_id in self._watched:
            document = self._records.document_of(change)
            self._sink(task_id, None if document is None else self._decode(document))

    def _take_piece(self, change: Mapping[str, Any]) -> None:
        key = change["documentKey"]["_id"]
        if isinstance(key, dict) and key.get("task") in self._followed and self._pieces is not None:
            self._tell(key["task"], news_of(self._pieces.document_of(change)))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._connection.settings.poll_interval)
            cursors = [Cursor(task_id, 0, 0) for task_id in self._followed]
            for cursor, chunk in zip(cursors, await self._read_many(cursors), strict=True):
                if self._followed.get(cursor.id, chunk.last) != chunk.last:
                    self._followed[cursor.id] = chunk.last
                    self._tell(cursor.id, LOOK)

    async def _close_pieces(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            await pieces.aclose()

    async def aclose(self) -> None:
        await super().aclose()
        await self._end_readers()
        await self._close_pieces()
        await self._records.aclose()


async def _end(reader: asyncio.Task[None]) -> None:
    """End a reader. Its error has been raised already, or comes too late to matter."""
    while not reader.done():  # see cancellable: the first cancellation may have been lost
        reader.cancel()
        await asyncio.wait([reader], timeout=_CLEANUP)
    if not reader.cancelled():
        reader.exception()
