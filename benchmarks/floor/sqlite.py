"""SQLite with the standard library's module, in the loop's thread, woken by inotify events of the write-ahead log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

import msgspec
from inotify_simple import INotify, flags

from benchmarks.contestants.base import Contestant
from benchmarks.values import value_of

_CREATE = "CREATE TABLE IF NOT EXISTS floor_results (task_id TEXT PRIMARY KEY, result TEXT NOT NULL)"
_NEW = "SELECT rowid, task_id, result FROM floor_results WHERE rowid > ? ORDER BY rowid"
_LOOK_AGAIN = 0.0005
"""Seconds until the second query, because the event may come before the commit is visible."""


class BareSQLite(Contestant):
    """One row and one commit for each result."""

    async def open(self) -> None:
        path = self.url.partition(":///")[2]
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(_CREATE)
        self._database.execute("INSERT OR IGNORE INTO floor_results VALUES ('', '')")  # creates the write-ahead log
        self._waiters: dict[str, asyncio.Future[object]] = {}
        self._inotify = INotify()
        self._inotify.add_watch(f"{path}-wal", flags.MODIFY)
        self._version = self._data_version()
        self._seen: int = self._database.execute("SELECT max(rowid) FROM floor_results").fetchone()[0]
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._changed)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._inotify.close()
        self._database.close()

    def _data_version(self) -> int:
        version: int = self._database.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _changed(self) -> None:
        self._inotify.read(timeout=0)
        self._look(again=True)

    def _look(self, *, again: bool) -> None:
        version = self._data_version()
        if version == self._version:
            if again:
                asyncio.get_running_loop().call_later(_LOOK_AGAIN, lambda: self._look(again=False))
            return
        self._version = version
        for number, task, result in self._database.execute(_NEW, (self._seen,)):
            self._seen = number
            waiter = self._waiters.pop(task, None)
            if waiter is not None:
                waiter.set_result(msgspec.json.decode(result))

    async def wait(self, task: str, timeout: float | None = None) -> object:
        future = self._waiters[task] = asyncio.get_running_loop().create_future()
        return await future

    async def store(self, task: str, value: object) -> None:
        row = (task, msgspec.json.encode(value).decode())
        self._database.execute("INSERT INTO floor_results VALUES (?, ?)", row)

    async def read(self, task: str) -> object:
        row = self._database.execute("SELECT result FROM floor_results WHERE task_id = ?", (task,)).fetchone()
        return row[0]

    def decoded(self, value: object) -> object:
        assert isinstance(value, str)
        return msgspec.json.decode(value)

    async def store_all(self, prepared: Sequence[str]) -> None:
        rows = [(task, msgspec.json.encode(value_of(task)).decode()) for task in prepared]
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT INTO floor_results VALUES (?, ?)", rows)
        self._database.execute("COMMIT")
