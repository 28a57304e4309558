"""``mongodb://``: results as Celery's documents, written where their state allows it, announced by a change stream."""

from __future__ import annotations

from asyncio import sleep as pause
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import ClassVar, Final, Self, TypeVar

import msgspec
from pymongo.errors import AutoReconnect, BulkWriteError, PyMongoError, ServerSelectionTimeoutError

from aioresult.abc import Capabilities, Feed, Store
from aioresult.errors import AioResultError, SettingsError, StoreUnavailable
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import Settings
from aioresult.states import FAILURE, SUCCESS
from aioresult.stores.mongodb import clients, writes
from aioresult.stores.mongodb.awaiting import heeding, together
from aioresult.stores.mongodb.documents import Document, Documents, is_over
from aioresult.stores.mongodb.failures import throttled, unavailable
from aioresult.stores.mongodb.feed import MongoFeed
from aioresult.stores.mongodb.groups import Groups
from aioresult.stores.mongodb.indexes import create_ttl_index
from aioresult.stores.mongodb.leases import Leases
from aioresult.stores.mongodb.ranges import chunks
from aioresult.stores.mongodb.streams import Streams
from aioresult.stores.mongodb.watching import Watching
from aioresult.stores.notices import warn_once
from aioresult.stream import Append, Chunk, Cursor

_ATTEMPTS: Final = 10
_T = TypeVar("_T")


