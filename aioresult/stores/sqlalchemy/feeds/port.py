"""The notifications of a kind of database."""

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

    By default there are no feeds, because the database cannot notify: the hub polls all awaited ids, by one query per
    tick.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def announce(self, rows: Sequence[Row] = (), news: Sequence[tuple[str, News]] = ()) -> None:
        """Announce rows or items that were just committed, if the database itself does not; never waits."""

    async def open(self) -> Feed | None:
        """Open a feed, or return ``None`` if the database cannot push.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        return None

    async def capabilities(self) -> Capabilities:
        """Return what ``open`` would do, and why."""
        reason = "this kind of database cannot notify its clients"
        details = (await self.database.ready()).facts
        return Capabilities(push=False, mechanism=POLLING, reason=reason, details=details)
