"""MySQL and MariaDB: a batch is one transaction, which inserts rows, reads the rows that it has locked, and replaces.

All other statements commit at once. Within a transaction, REPEATABLE READ would answer reads from an older snapshot. A
locking read always returns what is stored now.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from aioresult.errors import InvalidTaskId, ResultTooLarge
from aioresult.record import RUNNER, Record, conditional
from aioresult.settings import Settings
from aioresult.states import PENDING
from aioresult.stores.portions import portions
from aioresult.stores.sqlalchemy.dates import Dates, WallDates
from aioresult.stores.sqlalchemy.dialects.literals import listed, literal
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, Dialect, parts_of
from aioresult.stores.sqlalchemy.failures import code_of, text_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stores.sqlalchemy.tables import COLUMNS, Layout, Tables
from aioresult.stores.sqlalchemy.urls import Target

_CHUNK: Final = 1000
"""Rows or ids per statement."""
_OVERHEAD: Final = 2**16
"""Bytes of a statement that are kept for everything except results and tracebacks."""
_READ_ONLY: Final = frozenset({1290, 1836})
"""Error numbers of a server that accepts no writes; the first one also has other causes."""
_LIMITS: Final = {"result": "bytes in result", "traceback": "bytes in traceback", "date_done": "digits in date_done"}
"""The names of the facts about the size of columns; digits are those of a second's fraction."""
_CHARSET: Final = "charset of traceback"
_TEXTS: Final = ("traceback", "name", "worker", "queue")
_COMPARED: Final = ("status", "result", "date_done", "traceback")


