"""SQLite across processes: an event of its files, then a query for what is new.

A commit first reaches the write-ahead log and becomes visible a moment later, up to an fsync later with writers in
SQLite's default mode. Therefore an event is followed by checks at growing intervals. A check compares only ``PRAGMA
data_version`` while it is unchanged. After a change, the rows that may have changed are read: new rows, found by their
growing ids, and known rows of watched tasks that are not successful yet. For streams, only the highest numbers are
read.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import aiosqlite

from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.record import Record
from aioresult.states import SUCCESS
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import NOT_UTF8
from aioresult.stores.sqlalchemy.feeds import files
from aioresult.stores.sqlalchemy.feeds.local import LocalFeed
from aioresult.stores.sqlalchemy.rows import Row

_PAUSES: Final = (0.0005, 0.002, 0.008, 0.032, 0.128, 0.512, 2.048)
"""Seconds between checks after an event of the files, while nothing has changed."""
_AFTER_NEWS: Final = (0.032, 0.512)
"""The same after a change: one event may be caused by two commits, of which only the first was visible."""
_ARRIVALS: Final = 5000
"""Rows per query for new rows."""


class FileFeed(LocalFeed):
    """A feed with a connection of its own, which queries when the files of the database change."""

    def __init__(self, database: Database, dialect: Dialect, key: tuple[object, ...]) -> None:
        super().__init__(key, database.rows)
        self._database = database
        self._path = Path(dialect.facts["file"])
        self._use(dialect)
        # All three, because a new writer may change the journal mode.
        names = frozenset(self._path.name + suffix for suffix in ("", "-wal", "-journal"))
        self._files = files.FileWatch(self._path.parent, names, self._on_change)
        self._connection: aiosqlite.Connection | None = None
        self._inode = self._path.stat().st_ino
        self._version = self._last = 0
        self._known: dict[str, tuple[int, int]] = {}
        """Rows of watched tasks that may still change: their ids, and hashes of their contents."""
        self._suspicious = False
        self._pauses: Iterator[float] = iter(())
        self._timer: asyncio.TimerHandle | None = None

    def _use(self, dialect: Dialect) -> None:
        """Make the statements for the table that was found, or note that there is none yet."""
        self._there = dialect.layout.there
        self._ids_grow = dialect.facts["ids"] == "increasing"
        table, columns = dialect.layout.task, dialect.layout.select_list()
        self._by_task = f"SELECT id, {columns} FROM {table} WHERE task_id IN (SELECT value FROM json_each(?))"
        self._by_id = f"SELECT id, {columns} FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
        self._arrived = f"SELECT id, task_id FROM {table} WHERE id > ? ORDER BY id LIMIT {_ARRIVALS}"
        self._last_id = f"SELECT max(id) FROM {table}"
        self._last_items = (
            f"SELECT value, (SELECT max(seq) FROM {dialect.layout.stream} WHERE task_id = value) FROM json_each(?)"
        )

    async def open(self) -> None:
        """Connect and begin watching.

        Raises:
            OSError: file events are not available.
            StoreUnavailable: the database cannot be opened.
        """
        connection = await self._database.driver_connection()
        if not isinstance(connection, aiosqlite.Connection):
            raise SettingsError(f"{self._database.location}: the driver has to be aiosqlite")
        self._connection = connection
        await self._files.open()
        self._version = (await self._query("PRAGMA data_version"))[0][0]
        await self._catch_up()

    async def unwatch(self, ids: Collection[str]) -> None:
        await super().unwatch(ids)
        for task_id in ids:
            self._known.pop(task_id, None)

    async def aclose(self) -> None:
        await super().aclose()
        self._files.close()
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # --- events of the files ---

    def _on_change(self, name: str) -> None:
        if name == self._path.name and not self._is_same_file():
            self._fail(StoreUnavailable(f"{self._database.location}: the file was deleted or replaced"))
        elif not name:
            self._fresh |= self._watched  # events were lost: read everything
            self._fresh_streams |= self._followed.keys()
            self._wake.set()
        else:
            self._pauses = iter(_PAUSES)
            self._suspect()

    def _suspect(self) -> None:
        self._suspicious = True
        self._wake.set()

    def _is_same_file(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _look_again_later(self) -> None:
        pause = next(self._pauses, None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if pause is None else self._loop.call_later(pause, self._suspect)

    # --- queries ---

    async def _do_pending(self) -> None:
        fresh, self._fresh = self._fresh, set()
        if fresh:
            await self._look_at(fresh)
        if self._fresh_streams:
            fresh_streams = self._take_fresh_streams()
            await self._have_grown(fresh_streams)
            self._tell_to_look(fresh_streams)
        if self._suspicious:
            self._suspicious = False
            version = (await self._query("PRAGMA data_version"))[0][0]
            if version != self._version:
                self._version = version
                self._pauses = iter(_AFTER_NEWS)
                await self._look_for_news()
                self._tell_to_look(await self._have_grown(list(self._followed)))
            self._look_again_later()

    async def _look_at(self, ids: Collection[str]) -> None:
        """Emit the first event of ``ids``: what is stored under each, or that nothing is stored."""
        found = set()
        if not self._there:  # the table may have been created since the feed was opened
            self._use(await self._database.ready())
            await self._catch_up()
        rows = await self._query(self._by_task, json.dumps(list(ids))) if self._there else []
        for row_id, *row in rows:
            if row[0] in self._watched:
                found.add(row[0])
                self._note(row_id, tuple(row))
                self._emit(row[0], self._rows.to_record(row))
        for task_id in ids:
            if task_id not in found and task_id in self._watched:
                self._emit(task_id, Record(id=task_id))

    async def _look_for_news(self) -> None:
        if not self._there:
            await self._look_at(list(self._watched))
            return
        if not self._watched:
            await self._catch_up()
            return
        if self._ids_grow:
            candidates = [row_id for row_id, _ in self._known.values()] + await self._arrivals()
            statement, parameter = self._by_id, json.dumps(candidates)
        else:
            statement, parameter = self._by_task, json.dumps(list(self._watched))
        if parameter == "[]":
            return
        for row_id, *row in await self._query(statement, parameter):
            if row[0] in self._watched and self._note(row_id, tuple(row)):
                self._emit(row[0], self._rows.to_record(row))

    async def _catch_up(self) -> None:
        """Mark the present rows of the table as known."""
        if self._there:
            self._last = (await self._query(self._last_id))[0][0] or 0

    async def _have_grown(self, ids: Collection[str]) -> list[str]:
        """Return which of these streams have another last item than at the last check."""
        if not ids:
            return []
        try:
            rows = await self._query(self._last_items, json.dumps(list(ids)))
        except StoreUnavailable as exc:
            if "no such table" not in str(exc):  # without a table, nothing has been appended yet
                raise
            return []
        grown = [(task_id, last or 0) for task_id, last in rows if self._followed.get(task_id) != (last or 0)]
        self._followed.update(pair for pair in grown if pair[0] in self._followed)
        return [task_id for task_id, _ in grown]

    async def _arrivals(self) -> list[int]:
        """Return the row ids of watched tasks that are new since the last check."""
        found: list[int] = []
        while True:
            rows = await self._query(self._arrived, self._last)
            found += [row_id for row_id, task_id in rows if task_id in self._watched]
            if rows:
                self._last = rows[-1][0]
            if len(rows) < _ARRIVALS:
                return found

    def _note(self, row_id: int, row: Row) -> bool:
        """Remember the contents of a row while it may still change, and return whether they are new."""
        note = (row_id, hash(row))
        if self._known.get(row[0]) == note:
            return False
        self._known[row[0]] = note
        if row[1] == SUCCESS and self._ids_grow:
            del self._known[row[0]]
        return True

    async def _query(self, statement: str, *parameters: Any) -> list[Any]:
        connection = self._connection
        if connection is None:
            raise StoreUnavailable(f"{self._database.location}: the feed has ended")
        self._database.count()
        try:
            try:
                return list(await connection.execute_fetchall(statement, parameters))
            except sqlite3.OperationalError as exc:
                if NOT_UTF8 not in str(exc):
                    raise
                # Permanently: this is slower, but works for every text.
                connection.text_factory = lambda octets: octets.decode(errors="replace")
                return list(await connection.execute_fetchall(statement, parameters))
        except (sqlite3.Error, ValueError) as exc:
            raise StoreUnavailable(f"{self._database.location}: {exc}") from exc
