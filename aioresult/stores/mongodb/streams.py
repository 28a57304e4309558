"""Streams in MongoDB: reads and writes of their pieces.

The task's state is read right before a piece is inserted. If another process ends the task meanwhile, the items are
either stored before the stream's end, for every reader, or refused: see ``ends``.
"""

from __future__ import annotations

import random
from asyncio import sleep as pause
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Final

from pymongo.errors import BulkWriteError

from aioresult.abc import Store
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.states import FAILURE, READY_STATES, SUCCESS
from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.connection import Connection, together
from aioresult.stores.mongodb.documents import Document, expiry, is_over
from aioresult.stores.mongodb.ends import close
from aioresult.stores.mongodb.failures import DUPLICATE_KEY, TRANSIENT, throttled
from aioresult.stores.mongodb.pieces import HEAD_FIELDS, HEADS, Head, heads_of, numbered, piece_of, taken
from aioresult.stores.mongodb.ranges import LAST, any_of, beginning_in, chunks, key, whole
from aioresult.stream import EMPTY, REPEATED_AMONG, Append, Chunk, Cursor, stream_ended

_ATTEMPTS: Final = 100
"""How often another writer may take the number before it is an error."""
_KNOWN: Final = 10_000
"""The most streams of which this process remembers the newest piece."""
_FRESH: Final = 30.0
"""Seconds after which the state of a stream that was read is too old for an append."""
_KEPT: Final = timedelta(minutes=5)
"""How long a trimmed piece is kept, so that a writer with an older view of the stream cannot take its number."""
_SWEEP: Final = 60.0
"""Seconds between two deletions of the trimmed pieces of a stream."""

_New = tuple[Append, Document, int]
"""An append, the piece with those of its items that are not stored yet, and the number of its last item."""


class _Known:
    """What this process remembers of a stream: where its newest pieces begin, when the first expires, the last sweep.

    It only saves reading older pieces, and is checked before it is used.
    """

    __slots__ = ("ends_first", "first", "swept")

    def __init__(self, head: Head) -> None:
        self.first = head.first
        self.ends_first = head.ends_first
        self.swept = monotonic()


