"""Streams by redis-py, as they are usually written: ``XADD`` and ``XREAD BLOCK``, or publish/subscribe alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
import redis.asyncio as redis

from benchmarks.contestants.base import Contestant

_KEY = "stream:"
_BLOCK = 60_000
"""Milliseconds of one ``XREAD``."""
_PAGE = 500
_PATIENCE = 60.0
"""Seconds to connect: very many readers connect at once."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Redis(Contestant):
    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, options)
        # Each reader needs a connection, which may be silent for long, and these are more than redis-py's pool allows.
        self._client = redis.Redis.from_url(
            url, max_connections=20_000, socket_timeout=None, socket_connect_timeout=_PATIENCE
        )

    async def open(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()


class StreamedRedis(_Redis):
    """``XADD`` to append; a loop of ``XREAD BLOCK`` from the last id for each reader."""

    async def items(self, task: str) -> AsyncGenerator[object, None]:
        key = _KEY + task
        last: bytes | str = "0"
        while True:
            for number, item in await self._read(key, last, block=_BLOCK):
                last = number
                yield _decode(item[b"item"])

    async def _read(self, key: str, last: bytes | str, **options: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found: Any = await self._client.xread({key: last}, **options)
        if isinstance(found, dict):  # redis-py's form on RESP3
            return found[key.encode()][0] if found else []
        return found[0][1] if found else []

    async def append(self, task: str, value: object) -> None:
        await self._client.xadd(_KEY + task, {"item": _encode(value)})

    async def fill(self, task: str, values: Sequence[object]) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            for value in values:
                pipe.xadd(_KEY + task, {"item": _encode(value)})
            await pipe.execute()

    async def replay(self, task: str, count: int) -> list[object]:
        key = _KEY + task
        last: bytes | str = "0"
        items: list[object] = []
        while len(items) < count:
            page = await self._read(key, last, count=_PAGE)
            items += [_decode(item[b"item"]) for _, item in page]
            last = page[-1][0]
        return items


class PublishedRedis(_Redis):
    """``PUBLISH`` to append, and a ``PubSub`` for each reader. A reader that is late, or reconnects, has a gap."""

    async def items(self, task: str) -> AsyncGenerator[object, None]:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(_KEY + task)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    yield _decode(message["data"])

    async def append(self, task: str, value: object) -> None:
        await self._client.publish(_KEY + task, _encode(value))
