"""PostgreSQL: a batch is one statement, which takes arrays, decides in its ``WHERE``, and notifies when it commits.

A batch of one row has its own statement without arrays. With arrays, whose length the server cannot know, it plans the
statement each time, which takes twice as long.

``date_done`` is a timestamp without a zone. Celery's drivers send it with a zone, and the server converts it to the
session's time zone. The casts here do the same, in both directions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, ClassVar, Final

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from aioresult.record import RUNNER
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.dates import Dates
from aioresult.stores.sqlalchemy.dialects import sessions
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, Dialect, condition, parts_of
from aioresult.stores.sqlalchemy.failures import code_of, is_refusal
from aioresult.stores.sqlalchemy.link import PREPARED, Link
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stores.sqlalchemy.tables import COLUMNS, Layout, Tables, full_name, in_text
from aioresult.stores.sqlalchemy.urls import Target

_NAMELESS: Final[dict[str, Any]] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,
}
"""With these, asyncpg and SQLAlchemy send statements without a name, together with their values.

A pooler may switch to another connection to the server at any time. There, a name is either unknown, which is an error,
or another process has given it to a different statement, which is worse.
"""
READ_ONLY: Final = "25006"
"""SQLSTATE of a server or account that only reads."""
_CHUNK: Final = 5000
"""Rows per statement. Each statement is its own transaction, since poolers in statement mode require that."""
CHANNELS: Final = 16
"""The ids are distributed over so many channels, so that a process receives few notifications for others."""
_UTC: Final = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu"})
STREAM: Final = "stream "
"""The prefix of announcements of streams. A task whose id also begins with it is only read once too often."""
_TYPES: Final = {"retries": "integer", "date_done": "timestamptz"} | dict.fromkeys(
    ["result", "children", "args", "kwargs", "stamps"], "bytea"
)
_TEXTS: Final = tuple(map(COLUMNS.index, ("traceback", "name", "worker", "queue")))
_ALL_CHARACTERS: Final = frozenset({"UTF8", "SQL_ASCII"})
"""Encodings of databases that hold all characters; the second one stores the octets that it is sent."""
_CHARSETS: Final = {"LATIN1": "latin-1", "LATIN9": "iso8859-15", "WIN1252": "cp1252"}
"""Encodings of databases, as Python knows them; of others only what they share with ASCII is used."""


class PostgreSQLDialect(Dialect):
    """PostgreSQL 11 or newer, with asyncpg or psycopg."""

    lanes: ClassVar[int] = 2
    clock: ClassVar[str] = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"
    greets: ClassVar[bool] = True
    date_given: ClassVar[str] = "CAST(CAST(:date AS timestamptz) AS timestamp)"

    def __init__(self, layout: Layout, dates: Dates, facts: dict[str, str]) -> None:
        super().__init__(layout, dates, facts)
        table = in_text(layout.task)
        self.channel_prefix = channel_prefix(facts["schema"], facts["table"])
        self._positions = {name: COLUMNS.index(name) for name in layout.written}
        encoding = facts["encoding"]
        self._charset = None if encoding in _ALL_CHARACTERS else _CHARSETS.get(encoding, "ascii")
        self._writes: dict[tuple[str, bool], TextClause] = {}
        """The write statements, by rule and by whether they are for more than one row; made when needed."""
        select = f"SELECT {layout.select_list('CAST(date_done AS timestamptz)')} FROM {table}"
        self._read_one = text(f"{select} WHERE task_id = :id")
        self._read_many = text(f"{select} WHERE task_id = ANY(CAST(:ids AS text[]))")
        delete = f"DELETE FROM {table} WHERE task_id = ANY(CAST(:ids AS text[])) RETURNING 1"
        self._delete = text(f"WITH gone AS ({delete}) SELECT count(*) FROM gone")

    @staticmethod
    def dates_for(settings: Settings) -> Dates:
        return Dates()

    @staticmethod
    def engine_options(target: Target, settings: Settings) -> dict[str, Any]:
        patience = settings.connect_timeout
        if target.url.get_driver_name() == "asyncpg":
            return {"connect_args": {"timeout": patience, **_NAMELESS}}
        # libpq's shortest timeout is 2 s. Psycopg names statements by a counter. Behind a pooler that is not
        # recognised, such a name could belong to another client's statement, so the threshold is off and no statement
        # is named.
        connect_args = {"connect_timeout": max(2, round(patience)), "prepare_threshold": None, **sessions.ENCODING}
        return {"connect_args": connect_args, "use_native_hstore": False}  # it would search the type in a transaction

    @staticmethod
    def prepare_engine(engine: AsyncEngine, writes: Callable[[], bool]) -> None:
        if engine.dialect.driver.startswith("psycopg"):
            sessions.prepare(engine)

    @staticmethod
    def nameless(target: Target) -> dict[str, Any]:
        return _NAMELESS if target.url.get_driver_name() == "asyncpg" else {"prepare_threshold": None}

    @staticmethod
    def driver_errors(driver: str) -> tuple[type[Exception], ...]:
        if driver != "asyncpg":
            return ()
        import asyncpg

        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    @staticmethod
    def hang_up(connection: Any) -> None:
        if type(connection).__module__.startswith("asyncpg"):
            connection.terminate()

    @staticmethod
    async def demoted(link: Link, exc: Exception) -> bool:
        return code_of(exc) == READ_ONLY and bool(await link.value("SELECT pg_is_in_recovery()"))

    @staticmethod
    async def greet(connection: AsyncConnection) -> bool:
        """Ask for the server process: a pooler does not know it when a client connects, and names another.

        Behind a pooler, a later statement may reach another process than the one that prepared it. Therefore statements
        have no name there, and are prepared each time.
        """
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            process = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar()
        except DBAPIError as exc:
            if not is_refusal(exc):
                raise
            process = None  # a server that does not say so is treated like a pooler
        if type(driver).__module__.startswith("asyncpg"):
            pooled = bool(driver.get_server_pid() != process)
            if not pooled:
                connection.info[PREPARED] = {}
            return pooled
        sessions.check(driver)
        if pooled := driver.info.backend_pid != process:
            driver.prepare_threshold = None
        return pooled

    @staticmethod
    async def lock_for_creating(link: Link) -> None:
        await link.run(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("create")})

    @staticmethod
    async def look(link: Link, tables: Tables) -> dict[str, str]:
        schema = await link.value(
            text(
                "SELECT COALESCE((SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
                "WHERE pg_class.oid = to_regclass(:name)), CAST(:schema AS text), current_schema())"
            ),
            {"name": full_name(tables.task, link.connection.dialect), "schema": tables.task.schema},
        )
        version = await link.value("SHOW server_version")
        zone = await link.value("SHOW timezone")
        encoding = await link.value("SHOW server_encoding")
        facts = {"postgresql": version, "timezone": zone, "encoding": encoding, "schema": schema}
        return {name: str(value) for name, value in facts.items()} | {"table": tables.task.name}

    @property
    def zone_is_certain(self) -> bool:
        # The server's zone applies to all sessions that do not set another (by PGTZ, or for a role). If it is UTC,
        # hardly any session does.
        return self.facts["timezone"] in _UTC

    async def read(self, link: Link, ids: Sequence[str]) -> Sequence[Row]:
        if len(ids) == 1:
            return await link.hot_rows(self._read_one, {"id": ids[0]})
        return await link.hot_rows(self._read_many, {"ids": list(ids)})

    async def write(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str = "") -> set[str]:
        rows = sorted(rows, key=itemgetter(0))  # all writers lock in the same order
        if self._charset is not None:
            rows = [self._spelled(row) for row in rows]
        written: set[str] = set()
        for some in parts_of(rows, _CHUNK):
            written |= await self._write_some(link, some, cutoff, over)
        return written

    async def _write_some(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str) -> set[str]:
        many = len(rows) > 1
        given = self._columns(rows) if many else {name: rows[0][place] for name, place in self._positions.items()}
        if over.startswith(RUNNER):
            rule, given["mark"] = RUNNER, over
        else:
            rule, given["cutoff"] = over, cutoff
        statement = self._writes.get((rule, many))
        if statement is None:
            sql = _write_statement(self.layout, self.channel_prefix, rule, many=many)
            statement = self._writes[rule, many] = text(sql)
        ((written,),) = await link.hot_rows(statement, given)  # one array, or NULL for none
        return set(written or ())

    def _spelled(self, row: Row) -> Row:
        """Return ``row`` with escapes for characters that the database's encoding lacks, to make them storable."""
        charset = self._charset or "ascii"
        values = list(row)
        for place in _TEXTS:
            if values[place] is not None:
                values[place] = values[place].encode(charset, "backslashreplace").decode(charset)
        return tuple(values)

    def _columns(self, rows: Sequence[Row]) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name, position in self._positions.items():
            column = [row[position] for row in rows]
            columns[name] = column if column.count(None) < len(column) else None  # unnest() fills up with NULL
        return columns

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        await link.hot_rows(self._delete, {"ids": sorted(ids)})

    async def purge(self, link: Link, table: str, cutoff: datetime) -> int | None:
        name = in_text(table)
        statement = text(
            f"WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:key) AS ours) DELETE FROM {name} "
            f"WHERE id IN (SELECT id FROM {name} WHERE (SELECT ours FROM turn) "
            f"AND date_done < CAST(CAST(:cutoff AS timestamptz) AS timestamp) LIMIT {PURGE_BATCH})"
        )
        return await link.run(statement, {"key": lock_key(f"purge {self.facts['schema']}.{table}"), "cutoff": cutoff})


