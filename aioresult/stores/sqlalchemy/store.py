"""Celery's result tables in SQLite, PostgreSQL, MySQL and MariaDB, through SQLAlchemy's asyncio engine.

A row is read until it is deleted, however old it is. ``purge`` deletes rows that became final longer than
``result_expires`` ago. States that are not final have no date in Celery's tables, so they never expire: a program that
stores STARTED or PROGRESS must also store a final state.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import ClassVar, Final, Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from aioresult.abc import Capabilities, Feed
from aioresult.errors import DecodeError, SettingsError
from aioresult.record import Conditional, Record, ResultTree
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.database import Database, is_small
from aioresult.stores.sqlalchemy.dialects import dialect_class
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import UNREADABLE, MissingTable
from aioresult.stores.sqlalchemy.feeds import push_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stores.sqlalchemy.streams import StreamStore, stream_class
from aioresult.stores.sqlalchemy.urls import Target, family_of, location_of, parse

_PING: Final = text("SELECT 1")


class SQLStore(StreamStore):
    """Keeps each task as a row of ``celery_taskmeta``, as Celery does, and each item of a stream as its own row."""

    max_id_length: ClassVar[int | None] = 155
    needs_purge: ClassVar[bool] = True

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._use(parse(url), None)

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        """Return a store over SQLAlchemy's asynchronous engine ``client``, which stays open.

        Raises:
            SettingsError: it is not an ``AsyncEngine``, or its kind of database cannot be used.
        """
        if not isinstance(client, AsyncEngine):
            raise SettingsError(
                f"expected a URL or an AsyncEngine of sqlalchemy.ext.asyncio, not {type(client).__name__}; "
                f"a blocking client would stop the event loop"
            )
        store = cls.__new__(cls)
        StreamStore.__init__(store, "", settings)
        store._made_from = client
        family = family_of(client.dialect.name)
        store._use(Target(url=client.url, family=family, location=location_of(client.url)), client)
        return store

    def _use(self, target: Target, client: AsyncEngine | None) -> None:
        self.location = target.location
        self.lanes = dialect_class(target.family).lanes
        self.database = Database(target, self.settings, self.codec, self._count, client)
        self._rows = self.database.rows
        self._push = push_of(self.database, self.get_many)
        self._stream_class = stream_class(target.family)

    def _count(self) -> None:
        self.commands += 1

    def encode(self, record: Record) -> Record:
        return self._rows.encode(record)

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        wanted = {task_id for task_id in ids if "\0" not in task_id}  # SQL text cannot hold a null

        async def read(link: Link, dialect: Dialect) -> Sequence[Row]:
            return await dialect.read(link, list(wanted)) if dialect.layout.there else []

        if not wanted:
            return {}
        try:
            rows = await self.database.run(read, small=is_small(len(wanted)))
        except UNREADABLE as exc:
            return await self._read_apart(sorted(wanted), exc)
        return {row[0]: self._rows.to_record(row) for row in rows if row[0] in wanted}

    async def _read_apart(self, ids: Sequence[str], exc: Exception) -> Mapping[str, Record]:
        """Read rows again in halves after a failed read, because the driver cannot convert one of the values."""
        if len(ids) == 1:
            return {ids[0]: self._rows.unreadable(ids[0], exc)}
        middle = len(ids) // 2
        return {**await self.get_many(ids[:middle]), **await self.get_many(ids[middle:])}

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        by_condition: defaultdict[str, list[Row]] = defaultdict(list)
        for record in records:
            over = record.over if isinstance(record, Conditional) else ""
            by_condition[over].append(self._rows.to_row(self._rows.encode(record)))
        written: set[str] = set()
        for over, rows in by_condition.items():
            written |= await self._write(rows, over)
        return [record.id in written for record in records]

    async def _write(self, rows: Sequence[Row], over: str) -> set[str]:
        lifetime = self.settings.result_expires

        async def write(link: Link, dialect: Dialect) -> set[str]:
            return await dialect.write(link, rows, dialect.cutoff(lifetime) if lifetime else None, over)

        small = is_small(len(rows), sum(len(row[2] or b"") for row in rows))
        written = await self.database.run(write, small=small, writes="task")
        self._push.announce([row for row in rows if row[0] in written])
        return written

    async def delete_many(self, ids: Sequence[str]) -> None:
        wanted = [task_id for task_id in ids if "\0" not in task_id]

        async def delete(link: Link, dialect: Dialect) -> None:
            if dialect.layout.there:
                await dialect.delete(link, wanted)

        if wanted:
            await self.database.run(delete, small=is_small(len(wanted)))
            await self._delete_streams(wanted)

    async def feed(self) -> Feed | None:
        return await self._push.open()

    async def capabilities(self) -> Capabilities:
        await self.ping()
        return await self._push.capabilities()

    async def ping(self) -> None:
        await self.database.run(lambda link, _: link.hot_rows(_PING, {}), small=True)

    async def purge(self) -> int:
        """Delete expired results and groups, in small transactions, and leases that have ended.

        Several processes may call this at the same time: on servers, one of them deletes while the others return at
            once.
        """
        expired = await self._purge_expired(self.settings.result_expires) if self.settings.result_expires else 0
        await self._delete_leases(None)
        return expired

    async def _purge_expired(self, seconds: float) -> int:
        dialect = await self.database.ready()
        cutoff = dialect.cutoff(seconds)
        total = 0
        for table in (dialect.layout.task, dialect.layout.group):
            with self._unless_missing():
                while deleted := await self._purge_some(table, cutoff):
                    total += deleted
                    await asyncio.sleep(0)
        await self._purge_streams(cutoff)
        return total

    async def _purge_some(self, table: str, cutoff: datetime) -> int | None:
        return await self.database.run(lambda link, dialect: dialect.purge(link, table, cutoff))

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        payload = self._rows.encode_group(group_id, tree)
        now = datetime.now(UTC)
        await self.database.run(
            lambda link, dialect: dialect.write_group(link, group_id, payload, now),
            small=is_small(1, len(payload)),
            writes="group",
        )

    async def get_group(self, group_id: str) -> ResultTree | None:
        payload = None
        with self._unless_missing():
            try:
                payload = await self.database.run(lambda link, dialect: dialect.read_group(link, group_id), small=True)
            except UNREADABLE as exc:
                raise DecodeError(f"the saved group {group_id!r} cannot be read: {exc!s:.400}") from exc
        return self._rows.decode_group(group_id, payload)

    async def delete_group(self, group_id: str) -> None:
        with self._unless_missing():
            await self.database.run(lambda link, dialect: dialect.delete_group(link, group_id), small=True)

    @contextmanager
    def _unless_missing(self) -> Iterator[None]:
        """Treat a missing table as empty, if it would be created for the first row."""
        try:
            yield
        except MissingTable:
            if not self.settings.database_create_tables_at_setup:
                raise

    async def aclose(self) -> None:
        await self.database.aclose()
