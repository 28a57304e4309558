"""The change stream: what it announces, what it leaves to be looked up, and that it is one and is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pymongo
import pytest

from aioresult import Backend, Record
from aioresult.abc import Feed
from aioresult.errors import StoreUnavailable
from aioresult.stores.mongodb import MongoStore
from aioresult.stores.mongodb.connection import cancellable
from aioresult.testing.conformance import eventually
from tests.servers import MongoReplicaSet, MongoServer, TcpProxy
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, Collection, Document, by_driver, until_watched

STREAMS: list[Document] = [
    {"$currentOp": {"allUsers": True, "idleCursors": True}},
    {"$match": {"cursor.originatingCommand.pipeline.0.$changeStream": {"$exists": True}}},
]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    driver: str = request.param
    return driver


@pytest.fixture
def url(driver: str, mongo_url: str) -> str:
    return by_driver(mongo_url, driver)


@pytest.fixture
def tasks(mongo_url: str) -> Iterator[Collection]:
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()["celery_taskmeta"]


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, fallback_interval=3600) as backend:
        yield backend


def open_streams(tasks: Collection) -> list[int]:
    """Return the cursors of the change streams that are open on a collection."""
    found = [
        operation["cursor"]["cursorId"]
        for operation in tasks.database.client.admin.aggregate(STREAMS)
        if operation["ns"] == tasks.full_name
    ]
    return sorted(set(found))


def operations(tasks: Collection) -> list[str]:
    """Return what kinds of operations on a collection the server's profiler has seen from this library."""
    profile = tasks.database["system.profile"].find({"appName": "aioresult", "ns": tasks.full_name})
    return [operation["op"] for operation in profile]


