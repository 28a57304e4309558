"""Streams on Redis at their physical limit: ``RPUSH``, ``PEXPIRE`` and ``PUBLISH`` in one buffer, to ``SUBSCRIBE``."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from benchmarks.floor.redis import MORE, Connection, OnRedis, pack

_KEY = "floor-stream-"
_EXPIRY = "86400000"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Reader:
    """Iterates what has been published since it subscribed."""

    __slots__ = ("_arrived", "_loop", "_readers", "_waiter")

    def __init__(self, readers: set[_Reader]) -> None:
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[object] = deque()
        self._waiter: asyncio.Future[None] | None = None
        readers.add(self)

    def take(self, item: object) -> None:
        self._arrived.append(item)
        if self._waiter is not None:
            self._waiter.set_result(None)
            self._waiter = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        if not self._arrived:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._arrived.popleft()

    async def aclose(self) -> None:
        self._readers.discard(self)


class _Subscriber(Connection):
    """Subscriptions, and a set of readers for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: defaultdict[bytes, set[_Reader]] = defaultdict(set)
        self._fresh: list[bytes] = []

    def follow(self, channel: bytes) -> _Reader:
        if channel not in self._readers:
            if not self._fresh:
                self._loop.call_soon(self._flush)
            self._fresh.append(channel)
        return _Reader(self._readers[channel])

    def _flush(self) -> None:
        fresh, self._fresh = self._fresh, []
        self.transport.write(pack("SUBSCRIBE", *fresh))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, readers = self._reader.gets, self._readers
        while (message := gets()) is not MORE:
            if message[0] == b"message":
                item = _decode(message[2])
                for reader in readers[message[1]]:
                    reader.take(item)


class BareStreams(OnRedis[_Subscriber]):
    """Has no numbers and no end, and never reads again: a lost message stays lost."""

    subscriber = _Subscriber

    def items(self, task: str) -> Any:
        return self._subscriber.follow((_KEY + task).encode())

    async def append(self, task: str, value: object) -> None:
        key, item = _KEY + task, _encode(value)
        commands = pack("RPUSH", key, item) + pack("PEXPIRE", key, _EXPIRY) + pack("PUBLISH", key, item)
        await self._commands.call(commands, 3)

    async def fill(self, task: str, values: Sequence[object]) -> None:
        await self._commands.call(pack("RPUSH", _KEY + task, *map(_encode, values)))

    async def replay(self, task: str, count: int) -> list[object]:
        items = await self._commands.call(pack("LRANGE", _KEY + task, "0", str(count - 1)))
        assert isinstance(items, list)
        return [_decode(item) for item in items]
