"""A Redis Cluster: commands go where their keys are held, and waiters follow slots and primaries that move."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from aioresult import Backend, Record, SettingsError, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.redis import RedisStore
from aioresult.stores.redis.cluster import RedisClusterStore
from aioresult.testing import StoreTests
from aioresult.testing.conformance import PATIENCE, Collected, eventually, fresh_id
from tests.servers import RedisClusterServers, RedisServer

KEY = "celery-task-meta-"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(password="sesame") as servers:
        yield servers


class ClusterTests(StoreTests):
    options = ""

    @pytest.fixture(autouse=True)
    def _servers(self, cluster: RedisClusterServers) -> None:
        self.cluster = cluster
        for server in cluster.servers:
            server.flush()

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(self.cluster.url + self.options, **{"idle_timeout": 0.05, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        self.cluster.owner(KEY + task_id).call("SET", KEY + task_id, '{"status": "SUCC')


class TestRedisClusterStore(ClusterTests):
    """RESP3, sharded channels."""


class TestRedisClusterStoreOnClassicChannels(ClusterTests):
    """What older clusters have, and what Celery's clients hear."""

    options = "?sharded=false"


class TestRedisClusterStoreOnResp2(ClusterTests):
    """A connection to subscribe and another to read, for each node."""

    options = "?protocol=2"


def done(task_id: str, result: Any = 1) -> Record:
    return Record(id=task_id, status="SUCCESS", result=result)


def waiter(backend: Backend, task_id: str) -> asyncio.Task[Any]:
    return asyncio.create_task(backend.AsyncResult(task_id).get(timeout=2 * PATIENCE))


async def until_watched(backend: Backend, count: int) -> None:
    async def watched() -> bool:
        return backend.stats().watched >= count

    await eventually(watched)


async def stores(backend: Backend, task_id: str) -> bool:
    try:
        return await backend.store_result(task_id, task_id, "SUCCESS")
    except StoreUnavailable:
        return False


async def store_all(backend: Backend, ids: list[str]) -> None:
    """Store a result for each of ``ids``, again and again until the store takes it."""
    for task_id in ids:
        await eventually(partial(stores, backend, task_id))


# --- where commands go ---


async def test_the_ids_of_a_node_are_written_and_read_in_one_go(cluster: RedisClusterServers) -> None:
    store = RedisClusterStore(cluster.url, make_settings({}))
    ids = [fresh_id() for _ in range(300)]
    assert await store.put_many([done(task_id) for task_id in ids]) == [True] * 300
    await store.put_many([done(fresh_id()) for _ in range(30)])  # by now all nodes know the script
    before = store.commands
    assert await store.put_many([done(task_id, 2) for task_id in ids]) == [False] * 300
    assert store.commands == before + 300
    assert len(await store.get_many(ids)) == 300
    assert store.commands == before + 600
    for task_id in ids[:20]:
        assert cluster.owner(KEY + task_id).call("EXISTS", KEY + task_id) == 1
    await store.aclose()


async def test_one_subscriber_connection_leads_to_each_node_in_use(cluster: RedisClusterServers) -> None:
    async with Backend(cluster.url, redis_client_name="counted") as backend:
        waiting = [waiter(backend, task_id) for task_id in (fresh_id() for _ in range(100))]
        await until_watched(backend, 100)

        async def subscribed() -> bool:
            lists = [str(await asyncio.to_thread(server.call, "CLIENT", "LIST")) for server in cluster.servers]
            ours = [line for text in lists for line in text.splitlines() if "name=counted" in line]
            counts = Counter(line.split(" ssub=")[1].split()[0] for line in ours)
            subscribers = [int(number) for number in counts.elements() if number != "0"]
            return len(ours) <= 6 and len(subscribers) == 3 and sum(subscribers) == 100

        await eventually(subscribed)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


