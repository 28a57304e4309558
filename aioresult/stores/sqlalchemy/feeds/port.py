"""What a kind of database has to say about notifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aioresult.abc import Capabilities, Feed
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stream import News

POLLING: Final = "polling, one indexed query for all waiters"


class Push:
    """Announces what a store has written, and opens feeds for its waiters.

    By default there are none, since the database cannot notify: the hub reads everything that is waited for, in one
    query per tick.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def announce(self, rows: Sequence[Row] = (), news: Sequence[tuple[str, News]] = ()) -> None:
        """Tell of rows or items that have just been committed, where the database itself does not; never waits."""

    async def open(self) -> Feed | None:
        """Open a feed, or return ``None`` where there can be none.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        return None

    async def capabilities(self) -> Capabilities:
        """Say what ``open`` would do, and why."""
        reason = "this kind of database cannot notify its clients"
        details = (await self.database.ready()).facts
        return Capabilities(push=False, mechanism=POLLING, reason=reason, details=details)