class MySQLDialect(Dialect):
    """MySQL 5.7 or MariaDB 10.2, or newer, by asyncmy or aiomysql.

    All statements are complete texts with ``literals``, because the drivers' parameters are not safe in every mode.
    """

    clock = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"  # local time goes back in autumn
    begin = "START TRANSACTION"  # in the mode ORACLE, BEGIN begins a block

    def __init__(self, layout: Layout, dates: Dates, facts: dict[str, str]) -> None:
        super().__init__(layout, dates, facts)
        self._task, self._group = escaped(layout.task), escaped(layout.group)
        self._limit = {name: int(facts.get(key, 0)) for name, key in _LIMITS.items()}
        self._packet = int(facts["max_allowed_packet"])
        self._positions = [COLUMNS.index(name) for name in layout.written]
        self._select = f"SELECT {layout.select_list()} FROM {self._task}"
        id_column, self._id = _id_of(layout.task_next_id)
        self._into = f"INSERT INTO {self._task} ({id_column}{', '.join(layout.written)}) VALUES "
        self._replacing = ", ".join(f"{name} = VALUES({name})" for name in layout.written if name != "task_id")

    @staticmethod
    def dates_for(settings: Settings) -> Dates:
        return WallDates(settings.zone)

    @staticmethod
    def engine_options(target: Target, settings: Settings) -> dict[str, Any]:
        return {"connect_args": {"connect_timeout": max(1, round(settings.connect_timeout))}}

    @staticmethod
    async def demoted(link: Link, exc: Exception) -> bool:
        return code_of(exc) in _READ_ONLY and "read-only" in text_of(exc)

    @staticmethod
    async def look(link: Link, tables: Tables) -> dict[str, str]:
        schema, name = tables.task.schema, tables.task.name
        found = await link.rows(
            "SELECT column_name, COALESCE(character_octet_length, datetime_precision), character_set_name "
            f"FROM information_schema.columns WHERE table_schema = COALESCE({literal(schema)}, database()) "
            f"AND table_name = {literal(name)} AND column_name IN ('result', 'traceback', 'date_done')"
        )
        version = str(await link.value("SELECT version()"))
        facts = {"mariadb" if "mariadb" in version.lower() else "mysql": version}
        facts["max_allowed_packet"] = str(await link.value("SELECT @@max_allowed_packet"))
        facts["database"] = str(schema or await link.value("SELECT database()"))
        if charset := next((charset for name, _, charset in found if name == "traceback"), None):
            facts[_CHARSET] = charset
        return facts | {_LIMITS[name]: str(limit) for name, limit, _ in found if limit is not None}

    async def read(self, link: Link, ids: Sequence[str]) -> Sequence[Row]:
        rows: list[Row] = []
        for some in parts_of(ids, _CHUNK):
            rows += await link.rows(f"{self._select} WHERE task_id IN ({listed(some)})")
        return rows

    async def write(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str = "") -> set[str]:
        for row in rows:
            self._check_size(row)
        rows = [self._fitting(row) for row in sorted(rows, key=itemgetter(0))]  # all writers lock in the same order
        written: set[str] = set()
        async with link.transaction(self.begin):
            for some in portions(rows, self._packet // 4, count=_CHUNK, weight=_weight):
                written |= await self._write_some(link, some, cutoff, over)
        return written

    async def _write_some(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str) -> set[str]:
        """Insert new rows, lock and read the existing ones, and replace those that may be replaced.

        Raises:
            InvalidTaskId: the row of another task has an equal key.
        """
        updates = over.startswith(RUNNER)
        if not updates:
            await self._insert(link, rows, "task_id = task_id")  # keeps existing rows
        there = {row[0]: row for row in await self._locked(link, rows)}
        if updates:
            rows = [row for row in rows if row[0] in there]
        for row in rows:
            if row[0] not in there:
                raise mistaken(row[0], self.layout, self.facts)
        written = {row[0] for row in rows if self._same(row, there[row[0]])}
        others = [row for row in rows if row[0] not in written and self._may_replace(row, there[row[0]], cutoff, over)]
        if others:
            await self._insert(link, others, self._replacing)
        return written.union(row[0] for row in others)

    async def _insert(self, link: Link, rows: Sequence[Row], on_duplicate: str) -> None:
        values = (f"({self._id}{listed(row[position] for position in self._positions)})" for row in rows)
        await link.run(f"{self._into}{', '.join(values)} ON DUPLICATE KEY UPDATE {on_duplicate}")

    async def _locked(self, link: Link, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the stored versions of ``rows``, locked until the transaction ends."""
        columns = ", ".join(self.layout.reading(name) for name in ("task_id", *_COMPARED))
        ids = listed(row[0] for row in rows)
        return await link.rows(f"SELECT {columns} FROM {self._task} WHERE task_id IN ({ids}) FOR UPDATE")

    def _same(self, row: Row, there: Sequence[Any]) -> bool:
        return all(
            row[COLUMNS.index(name)] == (value.encode() if name == "result" and isinstance(value, str) else value)
            for name, value in zip(_COMPARED, there[1:], strict=True)
        )

    def _may_replace(self, row: Row, there: Sequence[Any], cutoff: datetime | None, over: str) -> bool:
        task_id, status, _, date_done, traceback = there
        date = self.dates.from_column(date_done)
        expired = cutoff is not None and date is not None and date < cutoff and not over.startswith(RUNNER)
        old = Record(id=task_id, status=status or PENDING, traceback=traceback)
        given = Record(id=task_id, status=row[1])
        return expired or (conditional(given, over) if over else given).goes_over(old)

    def renewal(self, runner: str, milliseconds: int) -> str:
        return (
            f"INSERT INTO {self.layout.runner} (runner, expires) "
            f"VALUES ({runner}, {self.clock} + {milliseconds}) ON DUPLICATE KEY UPDATE expires = VALUES(expires)"
        )

    def _check_size(self, row: Row) -> None:
        payload, capacity = row[2] or b"", self._limit["result"]
        size = len(payload)
        if size > capacity:
            raise ResultTooLarge(
                f"the result of task {row[0]!r} takes {size} bytes, more than the {capacity} of its column; nothing "
                f"was stored; store it elsewhere and keep a reference to it here, or widen the column: "
                f"ALTER TABLE {self.layout.task} MODIFY result LONGBLOB"
            )
        room = self._packet - _OVERHEAD - 2 * len((row[4] or "").encode())
        if 2 * size > room and len(literal(payload)) > room:
            raise too_large(f"the result of task {row[0]!r}", size, self._packet)

    def _fitting(self, row: Row) -> Row:
        """Return ``row`` with its date and texts shortened to fit the columns.

        A traceback keeps its end, which says the most. The server would round a date, perhaps into the future.
        """
        values = dict(zip(COLUMNS, row, strict=True))
        if values["date_done"] is not None and not self._limit["date_done"]:
            values["date_done"] = values["date_done"].replace(microsecond=0)
        for name in _TEXTS:
            if values[name] is not None and not values[name].isascii():
                values[name] = self._spelled(values[name])
        traceback, capacity = values["traceback"], self._limit["traceback"]
        if traceback is not None and len(traceback) * 4 > capacity:
            values["traceback"] = traceback.encode()[-capacity:].decode(errors="ignore")
        return tuple(values.values())

    def _spelled(self, value: str) -> str:
        """Return ``value`` with escapes for characters that the table's character set lacks, to make it storable."""
        charset = self.facts.get(_CHARSET, "")
        if charset == "utf8mb4":
            return value
        if charset in ("utf8", "utf8mb3"):
            return "".join(char if char <= "\uffff" else f"\\U{ord(char):08x}" for char in value)
        return value.encode("ascii", "backslashreplace").decode()

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        for some in parts_of(sorted(ids), _CHUNK):
            await link.run(f"DELETE FROM {self._task} WHERE {self._exactly('task_id', some)}")

    async def purge(self, link: Link, table: str, cutoff: datetime) -> int | None:
        before = literal(self.dates.to_column(cutoff))
        statement = f"DELETE FROM {escaped(table)} WHERE date_done < {before} ORDER BY date_done LIMIT {PURGE_BATCH}"
        async with turn_to_purge(link, self.facts["database"], table) as ours:
            return await link.run(statement) if ours else None

    async def write_group(self, link: Link, group_id: str, payload: bytes, date: datetime) -> None:
        id_column, id_value = _id_of(self.layout.group_next_id)
        values = listed((group_id, payload, self.dates.to_column(date)))
        await link.run(
            f"INSERT INTO {self._group} ({id_column}taskset_id, result, date_done) VALUES ({id_value}{values}) "
            f"ON DUPLICATE KEY UPDATE result = VALUES(result), date_done = VALUES(date_done)"
        )

    async def read_group(self, link: Link, group_id: str) -> Any:
        return await link.value(f"SELECT result FROM {self._group} WHERE {self._exactly('taskset_id', [group_id])}")

    async def delete_group(self, link: Link, group_id: str) -> None:
        await link.run(f"DELETE FROM {self._group} WHERE {self._exactly('taskset_id', [group_id])}")

    def _exactly(self, column: str, ids: Sequence[str]) -> str:
        """Return the condition that ``column`` is exactly one of ``ids``.

        The first half finds them by the index, together with ids that are only equal in the collation: other tasks'
        rows.
        """
        octets = ", ".join(f"x'{one.encode().hex()}'" for one in ids)
        text = f"CAST(CONVERT({self.layout.reading(column)} USING utf8mb4) AS BINARY)"
        return f"{column} IN ({listed(ids)}) AND {text} IN ({octets})"


def mistaken(task_id: str, layout: Layout, facts: dict[str, str]) -> InvalidTaskId:
    """Return the error for an id that the column cannot hold exactly."""
    collation = "utf8mb4_nopad_bin" if "mariadb" in facts else "utf8mb4_0900_bin"
    return InvalidTaskId(
        f"task id {task_id!r} cannot be stored: the column task_id of {layout.task} takes it for another one, which "
        f"differs in case, in accents or in spaces at the end; whoever may do it: ALTER TABLE {layout.task} "
        f"MODIFY task_id VARCHAR(155) COLLATE {collation}"
    )


def too_large(what: str, size: int, packet: int) -> ResultTooLarge:
    """Return the error for a value that does not fit into a statement, which must be one packet."""
    return ResultTooLarge(
        f"{what} takes {size} bytes, more than max_allowed_packet={packet} admits, since a value may take a third more "
        f"in a statement; nothing was stored; store it elsewhere and keep a reference to it here, or raise "
        f"max_allowed_packet"
    )


def _id_of(next_id: str | None) -> tuple[str, str]:
    """Return the texts before the columns and before the values of an INSERT."""
    return ("id, ", f"{escaped(next_id)}, ") if next_id else ("", "")


def escaped(name: str) -> str:
    """Return ``name`` escaped for a statement that the driver formats."""
    return name.replace("%", "%%")


def lock_name(database: str, table: str) -> str:
    """Return the name of the lock for purging, which must be unique in the whole server."""
    return f"aioresult purge {hashlib.sha256(f'{database}.{table}'.encode()).hexdigest()[:32]}"


@asynccontextmanager
async def turn_to_purge(link: Link, database: str, table: str) -> AsyncIterator[bool]:
    """Give whether the lock for purging ``table`` was free; if so, hold it until this ends."""
    lock = literal(lock_name(database, table))
    if not await link.value(f"SELECT GET_LOCK({lock}, 0)"):
        yield False
        return
    try:
        yield True
    finally:
        if not link.connection.invalidated:  # the lock ends with its connection
            await link.value(f"SELECT RELEASE_LOCK({lock})")


def _weight(row: Row) -> int:
    return len(row[2] or b"") + len(row[4] or "")
