"""The streams of one SQL store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from pkgutil import resolve_name
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import msgspec

from aioresult.errors import AioResultError
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy import schema
from aioresult.stores.sqlalchemy.database import is_small
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import MissingTable
from aioresult.stores.sqlalchemy.feeds.port import Push
from aioresult.stores.sqlalchemy.leases import LeaseStore
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import null_in
from aioresult.stores.sqlalchemy.streams.port import Stored, StreamStatements
from aioresult.stores.sqlalchemy.urls import Family
from aioresult.stream import EMPTY, Append, Chunk, Cursor, News

logger = logging.getLogger("aioresult")

_CLASSES: Final[dict[Family, str]] = {
    "sqlite": "sqlite:SQLiteStreams",
    "postgresql": "postgresql:PostgreSQLStreams",
    "mysql": "mysql:MySQLStreams",
}
_HIGHEST: Final = 2**63 - 1
"""The largest number that a column can hold."""


class StreamStore(LeaseStore):
    """Keeps items in a table of their own, which is created when the first item is stored."""

    keeps_streams: ClassVar[bool] = True
    _push: Push
    _stream_class: type[StreamStatements]

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._statements: WeakKeyDictionary[Dialect, StreamStatements] = WeakKeyDictionary()
        self._streams_exist = False
        """Whether the table is known to exist."""

    def _on(self, dialect: Dialect) -> StreamStatements:
        made = self._statements.get(dialect)
        if made is None:
            made = self._statements[dialect] = self._stream_class(dialect, self.settings)
        return made

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        taken = sorted((append for append in appends if "\0" not in append.id), key=attrgetter("id"))
        now = datetime.now(UTC)
        tried = False

        async def append(link: Link, dialect: Dialect) -> Sequence[Stored]:
            nonlocal tried
            for one in taken if tried else ():  # a lost connection may have executed the statements
                one.repeated = True
            tried = True
            return await self._on(dialect).append(link, taken, now)

        stored: dict[str, Stored] = {}
        if taken:
            items = [item for one in taken for item in one.items]
            small = is_small(len(items), sum(map(len, items)))
            results = await self.database.run(append, small=small, writes="stream")
            self._streams_exist = True
            stored = {one.id: result for one, result in zip(taken, results, strict=True)}
            self._push.announce(news=[(task_id, news) for task_id, one in stored.items() if (news := _news_of(one))])
        return [stored[one.id].outcome if one.id in stored else null_in(one.id) for one in appends]

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        wanted = [
            msgspec.structs.replace(cursor, after=min(cursor.after, _HIGHEST))
            for cursor in cursors
            if "\0" not in cursor.id
        ]
        chunks: Sequence[Chunk] = [EMPTY] * len(wanted)
        if wanted and await self._has_streams():
            with self._unless_dropped():
                chunks = await self.database.run(
                    lambda link, dialect: self._on(dialect).read(link, wanted), small=is_small(len(wanted))
                )
        found = iter(chunks)
        return [EMPTY if "\0" in cursor.id else next(found) for cursor in cursors]

    async def _delete_streams(self, ids: Sequence[str]) -> None:
        if await self._has_streams():
            with self._unless_dropped():
                await self.database.run(lambda link, dialect: self._on(dialect).delete(link, ids))

    async def _purge_streams(self, cutoff: datetime) -> None:
        """Delete the streams whose newest item is from before ``cutoff``, in small transactions."""
        if await self._has_streams():
            with self._unless_dropped():
                while deleted := await self.database.run(lambda link, dialect: self._on(dialect).purge(link, cutoff)):
                    logger.debug("%s: %d items of expired streams were deleted", self.location, deleted)
                    await asyncio.sleep(0)

    async def _has_streams(self) -> bool:
        """Return whether the table exists; costs a query as long as it does not."""
        if not self._streams_exist:
            table = self.database.tables.stream
            self.database.count()
            self._streams_exist = not await self.database.run(
                lambda link, _: link.connection.run_sync(schema.lacks, table), small=True
            )
        return self._streams_exist

    @contextmanager
    def _unless_dropped(self) -> Iterator[None]:
        """Treat a table that was dropped as empty."""
        try:
            yield
        except MissingTable:
            self._streams_exist = False


def stream_class(family: Family) -> type[StreamStatements]:
    """Return the statements of ``family``; the others are not imported."""
    found: type[StreamStatements] = resolve_name(f"{__name__}.{_CLASSES[family]}")
    return found


def _news_of(stored: Stored) -> News | None:
    if not isinstance(stored.outcome, int) or not stored.items:
        return None
    return News(stored.outcome - len(stored.items) + 1, stored.items)
