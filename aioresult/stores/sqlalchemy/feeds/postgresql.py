"""PostgreSQL: LISTEN on one connection of its own; the ids are distributed over a number of channels.

A trigger announces what foreign writers store. If it is missing, their results are polled, and all others are
announced.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Collection
from typing import ClassVar, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aioresult.abc import Capabilities, Feed, NewsSink
from aioresult.errors import StoreUnavailable
from aioresult.polling import Read
from aioresult.settings import Settings
from aioresult.stores.notices import warn_once
from aioresult.stores.sqlalchemy import triggers
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.dialects.postgresql import READ_ONLY, STREAM, channel_of, channel_prefix
from aioresult.stores.sqlalchemy.feeds.foreign import ForeignNews
from aioresult.stores.sqlalchemy.feeds.listeners import Listener, Refused, make_listener
from aioresult.stores.sqlalchemy.feeds.port import POLLING, Push
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.waking import WakingFeed
from aioresult.stream import LOOK

_PROBE_DEADLINE: Final = 5.0
"""Seconds within which a notification to ourselves must arrive."""
_NEXT_PROBE: Final = 60.0
"""Seconds after which a probe that failed is repeated, because the server may only have been busy."""
_DOUBTFUL_PROBE_DEADLINE: Final = 1.0
"""The deadline of a repeated probe, or behind a pooler: it is shorter since all callers wait, and likely in vain."""
_OBSTACLE: Final = (
    "a notification to ourselves did not arrive: between us and the server is a connection pooler in "
    "transaction mode; give a URL that leads to the server itself, or to a pooler in session mode"
)
_NOTIFY: Final = text("SELECT pg_notify(:channel, '')")


class PostgreSQLPush(Push):
    """Each write sends a notification, which arrives unless something between us and the server drops it."""

    def __init__(self, database: Database, read: Read) -> None:
        super().__init__(database)
        self._read = read
        self._obstacle = ""
        """Why notifications did not arrive at the last probe; empty if they did."""
        self._retry_at = 0.0
        """When to probe again."""

    async def open(self) -> Feed | None:
        feed = await self._open()
        if isinstance(feed, NotificationFeed):
            return feed
        warn_once(self.database.location, f"{feed}; polling instead")
        return None

    async def _open(self) -> NotificationFeed | str:
        """Open a feed, or return why that is not possible."""
        loop = asyncio.get_running_loop()
        if self._obstacle and loop.time() < self._retry_at:
            return self._obstacle
        feed = await self._listening()
        if isinstance(feed, Refused) and feed.code == READ_ONLY:
            self.database.distrust()  # new connections may lead to the primary by now
            feed = await self._listening()
        if isinstance(feed, NotificationFeed):
            self._obstacle = ""
            return feed
        self._obstacle, self._retry_at = str(feed or _OBSTACLE), loop.time() + _NEXT_PROBE
        return self._obstacle

    async def _listening(self) -> NotificationFeed | Refused | None:
        """Open a feed; return the server's refusal if it does not notify, or ``None`` if nothing arrives."""
        feed = NotificationFeed(self.database, await self.database.ready(), self._read)
        doubtful = self._obstacle or self.database.pooled
        try:
            if await feed.open(_DOUBTFUL_PROBE_DEADLINE if doubtful else _PROBE_DEADLINE):
                return feed
        except Refused as exc:
            await feed.aclose()
            return exc
        except BaseException as exc:
            await feed.aclose()
            if isinstance(exc, StoreUnavailable):
                self.database.distrust()
            raise
        await feed.aclose()
        return None

    async def capabilities(self) -> Capabilities:
        facts = (await self.database.ready()).facts
        details = {"postgresql": facts["postgresql"], "table": f"{facts['schema']}.{facts['table']}"}
        if "tables" in facts:
            details["tables"] = facts["tables"]
        trigger = await self.database.run(triggers.describe, small=True)
        details["trigger"] = trigger
        if self.database.pooled:
            details["pooler"] = "one is between us and the server: statements are prepared without a name"
        standing_by = "SELECT pg_is_in_recovery()"
        writes = not await self.database.run(lambda link, _: link.value(standing_by), small=True)
        if not writes:
            details["role"] = "a standby, which only reads"
        feed = await self._open()
        if isinstance(feed, str):
            return Capabilities(push=False, mechanism=POLLING, reason=feed, details=details, writes=writes)
        await feed.aclose()
        announced = trigger in triggers.ANNOUNCING
        reason = "" if announced else _why_not_all(self.database.settings, details["table"], trigger)
        mechanism = "LISTEN and NOTIFY, one connection"
        return Capabilities(push=True, mechanism=mechanism, reason=reason, details=details, writes=writes)


def _why_not_all(settings: Settings, table: str, trigger: str) -> str:
    """Return the consequence of a missing trigger on ``table``: foreign writers are not announced."""
    if settings.database_trigger is False:
        return (
            f"database_trigger=False says that nobody but aioresult stores results here: what others store is seen "
            f"every {settings.fallback_interval:g} s (fallback_interval)"
        )
    return (
        f"only for what aioresult stores: what others do, such as Celery's workers, is polled beside it every "
        f"{settings.poll_interval:g} s, since {table} has no trigger that announces it ({trigger}); run `aioresult sql "
        f"install-trigger`, or set database_trigger=True, or database_trigger=False where there are no others"
    )


