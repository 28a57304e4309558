"""redis-py as usually used: a pool of connections, a command or a pipeline at a time."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec
import redis.asyncio as redis

from benchmarks.contestants.base import Contestant
from benchmarks.values import KEY, record_of

_CONNECTIONS = 50
_EXPIRY = 86400


class PooledRedis(Contestant):
    """``GET`` for a read, a pipeline of ``SET`` and ``PUBLISH`` for a store."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, options)
        pool = redis.BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None)
        self._client = redis.Redis.from_pool(pool)

    async def open(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()

    def read(self, task: str) -> Awaitable[object]:
        return self._client.get(KEY + task)

    def decoded(self, value: object) -> object:
        assert isinstance(value, bytes)
        return msgspec.json.decode(value)["result"]

    async def store(self, task: str, value: object) -> None:
        key, payload = KEY + task, record_of(task)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.set(key, payload, ex=_EXPIRY)
            pipe.publish(key, payload)
            await pipe.execute()
