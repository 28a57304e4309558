"""One change stream for everything that a process waits for.

The stream hears every write to the collection, Celery's included; ids that nobody watches are dropped here. It carries
small documents with it, so that most events need no further read, and leaves big ones to be looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from itertools import product
from typing import Any, Final

import pymongo
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from aioresult.abc import Event, Feed, Sink
from aioresult.errors import StoreUnavailable
from aioresult.record import Record
from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import UNAUTHORIZED, is_refusal, unavailable

_CARRIED: Final = 4096
"""Size in bytes of the biggest document that an event carries; every process that waits hears of every document."""
_BATCH: Final = 500
"""Most events of one reply, which are handled without giving way to other tasks."""
_OVERLAP: Final = 1
"""Seconds of history that are heard again at the start: writes become visible in another order than their times'."""
_HEARING: Final = 0.2
"""Seconds that a reader has for its clean-up before it is cancelled again."""
_WRITTEN: Final[Document] = {"$match": {"operationType": {"$in": ["insert", "replace", "update"]}}}
_SMALL_ONES: Final[Document] = {
    "$project": {
        "documentKey": 1,
        "clusterTime": 1,
        "fullDocument": {"$cond": [{"$gt": [{"$bsonSize": "$fullDocument"}, _CARRIED]}, "$$REMOVE", "$fullDocument"]},
    }
}
_IDS: Final[Document] = {"$project": {"documentKey": 1, "clusterTime": 1}}
_COSMOS: Final[Document] = {"$project": {"_id": 1, "fullDocument": 1, "ns": 1, "documentKey": 1}}
_STREAMS: Final[tuple[Document, ...]] = (
    {"pipeline": [_WRITTEN, _SMALL_ONES]},
    {"pipeline": [_WRITTEN, _IDS]},
    {"pipeline": [_WRITTEN, _COSMOS], "full_document": "updateLookup"},
)
"""What to ask for, the best first: not every server that speaks MongoDB's protocol knows all stages and operators, and
Azure Cosmos DB takes exactly the last."""


async def open_stream(collection: clients.Collection, now: Timestamp | None, silence: float) -> clients.ChangeStream:
    """Open the stream of all writes to ``collection``, effective on return: the best that the server does not refuse.

    It begins a little in the past, where the server's history goes back so far.

    Args:
        collection: where the documents are.
        now: the server's present time.
        silence: seconds after which the server answers although there is nothing to tell.

    Raises:
        OperationFailure: the server refuses all of them; what it says of the first.
    """
    options: Document = {"max_await_time_ms": round(silence * 1000), "batch_size": _BATCH}
    starts: list[Document] = [{}]
    if now is not None:
        starts.insert(0, {"start_at_operation_time": Timestamp(now.time - _OVERLAP, 1)})
    refusals: list[OperationFailure] = []
    for stream, start in product(_STREAMS, starts):
        try:
            return await clients.open_stream(collection, **stream, **start, **options)
        except OperationFailure as exc:
            if exc.code == UNAUTHORIZED or not is_refusal(exc):
                raise
            refusals.append(exc)
    raise refusals[0]


class MongoFeed(Feed):
    """Turns an open change stream into events.

    PyMongo resumes a stream by its token, at the point that it has reached even when nothing has happened for long.
    When that fails (history lost, token refused, no primary for too long), the hub opens a new feed and looks at
    everything.

    Args:
        stream: effective already, so that an event may be owed and given at once.
        opened_at: the server's time when it was opened. What was written before is announced without the record, since
            by now there may be another.
        decode: gives the record of a document, or ``None`` where it is to be looked up.
        patience: seconds within which the server must have answered, the resuming of a lost stream included.
        location: named in errors.
        count: called for each request that was answered by silence; those that bring events cost nothing more.
    """

    def __init__(
        self,
        stream: clients.ChangeStream,
        *,
        opened_at: Timestamp | None,
        decode: Callable[[Document], Record | None],
        patience: float,
        location: str,
        count: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._opened_at = opened_at
        self._decode = decode
        self._patience = patience
        self._location = location
        self._count = count
        self._watched: set[str] = set()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._sink: Sink = lambda task_id, record: self._events.put_nowait((task_id, record))

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    async def watch(self, ids: Collection[str]) -> None:
        self._watched.update(ids)
        for task_id in ids:
            self._sink(task_id, None)

    async def unwatch(self, ids: Collection[str]) -> None:
        self._watched.difference_update(ids)

    async def __aiter__(self) -> AsyncIterator[Event]:
        reader = asyncio.create_task(self._read(), name="aioresult MongoDB change stream")
        reader.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            while (event := await self._events.get()) is not None:
                yield event
            await reader
        finally:
            while not reader.done():  # see clients.heeding: the first cancellation may have gone unheard
                reader.cancel()
                await asyncio.wait([reader], timeout=_HEARING)
            if not reader.cancelled():
                reader.exception()  # has been raised above, or comes too late to matter

    async def _read(self) -> None:
        while True:
            try:
                with pymongo.timeout(self._patience):
                    change = await clients.heeding(self._stream.try_next())
            except PyMongoError as exc:
                raise unavailable(exc, self._location) from exc
            if change is not None:
                self._take(change)
                continue
            self._count()
            if not self._stream.alive:
                raise StoreUnavailable(f"{self._location}: the collection was dropped or renamed, its stream ended")

    def _take(self, change: Mapping[str, Any]) -> None:
        task_id = change["documentKey"]["_id"]
        if not isinstance(task_id, str) or task_id not in self._watched:
            return
        document, time = change.get("fullDocument"), change.get("clusterTime")
        if document is None or time is None or (self._opened_at is not None and time <= self._opened_at):
            self._sink(task_id, None)
        else:
            self._sink(task_id, self._decode(document))

    async def aclose(self) -> None:
        try:
            with pymongo.timeout(self._patience):
                await self._stream.close()
        except PyMongoError:
            pass  # the connection is gone, and the server drops the cursor by itself
