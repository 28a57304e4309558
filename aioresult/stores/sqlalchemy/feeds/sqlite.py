"""SQLite: direct news within the process, file events across processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from aioresult.abc import Capabilities, Feed
from aioresult.errors import StoreUnavailable
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.feeds import files
from aioresult.stores.sqlalchemy.feeds.filefeed import FileFeed
from aioresult.stores.sqlalchemy.feeds.local import LocalFeed, announce
from aioresult.stores.sqlalchemy.feeds.port import Push
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stream import News

logger = logging.getLogger("aioresult")


class SQLitePush(Push):
    """Direct news within the process, file events across processes."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._obstacle: str | None = None

    def announce(self, rows: Sequence[Row] = (), news: Sequence[tuple[str, News]] = ()) -> None:
        dialect = self.database.opened
        if (rows or news) and dialect is not None:
            announce(self._key(dialect), rows, news)

    def _key(self, dialect: Dialect) -> tuple[object, ...]:
        place = dialect.facts["file"] or self._shared or id(self.database)
        return (place, dialect.layout.task)

    @property
    def _shared(self) -> str:
        """The name of a database in memory that several connections of this process share."""
        url = self.database.target.url
        return str(url.database or "") if url.query.get("cache") == "shared" else ""

    async def open(self) -> Feed | None:
        dialect = await self.database.ready()
        if not dialect.facts["file"]:
            return LocalFeed(self._key(dialect), self.database.rows)
        if self._why_not(dialect):
            return None
        feed = FileFeed(self.database, dialect, self._key(dialect))
        try:
            await feed.open()
        except BaseException as exc:
            await feed.aclose()
            if isinstance(exc, OSError) and not isinstance(exc, StoreUnavailable):
                self._obstacle = f"the system refuses file events ({exc.strerror}); see fs.inotify.max_user_instances"
                logger.warning("%s: %s; polling instead", self.database.location, self._obstacle)
                return None
            raise
        return feed

    def _why_not(self, dialect: Dialect) -> str:
        if self._obstacle is None:
            self._obstacle = files.obstacle(Path(dialect.facts["file"]))
        return self._obstacle

    async def capabilities(self) -> Capabilities:
        dialect = await self.database.ready()
        details = {key: value for key, value in dialect.facts.items() if key != "ids"}
        if not dialect.facts["file"]:
            shared = "shared by what is open in this process"
            reason = f"a database in memory is {shared if self._shared else 'private to this event loop'}"
            return Capabilities(push=True, mechanism="direct news within the process", reason=reason, details=details)
        reason = self._why_not(dialect)
        if reason:
            return Capabilities(
                push=False, mechanism="polling, one query for all waiters", reason=reason, details=details
            )
        mechanism = "direct news within the process, file events (inotify) across processes"
        return Capabilities(push=True, mechanism=mechanism, details=details)