@pytest.mark.parametrize("publisher", ["the owner", "another node"])
async def test_what_celery_publishes_to_classic_channels_is_heard(cluster: RedisClusterServers, publisher: str) -> None:
    """As Celery's worker does: SET and PUBLISH of the same bytes, the latter perhaps through another node."""
    task_id = fresh_id()
    key, value = KEY + task_id, json.dumps({"status": "SUCCESS", "result": "by Celery", "task_id": task_id})
    owner = cluster.owner(key)
    through = owner if publisher == "the owner" else next(each for each in cluster.servers if each is not owner)
    store = RedisClusterStore(cluster.url, make_settings({}))
    feed = Collected(await store.open_feed())
    await feed.feed.watch([task_id])
    await feed.expect(lambda events: len(events) == 1)
    owner.call("SETEX", key, 60, value)
    through.call("PUBLISH", key, value)
    await feed.expect(lambda events: len(events) == 2)
    assert [record and record.result for _, record in feed.events] == [None, "by Celery"]
    await feed.aclose()
    await store.aclose()


async def test_our_writers_publish_to_the_node_that_holds_the_key_only(cluster: RedisClusterServers) -> None:
    store, task_id = RedisClusterStore(cluster.url, make_settings({})), fresh_id()
    feed = await store.open_feed()
    await feed.watch([task_id])
    events = aiter(feed)
    assert await anext(events) == (task_id, Record(id=task_id))
    assert [each.call("PUBSUB", "SHARDNUMSUB", KEY + task_id) for each in cluster.servers if each.running] == [
        [KEY + task_id, int(each is cluster.owner(KEY + task_id))] for each in cluster.servers
    ]
    await store.put_many([done(task_id)])
    assert [(await anext(events))[0], len(feed._events)] == [task_id, 0]
    await feed.aclose()
    await store.aclose()


async def test_a_clusters_client_is_followed_and_left_alone(cluster: RedisClusterServers) -> None:
    host, port = cluster.addresses[0]
    async with RedisCluster(host=host, port=port, password="sesame") as client:
        async with Backend(client) as backend:
            assert isinstance(backend._runtime.store, RedisClusterStore)
            task_id = fresh_id()
            waiting = waiter(backend, task_id)
            await backend.store_result(task_id, 1, "SUCCESS")
            assert await waiting == 1
        assert await client.get(KEY + task_id)


# --- mistakes ---


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://:secret@a:1/2", "no database but 0"),
        ("redis+cluster://:secret@a:port", "cannot be understood"),
        ("redis+cluster://:secret@a:1?colour=red", "colour"),
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Backend(url)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_told_and_not_shown(cluster: RedisClusterServers) -> None:
    store = RedisClusterStore(cluster.url.replace("sesame", "wrongword"), make_settings({}))
    for call in (store.ping(), store.open_feed()):
        with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
            await call
        assert "wrongword" not in str(caught.value)
    await store.aclose()


async def test_seeds_that_are_away_are_passed_over(cluster: RedisClusterServers) -> None:
    away = f"127.0.0.1:{cluster.servers[0].port + 1}"
    async with Backend(cluster.url.replace("@", f"@{away},")) as backend:
        await backend.ping()
    async with Backend(f"redis+cluster://{away}") as backend:
        with pytest.raises(StoreUnavailable, match=away):
            await backend.ping()


async def test_a_server_that_is_no_cluster_and_a_cluster_that_is_taken_for_a_server_are_told(
    cluster: RedisClusterServers, redis_url: str
) -> None:
    async with Backend(redis_url.replace("redis://", "redis+cluster://")) as backend:
        with pytest.raises(Exception, match=r"cluster support disabled; .* begin the URL with redis://"):
            await backend.ping()
    async with Backend(cluster.servers[0].url) as backend:
        with pytest.raises(Exception, match=r"MOVED .*; .* begin the URL with redis\+cluster://"):
            await asyncio.gather(*(backend.store_result(f"a{number}", 1, "SUCCESS") for number in range(9)))
    store = RedisStore(cluster.servers[0].url, make_settings({}))
    assert "redis+cluster://" in (await store.capabilities()).details["cluster"]
    await store.aclose()


