"""Streams in SQLite: each call is one transaction, executed in the connection's thread without the loop."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, Dialect
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.streams.port import Found, Known, Stored, StreamStatements, chunk_of
from aioresult.stream import REPEATED_AMONG, Append, Chunk, Cursor

Outcome = TypeVar("Outcome")


class SQLiteStreams(StreamStatements):
    """There is one writer at a time, so only the database is locked."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        super().__init__(dialect, settings)
        table = self.layout.stream
        self._status = f"SELECT status FROM {self.layout.task} WHERE task_id = ?"
        # Two queries, each of which reads one end of the index: a single query with both would scan all of it.
        self._ends = (
            f"SELECT (SELECT min(seq) FROM {table} WHERE task_id = ?), (SELECT max(seq) FROM {table} WHERE task_id = ?)"
        )
        self._newest = f"SELECT item, seq FROM {table} WHERE task_id = ? AND seq > ?"
        self._insert = f"INSERT INTO {table} (task_id, seq, item, date) VALUES (?, ?, ?, ?)"
        self._trim = f"DELETE FROM {table} WHERE task_id = ? AND seq <= ?"
        self._select = f"SELECT item FROM {table} WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?"
        self._delete = f"DELETE FROM {table} WHERE task_id IN (SELECT value FROM json_each(?))"
        self._purge = (
            f"DELETE FROM {table} WHERE rowid IN (SELECT kept.rowid FROM {table} AS kept WHERE kept.task_id IN "
            f"(SELECT task_id FROM {table} AS newest WHERE date < ? AND NOT EXISTS (SELECT 1 FROM {table} AS later "
            f"WHERE later.task_id = newest.task_id AND later.seq > newest.seq) LIMIT {PURGE_BATCH}) "
            f"ORDER BY kept.task_id, kept.seq LIMIT {PURGE_BATCH})"
        )

    async def append(self, link: Link, appends: Sequence[Append], date: datetime) -> Sequence[Stored]:
        when = self.dates.to_column(date)
        return await _transaction(
            link, "BEGIN IMMEDIATE", lambda connection: [self._append(connection, append, when) for append in appends]
        )

    def _append(self, connection: sqlite3.Connection, append: Append, date: object) -> Stored:
        status = connection.execute(self._status, (append.id,)).fetchone()
        oldest, last = connection.execute(self._ends, (append.id, append.id)).fetchone()
        found = Found(status and status[0], oldest or 1, last or 0)
        newest = connection.execute(self._newest, (append.id, found.last - REPEATED_AMONG)) if append.repeated else ()
        known: Known = dict(newest)
        stored, rows, gone = self.rows(append, found, known)
        connection.executemany(self._insert, ((*row, date) for row in rows))
        if gone:
            connection.execute(self._trim, (append.id, gone))
        return stored

    async def read(self, link: Link, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        return await _transaction(
            link, "BEGIN", lambda connection: [self._read(connection, cursor) for cursor in cursors]
        )

    def _read(self, connection: sqlite3.Connection, cursor: Cursor) -> Chunk:
        oldest, last = connection.execute(self._ends, (cursor.id, cursor.id)).fetchone()
        rows = connection.execute(self._select, (cursor.id, cursor.after, cursor.limit)) if cursor.limit else ()
        return chunk_of(oldest, last, [item for (item,) in rows])

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        await link.run(self._delete, (json.dumps(ids),))

    async def purge(self, link: Link, cutoff: datetime) -> int | None:
        return await link.run(self._purge, (self.dates.to_column(cutoff),))


async def _transaction(link: Link, begin: str, work: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
    """Do ``work`` in one transaction; on a shared connection, perhaps within one that is open already."""

    def call(connection: sqlite3.Connection) -> Outcome:
        if connection.in_transaction:
            return work(connection)
        connection.execute(begin)
        with connection:  # commits, or rolls back
            return work(connection)

    return await link.in_thread(call)
