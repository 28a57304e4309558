"""Every store keeps the promises of ``aioresult.abc``, on a real server and on every kind of event loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from aioresult import Backend, SettingsError
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.testing import StoreTests
from aioresult.testing.conformance import eventually
from examples import directory_store
from examples.directory_store import DirectoryStore

GARBAGE = b'{"status": "SUCC'


@pytest.mark.all_loops
class TestMemoryStore(StoreTests):
    url = "memory://conformance"

    async def poison(self, backend: Backend, task_id: str) -> None:
        store = backend._runtime.store
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


@pytest.mark.slow
class TestDirectoryStore(StoreTests):
    """The example of a store of one's own."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_backend(self, **settings: Any) -> Backend:
        given = make_settings({"poll_interval": 0.1, "idle_timeout": 0.05, **settings})
        return Backend(DirectoryStore(f"directory://{self.folder}", given))

    async def poison(self, backend: Backend, task_id: str) -> None:
        (file,) = self.folder.glob("*.result")
        expires_at = file.stat().st_mtime
        file.write_bytes(GARBAGE)
        os.utime(file, (expires_at, expires_at))

    async def test_purging_leaves_alone_what_somebody_else_has_just_deleted(self) -> None:
        async with self.make_backend(result_expires=0.001) as backend:
            await backend.store_result("expired", 1, "SUCCESS")
            (self.folder / "deleted.result").symlink_to("nowhere")  # listed, and not there when it is looked at

            async def purged() -> bool:
                return await backend.purge() == 1

            await eventually(purged)


@pytest.mark.parametrize("url", ["directory://var/results", "directory://localhost/var", "directory://"])
def test_the_url_of_a_directory_with_a_host_or_without_a_path_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="directory:///var/results"):
        DirectoryStore(url, make_settings({}))


def test_the_example_of_a_store_is_short() -> None:
    assert len(Path(directory_store.__file__).read_text().splitlines()) < 150
