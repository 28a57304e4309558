"""SQLite: one statement per batch, which decides in its ``WHERE``; ids are passed as one JSON parameter."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL, set_exception, set_result
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from aioresult.errors import AccessDenied, AioResultError, StoreUnavailable, Unsupported
from aioresult.patches import original, patched_by_gevent
from aioresult.record import ABSENT, RUNNER, UNFINISHED
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.dates import Dates, TextDates
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, Dialect, condition, parts_of
from aioresult.stores.sqlalchemy.feeds import files
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stores.sqlalchemy.tables import COLUMNS, Layout, Tables
from aioresult.stores.sqlalchemy.urls import Target

logger = logging.getLogger("aioresult")

_OLDEST: Final = (3, 35, 0)
"""The first version with RETURNING."""
_CHUNK: Final = 1000
"""Rows per statement; with all their columns they stay below SQLite's limit of 32,766 parameters."""
_WRITE_VERSION: Final = 18
"""The position in a file of the byte that shows whether there is a write-ahead log."""
_OLD: Final = "date_done BETWEEN '' AND ?"
"""The condition for an older date. Dates are text; a number, which another program may have stored, is not between."""
_BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another process's transaction."""


class SQLiteDialect(Dialect):
    """SQLite 3.35 or newer, in any journal mode."""

    begin = "BEGIN IMMEDIATE"
    clock = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    deadline = patience = None  # there is no server that could be silent; waiting for a lock has its own limit

    def __init__(self, layout: Layout, dates: Dates, facts: dict[str, str]) -> None:
        super().__init__(layout, dates, facts)
        table = layout.task
        self._read = f"SELECT {layout.select_list()} FROM {table} WHERE task_id IN (SELECT value FROM json_each(?))"
        self._delete = f"DELETE FROM {table} WHERE task_id IN (SELECT value FROM json_each(?))"
        self._row = f"({', '.join('?' * len(layout.written))})"
        self._positions = [COLUMNS.index(name) for name in layout.written]
        self._insert = f"INSERT INTO {table} AS old ({', '.join(layout.written)}) "
        self._on_conflict = {over: _on_conflict(layout, over) for over in ("", UNFINISHED, ABSENT, RUNNER)}
        self._there = f" WHERE EXISTS (SELECT 1 FROM {table} AS old WHERE old.task_id = given.column1)"

    @staticmethod
    def dates_for(settings: Settings) -> Dates:
        return TextDates(settings.zone)

    @staticmethod
    def engine_options(target: Target, settings: Settings) -> dict[str, Any]:
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_TIMEOUT, "async_creator_fn": _connect}}
        if files.path_of(target.url) is None:
            options["poolclass"] = StaticPool  # one connection, because the database in memory ends with it
        else:
            options["pool_size"] = 2  # each connection has a thread: one reads while the other writes
        return options

    @staticmethod
    def prepare_engine(engine: AsyncEngine, writes: Callable[[], bool]) -> None:
        """Let readers and the writer work at the same time, by a write-ahead log.

        The file stores the mode, so it is set if the file is new, or once a store writes here. A commit then survives
        the end of the process, but the last ones may be lost after a power failure, as SQLite's own documentation
        recommends for this mode. The log needs memory that all processes share, so the mode is not changed on network
        file systems (and in memory). It is set only once, so that a ``database_engine_callback`` can choose another
        one.
        """
        path = files.path_of(engine.url)
        shared = path is not None and not files.network_of(path)
        decided = False

        def on_connect(connection: Any, _record: object) -> None:
            nonlocal decided
            cursor = connection.cursor()
            switching = path is not None and shared and not decided and (writes() or _is_new(path))
            decided = decided or switching
            try:
                cursor.execute("PRAGMA journal_mode = WAL" if switching else "PRAGMA journal_mode")
                if cursor.fetchone()[0] == "wal":
                    cursor.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.OperationalError:
                said = "the journal mode of the SQLite database stays as it is: read-only, or in use"
                logger.debug(said, exc_info=True)
            finally:
                cursor.close()

        event.listen(engine.sync_engine, "connect", on_connect)

    @staticmethod
    def explained(error: AioResultError, target: Target) -> AioResultError:
        path = files.path_of(target.url)
        if path is None or not _log_out_of_reach(path):
            return error
        return AccessDenied(
            f"{error}; the database has a write-ahead log, and whoever reads it has to write to the folder "
            f"{path.parent}, too: allow that, or, if nobody writes to the database meanwhile, give the URL "
            f"sqlite:///file:{path}?immutable=1&uri=true"
        )

    @staticmethod
    async def look(link: Link, tables: Tables) -> dict[str, str]:
        version = str(await link.value("SELECT sqlite_version()"))
        if tuple(int(part) for part in version.split(".")) < _OLDEST:
            raise Unsupported(f"SQLite {version} is too old: 3.35 or newer is needed; install a newer Python")
        schema = tables.task.schema or "main"
        path = next((row[2] for row in await link.rows("PRAGMA database_list") if row[1] == schema), "")
        quoted = link.connection.dialect.identifier_preparer.quote_identifier(schema)
        definition = await link.value(f"SELECT sql FROM {quoted}.sqlite_master WHERE name = ?", (tables.task.name,))
        return {
            "sqlite": version,
            "file": path,
            "journal_mode": str(await link.value("PRAGMA journal_mode")),
            "ids": "increasing" if "AUTOINCREMENT" in str(definition).upper() else "reused",
        }

    async def read(self, link: Link, ids: Sequence[str]) -> Sequence[Row]:
        return await link.rows(self._read, (json.dumps(ids),))

    async def write(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str = "") -> set[str]:
        limit = None if cutoff is None else self.dates.to_column(cutoff)
        if len(rows) <= _CHUNK:
            return await self._write(link, rows, limit, over)
        written: set[str] = set()
        async with link.transaction(self.begin):
            for some in parts_of(rows, _CHUNK):
                written |= await self._write(link, some, limit, over)
        return written

    async def _write(self, link: Link, rows: Sequence[Row], limit: object, over: str) -> set[str]:
        values = f"VALUES {', '.join([self._row] * len(rows))}"
        last = limit
        if over.startswith(RUNNER):
            values, last, over = f"SELECT * FROM ({values}) AS given{self._there}", over, RUNNER
        statement = f"{self._insert}{values}{self._on_conflict[over]}"
        parameters = [row[position] for row in rows for position in self._positions]
        return {task_id for (task_id,) in await link.rows(statement, (*parameters, last))}

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        await link.run(self._delete, (json.dumps(ids),))

    async def purge(self, link: Link, table: str, cutoff: datetime) -> int | None:
        statement = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {_OLD} LIMIT {PURGE_BATCH})"
        return await link.run(statement, (self.dates.to_column(cutoff),))  # waits for the lock: one writer at a time