class Heard:
    """Iterates a feed in the background."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[tuple[str, Record | None]] = []
        self.task = asyncio.create_task(self._iterate())

    async def _iterate(self) -> None:
        async for event in self.feed:
            self.events.append(event)

    async def until(self, number: int) -> Sequence[tuple[str, Record | None]]:
        """Wait for so many events, and return them."""

        async def heard() -> bool:
            return len(self.events) >= number or self.task.done()

        await eventually(heard)
        return self.events

    async def aclose(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.feed.aclose()


@pytest.fixture
async def heard(backend: Backend) -> AsyncIterator[Heard]:
    feed = await backend._runtime.store.feed()
    assert feed is not None
    heard = Heard(feed)
    yield heard
    await heard.aclose()


# --- what is announced ------------------------------------------------------------------------------------------------


async def test_small_documents_are_carried_and_big_ones_are_looked_up(backend: Backend, heard: Heard) -> None:
    await heard.feed.watch(["small", "big", "huge"])
    await backend.store_result("unwatched", 1, "SUCCESS")
    await backend.store_result("small", 1, "SUCCESS")
    await backend.store_result("big", "x" * 10_000, "SUCCESS")
    await backend.store_result("huge", "x" * (2**24 - 500), "SUCCESS")
    events = await heard.until(6)
    assert set(events[:3]) == {("small", None), ("big", None), ("huge", None)}
    small = events[3][1]
    assert small is not None
    assert (small.status, small.result) == ("SUCCESS", 1)
    assert events[4:] == [("big", None), ("huge", None)]


async def test_a_change_of_single_fields_by_another_program_is_looked_up(
    backend: Backend, heard: Heard, tasks: Collection
) -> None:
    await backend.store_result("a", 1, "STARTED")
    await heard.feed.watch(["a"])
    tasks.update_one({"_id": "a"}, {"$set": {"status": "SUCCESS"}})
    number = 2
    while ("a", None) not in (await heard.until(number))[1:]:  # the news of STARTED may come before it
        number += 1


@pytest.mark.parametrize("odd_id", [{"a": 1}, 7, None])
async def test_documents_of_others_with_ids_that_are_no_text_disturb_nobody(
    backend: Backend, heard: Heard, tasks: Collection, odd_id: object
) -> None:
    await heard.feed.watch(["a"])
    tasks.insert_one({"_id": odd_id, "status": "SUCCESS"})
    await backend.store_result("a", 1, "SUCCESS")
    assert len(await heard.until(2)) == 2
    assert not heard.task.done()


async def test_what_is_no_longer_watched_is_not_announced(backend: Backend, heard: Heard) -> None:
    await heard.feed.watch(["a", "b"])
    await heard.feed.unwatch(["a"])
    await backend.store_result("a", 1, "SUCCESS")
    await backend.store_result("b", 1, "SUCCESS")
    assert [task_id for task_id, _ in (await heard.until(3))[2:]] == ["b"]


async def test_what_was_stored_before_the_stream_was_opened_is_never_announced_as_a_record(backend: Backend) -> None:
    """The stream begins a little in the past; by now there may be another record of the same id."""
    await backend.store_result("a", "of a former run", "SUCCESS")
    await backend.forget("a")
    feed = await backend._runtime.store.feed()
    assert feed is not None
    heard = Heard(feed)
    await feed.watch(["a"])
    await backend.store_result("a", 1, "STARTED")

    async def started() -> bool:
        return any(record is not None for _, record in heard.events)

    await eventually(started)
    assert [record.status for _, record in heard.events if record is not None] == ["STARTED"]
    await heard.aclose()


async def test_writes_that_were_under_way_when_the_stream_was_opened_are_announced(backend: Backend, url: str) -> None:
    """Of writes at the same time, one with a later timestamp may become visible first."""
    async with Backend(url) as other:
        for round_ in range(5):
            ids = [f"{round_}-{number}" for number in range(100)]
            writing = [asyncio.create_task(other.store_result(task_id, 1, "SUCCESS")) for task_id in ids]
            feed = await backend._runtime.store.feed()
            assert feed is not None
            heard = Heard(feed)
            await feed.watch(ids)
            found = dict(await backend._runtime.store.get_many(ids))
            await asyncio.gather(*writing)

            async def all_known(heard: Heard = heard, found: dict[str, Record] = found, ids: list[str] = ids) -> bool:
                return {task_id for task_id, record in heard.events[100:]} | found.keys() >= set(ids)

            await eventually(all_known)
            await heard.aclose()


# --- one stream -------------------------------------------------------------------------------------------------------


async def test_a_thousand_waiters_share_one_stream_that_ends_with_them_and_a_few_queries(
    url: str, tasks: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MongoStore, "silence", 0.2)  # the server sees that a client is gone when it would answer
    async with Backend(url, idle_timeout=0.05) as backend, Backend(url) as other:
        tasks.database.command("profile", 2)
        waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(1000)]
        await until_watched(backend, 1000)
        assert len(open_streams(tasks)) == 1
        tasks.database.command("profile", 0)
        assert {*operations(tasks)} <= {"getmore", "query"}
        # Each of two lanes looks before the stream is open, and once it is. One that was still looking when the stream
        # opened, with its ids among those that were wanted, asks for them to be watched afterwards, and looks again.
        assert 1 <= operations(tasks).count("query") <= 6
        await asyncio.gather(*(other.store_result(str(n), n, "SUCCESS") for n in range(1000)))
        assert await asyncio.gather(*waiting) == list(range(1000))

        async def none_left() -> bool:
            return not open_streams(tasks)

        await eventually(none_left)


async def test_an_idle_stream_costs_its_probe_and_nothing_else(
    url: str, tasks: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MongoStore, "silence", 0.2)
    async with Backend(url, fallback_interval=3600) as backend:
        waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
        await until_watched(backend, 1)
        tasks.database.command("profile", 2)
        await asyncio.sleep(1)
        tasks.database.command("profile", 0)
        seen = {*operations(tasks)}
        await backend.store_result("a", 1, "SUCCESS")
        assert await waiting == 1
    assert seen <= {"getmore"}


async def test_a_cancellation_that_a_driver_swallows_is_heeded_all_the_same() -> None:
    async def request() -> str:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    task = asyncio.create_task(cancellable(request()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_feed_that_is_left_in_the_middle_of_events_ends_at_once(
    backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after an event the next request is being sent, and PyMongo swallows a cancellation before Python 3.12."""
    monkeypatch.setattr(MongoStore, "silence", 2 * PATIENCE)
    monkeypatch.setattr(MongoStore, "motor_silence", 1)
    for turns in range(20):
        feed = await backend._runtime.store.feed()
        assert feed is not None
        announced = asyncio.Event()
        feed.attach(lambda _, record, announced=announced: announced.set() if record else None)  # type: ignore[misc]
        heard = Heard(feed)
        await feed.watch([str(turns)])
        await backend.store_result(str(turns), 1, "SUCCESS")
        async with asyncio.timeout(PATIENCE):
            await announced.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            await heard.aclose()


# --- the stream is lost -----------------------------------------------------------------------------------------------


async def test_a_stream_whose_connection_is_cut_is_resumed_where_it_was(
    mongo_replica_set: MongoReplicaSet, keyprefix: str, driver: str
) -> None:
    mongo_replica_set.start()
    async with TcpProxy(mongo_replica_set.servers[0].url) as proxy:
        url = f"{driver}://127.0.0.1:{proxy.port}/{keyprefix}?directConnection=true"
        async with Backend(url, fallback_interval=3600) as backend, Backend(url) as other:
            waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(200)]
            await until_watched(backend, 200)
            for n in range(200):
                await other.store_result(str(n), n, "SUCCESS")
                if n % 40 == 0:
                    proxy.cut()
            assert await asyncio.gather(*waiting) == list(range(200))
            assert backend.stats().reconnects == 0
    mongo_replica_set.drop_database(keyprefix)


