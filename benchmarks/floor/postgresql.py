"""PostgreSQL on bare asyncpg: one listener, one small table, and either a commit for each result or one for many."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from benchmarks.contestants.base import Contestant
from benchmarks.values import value_of

_CHANNEL = "floor"
_CONNECTIONS = 8
_GROUP = 1000
_CREATE = "CREATE TABLE IF NOT EXISTS floor_results (task_id text PRIMARY KEY, result text NOT NULL)"
_STORE = f"WITH stored AS (INSERT INTO floor_results VALUES ($1, $2)) SELECT pg_notify('{_CHANNEL}', $1)"
_STORE_MANY = (
    "WITH stored AS (INSERT INTO floor_results SELECT * FROM unnest($1::text[], $2::text[]) RETURNING task_id)"
    f" SELECT count(pg_notify('{_CHANNEL}', task_id)) FROM stored"
)
_READ_MANY = "SELECT task_id, result FROM floor_results WHERE task_id = ANY($1::text[])"
_READ = "SELECT result FROM floor_results WHERE task_id = $1"


class BarePostgres(Contestant):
    """While a commit is in flight, stores are grouped into the next one; a notification is followed by one read."""

    async def open(self) -> None:
        plain = self.url.replace("+asyncpg", "")
        self._pool = await asyncpg.create_pool(plain, min_size=1, max_size=_CONNECTIONS)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7)")  # processes must create the table in turn
            await connection.execute(_CREATE)
        self._listener = await asyncpg.connect(plain)
        await self._listener.add_listener(_CHANNEL, self._notified)
        self._waiters: dict[str, asyncio.Future[object]] = {}
        self._announced: list[str] = []
        self._reader: asyncio.Task[None] | None = None
        self._pending: list[tuple[str, str, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self._listener.close()
        await self._pool.close()

    def _notified(self, connection: object, pid: int, channel: str, payload: str) -> None:
        if payload in self._waiters:
            self._announced.append(payload)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read_announced())

    async def _read_announced(self) -> None:
        while self._announced:
            ids, self._announced = self._announced, []
            for task, result in await self._pool.fetch(_READ_MANY, ids):
                self._waiters.pop(task).set_result(msgspec.json.decode(result))
        self._reader = None

    async def wait(self, task: str, timeout: float | None = None) -> object:
        future = self._waiters[task] = asyncio.get_running_loop().create_future()
        return await future

    async def store(self, task: str, value: object) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((task, msgspec.json.encode(value).decode(), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._pending:
            group, self._pending = self._pending[:_GROUP], self._pending[_GROUP:]
            if len(group) == 1:
                await self._pool.execute(_STORE, group[0][0], group[0][1])
            else:
                await self._pool.execute(_STORE_MANY, [task for task, _, _ in group], [text for _, text, _ in group])
            for _, _, done in group:
                done.set_result(None)
        self._writer = None

    async def read(self, task: str) -> object:
        return await self._pool.fetchval(_READ, task)

    def decoded(self, value: object) -> object:
        assert isinstance(value, str)
        return msgspec.json.decode(value)

    def prepare(self, tasks: Sequence[str]) -> list[tuple[list[str], list[str]]]:
        groups = [list(tasks[start : start + _GROUP]) for start in range(0, len(tasks), _GROUP)]
        return [(group, [msgspec.json.encode(value_of(task)).decode() for task in group]) for group in groups]

    async def store_all(self, prepared: Any) -> None:
        for ids, results in prepared:
            await self._pool.execute(_STORE_MANY, ids, results)


class PlainPostgres(BarePostgres):
    """A commit for each result, on eight connections."""

    async def store(self, task: str, value: object) -> None:
        await self._pool.execute(_STORE, task, msgspec.json.encode(value).decode())
