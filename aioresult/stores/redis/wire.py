"""A connection to one Redis server, as an asyncio protocol over hiredis.

redis-py connects, authenticates, does TLS and chooses the database. Then its transport is taken over: redis-py would
need a task switch, a timeout and several calls for each message. There are two kinds: ``CommandWire`` for requests and
their replies, and ``SubscriberWire`` for messages.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

import hiredis

from aioresult.stores.redis.errors import ConnectionLost, ServerError

Reply = object
"""What hiredis makes of a reply: ``bytes``, ``int``, ``None``, a list of these, a ``ServerError``, ..."""

Meter = Callable[[int], None]
"""Takes the number of commands that have been sent."""

INCOMPLETE: Final = object()
"""What the parser returns until the next reply is complete."""
_BUFFER: Final = 2**16


def pack(*command: str | bytes) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
    return packed


PING: Final = pack("PING")


class Wire(asyncio.BufferedProtocol):
    """What both kinds of connection have in common: the transport, the parser and how it ends.

    Buffered, because asyncio otherwise allocates 256 KiB for each read, which may cost more than all the rest of it.

    Attributes:
        resp: the protocol's version that was agreed on.
        lost: why the connection ended, or ``None`` while it is open.
    """

    def __init__(self, resp: int, meter: Meter) -> None:
        self.resp = resp
        self.lost: Exception | None = None
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ServerError, notEnoughData=INCOMPLETE)
        self._writer: asyncio.StreamWriter | None = None
        self._gone = asyncio.Event()
        self._buffer = bytearray(_BUFFER)

    def take_over(self, writer: asyncio.StreamWriter, unread: bytes) -> None:
        """Become the protocol of ``writer``'s transport; ``unread`` is what the previous one had not consumed.

        Raises:
            ConnectionLost: the connection has ended already.
        """
        if writer.transport.is_closing():
            raise ConnectionLost("the server closed the connection at once")
        self._writer = writer  # kept, because newer Pythons close the transport when the writer is collected
        writer.transport.set_protocol(self)
        if unread:
            self._reader.feed(unread)
            self._dispatch()

    def write(self, buffer: bytes, count: int) -> None:
        """Send ``count`` packed commands.

        Raises:
            ConnectionLost: the connection has ended.
        """
        if self.lost is not None or self._writer is None:
            raise ConnectionLost(str(self.lost)) from self.lost
        self._meter(count)
        self._writer.transport.write(buffer)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where the transport is to put what it reads."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport has read."""
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
            self._dispatch()
        except hiredis.HiredisError as exc:
            self.abort(ConnectionLost(f"what the server sends is not understood: {exc}"))

    @abstractmethod
    def _dispatch(self) -> None:
        """Pass on every reply that is complete."""

    @abstractmethod
    def _end(self, reason: Exception) -> None:
        """Tell those who wait for something of this connection that it has ended; called once."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the transport, whoever caused it."""
        self._note_end(exc or ConnectionLost("the server closed the connection"))
        self._gone.set()

    def abort(self, reason: Exception) -> None:
        """End the connection now; replies that are still under way are lost."""
        self._note_end(reason)
        if self._writer is not None:
            self._writer.transport.abort()

    def _note_end(self, reason: Exception) -> None:
        if self.lost is None:
            self.lost = reason
            self._end(reason)

    async def aclose(self) -> None:
        """End the connection and wait until its socket is closed."""
        self.abort(ConnectionLost("closed"))
        await self._gone.wait()