async def test_a_stream_whose_cursor_is_killed_is_replaced_and_nothing_is_lost(
    backend: Backend, url: str, tasks: Collection
) -> None:
    async with Backend(url) as other:
        waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(200)]
        await until_watched(backend, 200)
        for n in range(200):
            if n % 20 == 0:
                tasks.database.command("killCursors", tasks.name, cursors=open_streams(tasks))
            await other.store_result(str(n), n, "SUCCESS")
        assert await asyncio.gather(*waiting) == list(range(200))


async def test_waiters_outlive_the_collection(backend: Backend, url: str, tasks: Collection) -> None:
    waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
    await until_watched(backend, 1)
    await backend.store_result("a", 1, "STARTED")
    tasks.drop()

    async def reopened() -> bool:
        return backend.stats().reconnects > 0

    await eventually(reopened)
    await backend.store_result("a", 1, "SUCCESS")
    assert await waiting == 1


async def test_the_iteration_of_a_feed_ends_by_an_error_that_names_the_store(
    backend: Backend, tasks: Collection
) -> None:
    tasks.insert_one({"_id": "a"})
    feed = await backend._runtime.store.feed()
    assert feed is not None
    heard = Heard(feed)
    tasks.drop()
    await asyncio.wait([heard.task])
    with pytest.raises(StoreUnavailable, match=backend._runtime.store.location):
        heard.task.result()
    await heard.aclose()


async def test_a_stream_that_has_gone_silent_is_noticed_and_replaced(
    driver: str, mongo_replica_set: MongoReplicaSet, keyprefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a dead router nothing arrives any more, no end of the connection either."""
    monkeypatch.setattr(MongoStore, "silence", 0.2)
    mongo_replica_set.start()
    async with TcpProxy(mongo_replica_set.servers[0].url) as proxy:
        url = f"{driver}://127.0.0.1:{proxy.port}/{keyprefix}?directConnection=true"
        async with Backend(url, fallback_interval=3600, connect_timeout=0.5) as backend:
            await backend.ping()
            waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
            await until_watched(backend, 1)
            proxy.freeze()

            async def noticed() -> bool:
                return backend.stats().reconnects > 0

            await eventually(noticed)
            proxy.cut()
            await proxy.resume()
            await backend.store_result("a", 1, "SUCCESS")
            assert await waiting == 1


@pytest.fixture(scope="module")
def forgetful() -> Iterator[MongoServer]:
    """A server whose log of changes holds little."""
    with MongoReplicaSet(oplogSize=1, syncdelay=1) as replica_set:
        yield replica_set.servers[0]


async def test_when_the_history_is_lost_everything_is_looked_at(
    forgetful: MongoServer, driver: str, keyprefix: str
) -> None:
    """While the stream is cut off, more is written than the server's log of changes holds."""
    async with TcpProxy(forgetful.url) as proxy:
        url = f"{driver}://127.0.0.1:{proxy.port}/{keyprefix}?directConnection=true"
        async with Backend(url, fallback_interval=3600, connect_timeout=0.5) as backend:
            waiting = [asyncio.create_task(backend.AsyncResult(str(n)).get(timeout=PATIENCE)) for n in range(100)]
            await until_watched(backend, 100)
            await proxy.refuse()
            async with Backend(f"{driver}://127.0.0.1:{forgetful.port}/{keyprefix}?directConnection=true") as other:
                await asyncio.gather(*(other.store_result(str(n), n, "SUCCESS") for n in range(100)))
                await asyncio.to_thread(roll_over, forgetful.port)
                feed = await other._runtime.store.feed()  # which cannot begin in the past, since there is none
                assert feed is not None
                await feed.aclose()
            await proxy.resume()
            assert await asyncio.gather(*waiting) == list(range(100))
            assert backend.stats().reconnects > 0


def roll_over(port: int) -> None:
    """Write until the oldest change on record is younger than what there was at the call.

    The server says which that is; reading it fails where it is being deleted just then.
    """
    with pymongo.MongoClient[Any]("127.0.0.1", port, directConnection=True) as client:
        present = client.admin.command("hello")["operationTime"]
        while True:
            client.other.junk.insert_many([{"x": "x" * 100_000} for _ in range(50)])
            if client.admin.command("serverStatus", oplog=1)["oplog"]["earliestOptime"] > present:
                return
