"""A connection to one Redis server, as an asyncio protocol over hiredis.

redis-py connects, authenticates, sets up TLS and chooses the database. Then this protocol takes over its transport,
because redis-py needs a task switch, a timeout and several calls for each message. There are two kinds: ``CommandWire``
for requests and their replies, and ``SubscriberWire`` for messages.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

import hiredis

from aioresult.stores.redis.errors import ConnectionLost, ServerError

Reply = object
"""A reply as parsed by hiredis: ``bytes``, ``int``, ``None``, a list of these, a ``ServerError``, ..."""

Meter = Callable[[int], None]
"""Called with the number of commands that have been sent."""

INCOMPLETE: Final = object()
"""What the parser returns until the next reply is complete."""
_BUFFER: Final = 2**16


def pack(*command: str | bytes) -> bytes:
    """Return a command in the form in which it is sent."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub declares only tuples of one
    return packed


PING: Final = pack("PING")


class Wire(asyncio.BufferedProtocol):
    """The common part of both kinds of connection: the transport, the parser and the end.

    It is a buffered protocol, because asyncio otherwise allocates 256 KiB for each read, which may be the largest cost.

    Attributes:
        resp: the negotiated protocol version.
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
        """Become the protocol of ``writer``'s transport; ``unread`` is what the previous protocol had not consumed.

        Raises:
            ConnectionLost: the connection has ended already.
        """
        if writer.transport.is_closing():
            raise ConnectionLost("the server closed the connection at once")
        self._writer = writer  # kept, because newer versions of Python close the transport when the writer is collected
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
        """Return the buffer into which the transport reads."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what the transport has read."""
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # it accepts any buffer
            self._dispatch()
        except hiredis.HiredisError as exc:
            self.abort(ConnectionLost(f"what the server sends is not understood: {exc}"))

    @abstractmethod
    def _dispatch(self) -> None:
        """Pass on every complete reply."""

    @abstractmethod
    def _end(self, reason: Exception) -> None:
        """Pass the reason of the end to all that wait for this connection; called once."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the transport, on either side."""
        self._note_end(exc or ConnectionLost("the server closed the connection"))
        self._gone.set()

    def abort(self, reason: Exception) -> None:
        """End the connection now; outstanding replies are lost."""
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
