"""Change streams: how one is requested, and read until it fails.

PyMongo resumes a stream by its token, at the point that it has reached, even when nothing has happened for long. When
that fails (history lost, token refused, no primary for too long), the feed fails; the hub opens another and reads
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
from aioresult.stores.mongodb.connection import Connection, cancellable
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import UNAUTHORIZED, is_refusal, reason_of, unavailable
from aioresult.stores.notices import warn_once

_BATCH: Final = 500
"""The most events of one reply, because no other task runs while they are handled."""
_OVERLAP: Final = 1
"""Seconds of history that are read again at the start: writes do not become visible in the order of their times."""
_IDS: Final[Document] = {"$project": {"documentKey": 1, "clusterTime": 1}}
_COSMOS_WRITES: Final[Document] = {"$match": {"operationType": {"$in": ["insert", "replace", "update"]}}}
_COSMOS: Final[Document] = {"$project": {"_id": 1, "fullDocument": 1, "ns": 1, "documentKey": 1}}

_Request = tuple[Document, ...]
"""The requests to try, the best first."""


def _request(operations: list[str], carried: int) -> _Request:
    """Return the requests for writes by ``operations``, with documents of at most ``carried`` bytes.

    Every process that listens receives every document, so big ones are left out and must be looked up. Some servers
    that speak MongoDB's protocol lack stages or operators, and Azure Cosmos DB accepts only exactly the last request.
    """
    written = {"$match": {"operationType": {"$in": operations}}}
    document = {"$cond": [{"$gt": [{"$bsonSize": "$fullDocument"}, carried]}, "$$REMOVE", "$fullDocument"]}
    return (
        {"pipeline": [written, {"$project": {"documentKey": 1, "clusterTime": 1, "fullDocument": document}}]},
        {"pipeline": [written, _IDS]},
        {"pipeline": [_COSMOS_WRITES, _COSMOS], "full_document": "updateLookup"},
    )


_RECORDS: Final = _request(["insert", "replace", "update"], carried=4096)
_PIECES: Final = _request(["insert"], carried=16_384)


class Changes:
    """An open change stream.

    Args:
        connection: over which it was opened; counts only requests that were answered without events, since the others
            cost nothing more.
        stream: is effective already.
        opened_at: the server's time when it was opened.
    """

    def __init__(self, connection: Connection, stream: clients.ChangeStream, opened_at: Timestamp | None) -> None:
        self._connection = connection
        self._stream = stream
        self._opened_at = opened_at
        self._patience = connection.silence + connection.settings.connect_timeout
        """Seconds in which the server must answer; they include resuming a lost stream."""

    async def read(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Pass each change to ``take``; ends only by an error.

        Raises:
            StoreUnavailable: the stream is lost, and cannot be resumed.
        """
        location = self._connection.location
        while True:
            try:
                with pymongo.timeout(self._patience):
                    change = await cancellable(self._stream.try_next())
            except PyMongoError as exc:
                raise unavailable(exc, location) from exc
            if change is not None:
                take(change)
                continue
            self._connection.count()
            if not self._stream.alive:
                raise StoreUnavailable(f"{location}: the collection was dropped or renamed, its stream ended")

    def document_of(self, change: Mapping[str, Any]) -> Document | None:
        """Return the document that was written, or ``None`` where it must be looked up.

        A change that is older than the opening must be looked up, since there may be another document by now.
        """
        document: Document | None = change.get("fullDocument")
        time = change.get("clusterTime")
        if time is None or (self._opened_at is not None and time <= self._opened_at):
            return None
        return document

    async def aclose(self) -> None:
        """Close it; harmless when the connection is lost."""
        try:
            with pymongo.timeout(self._patience):
                await self._stream.close()
        except PyMongoError:
            pass  # the connection is lost, and the server drops the cursor by itself


async def open_records(connection: Connection) -> Changes | str:
    """Open the stream of changes of results, or return why there is none."""
    hello = await _hello(connection)
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        return "a standalone server has no change streams; run it as a replica set, of one member if need be"
    if crowded := connection.why_crowded(1):
        return crowded
    return await _open(connection, connection.at.tasks, _RECORDS, hello)


async def open_pieces(connection: Connection) -> Changes | None:
    """Open the stream of changes of items; if the server refuses that, warn, and return ``None``."""
    pieces: Changes | str = connection.why_crowded(2)
    if not pieces:
        pieces = await _open(connection, connection.at.streams, _PIECES, await _hello(connection))
    if isinstance(pieces, str):
        warn_once(connection.location, f"cannot push items of streams, so that they are polled for: {pieces}")
        return None
    return pieces


async def _hello(connection: Connection) -> Document:
    return await connection.call(lambda: clients.hello(connection.at.database))


async def _open(
    connection: Connection, collection: clients.Collection, wanted: _Request, hello: Document
) -> Changes | str:
    """Open the stream of writes to ``collection``, which is effective on return, or return why the server refuses it.

    It uses the first request of ``wanted`` that the server accepts, and begins a little in the past, if the server's
    history reaches back so far.
    """
    now: Timestamp | None = hello.get("operationTime")
    options: Document = {"max_await_time_ms": round(connection.silence * 1000), "batch_size": _BATCH}
    starts: list[Document] = [{}]
    if now is not None:
        starts.insert(0, {"start_at_operation_time": Timestamp(now.time - _OVERLAP, 1)})

    async def request() -> clients.ChangeStream | str:
        refusals: list[str] = []
        for stream, start in product(wanted, starts):
            try:
                return await clients.open_stream(collection, **stream, **start, **options)
            except OperationFailure as exc:
                if not is_refusal(exc):
                    raise
                refusals.append(f"the server refuses change streams ({reason_of(exc)})")
                if exc.code == UNAUTHORIZED:
                    return refusals[-1]
        return refusals[0]

    stream = await connection.call(request)
    return stream if isinstance(stream, str) else Changes(connection, stream, now)
