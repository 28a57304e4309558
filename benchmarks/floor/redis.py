"""Redis at its physical limit: ``asyncio.Protocol`` over hiredis, one buffer for each turn of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import hiredis
import msgspec

from benchmarks.contestants.base import Contestant
from benchmarks.values import KEY, record_of

_EXPIRY = "86400"
_CHUNK = 1024
_BUFFER = 500


class _Payload(msgspec.Struct):
    status: str
    result: Any


_decode = msgspec.json.Decoder(_Payload).decode
MORE = object()


class Connection(asyncio.Protocol):
    """A connection whose replies hiredis parses."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=MORE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


class Commands(Connection):
    """Commands and replies; the commands of one turn of the loop are sent in one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: deque[tuple[asyncio.Future[object], int]] = deque()
        self._buffer: list[bytes] = []
        self._count = 0
        self._writable = asyncio.Event()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drain(self) -> None:
        await self._writable.wait()

    def call(self, packed: bytes, replies: int = 1) -> asyncio.Future[object]:
        """Send packed commands; the future gives the last of their replies."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._expected.append((future, replies))
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(packed)
        return future

    def _flush(self) -> None:
        self.transport.write(b"".join(self._buffer))
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, expected = self._reader.gets, self._expected
        while (reply := gets()) is not MORE:
            self._count += 1
            if self._count == expected[0][1]:
                self._count = 0
                expected.popleft()[0].set_result(reply)


class _Subscriber(Connection):
    """Subscriptions and messages; a future for each waiter."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters: dict[bytes, asyncio.Future[object]] = {}
        self._fresh: list[bytes] = []

    def subscribe(self, channel: bytes) -> asyncio.Future[object]:
        if not self._fresh:
            self._loop.call_soon(self._flush)
        self._fresh.append(channel)
        future = self.waiters[channel] = self._loop.create_future()
        return future

    def _flush(self) -> None:
        fresh, self._fresh = self._fresh, []
        for start in range(0, len(fresh), _CHUNK):
            self.transport.write(pack("SUBSCRIBE", *fresh[start : start + _CHUNK]))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, waiters = self._reader.gets, self.waiters
        while (message := gets()) is not MORE:
            if message[0] == b"message":
                waiters.pop(message[1]).set_result(_decode(message[2]).result)


Subscriber = TypeVar("Subscriber", bound=Connection)


class OnRedis(Contestant, Generic[Subscriber]):
    """Has one connection for commands, and one for subscriptions."""

    subscriber: type[Subscriber]

    async def open(self) -> None:
        loop, url = asyncio.get_running_loop(), urlsplit(self.url)
        host, port = url.hostname or "localhost", url.port or 6379
        _, self._commands = await loop.create_connection(Commands, host, port)
        _, self._subscriber = await loop.create_connection(self.subscriber, host, port)
        if url.password:
            login = pack("AUTH", unquote(url.username or "") or "default", unquote(url.password))
            self._subscriber.transport.write(login)
            await self._commands.call(login)
        await self._commands.call(pack("SELECT", url.path.strip("/") or "0"))

    async def close(self) -> None:
        self._commands.transport.abort()
        self._subscriber.transport.abort()
        await asyncio.sleep(0)


class BareRedis(OnRedis[_Subscriber]):
    """``SET`` with expiry and ``PUBLISH`` to store, ``SUBSCRIBE`` to wait, ``GET`` to read."""

    subscriber = _Subscriber

    async def wait(self, task: str, timeout: float | None = None) -> object:
        return await self._subscriber.subscribe((KEY + task).encode())

    async def store(self, task: str, value: object) -> None:
        await self._commands.call(_packed(task), 2)

    async def read(self, task: str) -> object:
        return await self._commands.call(pack("GET", KEY + task))

    def decoded(self, value: object) -> object:
        assert isinstance(value, bytes)
        return _decode(value).result

    def prepare(self, tasks: Sequence[str]) -> list[tuple[bytes, int]]:
        parts = [tasks[start : start + _BUFFER] for start in range(0, len(tasks), _BUFFER)]
        return [(b"".join(map(_packed, part)), 2 * len(part)) for part in parts]

    async def store_all(self, prepared: list[tuple[bytes, int]]) -> None:
        last: list[asyncio.Future[object]] = []
        for buffer, replies in prepared:
            last.append(self._commands.call(buffer, replies))
            await asyncio.sleep(0)
            await self._commands.drain()
        await asyncio.gather(*last)


def pack(*command: str | bytes) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
    return packed


def _packed(task: str) -> bytes:
    key, payload = KEY + task, record_of(task)
    return pack("SET", key, payload, "EX", _EXPIRY) + pack("PUBLISH", key, payload)
