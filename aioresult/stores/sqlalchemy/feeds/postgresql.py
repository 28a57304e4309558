"""PostgreSQL: LISTEN on one connection of its own, on channels over which the ids are spread."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Collection
from typing import ClassVar, Final

from sqlalchemy import text

from aioresult.abc import Capabilities, Feed
from aioresult.errors import StoreUnavailable
from aioresult.stores.sqlalchemy import triggers
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.dialects.postgresql import channel_of, channel_prefix
from aioresult.stores.sqlalchemy.feeds.listeners import Listener, make_listener
from aioresult.stores.sqlalchemy.feeds.port import Push
from aioresult.stores.sqlalchemy.feeds.waking import WakingFeed
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.notices import warn_once

_PROBE_DEADLINE: Final = 5.0
"""Seconds within which a notification to ourselves has to arrive."""
_NEXT_PROBE: Final = 60.0
"""Seconds after which one that did not arrive is tried again: perhaps the server was merely busy."""
_NEXT_PROBE_DEADLINE: Final = 1.0
"""The same as ``_PROBE_DEADLINE`` then, when nobody is served before it is over."""
_OBSTACLE: Final = (
    "a notification to ourselves did not arrive: between us and the server is a connection pooler in "
    "transaction mode; give a URL that leads to the server itself, or to a pooler in session mode"
)
_NOTIFY: Final = text("SELECT pg_notify(:channel, '')")


class PostgreSQLPush(Push):
    """Notifications go out with each write; they come in unless something between us and the server swallows them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._deaf_until: float | None = None
        """When to find out whether notifications arrive by now; ``None`` where they do."""

    async def open(self) -> Feed | None:
        loop = asyncio.get_running_loop()
        if self._deaf_until is not None and loop.time() < self._deaf_until:
            return None
        feed = NotificationFeed(self.database, await self.database.ready())
        try:
            if await feed.open(_PROBE_DEADLINE if self._deaf_until is None else _NEXT_PROBE_DEADLINE):
                self._deaf_until = None
                return feed
        except BaseException:
            await feed.aclose()
            raise
        await feed.aclose()
        self._deaf_until = loop.time() + _NEXT_PROBE
        warn_once(self.database.location, f"{_OBSTACLE}; polling instead")
        return None

    async def capabilities(self) -> Capabilities:
        facts = (await self.database.ready()).facts
        details = {"postgresql": facts["postgresql"], "table": f"{facts['schema']}.{facts['table']}"}
        details["trigger for foreign writers"] = await self.database.run(triggers.describe)
        feed = await self.open()
        if feed is None:
            mechanism = "polling, one indexed query for all waiters"
            return Capabilities(push=False, mechanism=mechanism, reason=_OBSTACLE, details=details)
        await feed.aclose()
        return Capabilities(push=True, mechanism="LISTEN and NOTIFY, one connection", details=details)


class NotificationFeed(WakingFeed):
    """Emits the ids that are announced; what is stored is then read by whoever waits."""

    patience: ClassVar[float | None] = 20.0

    def __init__(self, database: Database, dialect: Dialect) -> None:
        super().__init__()
        self._database = database
        self._prefix = channel_prefix(dialect.facts["schema"], dialect.facts["table"])
        self._listening: Counter[str] = Counter()
        """Channels, with the number of watched ids on each."""
        self._own = f"aioresult_probe_{secrets.token_hex(8)}"
        self._echo = asyncio.Event()
        self._listener: Listener | None = None

    async def open(self, patience: float) -> bool:
        """Connect, and return whether notifications arrive.

        Args:
            patience: seconds within which one to ourselves has to.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        connection = await self._database.driver_connection()
        self._listener = await make_listener(connection, self._database.location, self._heard, self._lost)
        self._database.count()
        await self._listener.listen([self._own])
        if await self._hears_itself(patience):
            return True
        self._database.count()
        await self._listener.ping()  # a dead connection is another matter: that raises
        return False

    async def watch(self, ids: Collection[str]) -> None:
        added = Counter(channel_of(self._prefix, task_id) for task_id in ids if task_id not in self._watched)
        new = [channel for channel in added if channel not in self._listening]
        self._watched.update(ids)
        self._listening.update(added)
        if new:
            self._database.count()
            await self._connected().listen(new)
        for task_id in ids:
            self._emit(task_id, None)

    async def unwatch(self, ids: Collection[str]) -> None:
        gone = Counter(channel_of(self._prefix, task_id) for task_id in ids if task_id in self._watched)
        self._watched.difference_update(ids)
        self._listening -= gone  # drops the channels that nobody needs
        silent = [channel for channel in gone if channel not in self._listening]
        if silent:
            self._database.count()
            await self._connected().unlisten(silent)

    def _connected(self) -> Listener:
        if self._listener is None:
            raise StoreUnavailable(f"{self._database.location}: the feed is closed")
        return self._listener

    def _heard(self, channel: str, payload: str) -> None:
        if channel == self._own:
            self._echo.set()
        elif payload in self._watched:
            self._emit(payload, None)

    def _lost(self, reason: str) -> None:
        self._fail(StoreUnavailable(f"{self._database.location}: {reason}"))

    async def _check(self) -> None:
        if not await self._hears_itself(_PROBE_DEADLINE):
            raise StoreUnavailable(f"{self._database.location}: the listening connection has fallen silent")

    async def _hears_itself(self, patience: float) -> bool:
        """Return whether what another connection announces arrives here in time."""
        self._echo.clear()
        await self._database.run(self._notify, small=True)
        try:
            async with asyncio.timeout(patience):
                await self._echo.wait()
        except TimeoutError:
            return False
        return True

    async def _notify(self, link: Link, _dialect: Dialect) -> None:
        await link.run(_NOTIFY, {"channel": self._own})

    async def aclose(self) -> None:
        await super().aclose()
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()