async def _connect(*where: Any, **options: Any) -> aiosqlite.Connection:
    """Connect as SQLAlchemy would, but always complete it, even if cancelled.

    aiosqlite itself loses the opened connection when it is cancelled, as all tasks are when a loop ends. If opening
    fails, it does not wait for the connection's thread, whose last message may then arrive in a closed loop.
    """
    connection = aiosqlite.connect(*where, **options)
    opening: asyncio.Future[sqlite3.Connection] = asyncio.get_running_loop().create_future()
    _start_thread(connection)
    connection._tx.put_nowait((opening, connection._connector))
    cancelled: asyncio.CancelledError | None = None
    while not opening.done():
        try:
            await asyncio.wait([opening])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if error := opening.exception():
        stopped = connection.stop()
        if connection._thread.is_alive():
            await asyncio.to_thread(connection._thread.join)
        elif stopped is not None:
            await stopped
        raise cancelled or _explained(error, str(where[0]))
    connection._connection = opening.result()
    if cancelled is not None:
        await connection.close()
        raise cancelled
    return connection


def _start_thread(connection: aiosqlite.Connection) -> None:
    """Start the connection's thread as a daemon.

    If gevent has patched threads, a real thread is used: greenlets that wait for each other's locks in SQLite's own
    code would all block until the timeout.
    """
    thread = connection._thread
    if patched_by_gevent():
        connection._tx = original("queue", "SimpleQueue")()
        original("_thread", "start_new_thread")(_serve, (connection._tx,))
    else:
        thread.daemon = True
        thread.start()


def _serve(calls: Any) -> None:
    """Do the work of aiosqlite's threads, but log nothing, because gevent's lock of a log needs a hub."""
    outcome: Any = None
    tell: Callable[[asyncio.Future[Any], Any], None]
    while outcome is not _STOP_RUNNING_SENTINEL:
        future, call = calls.get()
        try:
            tell, outcome = set_result, call()
        except BaseException as exc:  # noqa: BLE001  (raised where the call is awaited)
            tell, outcome = set_exception, exc
        if future is not None:
            with suppress(RuntimeError):  # its loop is closed
                future.get_loop().call_soon_threadsafe(tell, future, outcome)
        del future, call, tell


def _explained(error: BaseException, database: str) -> BaseException:
    """Return ``error``, or one with the reason if SQLite only says that it cannot open the file."""
    path = Path(database.removeprefix("file:").partition("?")[0]).absolute()
    folder = path.parent
    if isinstance(error, sqlite3.OperationalError) and path.is_dir():
        return StoreUnavailable(f"sqlite:///{database}: this is a folder; put the name of a file behind it")
    if not isinstance(error, sqlite3.OperationalError) or folder.is_dir():
        return error
    return StoreUnavailable(
        f"sqlite:///{database}: there is no folder {folder}; create it, or correct the path: sqlite:///here.db is "
        f"relative to the current folder, sqlite:////there/here.db is not"
    )


def _on_conflict(layout: Layout, over: str) -> str:
    """Return the rest of the INSERT: an existing row is replaced if the rule allows it, or if it is the same."""
    assignments = ", ".join(f"{name} = excluded.{name}" for name in layout.written if name != "task_id")
    same = " AND ".join(f"old.{name} IS excluded.{name}" for name in ("status", "result", "date_done", "traceback"))
    rule = condition(over, "old", "excluded", f"(old.{_OLD})", same, "?")
    return f" ON CONFLICT (task_id) DO UPDATE SET {assignments} WHERE {rule} RETURNING task_id"


def _log_out_of_reach(path: Path) -> bool:
    """Return whether the file at ``path`` is a database whose write-ahead log we can neither open nor create."""
    try:
        with path.open("rb") as file:
            head = file.read(_WRITE_VERSION + 1)
    except OSError:
        return False
    logged = head.startswith(b"SQLite format 3\0") and head[_WRITE_VERSION:] == b"\2"
    return logged and not os.access(path.parent, os.W_OK)


def _is_new(path: Path) -> bool:
    """Return whether the file at ``path`` is missing or empty."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return True
