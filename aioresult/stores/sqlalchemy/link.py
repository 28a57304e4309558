"""One checked-out connection, which counts what it sends."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import CursorResult, Dialect, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    import sqlite3

    import asyncpg

Outcome = TypeVar("Outcome")

PREPARED: Final = "aioresult's prepared statements"
"""The key under which a connection keeps its prepared statements. Without it, the server may not keep them."""


class Link:
    """Sends statements over an open connection in autocommit mode, and calls ``count`` for each.

    Attributes:
        together: whether several statements can form one transaction, as far as is known.
    """

    def __init__(self, connection: AsyncConnection, count: Callable[[], None], *, together: bool = True) -> None:
        self.connection = connection
        self.together = together
        self._count = count

    async def rows(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[Any]:
        """Return the rows of ``statement``; a string is passed to the driver unchanged."""
        return list((await self._execute(statement, parameters)).all())

    async def value(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        """Return the first value of the first row of ``statement``, or ``None``."""
        return (await self._execute(statement, parameters)).scalar()

    async def hot_rows(self, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Do the same as ``rows`` for the statements that are sent for each batch of results."""
        return await self.rows(statement, parameters)

    async def run(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> int:
        """Execute ``statement`` and return how many rows it affected."""
        return (await self._execute(statement, parameters)).rowcount

    async def in_thread(self, call: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
        """Call ``call`` with SQLite's connection, in its thread, where nothing interrupts it; return the result."""
        self._count()
        driver: Any = (await self.connection.get_raw_connection()).driver_connection
        outcome: Outcome = await driver._execute(call, driver._conn)
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
        """Execute the statements inside as one transaction."""
        await self._command(begin)
        try:
            yield
        except BaseException:
            if not self.connection.closed and not self.connection.invalidated:
                await self._command("ROLLBACK")
            raise
        await self._command("COMMIT")

    async def _command(self, command: str) -> None:
        """Begin or end a transaction."""
        await self.run(command)


class AsyncpgLink(Link):
    """The same, but sends the hot statements by asyncpg itself: SQLAlchemy takes three times as long as the server.

    The connections remain SQLAlchemy's, with its pool and options. As with SQLAlchemy, a connection leaves the pool if
    its statement was interrupted, or the server has closed it.
    """

    async def hot_rows(self, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
        sql, names = _compiled(statement, self.connection.dialect)
        values = [parameters[name] for name in names]
        return await self._send(lambda driver: self._fetch(driver, sql, values))

    async def _command(self, command: str) -> None:
        await self._send(lambda driver: driver.execute(command))

    async def _send(self, send: Callable[[asyncpg.Connection], Awaitable[Outcome]]) -> Outcome:
        self._count()
        connected: Any = self.connection.sync_connection
        driver = connected.connection.driver_connection
        try:
            return await send(driver)
        except BaseException as exc:
            if driver.is_closed() or getattr(exc, "sqlstate", None) is None:
                await self.connection.invalidate()
            raise

    async def _fetch(self, driver: asyncpg.Connection, sql: str, values: Sequence[Any]) -> list[Any]:
        """Prepare a statement once for each connection, if the server keeps prepared statements."""
        prepared: dict[str, Any] | None = self.connection.info.get(PREPARED)
        if prepared is None:
            found: list[Any] = await driver.fetch(sql, *values)
            return found
        try:
            return await self._fetch_prepared(driver, prepared, sql, values)
        except Exception as exc:
            import asyncpg

            if not isinstance(exc, asyncpg.InvalidCachedStatementError):  # a column's type has changed meanwhile
                raise
            prepared.clear()
            return await self._fetch_prepared(driver, prepared, sql, values)

    @staticmethod
    async def _fetch_prepared(
        driver: asyncpg.Connection, prepared: dict[str, Any], sql: str, values: Sequence[Any]
    ) -> list[Any]:
        if sql not in prepared:
            # With the engine's options asyncpg omits the name. The name must be unique, see ``_NAMELESS``.
            prepared[sql] = await driver.prepare(sql, name=f"aioresult_{secrets.token_hex(8)}")
        found: list[Any] = await prepared[sql].fetch(*values)
        return found


def link_class(driver: str, options: Iterable[str]) -> type[Link]:
    """Return the class that sends statements over ``driver``, whose connections have these options.

    Options about prepared statements are set because of a pooler; then SQLAlchemy sends, since it follows all of them.
    """
    prepares = any("statement" in option for option in options)
    return AsyncpgLink if driver == "asyncpg" and not prepares else Link


@lru_cache(maxsize=64)
def _compiled(statement: TextClause, dialect: Dialect) -> tuple[str, Sequence[str]]:
    """Return a statement in the driver's form, and the names of its parameters in order."""
    compiled: Any = statement.compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup)
