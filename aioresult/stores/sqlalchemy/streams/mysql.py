"""Streams in MySQL and MariaDB: a batch is one transaction, which inserts or locks the tasks' rows, reads, and inserts.

It reads without locks, and this is the transaction's first such read. It therefore sees what earlier holders of the
locks have committed, and no other transaction can change it now.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from aioresult.errors import ResultTooLarge
from aioresult.settings import Settings
from aioresult.states import PENDING
from aioresult.stores.portions import portions
from aioresult.stores.sqlalchemy.dialects.literals import listed, literal
from aioresult.stores.sqlalchemy.dialects.mysql import MySQLDialect, escaped, mistaken, too_large, turn_to_purge
from aioresult.stores.sqlalchemy.dialects.port import PURGE_BATCH, Dialect, parts_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.streams.port import Found, Known, Stored, StreamStatements, chunk_of, placed_keys
from aioresult.stream import EMPTY, REPEATED_AMONG, Append, Chunk, Cursor

_CHUNK: Final = 200
"""Streams per statement."""
_OVERHEAD: Final = 2**10
"""Bytes of a statement that are kept for everything except items."""


class MySQLStreams(StreamStatements):
    """With asyncmy or aiomysql, and with literals instead of parameters, as in all statements for MySQL."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        super().__init__(dialect, settings)
        self._task, self._stream = escaped(self.layout.task), escaped(self.layout.stream)
        self._packet = int(self.facts["max_allowed_packet"])

    async def append(self, link: Link, appends: Sequence[Append], date: datetime) -> Sequence[Stored]:
        stored = {append.id: Stored(error) for append in appends if (error := self._too_large(append))}
        rest = [append for append in appends if append.id not in stored]
        for some in parts_of(rest, _CHUNK):
            async with link.transaction(MySQLDialect.begin):
                stored.update(await self._append_some(link, some, date))
        return [stored[append.id] for append in appends]

    def _too_large(self, append: Append) -> ResultTooLarge | None:
        """Return an error if an item does not fit into a statement, in which it may be a third longer."""
        size = max(map(len, append.items))
        if size * 4 // 3 + _OVERHEAD <= self._packet:
            return None
        return too_large(f"an item of task {append.id!r}", size, self._packet)

    async def _append_some(self, link: Link, appends: Sequence[Append], date: datetime) -> dict[str, Stored]:
        placed, found = await self._locked(link, [append.id for append in appends])
        stored: dict[str, Stored] = {}
        rows: list[tuple[str, int, bytes]] = []
        for append in appends:
            if append.id not in found:
                stored[append.id] = Stored(mistaken(append.id, self.layout, self.facts))
                continue
            there = found[append.id]
            known = await self._known(link, append, there.last) if append.repeated else {}
            stored[append.id], new, gone = self.rows(append, there, known)
            rows += new
            if gone:
                await link.run(f"DELETE FROM {self._of(append.id)} AND seq <= {gone}")
        await self._insert(link, rows, literal(self.dates.to_column(date)))
        if placed:
            await link.run(f"DELETE FROM {self._task} WHERE id IN ({listed(placed)})")
        return stored

    async def _locked(self, link: Link, ids: Sequence[str]) -> tuple[list[int], dict[str, Found]]:
        """Lock the rows of ``ids``; insert a placeholder for a missing row.

        Returns:
            The keys of the placeholders, which no sequence gives, and what was found of each task.
        """
        keys = placed_keys(len(ids))
        values = (f"({listed((key, task_id, PENDING))})" for key, task_id in zip(keys, ids, strict=True))
        into = f"INSERT INTO {self._task} (id, task_id, status) VALUES {', '.join(values)}"
        await link.run(f"{into} ON DUPLICATE KEY UPDATE task_id = task_id")
        text = self.layout.reading("task_id")
        looks = (
            f"SELECT id, {text}, {self.layout.reading('status')}, {self._ends(task_id)} FROM {self._task} "
            f"WHERE task_id = {literal(task_id)}"
            for task_id in ids
        )
        rows = await link.rows(" UNION ALL ".join(looks))
        found = {task_id: Found(status, oldest or 1, last or 0) for _, task_id, status, oldest, last in rows}
        return sorted({row[0] for row in rows}.intersection(keys)), found

    def _of(self, task_id: str) -> str:
        return f"{self._stream} WHERE task_id = {literal(task_id)}"

    def _ends(self, task_id: str) -> str:
        """Return SQL for the lowest and the highest number in a stream."""
        numbers = f"SELECT seq FROM {self._of(task_id)} ORDER BY seq"
        return f"({numbers} LIMIT 1), ({numbers} DESC LIMIT 1)"

    async def _known(self, link: Link, append: Append, last: int) -> Known:
        """Return the newest items."""
        rows = await link.rows(f"SELECT item, seq FROM {self._of(append.id)} AND seq > {last - REPEATED_AMONG}")
        return dict(tuple(row) for row in rows)

    async def _insert(self, link: Link, rows: Sequence[tuple[str, int, bytes]], date: str) -> None:
        values = (f"({listed(row)}, {date})" for row in rows)
        for part in portions(values, self._packet - _OVERHEAD, weight=lambda value: len(value) + 2):
            await link.run(f"INSERT INTO {self._stream} (task_id, seq, item, date) VALUES {', '.join(part)}")

    async def read(self, link: Link, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        chunks: list[Chunk] = []
        for some in parts_of(cursors, _CHUNK):
            chunks += await self._read_some(link, some)
        return chunks

    async def _read_some(self, link: Link, cursors: Sequence[Cursor]) -> list[Chunk]:
        """Read by one statement, so that all rows are from the same moment."""
        looks: list[str] = []
        for n, cursor in enumerate(cursors):
            looks.append(f"SELECT {n}, {self._ends(cursor.id)}, NULL")
            if cursor.limit:
                items = f"SELECT {n}, seq, NULL, item FROM {self._of(cursor.id)} AND seq > {cursor.after}"
                looks.append(f"({items} ORDER BY seq LIMIT {cursor.limit})")
        ends: dict[int, tuple[Any, Any]] = {}
        items_of: list[list[tuple[int, bytes]]] = [[] for _ in cursors]
        for n, first, last, item in await link.rows(" UNION ALL ".join(looks)):
            if item is None:
                ends[n] = (first, last)
            else:
                items_of[n].append((first, item))
        return [
            chunk_of(*ends[n], [item for _, item in sorted(found)]) if n in ends else EMPTY
            for n, found in enumerate(items_of)
        ]

    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        for some in parts_of(sorted(ids), _CHUNK):
            await link.run(f"DELETE FROM {self._stream} WHERE task_id IN ({listed(some)})")

    async def purge(self, link: Link, cutoff: datetime) -> int | None:
        async with turn_to_purge(link, self.facts["database"], self.layout.stream) as ours:
            return await self._purge_some(link, literal(self.dates.to_column(cutoff))) if ours else None

    async def _purge_some(self, link: Link, before: str) -> int:
        later = f"SELECT 1 FROM {self._stream} AS later WHERE later.task_id = newest.task_id AND later.seq > newest.seq"
        over = await link.rows(
            f"SELECT task_id FROM {self._stream} AS newest WHERE date < {before} AND NOT EXISTS ({later}) "
            f"LIMIT {PURGE_BATCH}"
        )
        if not over:
            return 0
        return await link.run(
            f"DELETE FROM {self._stream} WHERE task_id IN ({listed(task_id for (task_id,) in over)}) "
            f"ORDER BY task_id, seq LIMIT {PURGE_BATCH}"
        )
