"""Elections, killed members, restarts and broken connections: every one of 500 waiters gets its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from aioresult import Backend
from aioresult.errors import StoreUnavailable
from tests.servers import MongoReplicaSet, TcpProxy
from tests.servers.process import with_path
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, by_driver, until_watched

WAITERS = 500


@pytest.fixture(scope="module")
def three_members() -> Iterator[MongoReplicaSet]:
    with MongoReplicaSet(members=3) as replica_set:
        yield replica_set


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    driver: str = request.param
    return driver


@pytest.fixture
async def backend(three_members: MongoReplicaSet, driver: str, keyprefix: str) -> AsyncIterator[Backend]:
    await asyncio.to_thread(three_members.start)
    url = by_driver(with_path(three_members.url, keyprefix), driver)
    async with Backend(url, fallback_interval=3600) as backend:
        yield backend
    await asyncio.to_thread(three_members.drop_database, keyprefix)


async def store(backend: Backend, number: int) -> None:
    """Store a result as a worker does that does not give up."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await backend.store_result(str(number), number, "SUCCESS")
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def everybody_gets_theirs_while(backend: Backend, trouble: Callable[[], object]) -> None:
    """Store a third of the results before the trouble, a third during it, and the rest afterwards."""
    waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(WAITERS)]
    await until_watched(backend, WAITERS)
    third = WAITERS // 3
    await asyncio.gather(*(store(backend, n) for n in range(third)))
    troubled = asyncio.create_task(asyncio.to_thread(trouble))
    await asyncio.gather(*(store(backend, n) for n in range(third, 2 * third)))
    await troubled
    await asyncio.gather(*(store(backend, n) for n in range(2 * third, WAITERS)))
    assert await asyncio.gather(*waiting) == list(range(WAITERS))
    assert backend.stats().waiting == 0


async def test_the_primary_steps_down(backend: Backend, three_members: MongoReplicaSet) -> None:
    await everybody_gets_theirs_while(backend, three_members.step_down)


async def test_the_primary_is_killed(backend: Backend, three_members: MongoReplicaSet) -> None:
    await everybody_gets_theirs_while(backend, three_members.primary.kill)


async def test_a_secondary_is_killed(backend: Backend, three_members: MongoReplicaSet) -> None:
    primary = three_members.primary
    secondary = next(server for server in three_members.servers if server is not primary)
    await everybody_gets_theirs_while(backend, secondary.kill)
    assert backend.stats().reconnects == 0


async def test_the_whole_replica_set_is_killed_and_started_again(
    backend: Backend, three_members: MongoReplicaSet
) -> None:
    def trouble() -> None:
        three_members.kill()
        three_members.start()

    await everybody_gets_theirs_while(backend, trouble)


async def test_the_only_server_is_restarted(mongo_replica_set: MongoReplicaSet, driver: str, keyprefix: str) -> None:
    await asyncio.to_thread(mongo_replica_set.start)
    url = by_driver(with_path(mongo_replica_set.url, keyprefix), driver)
    async with Backend(url, fallback_interval=3600) as backend:
        await everybody_gets_theirs_while(backend, mongo_replica_set.restart)
    await asyncio.to_thread(mongo_replica_set.drop_database, keyprefix)


async def test_connections_are_cut_again_and_again(
    mongo_replica_set: MongoReplicaSet, driver: str, keyprefix: str
) -> None:
    await asyncio.to_thread(mongo_replica_set.start)
    port = mongo_replica_set.servers[0].port
    async with TcpProxy(mongo_replica_set.servers[0].url) as proxy:
        through = f"{driver}://127.0.0.1:{proxy.port}/{keyprefix}?directConnection=true"
        beside = f"{driver}://127.0.0.1:{port}/{keyprefix}?directConnection=true"
        async with Backend(through, fallback_interval=3600) as backend, Backend(beside) as writer:
            waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(WAITERS)]
            await until_watched(backend, WAITERS)
            for n in range(WAITERS):
                if n % 100 == 0:
                    proxy.cut()
                await store(writer, n)
            assert await asyncio.gather(*waiting) == list(range(WAITERS))
    await asyncio.to_thread(mongo_replica_set.drop_database, keyprefix)


async def test_a_write_whose_answer_was_lost_is_repeated_and_reported_as_written(
    mongo_replica_set: MongoReplicaSet, driver: str, keyprefix: str
) -> None:
    await asyncio.to_thread(mongo_replica_set.start)
    async with TcpProxy(mongo_replica_set.servers[0].url) as proxy:
        url = f"{driver}://127.0.0.1:{proxy.port}/{keyprefix}?directConnection=true&retryWrites=false"
        async with Backend(url) as backend:
            await backend.store_result("warm", 1, "SUCCESS")
            for n in range(20):
                writing = asyncio.create_task(backend.store_result(str(n), n, "SUCCESS"))
                for _ in range(n):
                    await asyncio.sleep(0.0005)
                proxy.cut()
                assert await writing is True
                assert (await backend.fetch(str(n))).result == n
    await asyncio.to_thread(mongo_replica_set.drop_database, keyprefix)
