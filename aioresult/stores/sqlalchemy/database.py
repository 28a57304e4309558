"""One database, opened at its first use: an engine, its tables, and the one way to send statements."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from aioresult.codec import Codec
from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy import creating
from aioresult.stores.sqlalchemy.awaiting import answered, to_its_end
from aioresult.stores.sqlalchemy.connections import Connections
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.engines import make_engine, recycle_of
from aioresult.stores.sqlalchemy.failures import Lost, Verdict, judge, text_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.opening import Opening
from aioresult.stores.sqlalchemy.tables import Kind
from aioresult.stores.sqlalchemy.urls import Target

Outcome = TypeVar("Outcome")

_REPEATS: Final = 1
"""How often a call is repeated after a connection was found dead."""
_CONFLICT_REPEATS: Final = 8
"""The same after a deadlock with another writer."""
_FEW: Final = 1000
_LITTLE: Final = 2**20


def is_small(rows: int, octets: int = 0) -> bool:
    """Return whether a database finds or writes this amount in a very short time."""
    return rows <= _FEW and octets <= _LITTLE


class Database(Opening):
    """Sends the statements of one store, and calls ``count`` for each.

    An engine that is given as ``client`` belongs to the caller, and stays open; otherwise one is made.
    """

    def __init__(
        self, target: Target, settings: Settings, codec: Codec, count: Callable[[], None], client: AsyncEngine | None
    ) -> None:
        super().__init__(target, settings, codec, client)
        self.count = count
        self._connections: Connections | None = None
        self._link_class: type[Link] = Link
        self._named = self._together = True
        """Whether statements may have names, and several may form a transaction; true until an error shows
        otherwise."""
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)  # asyncio's timeout is an OSError

    async def run(
        self, work: Callable[[Link, Dialect], Awaitable[Outcome]], *, small: bool = False, writes: Kind | None = None
    ) -> Outcome:
        """Do ``work`` on a connection; repeat it if that was dead, after a conflict, or if the tables had changed.

        Args:
            work: what to do; it may be done twice.
            small: it concerns few rows, so a connection without an answer for ``Dialect.patience`` counts as dead.
            writes: the table that it writes to, which is created if it is missing and the settings allow it.

        Raises:
            StoreUnavailable: the database cannot be reached, or does not answer.
            SettingsError: the tables are missing, or cannot be used.
            AccessDenied: the account may not do this.
            EncodeError: the database refuses a value.
        """
        patience = self._chosen.patience if small else None

        async def on_link() -> Outcome:
            nonlocal patience
            limit, patience = patience, None  # a second attempt gets a new connection, and the full time
            async with asyncio.timeout(self._chosen.deadline):
                dialect = await self._dialect_for(writes)
                async with self._link() as link:
                    return await answered(work(link, dialect), limit)

        return await self._insist(on_link)

    async def create(self) -> None:
        """Create missing tables, columns and indexes, whatever the settings; raises as ``run``."""

        async def on_link() -> None:
            async with self._link() as link:
                await creating.create_all(link, self.tables, self._chosen)
            self._found.clear()

        await self._insist(on_link)

    async def _insist(self, attempt_once: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Call, and repeat the call where that may help; otherwise translate the error."""
        attempt = 0
        while True:
            try:
                return await attempt_once()
            except self._errors as exc:
                if isinstance(exc, StoreUnavailable):
                    raise
                verdict = judge(exc, self.location)
                learned = (verdict.nameless and self._named) or (verdict.alone and self._together)
                attempt += not learned
                if not verdict.repeat or attempt > (_CONFLICT_REPEATS if verdict.conflict else _REPEATS):
                    raise self._chosen.explained(verdict.error, self.target) from exc
            await self._recover(verdict, attempt)

    async def ready(self) -> Dialect:
        """Return the dialect with the tables that were found, after opening the database; raises as ``run``."""
        found = self._usable(None)
        return found if found is not None else await to_its_end(self.run(_dialect))

    async def driver_connection(self) -> Any:
        """Return a driver's connection for lasting use. It leaves the pool, and the caller must close it.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        await self.ready()
        return await to_its_end(self._insist(self._detached), lambda connection: connection.close())

    async def _detached(self) -> Any:
        async with asyncio.timeout(self._chosen.deadline):
            return await self._made_connections().take()

    @property
    def pooled(self) -> bool:
        """Whether a connection pooler was found between us and the server."""
        return self._connections is not None and self._connections.pooled

    def distrust(self) -> None:
        if self._connections is not None:
            self._connections.distrust()

    async def aclose(self) -> None:
        connections, self._connections = self._connections, None
        self._found.clear()
        if connections is not None:
            await connections.aclose()

    @asynccontextmanager
    async def _link(self, *, counting: bool = True) -> AsyncIterator[Link]:
        connections = self._made_connections()
        try:
            connection = await connections.acquire()
        except TypeError as exc:  # the driver's error for an unknown argument
            raise SettingsError(f"setting database_engine_options or the URL's query: {exc}") from exc
        count = self.count if counting else lambda: None
        link = self._link_class(connection, count, together=self._together)
        try:
            yield link
        except self._errors as exc:
            if await self._chosen.demoted(link, exc):
                raise Lost(f"the server only reads, being no primary (any more): {text_of(exc)}") from exc
            raise
        finally:
            await connections.release(connection)

    async def _recover(self, verdict: Verdict, attempt: int) -> None:
        if verdict.distrust:
            self.distrust()
        if verdict.reexamine:
            self._found.clear()
        if verdict.nameless and self._named:
            self._named = False
            await self._reopen()
        if verdict.alone:
            self._together = False
        if verdict.conflict:
            await asyncio.sleep(random.uniform(0.001, 0.01) * 2**attempt)

    def _made_connections(self) -> Connections:
        if self._connections is None:
            if self._client is not None:
                engine = self._client.execution_options(isolation_level="AUTOCOMMIT")
            else:
                engine, self._link_class = make_engine(
                    self.target, self.settings, lambda: self._writes, named=self._named
                )
            # SQLAlchemy wraps most errors of statements, but not those of connecting.
            unwrapped = self._chosen.driver_errors(engine.dialect.driver)
            self._errors = (SQLAlchemyError, OSError, engine.dialect.loaded_dbapi.Error, *unwrapped)
            owned, recycle = self._client is None, recycle_of(self.settings)
            self._connections = Connections(engine, self._chosen, owned=owned, recycle=recycle)
        return self._connections


async def _dialect(_link: Link, dialect: Dialect) -> Dialect:
    return dialect
