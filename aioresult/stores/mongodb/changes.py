"""Change streams: what is asked for, and how one is read until it fails.

PyMongo resumes a stream by its token, at the point that it has reached even when nothing has happened for long. When
that fails (history lost, token refused, no primary for too long), the feed fails; the hub opens another and looks at
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Final

import pymongo
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from aioresult.errors import StoreUnavailable
from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.awaiting import heeding
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import UNAUTHORIZED, is_refusal, unavailable

_BATCH: Final = 500
"""Most events of one reply, which are handled without giving way to other tasks."""
_OVERLAP: Final = 1
"""Seconds of history that are heard again at the start: writes become visible in another order than their times'."""
_IDS: Final[Document] = {"$project": {"documentKey": 1, "clusterTime": 1}}
_COSMOS_WRITES: Final[Document] = {"$match": {"operationType": {"$in": ["insert", "replace", "update"]}}}
_COSMOS: Final[Document] = {"$project": {"_id": 1, "fullDocument": 1, "ns": 1, "documentKey": 1}}

Request = tuple[Document, ...]
"""What to ask for, the best first."""


def request(operations: list[str], carried: int) -> Request:
    """Return how to ask for writes by ``operations``, with the documents that have at most ``carried`` bytes.

    Every process that listens hears of every document, so that big ones are left to be looked up. Not every server that
    speaks MongoDB's protocol knows all stages and operators, and Azure Cosmos DB takes exactly the last.
    """
    written = {"$match": {"operationType": {"$in": operations}}}
    document = {"$cond": [{"$gt": [{"$bsonSize": "$fullDocument"}, carried]}, "$$REMOVE", "$fullDocument"]}
    return (
        {"pipeline": [written, {"$project": {"documentKey": 1, "clusterTime": 1, "fullDocument": document}}]},
        {"pipeline": [written, _IDS]},
        {"pipeline": [_COSMOS_WRITES, _COSMOS], "full_document": "updateLookup"},
    )


async def open_stream(
    collection: clients.Collection, wanted: Request, now: Timestamp | None, silence: float
) -> clients.ChangeStream:
    """Open the stream of writes to ``collection``, effective on return: the best that the server does not refuse.

    It begins a little in the past, where the server's history goes back so far.

    Args:
        collection: where the documents are.
        wanted: what to ask for.
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
    for stream, start in product(wanted, starts):
        try:
            return await clients.open_stream(collection, **stream, **start, **options)
        except OperationFailure as exc:
            if exc.code == UNAUTHORIZED or not is_refusal(exc):
                raise
            refusals.append(exc)
    raise refusals[0]


class Changes:
    """An open change stream.

    Args:
        stream: effective already.
        opened_at: the server's time when it was opened.
        patience: seconds within which the server must have answered, the resuming of a lost stream included.
        location: named in errors.
        count: called for each request that was answered by silence; those that bring events cost nothing more.
    """

    def __init__(
        self,
        stream: clients.ChangeStream,
        *,
        opened_at: Timestamp | None,
        patience: float,
        location: str,
        count: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._opened_at = opened_at
        self._patience = patience
        self._location = location
        self._count = count

    async def read(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand each change to ``take``; ends by an error.

        Raises:
            StoreUnavailable: the stream is lost, and cannot be resumed.
        """
        while True:
            try:
                with pymongo.timeout(self._patience):
                    change = await heeding(self._stream.try_next())
            except PyMongoError as exc:
                raise unavailable(exc, self._location) from exc
            if change is not None:
                take(change)
                continue
            self._count()
            if not self._stream.alive:
                raise StoreUnavailable(f"{self._location}: the collection was dropped or renamed, its stream ended")

    def document_of(self, change: Mapping[str, Any]) -> Document | None:
        """Return the document that was written, or ``None`` where it has to be looked up.

        So it is where the change is older than the opening, since by now there may be another document.
        """
        document: Document | None = change.get("fullDocument")
        time = change.get("clusterTime")
        if time is None or (self._opened_at is not None and time <= self._opened_at):
            return None
        return document

    async def aclose(self) -> None:
        """Close it; harmless when the connection is gone."""
        try:
            with pymongo.timeout(self._patience):
                await self._stream.close()
        except PyMongoError:
            pass  # the connection is gone, and the server drops the cursor by itself
