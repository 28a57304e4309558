"""The feed of the Redis store: one round trip to subscribe and read, and everything that can end it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from aioresult import Backend, Record, StoreUnavailable
from aioresult.abc import Event, Feed
from aioresult.stores.redis import RedisStore
from aioresult.testing.conformance import Collected, eventually, fresh_id
from tests.servers import RedisServer, TcpProxy
from tests.servers.resp import RedisReplyError

if TYPE_CHECKING:
    from tests.stores.redis.conftest import Make

pytestmark = pytest.mark.all_loops
PATIENCE = 30.0


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture
def strict_server(own_server: RedisServer) -> RedisServer:
    """Return a server that cuts off a subscriber for which it has to keep more than 200,000 bytes."""
    own_server.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 200000 200000 1")
    with suppress(RedisReplyError):  # Valkey 9.1 does not count large values, because it does not copy them
        own_server.call("CONFIG", "SET", "min-string-size-avoid-copy-reply", 10**9)
    return own_server


def done(task_id: str, result: Any = 1) -> Record:
    return Record(id=task_id, status="SUCCESS", result=result)


async def first_event(feed: Feed) -> Event | None:
    return await anext(aiter(feed), None)


def waiter(backend: Backend, task_id: str) -> asyncio.Task[Any]:
    return asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))


async def until_watched(backend: Backend, count: int) -> None:
    async def watched() -> bool:
        return backend.stats().watched >= count

    await eventually(watched)


# --- one round trip ---


async def test_a_thousand_ids_take_one_subscribe_and_one_mget(make: Make, client: Redis) -> None:
    store = make()
    ids = [fresh_id() for _ in range(1000)]
    await store.put_many([done(task_id) for task_id in ids[:10]])
    before = store.commands
    feed = Collected(await store.open_feed())
    await feed.feed.watch(ids)
    await feed.expect(lambda events: len(events) == 1000)
    assert store.commands == before + 2
    states = {task_id: record.status for task_id, record in feed.events if record is not None}
    assert states == {task_id: "SUCCESS" if index < 10 else "PENDING" for index, task_id in enumerate(ids)}
    await feed.feed.unwatch(ids)
    assert store.commands == before + 3
    await feed.aclose()


async def test_without_resp3_the_feed_leaves_the_reading_to_others(make: Make) -> None:
    store, task_id = make(f"redis://{make().location}?protocol=2"), fresh_id()
    await store.put_many([done(task_id)])
    feed = Collected(await store.open_feed())
    await feed.feed.watch([task_id, "other"])
    await feed.expect(lambda events: len(events) == 2)
    assert dict(feed.events) == {task_id: None, "other": None}
    await feed.aclose()


async def test_very_many_ids_are_watched_in_pieces_and_all_are_heard(make: Make) -> None:
    store, feed = make(), Collected(await make().open_feed())
    ids = [fresh_id() for _ in range(5000)]
    await feed.feed.watch(ids)
    await feed.expect(lambda events: len(events) == 5000)
    await store.put_many([done(task_id) for task_id in ids[::10]])
    await feed.expect(lambda events: len(events) == 5500)
    assert {task_id for task_id, record in feed.events if record is not None and record.ready} == set(ids[::10])
    await feed.aclose()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_whatever_is_stored_around_a_watch_is_read_or_announced(make: Make, protocol: int) -> None:
    """For each moment before, during and after the subscription: the state is in an event, or a look finds it."""
    store = make()
    feed = await make(f"redis://{store.location}?protocol={protocol}").open_feed()
    seen: dict[str, str] = {}
    to_look: set[str] = set()

    def sink(task_id: str, record: Record | None) -> None:
        if record is None:
            to_look.add(task_id)
        elif record.ready or task_id not in seen:
            seen[task_id] = record.status

    feed.attach(sink)
    await store.ping()
    ids = [fresh_id() for _ in range(200)]
    for turns, task_id in enumerate(ids):
        write = asyncio.create_task(store.put_many([done(task_id)]))
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        await feed.watch([task_id])
        await write

    async def complete() -> bool:
        owed = {i for i in ids if seen.get(i) != "SUCCESS"}
        return owed <= to_look and set(await store.get_many(list(owed))) == owed

    await eventually(complete)
    await feed.aclose()


async def test_what_is_stored_between_subscribing_and_reading_a_thousand_ids_is_not_missed(make: Make) -> None:
    """Buffers of that size are taken by the server piece by piece, in turn with those of other clients."""
    store, feed = make(), Collected(await make().open_feed())
    await store.put_many([done(fresh_id())])
    for _ in range(5):
        ids = [fresh_id() for _ in range(1000)]
        write = asyncio.create_task(store.put_many([done(task_id) for task_id in reversed(ids)]))
        await asyncio.sleep(0)
        await feed.feed.watch(ids)
        await write
        await feed.expect(lambda events, ids=ids: {i for i, record in events if record and record.ready} >= set(ids))  # type: ignore[misc]
        await feed.feed.unwatch(ids)
    await feed.aclose()


async def test_what_arrives_for_an_id_that_is_on_its_way_out_is_not_even_decoded(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = make(), [fresh_id(), fresh_id()]
    decoded: list[str] = []
    decode = store._source.decode

    def recording(task_id: str, payload: bytes) -> Record:
        decoded.append(task_id)
        return decode(task_id, payload)

    monkeypatch.setattr(store._source, "decode", recording)
    await store.put_many([done(fresh_id())])  # from now on the server knows the script
    feed = Collected(await store.open_feed())
    await feed.feed.watch(ids)
    await feed.expect(lambda events: len(events) == 2)
    # The server hears of the unsubscription only after it has published, since the latter is sent first.
    write = asyncio.create_task(store.put_many([done(task_id) for task_id in ids]))
    await asyncio.sleep(0)
    await feed.feed.unwatch(ids[:1])
    await write
    await feed.expect(lambda events: len(events) == 3)
    assert decoded == ids[1:]
    await feed.aclose()


async def test_while_idle_nothing_is_sent_but_the_probe(make: Make, client: Redis) -> None:
    store = make(redis_backend_health_check_interval=0.05)
    feed = Collected(await store.open_feed())
    await feed.feed.watch(["a"])
    await feed.expect(lambda events: len(events) == 1)
    before, calls = store.commands, await _calls(client)

    async def probed() -> bool:
        return store.commands >= before + 5

    await eventually(probed)
    grown = {name: count - calls.get(name, 0) for name, count in (await _calls(client)).items()}
    assert {name for name, count in grown.items() if count} <= {"ping", "info"}
    assert grown["ping"] >= 4
    await feed.aclose()


async def _calls(client: Redis) -> dict[str, int]:
    stats = await client.info("commandstats")
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in stats.items()}


# --- the end of a feed ---


async def test_iteration_raises_when_the_connection_is_killed_and_ends_when_closed(make: Make, client: Redis) -> None:
    killed, closed = await make().open_feed(), await make().open_feed()
    iterations = [asyncio.create_task(first_event(feed)) for feed in (killed, closed)]
    await asyncio.sleep(0)
    await closed.aclose()
    assert await iterations[1] is None
    await killed.watch([])
    await client.client_kill_filter(_type="pubsub")
    await client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+/0"):
        await iterations[0]
    with pytest.raises(StoreUnavailable):
        await killed.watch(["b"])
    await killed.aclose()


async def test_a_half_open_connection_is_noticed_by_the_probe(make: Make, redis_url: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        store = make(proxy.url, redis_backend_health_check_interval=0.05, connect_timeout=0.5)
        feed = await store.open_feed()
        iteration = asyncio.create_task(first_event(feed))
        proxy.freeze()
        with pytest.raises(StoreUnavailable, match="PING"):
            await iteration
        await feed.aclose()


async def test_a_half_open_command_connection_is_noticed_and_replaced(make: Make, redis_url: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        store = make(proxy.url, redis_backend_health_check_interval=0.01, connect_timeout=0.5)
        await store.ping()
        proxy.freeze()
        await asyncio.sleep(0.02)  # longer than the interval, so that the next call asks for a sign of life
        with pytest.raises(StoreUnavailable, match="timeout"):
            await store.ping()
        await proxy.resume()
        await store.ping()
        assert proxy.accepted >= 3


async def test_what_is_under_way_on_a_connection_that_falls_silent_is_repeated_on_a_new_one(
    make: Make, redis_url: str
) -> None:
    async with TcpProxy(redis_url) as proxy:
        store = make(proxy.url, connect_timeout=0.5)
        await store.ping()
        proxy.silence()
        assert await store.put_many([Record(id="a", status="SUCCESS", result=1)]) == [True]
        assert (await store.get_many(["a"]))["a"].result == 1


async def test_a_server_that_is_busy_and_lets_nobody_in_is_waited_for(make: Make, redis_url: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        store = make(proxy.url, connect_timeout=0.5)
        await store.ping()
        proxy.freeze()
        writing = asyncio.create_task(store.put_many([Record(id="a", status="SUCCESS", result=1)]))
        await proxy.wait_for_connections(4)  # it has been tested twice
        assert not writing.done()
        await proxy.resume()
        assert await writing == [True]


async def test_a_reply_that_does_not_come_is_not_waited_for_longer_than_the_setting(make: Make, redis_url: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        store = make(proxy.url, redis_socket_timeout=0.5, redis_backend_health_check_interval=0)
        await store.ping()
        proxy.freeze()
        with pytest.raises(StoreUnavailable, match=r"no reply within 0\.5 s"):
            await store.ping()
        await proxy.resume()
        await store.ping()


async def test_connecting_takes_no_longer_than_the_setting(make: Make, redis_url: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        proxy.freeze()
        for settings in ({"connect_timeout": 0.1}, {"redis_socket_connect_timeout": 0.1}):
            store = make(proxy.url, **settings)
            for call in (store.ping(), store.open_feed()):
                with pytest.raises(StoreUnavailable, match="timeout"):
                    await call


# --- waiters, whatever happens ---


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_subscriber_that_is_killed_at_random_moments_loses_no_waiter(
    redis_url: str, client: Redis, protocol: int
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    ids = [fresh_id() for _ in range(1000)]
    before = len(await client.client_list())
    async with Backend(f"{redis_url}?protocol={protocol}", idle_timeout=0.05) as backend, Backend(redis_url) as other:
        waiting = [waiter(backend, task_id) for task_id in ids]
        if rng.random() < 0.5:
            await until_watched(backend, 1000)
        for start in range(0, 1000, 50):
            await asyncio.gather(*(other.store_result(i, i, "SUCCESS") for i in ids[start : start + 50]))
            if rng.random() < 0.4:
                await client.client_kill_filter(_type="pubsub")
        assert await asyncio.gather(*waiting) == ids
        await _back_to_nothing(backend)
    await eventually(lambda: _connections(client, before))


async def test_a_server_that_is_killed_and_restarted_loses_no_waiter(own_server: RedisServer) -> None:
    ids = [fresh_id() for _ in range(1000)]
    async with Backend(own_server.url, idle_timeout=0.05) as backend:
        waiting = [waiter(backend, task_id) for task_id in ids]
        await until_watched(backend, 1000)
        async with Backend(own_server.url) as other:
            await asyncio.gather(*(other.store_result(i, i, "SUCCESS") for i in ids[:300]))
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        async with Backend(own_server.url) as other:
            await asyncio.gather(*(other.store_result(i, i, "SUCCESS") for i in ids[300:]))
        assert await asyncio.gather(*waiting) == ids
        assert backend.stats().reconnects >= 1
        await _back_to_nothing(backend)


async def test_a_silent_network_loses_no_waiter(redis_url: str) -> None:
    settings = {"redis_backend_health_check_interval": 0.05, "connect_timeout": 0.2, "idle_timeout": 0.05}
    async with TcpProxy(redis_url) as proxy, Backend(redis_url) as other, Backend(proxy.url, **settings) as backend:
        ids = [fresh_id() for _ in range(100)]
        waiting = [waiter(backend, task_id) for task_id in ids]
        await until_watched(backend, 100)
        proxy.freeze()

        async def lost() -> bool:
            return backend.stats().reconnects > 0

        await eventually(lost)
        await asyncio.gather(*(other.store_result(i, 1, "SUCCESS") for i in ids))
        await proxy.resume()
        assert await asyncio.gather(*waiting) == [1] * 100


async def test_a_feed_that_was_cut_off_while_reading_is_followed_by_one_that_leaves_the_reading_to_others(
    make: Make, strict_server: RedisServer
) -> None:
    store, ids = make(strict_server.url), [fresh_id() for _ in range(10)]
    await store.put_many([done(task_id, "x" * 150_000) for task_id in ids])
    with pytest.raises(StoreUnavailable):
        await _first_events(store, ids)
    assert dict(await _first_events(store, ids)) == dict.fromkeys(ids)
    assert {record and record.status for _, record in await _first_events(store, ["missing"])} == {"PENDING"}


async def _first_events(store: RedisStore, ids: list[str]) -> list[tuple[str, Record | None]]:
    feed = await store.open_feed()
    try:
        await feed.watch(ids)
        events = aiter(feed)
        return [await anext(events) for _ in ids]
    finally:
        await feed.aclose()


async def test_being_cut_off_for_messages_that_are_too_large_loses_no_waiter(strict_server: RedisServer) -> None:
    ids = [fresh_id() for _ in range(10)]
    async with Backend(strict_server.url) as backend, Backend(strict_server.url) as other:
        waiting = [waiter(backend, task_id) for task_id in ids]
        await until_watched(backend, 10)
        await asyncio.gather(*(other.store_result(i, "x" * 250_000, "SUCCESS") for i in ids))
        assert await asyncio.gather(*waiting) == ["x" * 250_000] * 10
        assert backend.stats().reconnects >= 1


async def test_two_connections_serve_however_many_waiters(redis_url: str, client: Redis) -> None:
    async with Backend(redis_url, redis_client_name="counted") as backend:
        waiting = [waiter(backend, task_id) for task_id in (fresh_id() for _ in range(100))]
        await until_watched(backend, 100)
        ours = [each for each in await client.client_list() if each["name"] == "counted"]
        assert len(ours) <= 2
        assert [each["sub"] for each in ours if each["sub"] != "0"] == ["100"]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def _back_to_nothing(backend: Backend) -> None:
    async def quiet() -> bool:
        stats = backend.stats()
        return stats.waiting == stats.watched == 0

    await eventually(quiet)


async def _connections(client: Redis, count: int) -> bool:
    return len(await client.client_list()) <= count