def channel_prefix(schema: str, table: str) -> str:
    """Return the prefix of a table's channels, since channels belong to the whole database."""
    return f"aioresult_{hashlib.sha256(f'{schema}.{table}'.encode()).hexdigest()[:12]}_"


def channel_of(prefix: str, task_id: str) -> str:
    """Return the channel of a task; ``channel_expression`` is the same in SQL."""
    return f"{prefix}{hashlib.sha256(task_id.encode()).digest()[0] % CHANNELS}"


def channel_expression(prefix: str, task_id: str) -> str:
    """Return SQL for the channel of a task; ``prefix`` and ``task_id`` are SQL expressions."""
    return f"{prefix} || mod(get_byte(sha256(convert_to({task_id}, 'UTF8')), 0), {CHANNELS})"


def stream_payload(task_id: str) -> str:
    """Return SQL for the announcement of a stream; that of a result is only the task's id."""
    return f"'{STREAM}' || {task_id}"


def lock_key(purpose: str) -> int:
    """Return the key of an advisory lock."""
    return int.from_bytes(hashlib.sha256(f"aioresult {purpose}".encode()).digest()[:8], "big", signed=True)


def _write_statement(layout: Layout, prefix: str, over: str, *, many: bool) -> str:
    names, task = layout.written, in_text(layout.task)
    types = [f"{_TYPES.get(name, 'text')}{'[]' if many else ''}" for name in names]
    parameters = ", ".join(f"CAST(:{name} AS {kind})" for name, kind in zip(names, types, strict=True))
    source = f"unnest({parameters})" if many else f"(VALUES ({parameters}))"
    values = [f"CAST({name} AS timestamp)" if name == "date_done" else name for name in names]
    columns = list(names)
    if layout.task_next_id:
        # An existing task keeps its id, so that its states do not use up the sequence.
        columns.insert(0, "id")
        existing = f"SELECT present.id FROM {task} AS present WHERE present.task_id = given.task_id"
        values.insert(0, f"COALESCE(({existing}), {in_text(layout.task_next_id)})")
    assignments = ", ".join(f"{name} = EXCLUDED.{name}" for name in names if name != "task_id")
    compared = ("status", "result", "date_done", "traceback")
    same = " AND ".join(f"kept.{name} IS NOT DISTINCT FROM EXCLUDED.{name}" for name in compared)
    channel = channel_expression(f"'{prefix}'", "task_id")
    expired = "kept.date_done < CAST(CAST(:cutoff AS timestamptz) AS timestamp)"
    replaceable = condition(over, "kept", "EXCLUDED", expired, same, ":mark")
    there = f"EXISTS (SELECT 1 FROM {task} AS present WHERE present.task_id = given.task_id)"
    chosen = f"given WHERE {there}" if over.startswith(RUNNER) else "given"
    return (
        f"WITH given AS (SELECT * FROM {source} AS given ({', '.join(names)})), "
        f"written AS (INSERT INTO {task} AS kept ({', '.join(columns)}) "
        f"SELECT {', '.join(values)} FROM {chosen} "
        f"ON CONFLICT (task_id) DO UPDATE SET {assignments} WHERE {replaceable} RETURNING kept.task_id) "
        f"SELECT array_agg(task_id) FROM (SELECT task_id, pg_notify({channel}, task_id) FROM written) AS told"
    )
