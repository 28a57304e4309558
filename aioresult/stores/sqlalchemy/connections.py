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

from aioresult.batching import owned_task
from aioresult.stores.sqlalchemy.awaiting import answered, to_its_end
from aioresult.stores.sqlalchemy.dialects.port import Dialect

_SINCE: Final = "aioresult knows it since"
_PAUSE: Final = 1.0
"""Seconds after which another connection is asked for, once that has failed while there are some that work."""


class Connections:
    """Hands out the connections of ``engine``, which stays open if it is not ``owned``.

    Attributes:
        pooled: whether the newest connection leads to a pooler instead of to the server itself.
    """

    def __init__(self, engine: AsyncEngine, chosen: type[Dialect], *, owned: bool) -> None:
        self._engine = engine
        self._chosen = chosen
        self._owned = owned
        self._most = _size_of(engine) if chosen.greets else None
        """How many connections are kept; ``None`` where whoever needs one opens it himself, and closes it."""
        self._known = 0
        """How many connections have answered, are still there, and belong to the pool."""
        self._free = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._attempt: asyncio.Task[bool] | None = None
        self._not_before = -math.inf
        self._trusted_from = -math.inf
        """When a connection was found dead: those that were there before probably are, too."""
        self.pooled = False

    async def acquire(self) -> AsyncConnection:
        """Check out a connection, once there is one; ``release`` gives it back."""
        if self._most is not None:
            await self._turn()
        try:
            return await self._checked_out()
        except BaseException:
            self._lose()
            raise

    async def release(self, connection: AsyncConnection) -> None:
        """Give back what ``acquire`` has returned."""
        usable = not connection.invalidated
        try:
            await self._put_back(connection)
        finally:
            if usable:
                self._give_turn()
            else:
                self._lose()

    async def take(self) -> Any:
        """Return a driver's connection for lasting use, which leaves the pool; whoever asks for it closes it."""
        raw = await (await self.acquire()).get_raw_connection()
        found = raw.driver_connection
        raw.detach()
        self._lose()
        return found

    def distrust(self) -> None:
        """Replace before their next use the connections that are there now."""
        self._trusted_from = time.monotonic()

    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's."""
        self._most = None
        if (attempt := self._attempt) is not None:
            attempt.cancel()
            await asyncio.wait([attempt])
        if self._owned:
            await self._engine.dispose()

    # --- turns ---

    async def _turn(self) -> None:
        """Wait until a connection that has answered is free."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._reach_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_turn()
            raise

    def _give_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _lose(self) -> None:
        """Take note that a connection in use is none of the pool's any more."""
        self._known = max(0, self._known - 1)
        self._reach_out()

    def _reach_out(self) -> None:
        """Ask for one more connection, where somebody waits for it and there may be one."""
        rests = self._known > 0 and time.monotonic() < self._not_before
        if self._waiting and self._attempt is None and not rests and self._known < (self._most or 0):
            self._attempt = owned_task(self._reach(), "aioresult opens a connection")
            self._attempt.add_done_callback(self._reached)

    def _reached(self, attempt: asyncio.Task[bool]) -> None:
        self._attempt = None
        error = None if attempt.cancelled() else attempt.exception()
        if error is not None and self._known:
            self._not_before = time.monotonic() + _PAUSE
        elif error is not None or self._most is None:
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_exception(error or ConnectionError("the database was closed meanwhile"))
        elif not attempt.cancelled() and attempt.result():
            self._known += 1
            self._give_turn()
        self._reach_out()

    async def _reach(self) -> bool:
        """Open one more connection and leave it to the pool; return whether it is a new one."""
        while True:
            connection = await to_its_end(self._connect(), self._put_back)
            since = connection.info.get(_SINCE)
            if since is None:
                await self._greet(connection)
            elif since < self._trusted_from:
                await self._discard(connection)
                continue
            await self._put_back(connection)
            return since is None

    # --- connections ---

    async def _connect(self) -> AsyncConnection:
        return await self._engine.connect()

    async def _checked_out(self) -> AsyncConnection:
        """Check out a connection that was not there yet when another one was found dead."""
        while True:
            connection = await self._engine.connect()
            since = connection.info.get(_SINCE)
            if since is None:
                await self._greet(connection)
                return connection
            if since >= self._trusted_from:
                return connection
            await self._discard(connection)

    async def _greet(self, connection: AsyncConnection) -> None:
        """Wait for the first answer over a new connection."""
        connection.info[_SINCE] = time.monotonic()
        if not self._chosen.greets:
            return
        try:
            self.pooled = await answered(self._chosen.greet(connection), self._chosen.patience)
        except BaseException:
            await self._discard(connection)
            raise

    async def _discard(self, connection: AsyncConnection) -> None:
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


def _size_of(engine: AsyncEngine) -> float | None:
    """Return how many connections the pool of ``engine`` keeps, or ``None`` for one that keeps none."""
    pool = engine.pool
    return pool.size() or math.inf if isinstance(pool, QueuePool) else None
