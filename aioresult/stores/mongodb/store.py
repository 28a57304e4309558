"""``mongodb://``: results as Celery's documents, written if the old state allows it, announced by a change stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import ClassVar, Self

import msgspec
from pymongo.errors import BulkWriteError, OperationFailure

from aioresult.abc import Capabilities, Feed
from aioresult.errors import SettingsError, StoreUnavailable, Unsupported
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import Settings
from aioresult.stores.mongodb import clients, writes
from aioresult.stores.mongodb.changes import open_records
from aioresult.stores.mongodb.connection import ATTEMPTS, Connection, together
from aioresult.stores.mongodb.documents import Document, Documents, is_over
from aioresult.stores.mongodb.failures import is_refusal, reason_of, throttled
from aioresult.stores.mongodb.feed import MongoFeed
from aioresult.stores.mongodb.ranges import chunks
from aioresult.stores.mongodb.streams import StreamStore
from aioresult.stores.notices import warn_once


class MongoStore(StreamStore):
    """Keeps records in MongoDB, by default in Celery's collections.

    Attributes:
        silence: seconds after which the server answers the change stream even without events; the missing answer
            reveals a dead connection.
        motor_silence: the same with Motor, where a thread that cannot be interrupted waits for the answer.
    """

    lanes = 2
    keeps_leases: ClassVar[bool] = True
    silence: ClassVar[float] = 5.0
    motor_silence: ClassVar[float] = 1.0

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._documents = Documents(self.codec, settings)
        self._use(clients.target_of(url, settings))

    def _use(self, target: clients.Target, client: clients.Client | None = None) -> None:
        self.location = target.location
        self._target = target
        silence = min(self.silence, self.motor_silence) if target.motor else self.silence
        self._connection = Connection(target, self.settings, self._count, silence, client)
        self._known = {}

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        if not clients.is_client(client):
            raise SettingsError(
                f"expected a URL, PyMongo's AsyncMongoClient or Motor's AsyncIOMotorClient, not "
                f"{type(client).__name__}; a blocking client would stop the event loop"
            )
        store = cls("mongodb://", settings)
        store._made_from = client
        store._use(clients.target_of_client(client, store._target, settings), client)
        return store

    def _count(self) -> None:
        self.commands += 1

    async def aclose(self) -> None:
        await self._connection.aclose()

    # --- records ---

    def encode(self, record: Record) -> Record:
        if isinstance(record.result, Encoded):
            return record
        return msgspec.structs.replace(record, result=self._documents.encode(record))

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        documents, now = await self._connection.find_ids(self._at.tasks, ids, {}), datetime.now(UTC)
        return {each["_id"]: self._documents.decode(each) for each in documents if not is_over(each, now)}

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        encoded = {record.id: self.encode(record) for record in records}
        await self._let_expire(self._at.tasks)
        outcome = dict.fromkeys(encoded, True)
        operations = {task_id: writes.replacement(record) for task_id, record in encoded.items()}
        silent = {task_id for task_id, record in encoded.items() if writes.is_refused_silently(record)}
        for _ in range(ATTEMPTS):
            refused = await self._connection.call(partial(self._write, operations)) if operations else []
            refused += [task_id for task_id in operations if task_id in silent]
            if not refused:
                return [outcome[record.id] for record in records]
            found = await self._connection.find_ids(self._at.tasks, refused, {})
            stored = {document["_id"]: document for document in found}
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
        """Execute ``operations``, by id, and return the ids of those that were refused."""
        try:
            await self._at.tasks.bulk_write([*operations.values()], ordered=False)
        except BulkWriteError as exc:
            if throttled(exc) is not None:
                raise  # when these are written again, those that were stored count as written
            return writes.refused(exc, list(operations), self.location)
        return []

    async def delete_many(self, ids: Sequence[str]) -> None:
        await together(self._delete_records(ids), self._delete_streams(ids))

    async def _delete_records(self, ids: Sequence[str]) -> None:
        for chunk in chunks(ids):
            await self._connection.delete(self._at.tasks, {"_id": {"$in": chunk}})

    # --- leases: a document for each; the server computes its end by its own clock ---

    async def renew_lease(self, runner: str, seconds: float) -> None:
        runners = self._at.runners
        await self._connection.let_expire(runners)
        end = {"$add": ["$$NOW", max(1, round(seconds * 1000))]}

        async def request() -> None:
            try:
                await runners.update_one({"_id": runner}, [{"$set": {"expires_at": end}}], upsert=True)
            except OperationFailure as exc:
                if is_refusal(exc):
                    raise Unsupported(
                        f"a runner can keep no lease: {self.location} refuses to write to the collection "
                        f"{runners.name} ({reason_of(exc)}); this takes MongoDB 4.2 and the role readWrite"
                    ) from exc
                raise

        await self._connection.call(request)

    async def end_lease(self, runner: str) -> None:
        await self._connection.delete(self._at.runners, {"_id": runner})

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        in_effect = {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}
        found = await self._connection.find_ids(self._at.runners, runners, in_effect, {"_id": 1})
        alive = {lease["_id"] for lease in found}
        return [runner for runner in runners if runner not in alive]

    # --- expiry ---

    async def purge(self) -> int:
        condition = self._documents.expired(datetime.now(UTC))
        await self._purge_streams()
        tasks = await self._connection.delete(self._at.tasks, condition)
        return tasks + await self._connection.delete(self._at.groups, condition)

    # --- push ---

    async def feed(self) -> Feed | None:
        feed = await self._open_feed()
        if isinstance(feed, str):
            warn_once(self.location, f"cannot push, so that results are polled for: {feed}")
            return None
        return feed

    async def _open_feed(self) -> MongoFeed | str:
        """Open a feed, or return why there is none."""
        records = await open_records(self._connection)
        if isinstance(records, str):
            return records
        return MongoFeed(self._connection, records, self._announced, self.read_many)

    def _announced(self, document: Document) -> Record | None:
        return None if is_over(document, datetime.now(UTC)) else self._documents.decode(document)

    async def capabilities(self) -> Capabilities:
        feed = await self._open_feed()
        if not isinstance(feed, str):
            await feed.aclose()
        build = await self._connection.call(lambda: self._at.database.command("buildInfo"))
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
        groups, document = self._at.groups, self._documents.encode_group(group_id, tree)
        await self._let_expire(groups)
        await self._connection.call(lambda: groups.replace_one({"_id": group_id}, document, upsert=True))

    async def get_group(self, group_id: str) -> ResultTree | None:
        groups = self._at.groups
        document = await self._connection.call(lambda: groups.find_one({"_id": group_id}))
        if document is None or is_over(document, datetime.now(UTC)):
            return None
        return self._documents.decode_group(document)

    async def delete_group(self, group_id: str) -> None:
        await self._connection.delete(self._at.groups, {"_id": group_id})
