"""One checked-out connection, which counts what it sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import CursorResult, Dialect, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    import sqlite3

    import aiosqlite
    import asyncpg

Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")


class Link:
    """Sends statements over a connection in autocommit mode.

    Args:
        connection: an open connection.
        count: called once for each statement.
    """

    def __init__(self, connection: AsyncConnection, count: Callable[[], None]) -> None:
        self.connection = connection
        self._count = count

    async def rows(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[Any]:
        """Return the rows of ``statement``; a string goes to the driver as it is."""
        return list((await self._execute(statement, parameters)).all())

    async def value(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        """Return the first value of the first row of ``statement``, or ``None``."""
        return (await self._execute(statement, parameters)).scalar()

    async def hot_rows(self, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Do the same as ``rows`` for the statements that are sent for each batch of results."""
        return await self.rows(statement, parameters)

    async def run(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> int:
        """Execute ``statement`` and return how many rows it touched."""
        return (await self._execute(statement, parameters)).rowcount

    async def in_thread(
        self, call: Callable[Concatenate[sqlite3.Connection, Arguments], Outcome], *arguments: Arguments.args
    ) -> Outcome:
        """Return what ``call`` makes of SQLite's connection, in the thread that it belongs to, where nothing interrupts."""
        self._count()
        driver: aiosqlite.Connection = (await self.connection.get_raw_connection()).driver_connection
        outcome: Outcome = await driver._execute(call, driver._conn, *arguments)
        return outcome

    async def _execute(
        self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any]
    ) -> CursorResult[Any]:
        self._count()
        if isinstance(statement, str):
            return await self.connection.exec_driver_sql(statement, tuple(parameters) or None)
        return await self.connection.execute(statement, dict(parameters) if parameters else None)

    @asynccontextmanager
    async def transaction(self, begin: str = "BEGIN") -> AsyncIterator[None]:
        """Make what is sent inside one transaction."""
        await self.run(begin)
        try:
            yield
        except BaseException:
            if not self.connection.closed and not self.connection.invalidated:
                await self.run("ROLLBACK")
            raise
        await self.run("COMMIT")


class AsyncpgLink(Link):
    """The same, but sends the hot statements by asyncpg itself: SQLAlchemy takes three times as long as the server.

    The connections remain SQLAlchemy's, with its pool and options. One whose statement was interrupted, or that the
    server has closed, leaves the pool, as SQLAlchemy would have it.
    """

    async def hot_rows(self, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
        self._count()
        sql, names = _compiled(statement, self.connection.dialect)
        driver = await self._driver_connection()
        try:
            rows: list[Any] = await driver.fetch(sql, *[parameters[name] for name in names])
        except BaseException as exc:
            if driver.is_closed() or getattr(exc, "sqlstate", None) is None:
                await self.connection.invalidate()
            raise
        return rows

    async def _driver_connection(self) -> asyncpg.Connection:
        open_already = self.connection.sync_connection
        if open_already is None:
            return (await self.connection.get_raw_connection()).driver_connection
        return open_already.connection.driver_connection


def link_class(driver: str, options: Iterable[str]) -> type[Link]:
    """Return the way to send statements over ``driver``, whose connections are made with these options.

    Whoever sets how statements are prepared has a pooler in mind, and gets SQLAlchemy's way, which heeds all of that.
    """
    prepares = any("statement" in option for option in options)
    return AsyncpgLink if driver == "asyncpg" and not prepares else Link


@lru_cache(maxsize=64)
def _compiled(statement: TextClause, dialect: Dialect) -> tuple[str, Sequence[str]]:
    """Return a statement in the form of the driver, and the names of its parameters in their order."""
    compiled: Any = statement.compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup)