class NotificationFeed(WakingFeed):
    """Emits the announced ids without records; the hub then reads them.

    While there is no trigger that announces what foreign writers store, it also polls.
    """

    patience: ClassVar[float | None] = 20.0

    def __init__(self, database: Database, dialect: Dialect, read: Read) -> None:
        super().__init__()
        self._database = database
        self._watched: set[str] = set()
        self._foreign = ForeignNews(read, database.settings, self._emit, self._fail)
        self._polling_needed = False
        self._prefix = channel_prefix(dialect.facts["schema"], dialect.facts["table"])
        self._listening: Counter[str] = Counter()
        """Channels, with the number of tasks and streams on each."""
        self._own = f"aioresult_probe_{secrets.token_hex(8)}"
        self._echo = asyncio.Event()
        self._listener: Listener | None = None
        self._followed: set[str] = set()
        self._tell: NewsSink | None = None

    async def open(self, patience: float) -> bool:
        """Connect, and return whether notifications arrive: one to ourselves must arrive within ``patience``.

        Raises:
            StoreUnavailable: the database cannot be reached; ``Refused`` if it does not notify.
        """
        connection = await self._database.driver_connection()
        self._listener = await make_listener(connection, self._database.location, self._on_notification, self._on_lost)
        self._database.count()
        await self._listener.listen([self._own])
        if await self._receives_own(patience):
            await self._update_foreign_polling()
            return True
        self._database.count()
        await self._listener.ping()  # a dead connection raises here
        return False

    async def watch(self, ids: Collection[str]) -> None:
        await self._subscribe(ids, self._watched)
        if self._foreign.polled:
            self._foreign.also_read(ids)
        for task_id in ids:
            self._emit(task_id, None)

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        await self._subscribe(ids, self._followed)
        for task_id in ids:
            tell(task_id, LOOK)

    async def unwatch(self, ids: Collection[str]) -> None:
        await self._foreign.unwatch(ids)
        await self._unsubscribe(ids, self._watched)

    async def unfollow(self, ids: Collection[str]) -> None:
        await self._unsubscribe(ids, self._followed)

    async def _subscribe(self, ids: Collection[str], known: set[str]) -> None:
        added = Counter(channel_of(self._prefix, task_id) for task_id in ids if task_id not in known)
        new = [channel for channel in added if channel not in self._listening]
        known.update(ids)
        self._listening.update(added)
        if new:
            self._database.count()
            await self._connected().listen(new)

    async def _unsubscribe(self, ids: Collection[str], known: set[str]) -> None:
        gone = Counter(channel_of(self._prefix, task_id) for task_id in ids if task_id in known)
        known.difference_update(ids)
        self._listening -= gone  # drops the channels that are not needed any more
        silent = [channel for channel in gone if channel not in self._listening]
        if silent:
            self._database.count()
            await self._connected().unlisten(silent)

    def _connected(self) -> Listener:
        if self._listener is None:
            raise StoreUnavailable(f"{self._database.location}: the feed has ended")
        return self._listener

    def _on_notification(self, channel: str, payload: str) -> None:
        if channel == self._own:
            self._echo.set()
            return
        if payload in self._watched:
            self._emit(payload, None)
        if payload.startswith(STREAM) and self._tell is not None:
            task_id = payload.removeprefix(STREAM)
            if task_id in self._followed:
                self._tell(task_id, LOOK)

    def _on_lost(self, reason: str) -> None:
        self._database.distrust()
        self._fail(StoreUnavailable(f"{self._database.location}: {reason}"))

    async def _check(self) -> None:
        if not await self._receives_own(_PROBE_DEADLINE):
            raise StoreUnavailable(f"{self._database.location}: the listening connection has fallen silent")
        await self._update_foreign_polling()

    async def _update_foreign_polling(self) -> None:
        """Begin to poll if the trigger is missing, and stop if it exists by now."""
        if self._foreign.polled == self._polling_needed:
            return
        if self._polling_needed:
            self._foreign.begin(self._watched)
        else:
            await self._foreign.end()
        for task_id in list(self._watched):  # results stored since the trigger was removed, or since the last poll
            self._emit(task_id, None)

    async def _receives_own(self, patience: float) -> bool:
        """Return whether a notification from another connection arrives here in time."""
        self._echo.clear()
        await self._database.run(self._notify, small=True)
        try:
            async with asyncio.timeout(patience):
                await self._echo.wait()
        except TimeoutError:
            return False
        return True

    async def _notify(self, link: Link, dialect: Dialect) -> None:
        try:
            await link.run(_NOTIFY, {"channel": self._own})
        except DBAPIError as exc:
            refused = Refused.by(exc)
            if refused is None or refused.code == READ_ONLY:  # listening was not refused, so this is another server
                raise
            raise refused from exc
        if self._database.settings.database_trigger is not False:
            self._polling_needed = await triggers.describe(link, dialect) not in triggers.ANNOUNCING

    async def aclose(self) -> None:
        await super().aclose()
        await self._foreign.end()
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()
