"""One checked-out connection, which counts what it sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import CursorResult, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection


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

    async def run(self, statement: TextClause | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> int:
        """Execute ``statement`` and return how many rows it touched."""
        return (await self._execute(statement, parameters)).rowcount

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
