"""Users of Redis with few rights: facts that may not be asked for are left out, and waiting polls without channels."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from aioresult import AccessDenied, AioResultError, Backend, Record, StoreUnavailable, Unsupported, subscription
from aioresult.settings import make_settings
from aioresult.stores import notices
from aioresult.stores.redis import RedisStore
from aioresult.stores.redis.cluster import RedisClusterStore
from aioresult.stores.redis.errors import CLUSTER_RIGHTS, RIGHTS, ServerError, refused
from aioresult.stores.redis.feed import Source
from aioresult.testing.conformance import PATIENCE, Collected, eventually, fresh_id
from tests.servers import RedisClusterServers, RedisSentinels, RedisServer

KEY = "celery-task-meta-"
ALL = ["~*", "&*", "+@all"]
NO_SUBSCRIPTIONS = ["-subscribe", "-ssubscribe"]
GRANT = r"'&celery-task\*' \+subscribe \+unsubscribe"
OWN = "-@all ~celery-task* &celery-task*"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as servers:
        yield servers


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Give what is logged, as in a process that has warned of nothing yet."""
    monkeypatch.setattr(notices, "_given", set())
    caplog.set_level(logging.WARNING, "aioresult")
    return caplog


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was refused be tried again at once."""
    monkeypatch.setattr(subscription, "_SECOND_CHANCE", 0.1)
    monkeypatch.setattr(Source, "next_try", 0.2)


def grant(server: RedisServer, name: str, *rights: str) -> None:
    server.call("ACL", "SETUSER", name, "reset", "on", ">pw", *rights)


def url_of(server: RedisServer, name: str, query: str = "") -> str:
    return f"redis://{name}:pw@127.0.0.1:{server.port}/0{query}"


def store_at(server: RedisServer, name: str) -> RedisStore:
    return RedisStore(url_of(server, name), make_settings({}))


def done(task_id: str, result: Any = 1) -> Record:
    return Record(id=task_id, status="SUCCESS", result=result)


async def value_of(backend: Backend, writer: Backend, value: Any, task_id: str = "") -> Any:
    """Return what a waiter gets of a task that becomes final while it waits."""
    task_id = task_id or fresh_id()
    waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))

    async def watched() -> bool:
        return backend.stats().watched > 0

    await eventually(watched)
    await writer.store_result(task_id, value, "SUCCESS")
    return await waiting


async def pushes(server: RedisServer, task_id: str) -> bool:
    numbers = await asyncio.to_thread(server.call, "PUBSUB", "NUMSUB", KEY + task_id)
    return numbers == [KEY + task_id, 1]


async def polls(backend: Backend) -> bool:
    store = backend._runtime.store
    assert isinstance(store, RedisStore)
    return bool(store._source.refusal)


# --- facts ---


@pytest.mark.parametrize("protocol", [2, 3])
async def test_facts_that_may_not_be_asked_for_are_said_to_be_so(server: RedisServer, protocol: int) -> None:
    grant(server, "curt", *ALL, "-@dangerous", "-ping", "-client", "-command")
    async with Backend(url_of(server, "curt", f"?protocol={protocol}")) as backend:
        await backend.ping()
        capabilities = await backend.capabilities()
        assert capabilities.push
        assert "+info" in capabilities.details["server"]
        assert capabilities.details["role"].startswith("not permitted")
        assert capabilities.details["eviction"] == "not permitted (the user lacks +config|get)"
        assert capabilities.details["protocol"] == f"RESP{protocol}"
        async with Backend(server.url) as writer:
            assert await value_of(backend, writer, "heard") == "heard"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_name_that_may_not_be_given_to_connections_is_left_out(server: RedisServer, protocol: int) -> None:
    grant(server, "nameless", *ALL, "-client")
    url = url_of(server, "nameless", f"?protocol={protocol}")
    async with Backend(server.url) as writer, Backend(url, redis_client_name="mine") as backend:
        assert await value_of(backend, writer, 1) == 1


async def test_a_missing_right_to_ping_ends_no_subscription(server: RedisServer) -> None:
    grant(server, "silent", *ALL, "-ping")
    settings = {"redis_backend_health_check_interval": 0.02}
    store = RedisStore(url_of(server, "silent"), make_settings(settings))
    feed, task_id = Collected(await store.open_feed()), fresh_id()
    await feed.feed.watch([task_id])
    before = store.commands

    async def probed() -> bool:
        return store.commands >= before + 3

    await eventually(probed)
    server.call("SET", KEY + task_id, "")
    await store.put_many([done(task_id)])
    await feed.expect(lambda events: any(record and record.ready for _, record in events))
    await feed.aclose()
    await store.aclose()


# --- waiting without rights on channels ---


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("rights", [["~*", "+@all"], [*ALL, "-subscribe"], ["~*", "+@all", "&other*"]])
async def test_without_a_right_on_channels_waiting_polls_and_warns_once(
    server: RedisServer, warnings: pytest.LogCaptureFixture, rights: list[str], protocol: int
) -> None:
    grant(server, "new", *rights)
    url = url_of(server, "new", f"?protocol={protocol}")
    async with Backend(server.url) as writer:
        for _ in range(2):
            async with Backend(url, poll_interval=0.05, idle_timeout=0) as backend:
                for number in range(3):
                    assert await value_of(backend, writer, number) == number
                capabilities = await backend.capabilities()
                assert not capabilities.push
                assert "polling" in capabilities.mechanism
                assert re.search(GRANT, capabilities.reason)
                assert capabilities.details["server"].startswith(("Redis ", "Valkey "))
    (warning,) = [entry.getMessage() for entry in warnings.records]
    assert re.search(rf"127\.0\.0\.1:{server.port}/0: .*polled.*{GRANT}", warning)


@pytest.mark.usefixtures("soon")
async def test_once_the_right_is_granted_results_are_pushed_again(server: RedisServer) -> None:
    grant(server, "waiting", "~*", "+@all")
    task_id = fresh_id()
    async with Backend(server.url) as writer, Backend(url_of(server, "waiting")) as backend:
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=2 * PATIENCE))

        await eventually(lambda: polls(backend))
        assert not await pushes(server, task_id)
        server.call("ACL", "SETUSER", "waiting", "&celery-task*")
        await eventually(lambda: pushes(server, task_id))
        assert (await backend.capabilities()).push
        await writer.store_result(task_id, 1, "SUCCESS")
        assert await waiting == 1


@pytest.mark.usefixtures("soon")
async def test_a_right_that_is_taken_away_while_somebody_waits_is_made_up_for_by_polling(server: RedisServer) -> None:
    grant(server, "fallen", *ALL)
    task_id = fresh_id()
    async with Backend(server.url) as writer, Backend(url_of(server, "fallen")) as backend:
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=2 * PATIENCE))
        await eventually(lambda: pushes(server, task_id))
        server.call("ACL", "SETUSER", "fallen", "resetchannels")  # ends the connections that use a channel

        await eventually(lambda: polls(backend))
        await writer.store_result(task_id, 1, "SUCCESS")
        assert await waiting == 1


async def test_a_server_without_subscriptions_is_polled() -> None:
    """Some proxies and services know no such command."""

    class Mute(RedisServer):
        def command(self) -> list[str]:
            return [*super().command(), "--rename-command", "SUBSCRIBE", ""]

    with Mute() as server:
        async with Backend(server.url) as writer, Backend(server.url, poll_interval=0.05) as backend:
            assert await value_of(backend, writer, 1) == 1
            capabilities = await backend.capabilities()
    assert not capabilities.push
    assert "no subscriptions" in capabilities.reason


async def test_waiting_without_the_right_to_read_is_still_an_error(server: RedisServer) -> None:
    grant(server, "blind", *ALL, "-mget")
    async with Backend(url_of(server, "blind")) as backend:
        with pytest.raises(AccessDenied, match=r"denies it.*mget.*\+mget") as caught:
            await backend.AsyncResult(fresh_id()).get(timeout=PATIENCE)
    assert not isinstance(caught.value, StoreUnavailable)


# --- storing ---


@pytest.mark.parametrize("missing", ["-evalsha", "-publish", "resetchannels"])
async def test_storing_without_the_rights_for_it_is_an_error_that_names_them(server: RedisServer, missing: str) -> None:
    grant(server, "writer", *ALL, missing)
    async with Backend(url_of(server, "writer")) as backend:
        for _ in range(2):
            with pytest.raises(AccessDenied, match=r"denies it.*'&celery-task\*'.*\+evalsha \+publish") as caught:
                await backend.store_result(fresh_id(), 1, "SUCCESS")
            assert not isinstance(caught.value, StoreUnavailable)


async def test_the_named_rights_are_enough(server: RedisServer) -> None:
    grant(server, "user", *OWN.split(), *RIGHTS.split())
    store, one = store_at(server, "user"), done(fresh_id())
    feed = await store.open_feed()
    await feed.watch([one.id])
    events = aiter(feed)
    assert await anext(events) == (one.id, Record(id=one.id))
    assert await store.put_many([one]) == [True]
    assert (await anext(events))[0] == one.id
    await feed.unwatch([one.id])
    await store.put_group("g", [["g", None], []])
    assert await store.get_group("g")
    await store.delete_group("g")
    await store.delete_many([one.id])
    await store.ping()
    assert (await store.capabilities()).push
    await feed.aclose()
    await store.aclose()


# --- behind Sentinel, and in a cluster ---


async def test_behind_sentinels_it_is_the_same() -> None:
    with RedisSentinels(sentinels=1) as servers:
        grant(servers.master(), "new", "~*", "+@all", "-info", "-config")
        places = ",".join(f"{host}:{port}" for host, port in servers.addresses)
        place = f"{places}/{servers.service}/0"
        async with (
            Backend(f"redis+sentinel://{place}") as writer,
            Backend(f"redis+sentinel://new:pw@{place}", poll_interval=0.05) as backend,
        ):
            assert await value_of(backend, writer, 1) == 1
            capabilities = await backend.capabilities()
    assert not capabilities.push
    assert "+info" in capabilities.details["server"]
    assert "+config|get" in capabilities.details["eviction"]


def cluster_url(cluster: RedisClusterServers, name: str, query: str = "") -> str:
    return cluster.url.replace("://", f"://{name}:pw@") + query


@pytest.mark.parametrize("sharded", ["true", "false"])
@pytest.mark.parametrize("nodes", [1, 3])
async def test_in_a_cluster_one_node_that_refuses_is_enough_to_poll(
    cluster: RedisClusterServers, warnings: pytest.LogCaptureFixture, nodes: int, sharded: str
) -> None:
    """Each node has users of its own."""
    for number, node in enumerate(cluster.servers):
        grant(node, "new", "~*", "+@all", "-info", *(["&*"] if number >= nodes else []))
    url = cluster_url(cluster, "new", f"?sharded={sharded}")
    async with Backend(cluster.url) as writer, Backend(url, poll_interval=0.05) as backend:
        refused = fresh_id()
        while cluster.owner(KEY + refused) is not cluster.servers[0]:
            refused = fresh_id()
        assert await value_of(backend, writer, "polled", refused) == "polled"
        capabilities = await backend.capabilities()
        values = [backend.AsyncResult(fresh_id()) for _ in range(20)]
        waiting = asyncio.gather(*(result.get(timeout=PATIENCE) for result in values))
        await asyncio.gather(*(writer.store_result(result.id, 1, "SUCCESS") for result in values))
        assert await waiting == [1] * 20
    assert not capabilities.push
    assert re.search(GRANT + r".*\+ssubscribe \+sunsubscribe", capabilities.reason)
    assert "+info" in capabilities.details["server"]
    assert len(warnings.records) == 1


@pytest.mark.usefixtures("soon")
async def test_in_a_cluster_the_push_comes_back_with_the_right(cluster: RedisClusterServers) -> None:
    for node in cluster.servers:
        grant(node, "waiting", *ALL, *NO_SUBSCRIPTIONS)
    task_id = fresh_id()
    async with Backend(cluster.url) as writer, Backend(cluster_url(cluster, "waiting")) as backend:
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=2 * PATIENCE))

        await eventually(lambda: polls(backend))
        for node in cluster.servers:
            grant(node, "waiting", *ALL)
        await eventually(lambda: pushes(cluster.owner(KEY + task_id), task_id))
        await writer.store_result(task_id, 1, "SUCCESS")
        assert await waiting == 1


async def test_the_rights_that_are_named_for_a_cluster_are_enough(cluster: RedisClusterServers) -> None:
    for node in cluster.servers:
        grant(node, "user", *OWN.split(), *RIGHTS.split(), *CLUSTER_RIGHTS.split())
    async with Backend(cluster_url(cluster, "user"), poll_interval=1000) as backend:
        assert (await backend.capabilities()).push
        for number in range(10):
            assert await value_of(backend, backend, number) == number
        await backend.AsyncResult(fresh_id()).forget()


async def test_storing_in_a_cluster_without_the_right_to_publish_is_an_error_that_names_it(
    cluster: RedisClusterServers,
) -> None:
    for node in cluster.servers:
        grant(node, "writer", *ALL, "-spublish")
    store = RedisClusterStore(cluster_url(cluster, "writer"), make_settings({}))
    with pytest.raises(AccessDenied, match=r"denies it.*\+spublish") as caught:
        await store.put_many([done(fresh_id())])
    assert not isinstance(caught.value, StoreUnavailable)
    await store.aclose()


async def test_a_runner_that_may_not_write_its_lease_is_told_what_to_grant(server: RedisServer) -> None:
    grant(server, "noleases", "~celery-task-meta*", "&celery-task*", *RIGHTS.split())
    store = RedisStore(server.url.replace("redis://", "redis://noleases:pw@"), make_settings({}))
    with pytest.raises(Unsupported, match=r"no lease: .*'~celery-task\*'"):
        await store.renew_lease("runner", 30)
    await store.aclose()


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ("ERR The user executing the script can't publish to the channel", AccessDenied, "denies it"),
        ("NOAUTH Authentication required.", StoreUnavailable, "asks for a password"),
    ],
    ids=["a right that a script lacks", "no password over RESP2"],
)
def test_replies_of_redis_7_0_mean_what_those_of_newer_ones_do(
    reply: str, kind: type[AioResultError], said: str
) -> None:
    error = refused(ServerError(reply), "h:1/0", "")
    assert type(error) is kind
    assert said in str(error)