class StreamStore(Store):
    """Keeps each stream as documents of one collection."""

    keeps_streams: ClassVar[bool] = True
    _connection: Connection
    _known: dict[str, _Known]

    @property
    def _at(self) -> clients.Handles:
        return self._connection.at

    async def _let_expire(self, collection: clients.Collection) -> None:
        """Create the TTL index if it is missing, unless records are kept for ever."""
        if self.settings.expires_for(SUCCESS) or self.settings.expires_for(FAILURE):
            await self._connection.let_expire(collection)

    # --- appending ---

    async def append_many(self, appends: Sequence[Append]) -> list[int | AioResultError]:
        """Append by two queries and one insertion for all streams together; repeat where another writer was faster."""
        await self._let_expire(self._at.streams)
        outcomes: dict[str, int | AioResultError] = {}
        pending = list(appends)
        for attempt in range(_ATTEMPTS):
            pieces = await self._pieces(pending, outcomes)
            await self._insert(pieces, outcomes)
            pending = [append for append in pending if append.id not in outcomes]
            if not pending:
                break
            await pause(random.uniform(0, 0.001 * min(attempt, 20)))
        for append in pending:
            outcomes[append.id] = StoreUnavailable(
                f"{self.location}: other writers were in the way again and again: the stream of task {append.id!r}"
            )
        return [outcomes[append.id] for append in appends]

    async def _pieces(self, appends: Sequence[Append], outcomes: dict[str, int | AioResultError]) -> list[_New]:
        """Return the pieces to store; note in ``outcomes`` the appends that are refused, or stored already."""
        looked = monotonic()
        ids = [append.id for append in appends]
        ended, heads = await together(self._ended(ids), self._heads(ids))
        pieces: list[_New] = []
        for append in appends:
            if append.id in ended:
                outcomes[append.id] = stream_ended(append.id)
                continue
            head = await self._kept_alive(append.id, heads.get(append.id))
            if head is not None and head.ended:  # its task is not final any more: it was started again
                await self._delete({"_id": key(append.id, head.last + 1), "ended": True})
            stored = await self._newest(append.id, head) if append.repeated and head is not None else {}
            items = [item for item in append.items if item not in stored] if stored else append.items
            if not items:
                outcomes[append.id] = stored[append.items[-1]]
                continue
            piece = piece_of(append, items, head, self.settings)
            if isinstance(piece, AioResultError):
                outcomes[append.id] = piece
            else:
                pieces.append((append, piece, stored.get(append.items[-1]) or piece["last"]))
        return pieces if monotonic() - looked < _FRESH else []

    async def _ended(self, ids: Sequence[str]) -> set[str]:
        """Return which tasks are final."""
        final, tasks = {"status": {"$in": sorted(READY_STATES)}}, self._at.tasks
        documents, now = await self._connection.find_ids(tasks, ids, final, {"expires_at": 1}), datetime.now(UTC)
        return {document["_id"] for document in documents if not is_over(document, now)}

    async def _kept_alive(self, task_id: str, head: Head | None) -> Head | None:
        """Return ``head``, or ``None`` if the stream has expired; prolong the life of pieces that expire soon."""
        if head is None:
            return None
        now, streams = datetime.now(UTC), self._at.streams
        if head.ends is not None and head.ends <= now:
            expired = {**whole(task_id), "expires_at": {"$lte": now}}
            await self._delete(expired)
            self._known.pop(task_id, None)
            return None
        ends = expiry(self.settings.result_expires or None).get("expires_at")
        known = self._known.get(task_id) or _Known(head)
        if ends is not None and known.ends_first is not None and known.ends_first - now < (ends - now) / 2:
            older = {**whole(task_id), "expires_at": {"$lt": ends}}
            await self._connection.call(lambda: streams.update_many(older, {"$set": {"expires_at": ends}}))
            known.ends_first = ends
        if head.oldest > 1 and monotonic() - known.swept >= _SWEEP:
            trimmed = {**whole(task_id), "last": {"$lt": head.oldest}, "at": {"$lt": now - _KEPT}}
            await self._delete(trimmed)
            known.swept = monotonic()
        return head

    async def _newest(self, task_id: str, head: Head) -> dict[bytes, int]:
        """Return the numbers of the newest items."""
        since = max(head.last - REPEATED_AMONG + 1, head.oldest)
        pieces = await self._stored([beginning_in(task_id, since, head.last)])
        if not pieces or pieces[0]["_id"]["first"] > since:
            pieces = [*await self._piece_with(task_id, since), *pieces]
        return numbered(pieces)

    async def _insert(self, pieces: Sequence[_New], outcomes: dict[str, int | AioResultError]) -> None:
        """Insert ``pieces``, and note in ``outcomes`` those whose number was not taken."""
        if not pieces:
            return
        sent = 0

        async def insert() -> dict[str, Any]:
            nonlocal sent
            sent += 1
            try:
                await self._at.streams.insert_many([piece for _, piece, _ in pieces], ordered=False)
            except BulkWriteError as exc:
                if throttled(exc) is not None:
                    raise
                return dict(exc.details)
            return {}

        answer = await self._connection.call(insert)
        failed = {error["index"]: error for error in answer.get("writeErrors", ())}
        unconfirmed = answer.get("writeConcernErrors")
        for index, (append, _, last) in enumerate(pieces):
            if sent > 1:  # the second request may collide with what the first one has stored
                append.repeated = True
            error = failed.get(index) or (unconfirmed[0] if unconfirmed else None)
            if error is None:
                outcomes[append.id] = last
            elif error.get("code") != DUPLICATE_KEY:
                outcomes[append.id] = self._refused(append, error, lost=index not in failed)

    def _refused(self, append: Append, error: Document, *, lost: bool) -> AioResultError:
        text = f"{str(error.get('errmsg'))[:300]} (code {error.get('code')})"
        location = self.location
        if lost:
            return StoreUnavailable(f"task {append.id!r}: {location} could not confirm a write: {text}")
        if error.get("code") in TRANSIENT:
            return StoreUnavailable(f"task {append.id!r}: {location} could not write now: {text}")
        return AioResultError(f"task {append.id!r}: {location} does not accept its items: {text}")

    # --- reading ---

    async def read_many(self, cursors: Sequence[Cursor]) -> list[Chunk]:
        """Read by two queries for all cursors together, and by one more for each cursor in the middle of a piece."""
        ids = list(dict.fromkeys(cursor.id for cursor in cursors))
        ranges = [beginning_in(c.id, c.after + 1, c.after + c.limit) for c in cursors if c.limit]
        final = dict.fromkeys(cursor.id for cursor in cursors if cursor.final)
        while True:
            heads, found = await together(self._heads(ids), self._stored(ranges))
            ttl = self.settings.result_expires or None
            if not final or await self._connection.call(partial(close, self._at.streams, final, heads, ttl)):
                break  # otherwise another process has appended meanwhile, or closed the stream
        pieces: dict[str, list[Document]] = {task_id: [] for task_id in ids}
        for piece in found:
            pieces[piece["_id"]["task"]].append(piece)
        now = datetime.now(UTC)
        chunk_of = {task_id: head for task_id, head in heads.items() if head.ends is None or head.ends > now}
        return [await self._chunk(cursor, chunk_of.get(cursor.id), pieces[cursor.id]) for cursor in cursors]

    async def _chunk(self, cursor: Cursor, head: Head | None, pieces: Sequence[Document]) -> Chunk:
        if head is None:
            return EMPTY
        start = max(cursor.after + 1, head.oldest)
        if not cursor.limit or start > head.last:
            return Chunk(head.oldest, head.last)
        oldest = head.oldest
        items = taken(pieces, start, cursor.limit)
        if not items:
            pieces = await self._piece_with(cursor.id, start)
            if not pieces:
                return EMPTY  # deleted since the heads were read
            if pieces[0]["_id"]["first"] > start:
                oldest = start = pieces[0]["_id"]["first"]  # another process has deleted the beginning
            items = taken(pieces, start, cursor.limit)
        return Chunk(oldest, max(head.last, start + len(items) - 1), items)

    async def _heads(self, ids: Collection[str]) -> dict[str, Head]:
        """Return the head of each of these streams that exists."""
        heads: dict[str, Head] = {}
        known = {task_id: self._known[task_id].first for task_id in ids if task_id in self._known}
        for chunk in chunks(list(known)):
            ranges = any_of([beginning_in(task_id, known[task_id], LAST) for task_id in chunk])
            newest = await self._connection.find(self._at.streams, ranges, HEAD_FIELDS)
            heads |= heads_of(newest)  # a query is twice as fast as the pipeline below
        for task_id in known:
            if task_id in heads and task_id in self._known:
                self._known[task_id].first = heads[task_id].first
        for chunk in chunks([task_id for task_id in ids if task_id not in heads]):
            pipeline = [{"$match": any_of([whole(task_id) for task_id in chunk])}, HEADS]
            rows = await self._connection.call(partial(clients.aggregate, self._at.streams, pipeline, len(chunk) + 1))
            for row in rows:
                task_id = row.pop("_id")
                heads[task_id] = Head(**row)
                self._remember(task_id, heads[task_id])
        return heads

    def _remember(self, task_id: str, head: Head) -> None:
        self._known.pop(task_id, None)
        self._known[task_id] = _Known(head)
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    async def _stored(self, ranges: Sequence[Document]) -> list[Document]:
        """Return the pieces in ``ranges``, in order."""
        if not ranges:
            return []
        pieces = await self._connection.find(self._at.streams, any_of(ranges), {"items": 1, "last": 1})
        return sorted(pieces, key=lambda piece: piece["_id"]["first"])

    async def _piece_with(self, task_id: str, seq: int) -> list[Document]:
        """Return the piece that holds item ``seq``, or else the next one; none if there is neither."""
        before, after = beginning_in(task_id, 0, seq), beginning_in(task_id, seq, LAST)
        pieces = await self._first(before, -1)
        return pieces if pieces and pieces[0]["last"] >= seq else await self._first(after, 1)

    async def _first(self, condition: Document, direction: int) -> list[Document]:
        streams = self._at.streams
        return await self._connection.call(
            lambda: streams.find(condition).sort("_id", direction).limit(1).to_list(None)
        )

    # --- deleting ---

    async def _delete_streams(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            self._known.pop(task_id, None)
        for chunk in chunks(ids):
            await self._delete(any_of([whole(task_id) for task_id in chunk]))

    async def _purge_streams(self) -> None:
        await self._delete({"expires_at": {"$lte": datetime.now(UTC)}})

    async def _delete(self, condition: Document) -> None:
        await self._connection.delete(self._at.streams, condition)
