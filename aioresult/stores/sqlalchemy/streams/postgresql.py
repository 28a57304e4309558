"""Streams in PostgreSQL: one statement for a batch, if the tasks have rows and each has only one producer.

A statement sees the data from the time when it began. If it waited for another producer, it uses the same number as
that one, and is refused. If a task has no row, there is nothing to lock. In both cases a transaction is used: its first
statement locks or inserts the rows, and the next one reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import text

from aioresult.settings import Settings
from aioresult.states import PENDING
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, READY_LIST
from aioresult.stores.sqlalchemy.dialects.postgresql import (
    PostgreSQLDialect,
    channel_expression,
    lock_key,
    stream_payload,
)
from aioresult.stores.sqlalchemy.failures import code_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.streams.port import (
    Found,
    Known,
    Stored,
    StreamStatements,
    chunk_of,
    missing,
    placed_keys,
)
from aioresult.stores.sqlalchemy.tables import in_text
from aioresult.stream import REPEATED_AMONG, Append, Chunk, Cursor

_TAKEN: Final = "23505"
"""SQLSTATE of a key that exists already."""
_REMEMBERED: Final = 10_000
"""The most tasks without a row that are remembered."""


class PostgreSQLStreams(StreamStatements):
    """With asyncpg or psycopg."""

    def __init__(self, dialect: PostgreSQLDialect, settings: Settings) -> None:
        super().__init__(dialect, settings)
        task, stream = in_text(self.layout.task), in_text(self.layout.stream)
        append = partial(_append_statement, task, stream, dialect.channel_prefix, self.most, self.trims)
        self._append_one, self._append_many = text(append(many=False)), text(append(many=True))
        self._lock_one, self._lock_many = (text(_lock_statement(task, many=many)) for many in (False, True))
        self._newest = text(
            f"SELECT item, seq FROM {stream} WHERE task_id = :id ORDER BY seq DESC LIMIT {REPEATED_AMONG}"
        )
        self._read_one, self._read_many = (text(_read_statement(stream, many=many)) for many in (False, True))
        delete = f"DELETE FROM {stream} WHERE task_id = ANY(CAST(:ids AS text[])) RETURNING 1"
        self._delete = text(f"WITH gone AS ({delete}) SELECT count(*) FROM gone")
        self._purge = text(_purge_statement(stream))
        self._purge_key = lock_key(f"purge {self.facts['schema']}.{self.layout.stream}")
        self._rowless: set[str] = set()
        """Tasks that had no row the last time: for them, a transaction is begun at once."""

    async def append(self, link: Link, appends: Sequence[Append], date: datetime) -> Sequence[Stored]:
        items = {append.id: append.items for append in appends}
        known: dict[str, Known] = {}
        found = await self._append_at_once(link, items, appends, date)
        rest = [append for append in appends if append.id not in found]
        if rest:
            async with link.transaction():
                placed = await self._locked(link, [append.id for append in rest])
                for append in rest:
                    if append.repeated:
                        rows = await link.rows(self._newest, {"id": append.id})
                        known[append.id] = dict(tuple(row) for row in rows)
                        items[append.id] = missing(append, known[append.id])
                own = {append.id: items[append.id] for append in rest}
                found.update(await self._append(link, own, date, placed))
        return [self.stored(one, found[one.id], known.get(one.id, {})) for one in appends]

    async def _append_at_once(
        self, link: Link, items: Mapping[str, Sequence[bytes]], appends: Sequence[Append], date: datetime
    ) -> dict[str, Found]:
        """Append without a transaction where possible; return what was found of those tasks."""
        likely = [append.id for append in appends if not append.repeated and append.id not in self._rowless]
        if not likely:
            return {}
        try:
            return await self._append(link, {task_id: items[task_id] for task_id in likely}, date, [])
        except Exception as exc:
            if code_of(exc) != _TAKEN:
                raise
            return {}

    async def _append(
        self, link: Link, items: Mapping[str, Sequence[bytes]], date: datetime, placed: Sequence[int]
    ) -> dict[str, Found]:
        """Store items of tasks that have a row, and delete the placeholders.

        Returns:
            What was found of the tasks that have a row.
        """
        ids = list(items)
        if len(ids) == len(items[ids[0]]) == 1:
            parameters: dict[str, Any] = {
                "id": ids[0],
                "item": items[ids[0]][0],
                "placed": placed[0] if placed else None,
                "date": date,
            }
            rows = await link.hot_rows(self._append_one, parameters)
        else:
            own = [
                (n, number, item) for n, task_id in enumerate(ids, 1) for number, item in enumerate(items[task_id], 1)
            ]
            columns: Sequence[Sequence[Any]] = list(zip(*own, strict=True)) or ((), (), ())
            parameters = {"ids": ids, "many": [len(items[task_id]) for task_id in ids], "placed": list(placed)}
            arrays = dict(zip(("owners", "numbers", "items"), map(list, columns), strict=True))
            rows = await link.hot_rows(self._append_many, {**parameters, **arrays, "date": date})
        return {ids[n - 1]: Found(status, oldest, last) for n, status, oldest, last, _ in rows}

    async def _locked(self, link: Link, ids: Sequence[str]) -> list[int]:
        """Lock the rows of ``ids``; insert placeholders for missing rows, and return the keys of these."""
        placed: list[int] = []
        left = list(ids)
        while left:  # again for a row that was stored while the statement ran
            keys = placed_keys(len(left))
            if len(left) == 1:
                rows = await link.hot_rows(self._lock_one, {"id": left[0], "key": keys[0]})
            else:
                rows = await link.hot_rows(self._lock_many, {"ids": left, "keys": keys})
            own: dict[str, int | None] = dict(tuple(row) for row in rows)
            made = {task_id: key for task_id, key in own.items() if key is not None}
            placed += made.values()
            if len(self._rowless) > _REMEMBERED:
                self._rowless.clear()
            self._rowless.difference_update(own)
            self._rowless.update(made)
            left = [task_id for task_id in left if task_id not in own]
        return placed

    async def read(self, link: Link, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        if len(cursors) == 1:
            (cursor,) = cursors
            parameters: dict[str, Any] = {"id": cursor.id, "after": cursor.after, "most": cursor.limit}
            rows = await link.hot_rows(self._read_one, parameters)
        else:
            names, afters, limits = zip(*((one.id, one.after, one.limit) for one in cursors), strict=True)
            parameters = {"id": list(names), "after": list(afters), "most": list(limits)}
            rows = await link.hot_rows(self._read_many, parameters)
        found = {n: chunk_of(oldest, last, items) for n, oldest, last, items in rows}
        return [found[n] for n in range(1, len(cursors) + 1)]

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        await link.hot_rows(self._delete, {"ids": sorted(ids)})

    async def purge(self, link: Link, cutoff: datetime) -> int | None:
        return await link.run(self._purge, {"key": self._purge_key, "cutoff": cutoff})


def _append_statement(task: str, stream: str, prefix: str, most: int | None, trims: bool, *, many: bool) -> str:
    """Return the statement that numbers, stores and announces items, if the task's row allows it.

    The statement for a single item has no arrays, because with arrays the server plans it each time.
    """
    if many:
        given = "unnest(CAST(:ids AS text[]), CAST(:many AS bigint[])) WITH ORDINALITY AS given (task_id, many, n)"
        new = "unnest(CAST(:owners AS bigint[]), CAST(:numbers AS bigint[]), CAST(:items AS bytea[]))"
        placed = "ANY(CAST(:placed AS integer[]))"
    else:
        one = "CAST(1 AS bigint)"
        given = f"(VALUES (CAST(:id AS text), {one}, {one})) AS given (task_id, many, n)"
        new = f"(VALUES ({one}, {one}, CAST(:item AS bytea)))"
        placed = "CAST(:placed AS integer)"
    room, kept, trimmed = "true", "", ""
    if most is not None and trims:
        kept = f" WHERE new.number > allowed.many - {most}"
        trimmed = (
            f"trimmed AS (DELETE FROM {stream} AS old USING allowed "
            f"WHERE old.task_id = allowed.task_id AND old.seq <= allowed.last + allowed.many - {most}), "
        )
    elif most is not None:
        room = f"last - oldest + 1 + many <= {most}"
    channel = channel_expression(f"'{prefix}'", "found.task_id")
    return (
        f"WITH given AS (SELECT * FROM {given}), "
        f"locked AS (SELECT given.task_id, given.many, given.n, task.status FROM given "
        f"JOIN {task} AS task ON task.task_id = given.task_id ORDER BY given.n FOR NO KEY UPDATE OF task), "
        f"found AS (SELECT locked.*, COALESCE({_end(stream, 'locked', 'ASC')}, 1) AS oldest, "
        f"COALESCE({_end(stream, 'locked', 'DESC')}, 0) AS last FROM locked), "
        f"allowed AS (SELECT * FROM found WHERE (status IS NULL OR status NOT IN ({READY_LIST})) AND {room}), "
        f"stored AS (INSERT INTO {stream} (task_id, seq, item, date) "
        f"SELECT allowed.task_id, allowed.last + new.number, new.item, "
        f"CAST(CAST(:date AS timestamptz) AS timestamp) "
        f"FROM allowed JOIN {new} AS new (n, number, item) ON new.n = allowed.n{kept}), "
        f"{trimmed}"
        f"removed AS (DELETE FROM {task} WHERE id = {placed}) "
        f"SELECT found.n, found.status, found.oldest, found.last, CASE WHEN allowed.n IS NOT NULL THEN "
        f"CAST(pg_notify({channel}, {stream_payload('found.task_id')}) AS text) END "
        f"FROM found LEFT JOIN allowed ON allowed.n = found.n"
    )


def _end(stream: str, of: str, order: str) -> str:
    """Return SQL for the lowest or the highest number in the stream of each row of ``of``."""
    return f"(SELECT seq FROM {stream} AS own WHERE own.task_id = {of}.task_id ORDER BY seq {order} LIMIT 1)"


def _lock_statement(task: str, *, many: bool) -> str:
    """Return the statement that locks rows, and inserts placeholders for missing ones."""
    source = (
        "unnest(CAST(:ids AS text[]), CAST(:keys AS integer[])) WITH ORDINALITY"
        if many
        else "(VALUES (CAST(:id AS text), CAST(:key AS integer), 1))"
    )
    return (
        f"WITH given AS (SELECT * FROM {source} AS given (task_id, key, n)), "
        f"locked AS (SELECT given.task_id FROM given JOIN {task} AS task ON task.task_id = given.task_id "
        f"ORDER BY given.n FOR NO KEY UPDATE OF task), "
        f"placed AS (INSERT INTO {task} (id, task_id, status) OVERRIDING SYSTEM VALUE "
        f"SELECT key, task_id, '{PENDING}' FROM given WHERE task_id NOT IN (SELECT task_id FROM locked) ORDER BY n "
        f"ON CONFLICT DO NOTHING RETURNING task_id, id) "
        f"SELECT task_id, CAST(NULL AS integer) FROM locked UNION ALL SELECT task_id, id FROM placed"
    )


def _read_statement(stream: str, *, many: bool) -> str:
    source = (
        "unnest(CAST(:id AS text[]), CAST(:after AS bigint[]), CAST(:most AS bigint[])) WITH ORDINALITY"
        if many
        else "(VALUES (CAST(:id AS text), CAST(:after AS bigint), CAST(:most AS bigint), 1))"
    )
    return (
        f"SELECT n, {_end(stream, 'place', 'ASC')}, {_end(stream, 'place', 'DESC')}, ARRAY(SELECT item FROM {stream} "
        f"AS own WHERE own.task_id = place.task_id AND own.seq > place.after ORDER BY own.seq LIMIT place.most) "
        f"FROM {source} AS place (task_id, after, most, n)"
    )


def _purge_statement(stream: str) -> str:
    later = f"SELECT FROM {stream} AS later WHERE later.task_id = newest.task_id AND later.seq > newest.seq"
    return (
        f"WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:key) AS ours), "
        f"over AS MATERIALIZED (SELECT task_id FROM {stream} AS newest WHERE (SELECT ours FROM turn) "
        f"AND date < CAST(CAST(:cutoff AS timestamptz) AS timestamp) AND NOT EXISTS ({later}) LIMIT {PURGE_BATCH}), "
        f"oldest AS (SELECT task_id, seq FROM {stream} WHERE task_id IN (SELECT task_id FROM over) "
        f"ORDER BY task_id, seq LIMIT {PURGE_BATCH}) "
        f"DELETE FROM {stream} AS gone USING oldest WHERE gone.task_id = oldest.task_id AND gone.seq = oldest.seq"
    )
