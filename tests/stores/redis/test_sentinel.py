"""A Redis whose primary is found through sentinels, and followed when it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from redis.asyncio.sentinel import Sentinel

from aioresult import Backend, Record, SettingsError, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.redis import RedisStore
from aioresult.stores.redis.urls import from_url
from aioresult.testing import StoreTests
from aioresult.testing.conformance import PATIENCE, eventually, fresh_id
from tests.servers import RedisSentinels, RedisServer
from tests.servers.resp import RedisReplyError

ACCESS: dict[str, Any] = {"sentinel_kwargs": {"password": "watchword"}}


@pytest.fixture(scope="module")
def watched_servers() -> Iterator[RedisSentinels]:
    with RedisSentinels(password="sesame", sentinel_password="watchword") as servers:
        yield servers


def url_of(servers: RedisSentinels, query: str = "") -> str:
    places = ",".join(f"{host}:{port}" for host, port in servers.addresses)
    return f"redis+sentinel://:sesame@{places}/{servers.service}/0?sentinel_password=watchword{query}"


def celerys_url_of(servers: RedisSentinels) -> str:
    return ";".join(f"sentinel://:sesame@{host}:{port}/0" for host, port in servers.addresses)


class TestRedisStoreBehindSentinels(StoreTests):
    @pytest.fixture(autouse=True)
    def _servers(self, watched_servers: RedisSentinels) -> None:
        self.servers = watched_servers

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(url_of(self.servers), **{"idle_timeout": 0.05, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        self.servers.master().call("SET", f"celery-task-meta-{task_id}", '{"status": "SUCC')


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "settings", "location", "options"),
    [
        ("redis+sentinel://a:1,b/mine/3", {}, "mine/3 (sentinels a:1,b:26379)", {"db": 3}),
        ("redis+sentinel://a:1/mine", {}, "mine/0 (sentinels a:1)", {"db": 0}),
        ("redis+sentinel://a:1/2?master_name=mine", {}, "mine/2 (sentinels a:1)", {"db": 2}),
        (
            "sentinel://u:pw@a:1/4;sentinel://b:2/5",
            {"result_backend_transport_options": {"master_name": "mine"}},
            "mine/4 (sentinels a:1,b:2)",
            {"db": 4, "username": "u", "password": "pw"},
        ),
        ("sentinel://a:1;b:2?master_name=mine", {}, "mine/0 (sentinels a:1,b:2)", {"db": 0}),
        (
            "rediss+sentinel://[::1]:1/mine?ssl_cert_reqs=none",
            {},
            "mine/0 (sentinels ::1:1)",
            {"db": 0, "ssl_cert_reqs": "none"},
        ),
    ],
)
def test_celerys_urls_and_shorter_ones_are_understood(
    url: str, settings: dict[str, Any], location: str, options: dict[str, Any]
) -> None:
    address = from_url(url, make_settings(settings))
    address.check()
    assert address.location == location
    assert {name: value for name, value in address.options.items() if not name.startswith("socket_")} == options


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://:secret@a:1", "master_name"),
        ("redis+sentinel://:secret@a:1/0", "master_name"),
        ("redis+sentinel://:secret@a:port/mine", "cannot be understood"),
        ("redis+sentinel://:secret@a/mine?min_other_sentinels=few", "min_other_sentinels"),
        ("redis+sentinel://:secret@a/mine?colour=red", "colour"),
    ],
)
def test_what_cannot_be_understood_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Backend(url)
    assert "secret" not in str(caught.value)


async def test_celerys_settings_lead_to_the_primary(watched_servers: RedisSentinels) -> None:
    options = {"master_name": watched_servers.service, "min_other_sentinels": 2, **ACCESS}
    async with Backend(celerys_url_of(watched_servers), result_backend_transport_options=options) as backend:
        await backend.ping()
        assert (await backend.capabilities()).details["role"] == "master"


async def test_a_clients_sentinels_are_asked_as_well(watched_servers: RedisSentinels) -> None:
    access = {"password": "watchword"}
    sentinel = Sentinel(watched_servers.addresses, sentinel_kwargs=access)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(watched_servers.service, password="sesame")
    async with client, Backend(client) as backend:
        task_id = fresh_id()
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))
        await backend.store_result(task_id, 1, "SUCCESS")
        assert await waiting == 1
        assert backend._runtime.store.location == f"{watched_servers.service}/0"
    for asked in sentinel.sentinels:
        await asked.aclose()


@pytest.mark.parametrize("mistake", ["sesame", "watchword", "service", "others"])
async def test_a_mistake_is_told_without_a_credential(watched_servers: RedisSentinels, mistake: str) -> None:
    url = url_of(watched_servers, "&min_other_sentinels=9" if mistake == "others" else "")
    if mistake == "service":
        url = url.replace(watched_servers.service, "another")
    elif mistake != "others":
        url = url.replace(mistake, "wrongword")
    said = {"service": "no primary 'another'", "others": "no primary"}.get(mistake, "authentication failed")
    store = RedisStore(url, make_settings({}))
    with pytest.raises(StoreUnavailable, match=said) as caught:
        await store.ping()
    exc: BaseException | None = caught.value
    while exc is not None:
        assert "word" not in str(exc).replace("user and password", "").replace("username-password", "")
        exc = exc.__cause__ or exc.__context__


async def test_sentinels_that_are_away_are_passed_over(watched_servers: RedisSentinels) -> None:
    away = f"127.0.0.1:{watched_servers.sentinels[0].port + 1}"
    store = RedisStore(url_of(watched_servers).replace("@", f"@{away},"), make_settings({}))
    await store.ping()
    await store.aclose()
    store = RedisStore(f"redis+sentinel://{away}/mine", make_settings({}))
    with pytest.raises(StoreUnavailable, match=away):
        await store.ping()


# --- failover ---


async def stores(backend: Backend, task_id: str, value: Any) -> bool:
    try:
        return await backend.store_result(task_id, value, "SUCCESS")
    except StoreUnavailable:
        return False


async def store_all(backend: Backend, ids: list[str]) -> None:
    """Store a result for each of ``ids``, again and again until the store takes it."""
    for task_id in ids:
        await eventually(partial(stores, backend, task_id, task_id))


@pytest.fixture
def own_servers() -> Iterator[RedisSentinels]:
    """For tests after which it takes the servers long to be as they were."""
    with RedisSentinels(password="sesame", sentinel_password="watchword") as servers:
        yield servers


async def test_a_primary_that_is_killed_loses_no_waiter(own_servers: RedisSentinels) -> None:
    ids = [fresh_id() for _ in range(500)]
    url = url_of(own_servers)
    primary = await asyncio.to_thread(own_servers.master)
    async with Backend(url, idle_timeout=0.05) as backend, Backend(url) as other:
        waiting = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=60)) for task_id in ids]

        async def watched() -> bool:
            return backend.stats().watched == 500

        await eventually(watched)
        await store_all(other, ids[:200])
        primary.call("WAIT", 1, 10_000)  # what is replicated only later would be lost by Redis itself
        primary.kill()
        await store_all(other, ids[200:])
        assert await asyncio.gather(*waiting) == ids
        assert backend.stats().reconnects >= 1
        assert await asyncio.to_thread(own_servers.master) is not primary


async def test_a_primary_that_is_frozen_is_left_for_its_successor(own_servers: RedisSentinels) -> None:
    ids = [fresh_id() for _ in range(50)]
    url = url_of(own_servers)
    primary = await asyncio.to_thread(own_servers.master)
    settings = {"idle_timeout": 0.05, "connect_timeout": 0.5, "redis_backend_health_check_interval": 0.5}
    async with Backend(url, **settings) as backend, Backend(url, **settings) as other:
        waiting = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=60)) for task_id in ids]

        async def watched() -> bool:
            return backend.stats().watched == 50

        await eventually(watched)
        with primary.frozen():
            assert await backend.store_result(ids[0], ids[0], "SUCCESS"), "it is under way while the primary is frozen"
            await store_all(other, ids[1:])
            assert await asyncio.gather(*waiting) == ids
            assert await backend.AsyncResult(ids[-1]).get(timeout=60) == ids[-1]
        assert await asyncio.to_thread(own_servers.master) is not primary


async def follows(server: RedisServer) -> bool:
    try:
        return "master_link_status:up" in str(await asyncio.to_thread(server.call, "INFO", "replication"))
    except OSError:  # a server that becomes a replica drops its clients, this one included
        return False


async def test_a_primary_that_is_demoted_is_left_for_its_successor(watched_servers: RedisSentinels) -> None:
    url, sentinel = url_of(watched_servers), watched_servers.sentinels[0]
    primary = await asyncio.to_thread(watched_servers.master)
    async with Backend(url) as backend:
        ids = [fresh_id() for _ in range(50)]
        waiting = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=60)) for task_id in ids]

        async def moved() -> bool:
            return await asyncio.to_thread(watched_servers.master) is not primary

        await eventually(lambda: _failover(sentinel, watched_servers.service))
        await eventually(moved)
        await store_all(backend, ids)
        assert await asyncio.gather(*waiting) == ids
    await eventually(lambda: follows(primary))


async def _failover(sentinel: RedisServer, service: str) -> bool:
    """Ask for a failover; it is refused for a while after the last one."""
    try:
        return await asyncio.to_thread(sentinel.call, "SENTINEL", "FAILOVER", service) == "OK"
    except RedisReplyError:
        return False


async def test_a_server_that_has_become_a_replica_is_connected_to_anew(redis_url: str) -> None:
    """Also without sentinels: a name may lead to another server by now."""
    with RedisServer() as server:
        store = RedisStore(server.url, make_settings({}))
        done = Record(id=fresh_id(), status="SUCCESS", result=1)
        await store.ping()
        server.call("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await store.put_many([done])
        server.call("REPLICAOF", "NO", "ONE")
        assert await store.put_many([done]) == [True]
        await store.aclose()
