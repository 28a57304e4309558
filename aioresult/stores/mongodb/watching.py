"""Opening change streams, where the server has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure

from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.awaiting import Call
from aioresult.stores.mongodb.changes import Changes, Request, open_stream
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import is_refusal, reason_of
from aioresult.stores.mongodb.feed import PIECES, RECORDS
from aioresult.stores.notices import warn_once


class Watching:
    """Opens the change streams of one store.

    Args:
        location: of the database, for messages.
        at: gives the collections.
        call: makes a request, and repeats it once where the connection was dead.
        count: called once for each request of a change stream.
        silence: gives after how many seconds of silence the server is to answer.
        patience: so many seconds later a connection without an answer counts as dead.
    """

    def __init__(
        self,
        location: str,
        at: Callable[[], clients.Handles],
        call: Call,
        count: Callable[[], None],
        silence: Callable[[], float],
        patience: float,
    ) -> None:
        self._location = location
        self._at = at
        self._call = call
        self._count = count
        self._silence = silence
        self._patience = patience

    async def records(self) -> Changes | str:
        """Open the stream of what happens to results, or return why there is none."""
        hello = await self._hello()
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            return "a standalone server has no change streams; run it as a replica set, of one member if need be"
        return await self._open(self._at().tasks, RECORDS, hello)

    async def pieces(self) -> Changes | None:
        """Open the stream of what happens to items; where the server refuses that, warn, and return ``None``."""
        pieces = await self._open(self._at().streams, PIECES, await self._hello())
        if isinstance(pieces, str):
            warn_once(self._location, f"cannot push items of streams, so that they are polled for: {pieces}")
            return None
        return pieces

    async def _hello(self) -> Document:
        hello: Document = await self._call(lambda: clients.hello(self._at().database))
        return hello

    async def _open(self, collection: clients.Collection, wanted: Request, hello: Document) -> Changes | str:
        now = hello.get("operationTime")
        stream = await self._call(partial(self._open_once, collection, wanted, now))
        if isinstance(stream, str):
            return stream
        return Changes(
            stream,
            opened_at=now,
            patience=self._silence() + self._patience,
            location=self._location,
            count=self._count,
        )

    async def _open_once(
        self, collection: clients.Collection, wanted: Request, now: Timestamp | None
    ) -> clients.ChangeStream | str:
        try:
            return await open_stream(collection, wanted, now, self._silence())
        except OperationFailure as exc:
            if is_refusal(exc):
                return f"the server refuses change streams ({reason_of(exc)})"
            raise
