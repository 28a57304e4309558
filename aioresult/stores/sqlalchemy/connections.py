"""The connections of one engine: which of them can be used, and who has his turn.

A pooler before the server may accept a connection, and keep what is sent over it waiting until another client leaves,
which may be never. So a connection counts from its first answer on, one at most is waiting for that, and whoever needs
one meanwhile gets the first of the others that is free.
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
"""Seconds after which another connection is asked for, once that has failed while there are some that work."""


class Connections:
    """Hands out the connections of ``engine``.

    One that is not ``owned`` only lends its connections, which go back after each use. Ours are replaced by new ones
    after ``recycle`` seconds; -1 is for never.

    Attributes:
        pooled: whether the newest connection leads to a pooler instead of to the server itself.
    """

    def __init__(self, engine: AsyncEngine, chosen: type[Dialect], *, owned: bool, recycle: float) -> None:
        self._engine = engine
        self._chosen = chosen
        self._owned = owned
        self._recycle = recycle if recycle >= 0 else math.inf
        self._most: float = 0
        """How many connections are kept here, out of the engine's pool; 0 where that one keeps them."""
        if owned and chosen.greets and isinstance(engine.pool, QueuePool):  # other kinds of pools keep none
            self._most = engine.pool.size() or math.inf
        self._known = 0
        """How many of those there are, in use or idle."""
        self._idle: list[AsyncConnection] = []
        self._waiting: deque[asyncio.Future[AsyncConnection]] = deque()
        self._attempt: asyncio.Task[AsyncConnection] | None = None
        self._attempted_at = -math.inf
        """When it began."""
        self._not_before = -math.inf
        self._trusted_from = -math.inf
        """When a connection was found dead: those that were there before probably are, too."""
        self._closed = False
        self.pooled = False

    async def acquire(self) -> AsyncConnection:
        """Return a connection, once there is one; ``release`` gives it back."""
        while True:
            connection = await (self._turn() if self._most else self._opened())
            since: float = connection.info[_SINCE]
            # It was not there yet when another one was found dead, and is not too old.
            if since >= self._trusted_from and (not self._most or time.monotonic() < since + self._recycle):
                return connection
            await self._discard(connection)

    async def release(self, connection: AsyncConnection) -> None:
        """Give back what ``acquire`` has returned."""
        if self._closed and self._owned:
            await self._drop(connection)
        elif not self._most:
            await self._put_back(connection)
        elif connection.invalidated:
            await self._discard(connection)
        else:
            if connection.in_transaction():  # so SQLAlchemy calls it; the server does not know of any
                await connection.rollback()
            self._offer(connection)

    async def take(self) -> Any:
        """Return a driver's connection for lasting use, which is none of these any more; whoever asked closes it."""
        raw = await (await self.acquire()).get_raw_connection()
        found = raw.driver_connection
        raw.detach()
        self._lose()
        return found

    def distrust(self) -> None:
        """Replace before their next use the connections that are there now."""
        self._trusted_from = time.monotonic()

    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's; those in use, when they are given back."""
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
        self._reach_out()
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
        """Take note that a connection has gone."""
        self._known -= 1
        self._reach_out()

    def _reach_out(self) -> None:
        """Ask for one more connection, where somebody waits for it and there may be one."""
        rests = self._known > 0 and time.monotonic() < self._not_before
        if self._waiting and self._attempt is None and not rests and self._known < self._most:
            self._attempted_at = time.monotonic()
            self._attempt = owned_task(self._opened(), "aioresult opens a connection")
            self._attempt.add_done_callback(self._reached)

    def _reached(self, attempt: asyncio.Task[AsyncConnection]) -> None:
        self._attempt = None
        if attempt.cancelled():
            error: BaseException | None = None if self._most else Lost("the database was closed meanwhile")
        else:
            error = attempt.exception()
            if error is None:
                self._known += 1
                self._offer(attempt.result())
            elif self._attempted_at < self._trusted_from:
                error = None  # cut off together with those that were there
            elif self._known:
                self._not_before, error = time.monotonic() + _PAUSE, None
        while error is not None and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)
        self._reach_out()

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
        # Our engines send nothing when a connection goes back to the pool, so that nothing can interrupt it. Others
        # may, and SQLAlchemy loses a connection that is interrupted then: hence a task of its own (which would be
        # cancelled before it begins where the loop is just ending).
        closing = connection.close()
        await (closing if self._owned else asyncio.shield(closing))
