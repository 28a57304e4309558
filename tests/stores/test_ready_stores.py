"""A ready store, where a URL would do: in one event loop after the other, in several at a time, and after a fork."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, Settings, Unsupported, sync
from aioresult.abc import Store
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.stores.mongodb import MongoStore
from aioresult.stores.redis import RedisStore
from aioresult.stores.redis.cluster import RedisClusterStore
from aioresult.stores.sqlalchemy import SQLStore
from aioresult.testing.conformance import eventually

PATIENCE = 30.0
SETTINGS = make_settings({"global_keyprefix": "ready", "idle_timeout": 60})


@pytest.fixture(params=["redis", "redis client", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        yield SQLStore(f"sqlite+aiosqlite:///{tmp_path}/results.db", SETTINGS)
        return
    url = request.getfixturevalue("redis_url")
    by_url = request.param == "redis"
    yield RedisStore(url, SETTINGS) if by_url else RedisStore.from_client(Redis.from_url(url), SETTINGS)


def test_one_loop_after_the_other_may_use_it(store: Store) -> None:
    backend = Backend(store)

    async def use(turn: int) -> Store:
        waiting = asyncio.create_task(backend.AsyncResult(f"{turn}").get(timeout=PATIENCE))
        await asyncio.gather(*(backend.fetch(f"{turn}-{number}") for number in range(10)))
        assert await backend.mark_as_done(f"{turn}", turn)
        assert await waiting == turn
        assert await backend.AsyncResult("0") == 0
        return backend._runtime.store

    used = [asyncio.run(use(turn)) for turn in range(3)]
    assert used[0] is store
    assert len(set(map(id, used))) == 3
    assert all((other.location, other.settings) == (store.location, SETTINGS) for other in used)


def test_two_loops_may_use_it_at_a_time_and_closing_one_leaves_the_other_alone(store: Store) -> None:
    backend = Backend(store)
    subscribed = threading.Event()
    values: list[int] = []

    async def watched() -> bool:
        return backend.stats().watched == 1

    async def wait() -> None:
        waiting = asyncio.create_task(backend.AsyncResult("late").get(timeout=PATIENCE))
        await eventually(watched)
        subscribed.set()
        values.append(await waiting)
        assert backend.stats().reconnects == 0
        await backend.aclose()

    async def use_and_close() -> None:
        assert await backend.mark_as_done("early", 1)
        assert await backend.AsyncResult("early").get(timeout=PATIENCE) == 1
        await backend.aclose()

    async def write() -> None:
        assert await backend.mark_as_done("late", 2)

    waiter = threading.Thread(target=lambda: asyncio.run(wait()))
    waiter.start()
    assert subscribed.wait(PATIENCE)
    asyncio.run(use_and_close())
    asyncio.run(write())
    waiter.join()
    assert values == [2]


def test_blocking_and_asynchronous_code_may_share_it(store: Store) -> None:
    backend = Backend(store)
    blocking = sync.Backend(backend)

    async def main() -> None:
        waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
        await backend.ping()
        assert await asyncio.to_thread(blocking.mark_as_done, "a", 1)
        assert await waiting == 1
        await backend.aclose()
        assert await asyncio.to_thread(lambda: blocking.AsyncResult("a").get(timeout=PATIENCE)) == 1

    asyncio.run(main())
    blocking.close()


def test_a_loop_that_closes_its_backend_gets_the_same_store_again(store: Store) -> None:
    async def main() -> None:
        backend = Backend(store)
        for _ in range(2):
            async with backend:
                await backend.ping()
                assert backend._runtime.store is store

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_afresh(redis_url: str) -> None:
    backend = Backend(RedisStore(redis_url, SETTINGS))

    async def parent() -> None:
        await backend.mark_as_done("parent", 1)
        waiting = asyncio.create_task(backend.AsyncResult("child").get(timeout=PATIENCE))
        await asyncio.sleep(0)
        process = os.fork()
        if process == 0:
            asyncio._set_running_loop(None)  # the child is not within the parent's loop
            asyncio.run(backend.mark_as_done("child", os.getpid()))
            os._exit(0)
        assert await waiting == process
        await asyncio.to_thread(os.waitpid, process, 0)
        assert await backend.AsyncResult("parent") == 1
        assert backend.stats().reconnects == 0

    asyncio.run(parent())


def test_a_store_of_no_loop_is_shared() -> None:
    store = MemoryStore("memory://", make_settings({}))
    backend = Backend(store)
    asyncio.run(backend.mark_as_done("a", 1))
    assert asyncio.run(backend.fetch("a")).result == 1


async def test_every_kind_of_store_can_be_made_again_of_what_it_was_made_of() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///results.db")
    mongo: AsyncMongoClient[dict[str, object]] = AsyncMongoClient("mongodb://db.example/shop", connect=False)
    stores: list[Store] = [
        RedisStore("redis://:s3cret@cache.example/3", SETTINGS),
        RedisStore.from_client(Redis(host="cache.example", db=3), SETTINGS),
        RedisClusterStore("redis+cluster://a.example:1,b.example:2", SETTINGS),
        SQLStore("postgresql://u:s3cret@db.example/shop", SETTINGS),
        SQLStore.from_client(engine, SETTINGS),
        MongoStore("mongodb://u:s3cret@db.example/shop", SETTINGS),
        MongoStore.from_client(mongo, SETTINGS),
    ]
    for store in stores:
        other = store.another()
        assert other is not store
        assert (type(other), other.location, other.settings) == (type(store), store.location, SETTINGS)
    await mongo.close()
    await engine.dispose()


class OddStore(RedisStore):
    """Made of something else than a URL and settings."""

    def __init__(self, host: str) -> None:
        super().__init__(f"redis://{host}", SETTINGS)


class StrangeStore(RedisStore):
    """Looks as if it were made of a URL and settings, and would be somewhere else then."""

    def __init__(self, place: str, settings: Settings) -> None:
        super().__init__(f"redis://{place.partition(':')[0]}", settings)


class StrictStore(RedisStore):
    """The same, and refuses what is no place."""

    def __init__(self, place: str, settings: Settings) -> None:
        super().__init__(f"redis://{place}/0", settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OddStore("cache.example"),
        lambda: StrangeStore("cache.example:1", SETTINGS),
        lambda: StrictStore("cache.example", SETTINGS),
    ],
    ids=["odd", "strange", "strict"],
)
def test_a_store_that_cannot_be_made_again_serves_its_first_loop_only(make: Callable[[], Store]) -> None:
    backend = Backend(make())

    async def commands() -> int:
        return backend.stats().commands

    assert asyncio.run(commands()) == 0
    with pytest.raises(Unsupported, match=r"Store at cache\.example.*URL.*another"):
        asyncio.run(commands())