class MongoStore(Store):
    """Keeps records in MongoDB, in Celery's collections unless told otherwise.

    Attributes:
        silence: seconds after which the server answers the change stream although there is nothing to tell; this is
            the probe by which a dead connection is noticed.
        motor_silence: the same with Motor, one of whose threads waits for the answer and cannot be interrupted.
    """

    lanes = 2
    keeps_streams: ClassVar[bool] = True
    keeps_leases: ClassVar[bool] = True
    silence: ClassVar[float] = 5.0
    motor_silence: ClassVar[float] = 1.0

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._documents = Documents(self.codec, settings)
        self._client: clients.Client | None = None
        self._handles: clients.Handles | None = None
        self._owns_client = True
        self._expiring: set[str] = set()
        self._streams = Streams(self, lambda: self._at, self._call)
        self._groups = Groups(self._documents, lambda: self._at, self._call)
        self._use(clients.target_of(url, settings))

    def _use(self, target: clients.Target) -> None:
        self._target = target
        self.location = where = target.location
        patience = self.settings.connect_timeout
        self._watching = Watching(where, lambda: self._at, self._call, self._count, self._quiet, patience)
        self._leases = Leases(where, lambda: self._at, self._call)

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        if not clients.is_client(client):
            raise SettingsError(
                f"expected a URL, PyMongo's AsyncMongoClient or Motor's AsyncIOMotorClient, not "
                f"{type(client).__name__}; a blocking client would stop the event loop"
            )
        store = cls("mongodb://", settings)
        store._adopt(client)
        return store

    def _adopt(self, client: clients.Client) -> None:
        self._made_from = client
        self._use(clients.target_of_client(client, self._target, self.settings))
        self._client = client
        self._owns_client = False

    # --- connections and requests ---

    @property
    def _at(self) -> clients.Handles:
        if self._handles is None:
            if self._client is None:
                self._client = clients.open_client(self._target)
            self._handles = clients.open_handles(self._client, self._target)
        return self._handles

    async def _call(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Make a request, once more if the connection that it took was dead, and again when the server says so."""
        repeated, asked_to_wait = False, 0
        while True:
            self._count()
            try:
                return await heeding(request())
            except PyMongoError as exc:
                seconds = throttled(exc)
                if seconds is not None and asked_to_wait < _ATTEMPTS:
                    asked_to_wait += 1
                    await pause(seconds)
                    continue
                dead = isinstance(exc, AutoReconnect) and not isinstance(exc, ServerSelectionTimeoutError)
                if repeated or not dead:
                    raise unavailable(exc, self.location) from exc
                repeated = True

    def _count(self) -> None:
        self.commands += 1

    async def aclose(self) -> None:
        client, self._client, self._handles = self._client, None, None
        if client is not None and self._owns_client:
            await clients.close_client(client, self.settings.connect_timeout)

    # --- records ---

    def encode(self, record: Record) -> Record:
        if isinstance(record.result, Encoded):
            return record
        return msgspec.structs.replace(record, result=self._documents.encode(record))

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        found: dict[str, Record] = {}
        for chunk in chunks(ids):
            documents = await self._find(chunk)
            now = datetime.now(UTC)
            for document in documents:
                if not is_over(document, now):
                    found[document["_id"]] = self._documents.decode(document)
        return found

    async def _find(self, ids: Sequence[str]) -> list[Document]:
        one_reply = len(ids) + 1  # with less, the server would keep the cursor and wait to be asked again
        return await self._call(lambda: self._at.tasks.find({"_id": {"$in": ids}}, batch_size=one_reply).to_list(None))

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        encoded = {record.id: self.encode(record) for record in records}
        await self._let_expire(self._at.tasks)
        outcome = dict.fromkeys(encoded, True)
        operations = {task_id: writes.replacement(record) for task_id, record in encoded.items()}
        silent = {task_id for task_id, record in encoded.items() if writes.is_refused_silently(record)}
        for _ in range(_ATTEMPTS):
            refused = await self._call(partial(self._write, operations)) if operations else []
            refused += [task_id for task_id in operations if task_id in silent]
            if not refused:
                return [outcome[record.id] for record in records]
            stored = {document["_id"]: document for chunk in chunks(refused) for document in await self._find(chunk)}
            operations = {}
            for task_id in refused:
                document = stored.get(task_id)
                expired = document is not None and self._documents.is_replaceable(document, datetime.now(UTC))
                verdict = writes.after_refusal(encoded[task_id], document, expired=expired)
                if isinstance(verdict, bool):
                    outcome[task_id] = verdict
                else:
                    operations[task_id] = verdict
        raise StoreUnavailable(
            f"{self.location}: other writers were in the way again and again: tasks {sorted(operations)[:3]}"
        )

    async def _write(self, operations: Mapping[str, writes.Operation]) -> list[str]:
        """Carry out ``operations``, by id, and return the ids of those that were refused."""
        try:
            await self._at.tasks.bulk_write([*operations.values()], ordered=False)
        except BulkWriteError as exc:
            if throttled(exc) is not None:
                raise  # what has been written already counts as written when it is written again
            return writes.refused(exc, list(operations), self.location)
        return []

    async def delete_many(self, ids: Sequence[str]) -> None:
        await together(self._delete_records(ids), self._streams.delete_many(ids))

    async def _delete_records(self, ids: Sequence[str]) -> None:
        for chunk in chunks(ids):
            await self._call(partial(self._delete, self._at.tasks, {"_id": {"$in": chunk}}))

    async def _delete(self, collection: clients.Collection, condition: Document) -> int:
        return (await collection.delete_many(condition)).deleted_count

    # --- streams ---

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        await self._let_expire(self._at.streams)
        return await self._streams.append_many(appends)

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        return await self._streams.read_many(cursors)

    # --- leases ---

    async def renew_lease(self, runner: str, seconds: float) -> None:
        await self._let_expire(self._at.runners)
        await self._leases.renew(runner, seconds)

    async def end_lease(self, runner: str) -> None:
        await self._leases.end(runner)

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        return await self._leases.ended(runners)

    # --- expiry ---

    async def _let_expire(self, collection: clients.Collection) -> None:
        """Make sure of the index by which MongoDB deletes what has expired."""
        results = self.settings.expires_for(SUCCESS) or self.settings.expires_for(FAILURE)
        if (results or collection is self._at.runners) and collection.name not in self._expiring:
            await self._call(partial(create_ttl_index, collection, self.location))
            self._expiring.add(collection.name)

    async def purge(self) -> int:
        condition = self._documents.expired(datetime.now(UTC))
        await self._streams.purge()
        tasks = await self._call(partial(self._delete, self._at.tasks, condition))
        return tasks + await self._call(partial(self._delete, self._at.groups, condition))

    # --- push ---

    async def feed(self) -> Feed | None:
        feed = await self._open_feed()
        if isinstance(feed, str):
            warn_once(self.location, f"cannot push, so that results are polled for: {feed}")
            return None
        return feed

    async def _open_feed(self) -> MongoFeed | str:
        """Open a feed, or return why there is none."""
        records = await self._watching.records()
        if isinstance(records, str):
            return records
        return MongoFeed(
            records,
            decode=self._announced,
            open_pieces=self._watching.pieces,
            read_many=self.read_many,
            interval=self.settings.poll_interval,
        )

    def _quiet(self) -> float:
        """Return after how many seconds of silence the server is to answer."""
        return min(self.silence, self.motor_silence) if self._target.motor else self.silence

    def _announced(self, document: Document) -> Record | None:
        return None if is_over(document, datetime.now(UTC)) else self._documents.decode(document)

    async def capabilities(self) -> Capabilities:
        feed = await self._open_feed()
        if not isinstance(feed, str):
            await feed.aclose()
        build = await self._call(lambda: self._at.database.command("buildInfo"))
        driver = "motor" if self._target.motor else "pymongo"
        details = {
            "server": f"MongoDB {build['version']}",
            "driver": f"{driver} {version(driver)}",
            "database": self._target.database,
            "collections": f"{self._target.tasks}, {self._target.groups}, {self._target.streams}",
        }
        if isinstance(feed, str):
            mechanism = "polling, one query for all waiters"
            return Capabilities(push=False, mechanism=mechanism, reason=feed, details=details)
        return Capabilities(push=True, mechanism="MongoDB change stream, one per process", details=details)

    # --- groups ---

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        await self._let_expire(self._at.groups)
        await self._groups.put(group_id, tree)

    async def get_group(self, group_id: str) -> ResultTree | None:
        return await self._groups.get(group_id)

    async def delete_group(self, group_id: str) -> None:
        await self._groups.delete(group_id)
