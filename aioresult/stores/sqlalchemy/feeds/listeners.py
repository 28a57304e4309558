"""A connection that listens, by asyncpg or by psycopg."""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.dialects.postgresql import PostgreSQLDialect
from aioresult.stores.sqlalchemy.failures import code_of, is_refusal, text_of

if TYPE_CHECKING:
    import asyncpg
    import psycopg

_ANSWER: Final = 5.0
"""Seconds within which a command must be answered: it takes only a round trip, so after that the connection is dead."""
_CLOSING: Final = 2.0
"""Seconds that closing a connection may take."""

OnNotification = Callable[[str, str], None]
"""Called for each notification, with its channel and payload, in the loop's thread."""
OnLost = Callable[[str], None]
"""Called when the connection is lost, with the reason."""


class Refused(StoreUnavailable):
    """Raised when the server refuses to send notifications.

    Attributes:
        code: the SQLSTATE.
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code

    @classmethod
    def by(cls, exc: Exception) -> Refused | None:
        """Return the error for a driver's error, if that is a refusal."""
        if not is_refusal(exc):
            return None
        return cls(f"the server refuses notifications ({text_of(exc)})", str(code_of(exc)))


class Listener(ABC):
    """Owns one connection, which is only used for listening."""

    def __init__(self, location: str, on_notification: OnNotification, on_lost: OnLost) -> None:
        self._location = location
        self._on_notification = on_notification
        self._on_lost = on_lost
        self._turn = asyncio.Lock()

    @abstractmethod
    async def listen(self, channels: Collection[str]) -> None:
        """Listen on ``channels``; notifications on them are received from the moment when this returns.

        Raises:
            StoreUnavailable: the connection is lost or silent; ``Refused`` if the server does not notify.
        """

    @abstractmethod
    async def unlisten(self, channels: Collection[str]) -> None:
        """Stop listening on ``channels``; raises as ``listen``."""

    @abstractmethod
    async def ping(self) -> None:
        """Make a round trip; raises as ``listen``."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection, in any state."""

    def _gone(self, exc: Exception) -> StoreUnavailable:
        if isinstance(exc, TimeoutError):
            return StoreUnavailable(f"{self._location}: the listening connection has fallen silent")
        if refused := Refused.by(exc):
            return refused
        return StoreUnavailable(f"{self._location}: the listening connection is gone: {exc}")


async def make_listener(
    connection: object, location: str, on_notification: OnNotification, on_lost: OnLost
) -> Listener:
    """Return a listener that owns the driver's connection ``connection``."""
    module = type(connection).__module__.partition(".")[0]
    if module == "asyncpg":
        return AsyncpgListener(connection, location, on_notification, on_lost)
    if module == "psycopg":
        psycopgs: Any = connection
        await psycopgs.set_autocommit(True)
        return PsycopgListener(psycopgs, location, on_notification, on_lost)
    raise SettingsError(f"{location}: notifications need the driver asyncpg or psycopg, not {module}")


class AsyncpgListener(Listener):
    """Listens with asyncpg, which calls back by itself."""

    def __init__(
        self, connection: asyncpg.Connection, location: str, on_notification: OnNotification, on_lost: OnLost
    ) -> None:
        super().__init__(location, on_notification, on_lost)
        self._connection = connection
        # OSError includes asyncio's timeout; asyncpg also raises the others for a lost connection.
        self._errors: tuple[type[Exception], ...] = (OSError, *PostgreSQLDialect.driver_errors("asyncpg"))
        connection.add_termination_listener(self._terminated)

    def _terminated(self, _connection: object) -> None:
        self._on_lost("the server has closed the listening connection")

    def _notified(self, _connection: object, _process: int, channel: str, payload: str) -> None:
        self._on_notification(channel, payload)

    async def listen(self, channels: Collection[str]) -> None:
        await self._do(lambda channel: self._connection.add_listener(channel, self._notified), channels)

    async def unlisten(self, channels: Collection[str]) -> None:
        await self._do(lambda channel: self._connection.remove_listener(channel, self._notified), channels)

    async def ping(self) -> None:
        await self._do(self._connection.execute, ["SELECT 1"])

    async def _do(self, command: Callable[[str], object], arguments: Collection[str]) -> None:
        try:
            async with asyncio.timeout(_ANSWER), self._turn:
                for argument in arguments:
                    await command(argument)  # type: ignore[misc]  # asyncpg's methods are not typed
        except self._errors as exc:
            raise self._gone(exc) from exc

    async def aclose(self) -> None:
        connection = self._connection
        connection.remove_termination_listener(self._terminated)
        try:
            await connection.close(timeout=_CLOSING)
        except self._errors:
            connection.terminate()


class PsycopgListener(Listener):
    """Listens with psycopg, which reads notifications only when it is called: here, when the socket is readable.

    Notifications that come with the answer to a command go to the same handler, so that none is lost in between.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection, location: str, on_notification: OnNotification, on_lost: OnLost
    ) -> None:
        super().__init__(location, on_notification, on_lost)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._socket = connection.fileno()
        self._reading = False
        connection.add_notify_handler(lambda notify: on_notification(notify.channel, notify.payload))
        self._resume()

    def _resume(self) -> None:
        if not self._connection.closed:
            self._reading = True
            self._loop.add_reader(self._socket, self._read)

    def _pause(self) -> None:
        """Stop reading, because the number of a closed socket may be reused for another one."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _read(self) -> None:
        import psycopg

        wire = self._connection.pgconn
        try:
            wire.consume_input()
            while (notify := wire.notifies()) is not None:
                self._on_notification(notify.relname.decode(), notify.extra.decode())
        except psycopg.OperationalError as exc:
            self._pause()
            self._on_lost(f"the listening connection is gone: {exc}")

    async def listen(self, channels: Collection[str]) -> None:
        await self._execute("; ".join(f"LISTEN {channel}" for channel in channels))

    async def unlisten(self, channels: Collection[str]) -> None:
        await self._execute("; ".join(f"UNLISTEN {channel}" for channel in channels))

    async def ping(self) -> None:
        await self._execute("SELECT 1")

    async def _execute(self, command: str) -> None:
        import psycopg

        if not command:
            return
        async with self._turn:
            self._pause()  # psycopg reads the socket itself until the answer has arrived
            timer = self._loop.call_later(_ANSWER, self._hang_up)
            try:
                await self._connection.execute(command.encode())
            except psycopg.Error as exc:
                raise self._gone(exc) from exc
            finally:
                timer.cancel()
                self._resume()
            self._read()  # notifications that came with the answer cause no event of the socket

    def _hang_up(self) -> None:
        """Close the socket of psycopg, which would otherwise wait ten more seconds for a cancellation."""
        if not self._connection.closed:
            with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    async def aclose(self) -> None:
        self._pause()
        await self._connection.close()
