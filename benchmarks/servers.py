"""The stores' servers, private ones by default, and their counters of load."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec


class Load(msgspec.Struct, frozen=True):
    """A server's counters at one moment.

    Attributes:
        commands: commands or requests that it has executed; ``None`` if the server does not report them in time.
        cpu: seconds of CPU that its processes have used.
        connections: open connections.
        writes: transactions with writes, if the server reports them.
    """

    commands: int | None
    cpu: float
    connections: int
    writes: int | None = None


class Host(ABC):
    """A running store.

    Attributes:
        url: its URL for aioresult.
        version: the server's version.
    """

    url: str
    version: str

    @abstractmethod
    def load(self) -> Load:
        """Return the counters, if possible without the cost of this call."""

    @abstractmethod
    def clear(self) -> None:
        """Delete everything that the benchmarks have stored."""


class RedisHost(Host):
    """Redis."""

    def __init__(self, url: str) -> None:
        import redis

        self.url = url
        self._client = redis.Redis.from_url(url)
        self._asked = 0
        self.version = f"Redis {self._info()['redis_version']}"

    def _info(self) -> dict[str, Any]:
        self._asked += 1
        info: dict[str, Any] = self._client.info()
        return info

    def load(self) -> Load:
        info = self._info()
        return Load(
            commands=info["total_commands_processed"] - self._asked,
            cpu=info["used_cpu_sys"] + info["used_cpu_user"],
            connections=info["connected_clients"] - 1,
        )

    def clear(self) -> None:
        self._asked += 1
        self._client.flushdb()

    def close(self) -> None:
        self._client.close()


class SQLiteHost(Host):
    """A database file in a temporary folder; there is no server, so the clients carry the whole load."""

    def __init__(self, folder: Path) -> None:
        import sqlite3

        self._folder = folder
        self._number = 0
        self.version = f"SQLite {sqlite3.sqlite_version}"
        self.clear()

    def load(self) -> Load:
        return Load(None, 0.0, 0)

    def clear(self) -> None:
        """Continue with a new file."""
        self._number += 1
        self.url = f"sqlite+aiosqlite:///{self._folder}/results{self._number}.db"


def _cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and its children, if ``/proc`` exists; otherwise 0."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            own, _, rest = path.read_text().partition(" (")
        except OSError:
            continue  # it has ended meanwhile
        fields = rest.rpartition(")")[2].split()
        if pid in (int(own), int(fields[1])):
            ticks += sum(map(int, fields[11:15]))  # user and system time, including ended children
    return ticks / os.sysconf("SC_CLK_TCK")


class PostgresHost(Host):
    """PostgreSQL."""

    def __init__(self, url: str, pid: int | None) -> None:
        import psycopg

        self.url = url
        self._pid = pid
        plain = url.replace("+asyncpg", "")
        self._connection = psycopg.connect(plain, autocommit=True)
        self.version = f"PostgreSQL {self._one('SHOW server_version')[0]}"

    def _one(self, statement: str) -> tuple[object, ...]:
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row

    def load(self) -> Load:
        # The statistics of statements are up to ten seconds late; transaction numbers are current.
        next_transaction, connections = self._one(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
        assert isinstance(next_transaction, int)
        assert isinstance(connections, int)
        cpu = 0.0 if self._pid is None else _cpu_of(self._pid)
        return Load(commands=None, cpu=cpu, connections=connections - 1, writes=next_transaction)

    def clear(self) -> None:
        for table in ("celery_taskmeta", "celery_tasksetmeta", "floor_results"):
            if self._one(f"SELECT to_regclass('{table}')")[0] is not None:
                self._connection.execute(f"TRUNCATE {table}".encode())

    def close(self) -> None:
        self._connection.close()


class MongoHost(Host):
    """MongoDB."""

    def __init__(self, url: str, pid: int | None) -> None:
        import pymongo

        self.url = url
        self._pid = pid
        self._client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url)
        self.version = f"MongoDB {self._client.server_info()['version']}"

    def load(self) -> Load:
        status = self._client.admin.command("serverStatus")
        counters = status["opcounters"]
        commands = sum(int(counters[name]) for name in ("insert", "query", "update", "delete", "getmore", "command"))
        cpu = 0.0 if self._pid is None else _cpu_of(self._pid)
        return Load(commands=commands, cpu=cpu, connections=int(status["connections"]["current"]))

    def clear(self) -> None:
        database = self._client.get_default_database()
        for name in database.list_collection_names():
            database[name].delete_many({})

    def close(self) -> None:
        self._client.close()


@contextmanager
def _redis(url: str | None) -> Iterator[Host]:
    if url is not None:
        with closing(RedisHost(url)) as host:
            yield host
        return
    from tests.servers.redis import RedisServer

    with RedisServer() as server, closing(RedisHost(server.url)) as host:
        yield host


@contextmanager
def _sqlite(url: str | None) -> Iterator[Host]:
    del url  # it has its own folder, so that no file of the user is changed
    with tempfile.TemporaryDirectory(prefix="aioresult-bench-", ignore_cleanup_errors=True) as folder:
        yield SQLiteHost(Path(folder))


@contextmanager
def _postgresql(url: str | None) -> Iterator[Host]:
    if url is not None:
        with closing(PostgresHost(url, None)) as host:
            yield host
        return
    from tests.servers.postgres import PostgresServer

    # Commits wait for the disk, as in production, because this is why they are grouped.
    safe = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    with PostgresServer(**safe) as server, closing(PostgresHost(server.url, server.pid)) as host:
        yield host


@contextmanager
def _mongodb(url: str | None) -> Iterator[Host]:
    if url is not None:
        with closing(MongoHost(url, None)) as host:
            yield host
        return
    from tests.servers.mongo import MongoReplicaSet

    with MongoReplicaSet() as server, closing(MongoHost(server.url, server.primary.pid)) as host:
        yield host


STORES: Final[dict[str, Callable[[str | None], AbstractContextManager[Host]]]] = {
    "redis": _redis,
    "postgresql": _postgresql,
    "mongodb": _mongodb,
    "sqlite": _sqlite,
}
"""Opens a store: a private server, or the one at the URL given."""
