"""The open connections: how many there may be, and when each ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

from aioresult.background import owned_task
from aioresult.integrations.asgi.answers import Refusal
from aioresult.integrations.asgi.request import Receive
from aioresult.integrations.asgi.shutdown import SHUTDOWN

logger = logging.getLogger("aioresult")
_GRACE: Final = 5.0
"""Seconds after which a server that was told to stop does not accept connections any more."""
_LEFT: Final = ("http.disconnect", "websocket.disconnect")


class Connection:
    """One open connection; ``left`` is true when the client has left, so that nothing can be sent."""

    __slots__ = ("client", "left", "limit")

    def __init__(self, client: str, limit: asyncio.Timeout) -> None:
        self.client = client
        self.limit = limit
        self.left = False

    def end(self) -> None:
        """Interrupt the work for the client."""
        with suppress(RuntimeError):  # it has ended meanwhile
            self.limit.reschedule(asyncio.get_running_loop().time())


class Connections:
    """Counts connections that stay open, and ends them."""

    def __init__(self, most: int, most_per_client: int) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._clients: Counter[str] = Counter()
        self._open: set[Connection] = set()
        self._ends_until = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def end_all(self) -> None:
        """Interrupt all connections, because the server stops, and those that arrive until it stops listening."""
        self._ends_until = asyncio.get_running_loop().time() + _GRACE
        for connection in self._open:
            connection.end()

    @asynccontextmanager
    async def opened(self, client: str, receive: Receive) -> AsyncIterator[Connection]:
        """Keep a connection while the block runs. The block is interrupted when the client leaves, or by ``end_all``.

        Raises:
            Refusal: there are too many connections.
        """
        self._refuse_too_many(client)
        connection = self._admit(client)
        try:
            async with connection.limit:
                listening = owned_task(_until_left(receive, connection), "aioresult listening for the client's leaving")
                try:
                    yield connection
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
        except TimeoutError:
            if not connection.limit.expired():
                raise
        finally:
            self._forget(connection)

    def _refuse_too_many(self, client: str) -> None:
        if self._clients[client] >= self._most_per_client:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS, f"{self._most_per_client} connections of yours are open; close some"
            )
        if len(self._open) >= self._most:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open here; try again later")

    def _admit(self, client: str) -> Connection:
        ends = asyncio.get_running_loop().time() < self._ends_until
        connection = Connection(client, asyncio.timeout(0 if ends else None))
        if not self._open:
            SHUTDOWN.listen(self.end_all)
        self._open.add(connection)
        self._clients[client] += 1
        return connection

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._clients[connection.client] -= 1
        if not self._clients[connection.client]:
            del self._clients[connection.client]
        if not self._open:
            SHUTDOWN.leave(self.end_all)


async def taken(sending: Awaitable[None], patience: float) -> bool:
    """Return whether the client reads what is sent within ``patience`` seconds."""
    limit = asyncio.timeout(patience)
    try:
        async with limit:
            await sending
    except TimeoutError:
        if not limit.expired():
            raise
        logger.info("a client took nothing for %g s and was left", patience)
        return False
    return True


async def _until_left(receive: Receive, connection: Connection) -> None:
    """Read and ignore what the client sends, until it leaves."""
    try:
        while (await receive())["type"] not in _LEFT:
            pass
    except Exception:
        logger.debug("a connection of %s was lost", connection.client, exc_info=True)
    connection.left = True
    connection.end()
