"""Every store keeps the promises of ``aioresult.abc``, on a real server and on every kind of event loop."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from aioresult import Backend
from aioresult.stores.memory import MemoryStore
from aioresult.testing import StoreTests

GARBAGE = b'{"status": "SUCC'


@pytest.mark.all_loops
class TestMemoryStore(StoreTests):
    url = "memory://conformance"

    async def poison(self, backend: Backend, task_id: str) -> None:
        store = backend.runtime.store
        assert isinstance(store, MemoryStore)
        store._space.items[task_id].payload = GARBAGE


class RedisTests(StoreTests):
    options = ""

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.address = redis_url

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(self.address + self.options, **{"idle_timeout": 0.05, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        async with Redis.from_url(self.address) as client:
            await client.set(f"celery-task-meta-{task_id}", GARBAGE)


@pytest.mark.all_loops
class TestRedisStore(RedisTests):
    """RESP3: one connection subscribes and reads."""


class TestRedisStoreOnResp2(RedisTests):
    """What older servers offer: a connection to subscribe, another to read."""

    options = "?protocol=2"


class TestRedisStoreWithMessagePack(RedisTests):
    """Values that the script on the server cannot judge by their beginning."""

    def make_backend(self, **settings: Any) -> Backend:
        return super().make_backend(**{"result_serializer": "msgpack", "result_compression": "gzip", **settings})


class TestRedisStorePolled(RedisTests):
    """Polling is just another feed."""

    def make_backend(self, **settings: Any) -> Backend:
        return super().make_backend(**{"push": False, "poll_interval": 0.05, **settings})

    async def test_the_store_answers_a_ping_and_says_how_it_pushes(self, backend: Backend) -> None:
        pytest.skip("the store could push; this backend was told not to listen")
