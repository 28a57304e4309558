"""The connections of one engine: which of them can be used, and which caller is next.

A pooler in front of the server may accept a connection, and delay its statements until another client leaves, perhaps
for ever. Therefore a connection is used only after its first answer, and at most one connection waits for that.
Meanwhile callers get the first of the other connections that is free.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from aioresult.background import owned_task
from aioresult.stores.sqlalchemy.awaiting import answered, to_its_end
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import Lost

_SINCE: Final = "aioresult knows it since"
_PAUSE: Final = 1.0
"""Seconds until another connection is opened, after that has failed while others work."""


class Connections:
    """Gives the connections of ``engine`` to callers.

    Connections of an engine that is not ``owned`` go back to it after each use. Ours are replaced by new ones after
    ``recycle`` seconds; -1 means never.

    Attributes:
        pooled: whether the newest connection leads to a pooler instead of the server itself.
    """

    def __init__(self, engine: AsyncEngine, chosen: type[Dialect], *, owned: bool, recycle: float) -> None:
        self._engine = engine
        self._chosen = chosen
        self._owned = owned
        self._recycle = recycle if recycle >= 0 else math.inf
        self._most: float = 0
        """How many connections are kept here, outside the engine's pool; 0 if the pool keeps them."""
        if owned and chosen.greets and isinstance(engine.pool, QueuePool):  # other kinds of pools keep no connections
            self._most = engine.pool.size() or math.inf
        self._known = 0
        """How many of these connections exist, in use or idle."""
        self._idle: list[AsyncConnection] = []
        self._waiting: deque[asyncio.Future[AsyncConnection]] = deque()
        self._attempt: asyncio.Task[AsyncConnection] | None = None
        self._attempted_at = -math.inf
        """When the attempt began."""
        self._not_before = -math.inf
        self._trusted_from = -math.inf
        """When a connection was found dead: older connections are probably dead, too."""
        self._closed = False
        self.pooled = False

    async def acquire(self) -> AsyncConnection:
        """Return a connection, once there is one; ``release`` gives it back."""
        while True:
            connection = await (self._turn() if self._most else self._opened())
            since: float = connection.info[_SINCE]
            # It was opened after another one was found dead, and is not too old.
            if since >= self._trusted_from and (not self._most or time.monotonic() < since + self._recycle):
                return connection
            await self._discard(connection)

    async def release(self, connection: AsyncConnection) -> None:
        """Return a connection that ``acquire`` has returned."""
        if self._closed and self._owned:
            await self._drop(connection)
        elif not self._most:
            await self._put_back(connection)
        elif connection.invalidated:
            await self._discard(connection)
        else:
            if connection.in_transaction():  # only SQLAlchemy considers this a transaction; the server has none
                await connection.rollback()
            self._offer(connection)

    async def take(self) -> Any:
        """Return a driver's connection for lasting use. It leaves this object, and the caller must close it."""
        raw = await (await self.acquire()).get_raw_connection()
        found = raw.driver_connection
        raw.detach()
        self._lose()
        return found

    def distrust(self) -> None:
        """Replace all present connections before their next use."""
        self._trusted_from = time.monotonic()

    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's; those in use are closed when they are returned."""
        self._closed, self._most = True, 0
        if (attempt := self._attempt) is not None:
            attempt.cancel()
            await asyncio.wait([attempt])
        while self._idle:
            await self._put_back(self._idle.pop())
        if self._owned:
            await self._engine.dispose()

    # --- turns ---

    async def _turn(self) -> AsyncConnection:
        """Return the first connection that is free."""
        if self._idle:
            return self._idle.pop()
        turn: asyncio.Future[AsyncConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._open_one_more()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._offer(turn.result())
            raise

    def _offer(self, connection: AsyncConnection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._idle.append(connection)

    def _lose(self) -> None:
        """Note that a connection has ended."""
        self._known -= 1
        self._open_one_more()

    def _open_one_more(self) -> None:
        """Open one more connection, if a caller waits and the limits allow it."""
        rests = self._known > 0 and time.monotonic() < self._not_before
        if self._waiting and self._attempt is None and not rests and self._known < self._most:
            self._attempted_at = time.monotonic()
            self._attempt = owned_task(self._opened(), "aioresult opens a connection")
            self._attempt.add_done_callback(self._on_opened)

    def _on_opened(self, attempt: asyncio.Task[AsyncConnection]) -> None:
        self._attempt = None
        if attempt.cancelled():
            error: BaseException | None = None if self._most else Lost("the database was closed meanwhile")
        else:
            error = attempt.exception()
            if error is None:
                self._known += 1
                self._offer(attempt.result())
            elif self._attempted_at < self._trusted_from:
                error = None  # lost together with the present connections
            elif self._known:
                self._not_before, error = time.monotonic() + _PAUSE, None
        while error is not None and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)
        self._open_one_more()

    # --- connections ---

    async def _opened(self) -> AsyncConnection:
        """Check a connection out of the engine's pool; if it is new, wait for its first answer."""
        began = time.monotonic()
        connecting = self._engine.connect().start()
        connection = await (to_its_end(connecting, self._put_back) if self._most else connecting)
        if _SINCE not in connection.info:
            connection.info[_SINCE] = began
            if self._chosen.greets:
                try:
                    self.pooled = await answered(self._chosen.greet(connection), self._chosen.patience)
                except BaseException:
                    await self._drop(connection)
                    raise
        return connection

    async def _discard(self, connection: AsyncConnection) -> None:
        try:
            await self._drop(connection)
        finally:
            if self._most:
                self._lose()

    async def _drop(self, connection: AsyncConnection) -> None:
        if not connection.invalidated:
            self._chosen.hang_up((await connection.get_raw_connection()).driver_connection)
            await connection.invalidate()
        await connection.close()

    async def _put_back(self, connection: AsyncConnection) -> None:
        # Our engines send nothing when a connection goes back to the pool, so this cannot be interrupted. Other engines
        # may, and SQLAlchemy loses a connection that is interrupted then. Therefore they get a task of their own. (At a
        # loop's end, that task would be cancelled before it begins.)
        closing = connection.close()
        await (closing if self._owned else asyncio.shield(closing))
