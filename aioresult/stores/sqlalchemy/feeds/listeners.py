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
"""Seconds within which a command has to be answered: it does nothing but a round trip, so the connection is dead."""
_CLOSING: Final = 2.0
"""Seconds that a connection may take to say good-bye."""

Heard = Callable[[str, str], None]
"""Takes a channel and a payload; called in the loop's thread."""
Lost = Callable[[str], None]
"""Takes the reason for which nothing will be heard any more."""


class Refused(StoreUnavailable):
    """Raised where the server answers that it does not notify.

    Attributes:
        code: the SQLSTATE.
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code

    @classmethod
    def by(cls, exc: Exception) -> Refused | None:
        """Return what a driver's error means, if it is a refusal."""
        if not is_refusal(exc):
            return None
        return cls(f"the server refuses notifications ({text_of(exc)})", str(code_of(exc)))


class Listener(ABC):
    """Owns one connection, on which nothing else is done than to listen."""

    def __init__(self, location: str, heard: Heard, lost: Lost) -> None:
        self._location = location
        self._heard = heard
        self._lost = lost
        self._turn = asyncio.Lock()

    @abstractmethod
    async def listen(self, channels: Collection[str]) -> None:
        """Listen on ``channels``; when this returns, whatever is announced on them is heard.

        Raises:
            StoreUnavailable: the connection is gone, or silent; ``Refused``, where the server does not notify.
        """

    @abstractmethod
    async def unlisten(self, channels: Collection[str]) -> None:
        """Listen on ``channels`` no longer; raises as ``listen``."""

    @abstractmethod
    async def ping(self) -> None:
        """Make a round trip; raises as ``listen``."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection, whatever state it is in."""

    def _gone(self, exc: Exception) -> StoreUnavailable:
        if isinstance(exc, TimeoutError):
            return StoreUnavailable(f"{self._location}: the listening connection has fallen silent")
        if refused := Refused.by(exc):
            return refused
        return StoreUnavailable(f"{self._location}: the listening connection is gone: {exc}")


async def make_listener(connection: object, location: str, heard: Heard, lost: Lost) -> Listener:
    """Return a listener over a driver's connection, which it closes in the end."""
    module = type(connection).__module__.partition(".")[0]
    if module == "asyncpg":
        return AsyncpgListener(connection, location, heard, lost)
    if module == "psycopg":
        psycopgs: Any = connection
        await psycopgs.set_autocommit(True)
        return PsycopgListener(psycopgs, location, heard, lost)
    raise SettingsError(f"{location}: notifications need the driver asyncpg or psycopg, not {module}")


class AsyncpgListener(Listener):
    """asyncpg calls back by itself."""

    def __init__(self, connection: asyncpg.Connection, location: str, heard: Heard, lost: Lost) -> None:
        super().__init__(location, heard, lost)
        self._connection = connection
        # OSError includes asyncio's timeout; the others are what asyncpg says of a lost connection, too.
        self._errors: tuple[type[Exception], ...] = (OSError, *PostgreSQLDialect.driver_errors("asyncpg"))
        connection.add_termination_listener(self._terminated)

    def _terminated(self, _connection: object) -> None:
        self._lost("the server has closed the listening connection")

    def _notified(self, _connection: object, _process: int, channel: str, payload: str) -> None:
        self._heard(channel, payload)

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
    """psycopg only listens while somebody asks it to: here, the loop does whenever the socket has something.

    Notifications that come with the answer to a command go to the same handler, so that none is lost in between.
    """

    def __init__(self, connection: psycopg.AsyncConnection, location: str, heard: Heard, lost: Lost) -> None:
        super().__init__(location, heard, lost)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._socket = connection.fileno()
        self._reading = False
        connection.add_notify_handler(lambda notify: heard(notify.channel, notify.payload))
        self._resume()

    def _resume(self) -> None:
        if not self._connection.closed:
            self._reading = True
            self._loop.add_reader(self._socket, self._read)

    def _pause(self) -> None:
        """Read no more: of a closed connection, the number of its socket may be that of another one already."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _read(self) -> None:
        import psycopg

        wire = self._connection.pgconn
        try:
            wire.consume_input()
            while (notify := wire.notifies()) is not None:
                self._heard(notify.relname.decode(), notify.extra.decode())
        except psycopg.OperationalError as exc:
            self._pause()
            self._lost(f"the listening connection is gone: {exc}")

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
            self._pause()  # psycopg reads the socket itself until the answer is there
            timer = self._loop.call_later(_ANSWER, self._hang_up)
            try:
                await self._connection.execute(command.encode())
            except psycopg.Error as exc:
                raise self._gone(exc) from exc
            finally:
                timer.cancel()
                self._resume()
            self._read()  # what came with the answer's last bytes causes no event of the socket

    def _hang_up(self) -> None:
        """End the connection beneath psycopg, which would wait ten seconds more for it to obey a cancellation."""
        if not self._connection.closed:
            with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    async def aclose(self) -> None:
        self._pause()
        await self._connection.close()