# --- slots that move ---


class SlotMove:
    """Moves one slot from the node that holds it to another, step by step as an operator's tool does."""

    def __init__(self, cluster: RedisClusterServers, key: str) -> None:
        self.slot = key_slot(key.encode())
        self.source = cluster.owner(key)
        self.target = next(each for each in cluster.servers if each is not self.source)
        self.others = [each for each in cluster.servers if each not in (self.source, self.target)]

    def begin(self) -> None:
        source, target = self.source.call("CLUSTER", "MYID"), self.target.call("CLUSTER", "MYID")
        self.target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", str(source))
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", str(target))

    def finish(self) -> None:
        keys = self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        assert isinstance(keys, list)
        if keys:
            access = ["AUTH", self.source.password or ""]
            names = [str(key) for key in keys]
            self.source.call("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, *access, "KEYS", *names)
        target = str(self.target.call("CLUSTER", "MYID"))
        for server in (self.target, self.source, *self.others):
            server.call("CLUSTER", "SETSLOT", self.slot, "NODE", target)


async def subscribed(server: RedisServer, task_id: str) -> bool:
    return await asyncio.to_thread(server.call, "PUBSUB", "NUMSUB", KEY + task_id) == [KEY + task_id, 1]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_slot_that_moves_takes_its_waiters_along(cluster: RedisClusterServers, protocol: int) -> None:
    tag = fresh_id()
    ids = [f"{{{tag}}}{number}" for number in range(40)]  # all in one slot
    move = SlotMove(cluster, KEY + ids[0])
    async with (
        Backend(f"{cluster.url}?protocol={protocol}", fallback_interval=1000) as backend,
        Backend(cluster.url) as other,
    ):
        waiting = [waiter(backend, task_id) for task_id in ids[:30]]
        await until_watched(backend, 30)
        await store_all(other, ids[:10])
        move.begin()
        await store_all(other, ids[10:20])  # stored at the new place already, by redirection
        waiting += [waiter(backend, task_id) for task_id in ids[30:]]
        await eventually(partial(subscribed, move.source, ids[-1]))
        assert await asyncio.gather(*waiting[:10]) == ids[:10]
        move.finish()
        await store_all(other, ids[20:])
        assert await asyncio.gather(*waiting) == ids
        assert cluster.owner(KEY + ids[0]) is move.target
        assert backend.stats().reconnects == 0


async def test_a_feed_follows_a_slot_without_starting_over(cluster: RedisClusterServers) -> None:
    moving, staying = fresh_id(), fresh_id()
    move = SlotMove(cluster, KEY + moving)
    store = RedisClusterStore(cluster.url, make_settings({}))
    feed = Collected(await store.open_feed())
    await feed.feed.watch([moving, staying])
    await feed.expect(lambda events: len(events) == 2)
    move.begin()
    move.finish()
    await feed.expect(lambda events: [task_id for task_id, _ in events].count(moving) == 2)
    assert [task_id for task_id, _ in feed.events].count(staying) == 1
    assert move.target.call("PUBSUB", "SHARDNUMSUB", KEY + moving) == [KEY + moving, 1]
    assert move.source.call("PUBSUB", "NUMSUB", KEY + moving) == [KEY + moving, 0]
    await store.put_many([done(moving), done(staying)])
    await feed.expect(lambda events: len(events) == 5)
    assert {task_id for task_id, record in feed.events if record and record.ready} == {moving, staying}
    await feed.aclose()
    await store.aclose()


async def test_what_is_no_longer_watched_is_unsubscribed_from_both_kinds_of_channel(
    cluster: RedisClusterServers,
) -> None:
    store, ids = RedisClusterStore(cluster.url, make_settings({})), [fresh_id() for _ in range(20)]
    feed = Collected(await store.open_feed())
    for _ in range(3):
        await feed.feed.watch(ids)
        await feed.feed.unwatch(ids[:10])
    await feed.feed.watch(ids[:10])
    await feed.feed.unwatch(ids[10:])
    await feed.expect(lambda events: len(events) >= 20)

    async def settled() -> bool:
        numbers = [await asyncio.to_thread(_subscriptions, server) for server in cluster.servers]
        return sum(classic for classic, _ in numbers) == sum(sharded for _, sharded in numbers) == 10

    await eventually(settled)
    # Our own unsubscriptions, confirmed while we watch again, are not taken for slots that have left.
    nodes = [len({cluster.owner(KEY + task_id) for task_id in part}) for part in (ids, ids[:10], ids[10:])]
    watched, unwatched = 3 * (nodes[0] + 40) + nodes[1] + 20, 3 * (nodes[1] + 10) + nodes[2] + 10
    assert store.commands == 1 + watched + unwatched
    await feed.aclose()
    await store.aclose()


def _subscriptions(server: RedisServer) -> tuple[int, int]:
    classic, sharded = server.call("PUBSUB", "CHANNELS", f"{KEY}*"), server.call("PUBSUB", "SHARDCHANNELS", f"{KEY}*")
    assert isinstance(classic, list)
    assert isinstance(sharded, list)
    return len(classic), len(sharded)


# --- nodes that fail ---


async def test_a_node_whose_subscriber_connection_is_cut_loses_no_waiter(cluster: RedisClusterServers) -> None:
    ids = [fresh_id() for _ in range(300)]
    async with Backend(cluster.url) as backend, Backend(cluster.url) as other:
        waiting = [waiter(backend, task_id) for task_id in ids]
        await until_watched(backend, 300)
        for start in range(0, 300, 100):
            await store_all(other, ids[start : start + 100])
            cluster.servers[start // 100].call("CLIENT", "KILL", "TYPE", "pubsub")
        assert await asyncio.gather(*waiting) == ids


async def test_a_primary_that_is_killed_loses_no_waiter() -> None:
    with RedisClusterServers(replicas=1) as cluster:
        ids = [fresh_id() for _ in range(500)]
        victim = cluster.owner(KEY + ids[-1])
        bystander = RedisClusterStore(cluster.url, make_settings({}))
        await bystander.ping()
        async with Backend(cluster.url, idle_timeout=0.05) as backend, Backend(cluster.url) as other:
            waiting = [waiter(backend, task_id) for task_id in ids]
            await until_watched(backend, 500)
            await store_all(other, ids[:100])
            victim.call("WAIT", 1, 10_000)  # what is replicated only later would be lost by Redis itself
            victim.kill()
            await store_all(other, ids[100:])
            assert await asyncio.gather(*waiting) == ids
            assert backend.stats().reconnects >= 1
            assert cluster.owner(KEY + ids[-1]) is not victim
        await eventually(partial(can_watch, bystander, ids))
        await bystander.aclose()


async def test_a_primary_that_is_frozen_is_left_for_its_successor() -> None:
    with RedisClusterServers(replicas=1) as cluster:
        ids = [fresh_id() for _ in range(50)]
        victim = cluster.owner(KEY + ids[-1])
        settings = {"idle_timeout": 0.05, "connect_timeout": 0.5, "redis_backend_health_check_interval": 0.5}
        async with Backend(cluster.url, **settings) as backend, Backend(cluster.url, **settings) as other:
            waiting = [waiter(backend, task_id) for task_id in ids]
            await until_watched(backend, 50)
            await other.ping()
            with victim.frozen():
                await store_all(other, ids)
                assert await asyncio.gather(*waiting) == ids
                assert await backend.AsyncResult(ids[-1]).get(timeout=PATIENCE) == ids[-1]


async def can_watch(store: RedisClusterStore, ids: list[str]) -> bool:
    """Try to watch, sending no command that could find out about the cluster."""
    feed = await store.open_feed()
    try:
        await feed.watch(ids)
    except StoreUnavailable:
        return False
    finally:
        await feed.aclose()
    return True
