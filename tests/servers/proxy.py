"""A TCP proxy that can be told to misbehave as networks do."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65536


class _Pipe:
    """One client's connection to the proxy, and the proxy's to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None

    def abort(self) -> None:
        for side in (self.client, self.server):
            if side is not None:
                side.transport.abort()


class TcpProxy:
    """Forwards connections to a server, in the event loop of the test, until told otherwise.

    Args:
        url: whom to forward to; the server is free to come and go.
        tls_context: serve TLS to clients and speak plain TCP to the server.

    Attributes:
        accepted: how many connections there have been.
        bytes: how many bytes have been delivered, each way.
        cuts: how many connections ``cut_after`` has broken.
    """

    def __init__(self, url: str, *, tls_context: tls.SSLContext | None = None) -> None:
        self._upstream = urlsplit(url)
        if self._upstream.port is None:
            raise ValueError(f"the URL names no port: {url!r}")
        self._target = (self._upstream.hostname or "127.0.0.1", self._upstream.port)
        self._tls = tls_context
        self._listener: asyncio.Server | None = None
        self._pipes: dict[asyncio.Task[None], _Pipe] = {}
        self._flowing = asyncio.Event()
        self._changed = asyncio.Condition()
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self.bytes = {"to the server": 0, "to the client": 0}
        self._pieces: Callable[[], int] | None = None
        self._left = 0

    @property
    def url(self) -> str:
        """The server's URL with the proxy's address in it."""
        credentials, _, _ = self._upstream.netloc.rpartition("@")
        netloc = f"{credentials}@127.0.0.1:{self.port}" if credentials else f"127.0.0.1:{self.port}"
        return self._upstream._replace(netloc=netloc).geturl()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._pipes)

    def cut(self) -> None:
        """Break all connections; new ones are welcome."""
        for pipe in self._pipes.values():
            pipe.abort()

    def cut_after(self, pieces: Callable[[], int] | None) -> None:
        """Break all connections after ``pieces()`` deliveries, whichever way they go, again and again; None ends that.

        How often that is depends on what is said, and not on how fast the machine is.
        """
        self._pieces = pieces
        self._left = 0 if pieces is None else pieces()

    def _count(self) -> None:
        if self._pieces is not None:
            self._left -= 1
            if self._left <= 0:
                self._left = self._pieces()
                self.cuts += self.connections
                self.cut()

    def lead_to(self, url: str) -> None:
        """Forward new connections to another server; those that there are stay with theirs."""
        other = urlsplit(url)
        assert other.port is not None
        self._target = (other.hostname or "127.0.0.1", other.port)

    def freeze(self) -> None:
        """Accept connections and bytes, and deliver nothing, as behind a dead router."""
        self._flowing.clear()

    def silence(self) -> None:
        """Deliver nothing more on the connections there are; new ones work, as once a firewall has forgotten the old.

        These stay silent until they are broken.
        """
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def refuse(self) -> None:
        """Break all connections and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        await self._drain()

    async def resume(self) -> None:
        """Accept and forward again; what was held back while frozen is delivered."""
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def wait_for_connections(self, number: int) -> None:
        """Wait until ``number`` connections have been accepted since the proxy was made."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.accepted >= number)

    async def aclose(self) -> None:
        """Break all connections and stop listening."""
        await self.refuse()

    async def __aenter__(self) -> Self:
        await self.resume()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _drain(self) -> None:
        tasks = list(self._pipes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        pipe = self._pipes[task] = _Pipe(writer)
        try:
            async with self._changed:
                self.accepted += 1
                self._changed.notify_all()
            await self._connect(pipe, reader)
        except (OSError, asyncio.CancelledError):
            pass  # the server is gone, or the proxy is closed: the client is cut off below
        finally:
            pipe.abort()
            del self._pipes[task]

    async def _connect(self, pipe: _Pipe, reader: asyncio.StreamReader) -> None:
        await self._flowing.wait()
        server_reader, pipe.server = await asyncio.open_connection(*self._target)
        directions = [
            asyncio.create_task(self._forward(reader, pipe.server, "to the server"), name="proxy to the server"),
            asyncio.create_task(self._forward(server_reader, pipe.client, "to the client"), name="proxy to the client"),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            await self._flush(pipe)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        """Forward until ``source`` ends, or either side is gone."""
        flowing = self._flowing
        while data := await source.read(_CHUNK):
            await flowing.wait()
            self.bytes[way] += len(data)
            target.write(data)
            await target.drain()
            self._count()
        await flowing.wait()

    @staticmethod
    async def _flush(pipe: _Pipe) -> None:
        """Let what is still buffered reach its receiver, since the connection is about to be aborted."""
        for side in (pipe.client, pipe.server):
            if side is not None and not side.is_closing():
                side.close()
                await side.wait_closed()
