"""Streams in MongoDB: their documents, how long these live, and the change stream that tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import AutoReconnect

from aioresult import Backend, ResultTooLarge, StreamEnded, StreamFull, StreamGap, TaskRunner, emit
from aioresult.channels import Channel
from aioresult.stores.mongodb import streams as streams_module
from aioresult.stores.mongodb.clients import close_client
from aioresult.stream import Chunk, Cursor, News
from aioresult.testing.conformance import eventually
from aioresult.testing.streams import numbered, read
from tests.servers.mongoproxy import AnsweringMongoProxy, refusal
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, Collection, Document, by_driver
from tests.stores.mongodb.test_feed import open_streams

MEGABYTE = 2**20


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, mongo_url: str) -> str:
    return by_driver(mongo_url, request.param)


@pytest.fixture
def pieces(mongo_url: str) -> Iterator[Collection]:
    """The collection as any other program sees it."""
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()["celery_taskstream"]


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, fallback_interval=3600) as backend:
        yield backend


@pytest.fixture
async def other(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, fallback_interval=3600) as backend:
        yield backend


async def until_read(reading: asyncio.Task[Any], seen: list[int], number: int) -> None:
    """Wait until a reader has seen so many items."""

    async def so_many() -> bool:
        return len(seen) >= number or reading.done()

    await eventually(so_many)


def reader(backend: Backend, task_id: str, seen: list[int]) -> asyncio.Task[None]:
    """Begin to read a stream, noting the numbers in ``seen``."""

    async def go() -> None:
        async for item in backend.AsyncResult(task_id).stream(timeout=PATIENCE):
            seen.append(item.seq)  # noqa: PERF401  (others look at it meanwhile)

    return asyncio.create_task(go())


# --- documents --------------------------------------------------------------------------------------------------------


async def test_each_call_is_a_document_under_the_number_of_its_first_item(backend: Backend, pieces: Collection) -> None:
    await backend.append("a", 1, 2)
    await backend.append("a", 3)
    found = list(pieces.find().sort("_id", 1))
    assert [(piece["_id"], piece["last"], len(piece["items"])) for piece in found] == [
        ({"task": "a", "first": 1}, 2, 2),
        ({"task": "a", "first": 3}, 3, 1),
    ]


async def test_the_collection_can_be_named(url: str, mongo_url: str) -> None:
    async with Backend(url, mongodb_backend_settings={"taskstream_collection": "mine"}) as backend:
        await backend.append("a", 1)
        assert (await backend.capabilities()).details["collections"].endswith(", mine")
    with pymongo.MongoClient[Document](mongo_url) as client:
        assert client.get_default_database()["mine"].count_documents({}) == 1


async def test_a_stream_that_another_process_has_deleted_begins_anew(backend: Backend, other: Backend) -> None:
    assert await backend.append("a", 1, 2) == 2
    assert await backend.append("a", 3) == 3
    await other.forget("a")
    assert await backend.append("a", "new") == 1
    assert await other.append("a", "next") == 2


async def test_who_has_looked_before_the_stream_was_trimmed_takes_no_number_twice(
    url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the insertion others append and trim so much that the number is not kept any more."""
    async with Backend(url, stream_max_items=2, stream_trim=True) as trimming:
        assert await backend.append("a", 0) == 1
        streams: Any = backend._runtime.store
        insert, held = streams._insert, [True]

        async def insert_late(*args: Any) -> None:
            if held:
                held.clear()
                for number in range(9):
                    await trimming.append("a", number)
            await insert(*args)

        monkeypatch.setattr(streams, "_insert", insert_late)
        assert await backend.append("a", "late") == 11
        await backend.mark_as_done("a", None)
        assert (await read(backend, "a", after=8))[-1] == (11, "late")


# --- the end ----------------------------------------------------------------------------------------------------------


Meanwhile = Callable[[], Awaitable[object]]


@pytest.fixture
def between(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], None]:
    """Have something happen once between the next look at a task and the insertion of its items."""

    def set_up(meanwhile: Meanwhile) -> None:
        streams: Any = backend._runtime.store
        insert, todo = streams._insert, [meanwhile]

        async def insert_late(*args: Any) -> None:
            while todo:
                await todo.pop()()
            await insert(*args)

        monkeypatch.setattr(streams, "_insert", insert_late)

    return set_up


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("options", [{"timeout": 0}, {}])
async def test_nothing_is_stored_behind_an_end_that_a_reader_has_seen(
    backend: Backend,
    other: Backend,
    mongo_url: str,
    between: Callable[[Meanwhile], None],
    before: int,
    options: dict[str, Any],
) -> None:
    """A worker of Celery, which knows nothing of streams, ends the task just when an item is on its way."""
    items = list(range(before))
    if items:
        await other.append("a", *items)
    seen: list[list[tuple[int, Any]]] = []

    async def end_and_read() -> None:
        with pymongo.MongoClient[Document](mongo_url) as client:
            tasks = client.get_default_database()["celery_taskmeta"]
            tasks.insert_one({"_id": "a", "status": "SUCCESS", "result": "1", "traceback": None, "children": []})
        seen.append(await read(other, "a", **options))

    between(end_and_read)
    with pytest.raises(StreamEnded):
        await backend.append("a", "late")
    assert [*seen, await read(other, "a"), await read(backend, "a")] == [numbered(items)] * 3


async def test_an_item_that_is_stored_before_anybody_has_seen_the_end_is_everybodys(
    backend: Backend, other: Backend, between: Callable[[Meanwhile], None]
) -> None:
    waiting = asyncio.create_task(read(other, "a"))
    assert await backend.append("a", 1) == 1
    between(lambda: other.mark_as_done("a", None))
    outcome = (await asyncio.gather(backend.append("a", 2), return_exceptions=True))[0]
    expected = numbered([1, 2]) if outcome == 2 else numbered([1])
    assert [await waiting, await read(other, "a"), await read(backend, "a")] == [expected] * 3


async def test_many_readers_store_one_end_that_lives_as_long_as_the_items(
    backend: Backend, other: Backend, pieces: Collection
) -> None:
    await backend.append("a", 1, 2)
    await backend.mark_as_done("a", None)
    found = await asyncio.gather(*(read(reading, "a") for reading in (backend, other) * 10))
    assert found == [numbered([1, 2])] * 20
    stored = list(pieces.find().sort("_id", 1))
    assert [(piece["_id"]["first"], piece["last"], piece.get("ended")) for piece in stored] == [
        (1, 2, None),
        (3, 2, True),
    ]
    assert stored[0]["expires_at"] == stored[1]["expires_at"]


async def test_a_task_that_is_begun_again_goes_on_numbering_behind_its_former_end(
    backend: Backend, other: Backend, mongo_url: str
) -> None:
    """A worker of Celery replaces a failure by the state of the task's next run."""
    await backend.append("a", 1)
    await backend.mark_as_failure("a", KeyError("why"))
    assert await read(other, "a") == numbered([1])
    with pymongo.MongoClient[Document](mongo_url) as client:
        tasks = client.get_default_database()["celery_taskmeta"]
        tasks.update_one({"_id": "a"}, {"$set": {"status": "STARTED"}})
    assert await backend.append("a", 2) == 2
    assert await other.append("a", 3) == 3
    await backend.mark_as_done("a", None)
    assert await read(other, "a") == numbered([1, 2, 3])


async def test_who_may_not_write_reads_up_to_the_end_all_the_same(mongo_url: str, pieces: Collection) -> None:
    answer = on_streams(lambda request: "insert" in request, 13)
    async with Backend(mongo_url) as writer:
        await writer.append("a", 1, 2)
        await writer.mark_as_done("a", None)
    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url) as backend:
        assert await read(backend, "a") == numbered([1, 2])
    assert pieces.count_documents({}) == 1


async def test_items_whose_answer_is_lost_are_stored_once(
    backend: Backend, other: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await backend.append("a", 1) == 1
    collection = backend._runtime.store._at.streams  # type: ignore[attr-defined]
    insert, losses = collection.insert_many, [1]

    async def answer_is_lost(*args: Any, **options: Any) -> Any:
        answer = await insert(*args, **options)
        if losses:
            losses.clear()
            await other.append("a", 4)
            raise AutoReconnect("cut by the test")
        return answer

    monkeypatch.setattr(collection, "insert_many", answer_is_lost)
    assert await backend.append("a", 2, 3) == 3
    await backend.mark_as_done("a", None)
    assert await read(other, "a") == numbered([1, 2, 3, 4])


async def test_what_was_trimmed_is_deleted_once_nobody_can_take_its_number(
    url: str, pieces: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend(url, stream_max_items=5, stream_trim=True) as backend:
        for number in range(20):
            await backend.append("a", number)
        assert pieces.count_documents({}) == 20
        chunk = await backend._runtime.batcher.read_stream(Cursor("a", 15, 10))
        assert (chunk.oldest, chunk.last, len(chunk.items)) == (16, 20, 5)
        monkeypatch.setattr(streams_module, "_KEPT", timedelta(0))
        monkeypatch.setattr(streams_module, "_SWEEP", 0.0)
        await backend.append("a", 20)
        assert sorted(piece["_id"]["first"] for piece in pieces.find()) == list(range(16, 22))


async def test_trimming_is_exact_within_a_document(url: str) -> None:
    async with Backend(url, stream_max_items=5, stream_trim=True) as backend:
        await backend.append("a", *range(1, 5))
        await backend.append("a", *range(5, 8))
        await backend.mark_as_done("a", None)
        with pytest.raises(StreamGap) as caught:
            await read(backend, "a")
        assert caught.value.first == 3
        assert await read(backend, "a", after=2) == [(n, n) for n in range(3, 8)]


async def test_more_than_fits_into_a_document_is_refused_as_a_whole(backend: Backend) -> None:
    with pytest.raises(ResultTooLarge, match=r"'a'.*nothing was stored"):
        await backend.append("a", "small", "x" * 16 * MEGABYTE)
    big = [str(number) * 6 * MEGABYTE for number in range(4)]
    assert await asyncio.gather(*(backend.append("a", value) for value in big)) == [1, 2, 3, 4]
    await backend.mark_as_done("a", None)
    assert await read(backend, "a") == numbered(big)


async def test_a_runner_sends_large_items_in_portions(backend: Backend) -> None:
    def work() -> None:
        for number in range(5):
            emit(str(number) * 6 * MEGABYTE)

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        found = [item.value[0] async for item in result.stream(timeout=PATIENCE)]
    assert found == ["0", "1", "2", "3", "4"]


async def test_documents_of_others_disturb_nobody(backend: Backend, other: Backend, pieces: Collection) -> None:
    seen: list[int] = []
    reading = reader(backend, "a", seen)
    await other.append("a", 1)
    await until_read(reading, seen, 1)
    for odd in ({"_id": 7}, {"_id": {"task": 1, "first": 2}}, {"_id": "a"}):
        pieces.insert_one(odd)
    await other.append("a", 2)
    await other.mark_as_done("a", None)
    await reading
    assert seen == [1, 2]


async def test_a_stream_that_is_full_says_so(url: str) -> None:
    async with Backend(url, stream_max_items=2) as backend:
        await backend.append("a", 1)
        with pytest.raises(StreamFull, match="stream_max_items=2"):
            await backend.append("a", 2, 3)


# --- lifetime ---------------------------------------------------------------------------------------------------------


async def test_the_server_deletes_streams_that_have_expired(url: str, pieces: Collection) -> None:
    async with Backend(url, result_expires=0.2) as backend:
        await backend.append("a", 1)

        async def empty() -> bool:
            return pieces.count_documents({}) == 0

        await eventually(empty)
        assert await backend.append("a", 1) == 1


async def test_appends_keep_the_beginning_of_a_stream_alive(url: str, pieces: Collection) -> None:
    async with Backend(url, result_expires=1000) as first, Backend(url, result_expires=3000) as second:
        await first.append("a", 1)
        await first.append("a", 2)
        await second.append("a", 3)
    ends = [piece["expires_at"].replace(tzinfo=UTC) for piece in pieces.find()]
    assert min(ends) > datetime.now(UTC) + timedelta(seconds=2900)


async def test_as_long_as_more_than_half_of_its_life_is_left_a_stream_is_not_written_again(
    url: str, pieces: Collection
) -> None:
    async with Backend(url, result_expires=1000) as backend:
        await backend.append("a", 1)
        before = pieces.find_one()
        await backend.append("a", 2)
        assert pieces.find_one({"_id": {"task": "a", "first": 1}}) == before


async def test_an_expired_stream_that_is_still_there_is_not_seen_and_begins_anew(
    backend: Backend, other: Backend, pieces: Collection
) -> None:
    await backend.append("a", 1, 2)
    await backend.append("b", 1, 2)
    pieces.drop_indexes()
    pieces.update_many({}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    assert (await other._runtime.batcher.read_stream(Cursor("a", 0, 10))).last == 0
    assert await backend.append("a", "new") == 1
    await backend.purge()
    assert [piece["_id"] for piece in pieces.find()] == [{"task": "a", "first": 1}]


async def test_a_stream_whose_beginning_is_gone_says_from_where_on_it_can_be_read(
    backend: Backend, other: Backend, pieces: Collection
) -> None:
    for number in range(1, 6):
        await backend.append("a", number)
    await backend.mark_as_done("a", None)
    pieces.delete_many({"_id": {"$lte": {"task": "a", "first": 3}}})
    with pytest.raises(StreamGap) as caught:
        await read(other, "a")
    assert (caught.value.first, caught.value.last) == (4, 5)
    assert await read(other, "a", after=3) == [(4, 4), (5, 5)]


# --- the change stream ------------------------------------------------------------------------------------------------


async def test_streams_have_a_change_stream_of_their_own_while_they_are_read(
    backend: Backend, other: Backend, pieces: Collection
) -> None:
    waiting = asyncio.create_task(backend.AsyncResult("b").get(timeout=PATIENCE))
    seen: list[int] = []
    await other.append("a", 1)
    assert open_streams(pieces) == []
    readings = [reader(backend, "a", seen) for _ in range(10)]
    await until_read(readings[0], seen, 10)

    async def opened() -> bool:  # what is stored already is read before that
        return len(open_streams(pieces)) == 1

    await eventually(opened)
    for reading in readings:
        reading.cancel()

    async def closed() -> bool:
        return not open_streams(pieces)

    await eventually(closed)
    await other.mark_as_done("b", 1)
    assert await waiting == 1
    assert backend.stats().reconnects == 0


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_few_connections_are_left_to_those_who_read_and_store(url: str, other: Backend, size: int) -> None:
    await other.append("a", 1)
    limited = f"{url}{'&' if '?' in url else '?'}maxPoolSize={size}&waitQueueTimeoutMS=1000"
    async with Backend(limited, fallback_interval=3600) as backend:
        waiting = asyncio.create_task(backend.AsyncResult("b").get(timeout=PATIENCE))
        seen: list[int] = []
        reading = reader(backend, "a", seen)
        await until_read(reading, seen, 1)
        assert await backend.append("a", 2) == 2
        await until_read(reading, seen, 2)
        assert await backend.mark_as_done("b", 1)
        assert await waiting == 1
        await backend.mark_as_done("a", None)
        await reading
        assert seen == [1, 2]
        assert backend.stats().reconnects == 0


@pytest.mark.parametrize("client_class", [pymongo.AsyncMongoClient, AsyncIOMotorClient])
@pytest.mark.parametrize("size", [1, 2])
async def test_a_client_of_the_caller_s_with_too_few_connections_is_polled_with_one_warning(
    client_class: type[pymongo.AsyncMongoClient[Document]],
    size: int,
    mongo_url: str,
    other: Backend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = client_class(mongo_url, maxPoolSize=size, waitQueueTimeoutMS=1000)
    async with Backend(client, fallback_interval=3600, poll_interval=0.05) as backend:
        waiting = asyncio.create_task(backend.AsyncResult("b").get(timeout=PATIENCE))
        seen: list[int] = []
        await other.append("a", 1)
        reading = reader(backend, "a", seen)
        await until_read(reading, seen, 1)
        await other.append("a", 2)
        await until_read(reading, seen, 2)
        for task_id in "ab":
            await backend.mark_as_done(task_id, 1)
        await reading
        assert await waiting == 1
        assert (await backend.capabilities()).push == (size > 1)
    await close_client(client, PATIENCE)
    assert f"maxPoolSize={size}" in caplog.text


async def test_small_items_travel_with_the_news_and_large_ones_are_read(
    backend: Backend, other: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    reading = reader(backend, "a", seen)
    number = await _until_news_carry_items(backend, other, reading, seen, monkeypatch)
    store = backend._runtime.store
    reads: list[Sequence[Cursor]] = []
    read_many = store.read_many

    async def count(cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        reads.append(cursors)
        return await read_many(cursors)

    monkeypatch.setattr(store, "read_many", count)
    for _ in range(10):
        number += 1
        await other.append("a", number)
    await until_read(reading, seen, number)
    assert reads == []
    await other.append("a", "x" * 100_000)
    await until_read(reading, seen, number + 1)
    assert reads
    await other.mark_as_done("a", None)
    await reading
    assert seen == list(range(1, number + 2))


async def _until_news_carry_items(
    backend: Backend, other: Backend, reading: asyncio.Task[Any], seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Append items until one comes with the news of it, and nothing of before is still to be read; return its number.

    The change stream begins a little in the past, and what it tells of there is read from the store.
    """
    carried: list[News] = []
    take = Channel.take

    def taken(channel: Channel, news: News) -> None:
        if news.first:
            carried.append(news)
        take(channel, news)

    monkeypatch.setattr(Channel, "take", taken)
    number = 0
    while not carried:
        number += 1
        await other.append("a", number)
        await until_read(reading, seen, number)
    channel = backend._runtime.hub._channels["a"]

    async def all_is_read() -> bool:
        return not channel.window_after(number) and not channel.lacks(number)

    await eventually(all_is_read)
    return number


async def test_items_of_a_former_stream_of_the_same_id_are_not_taken_for_new_ones(
    backend: Backend, other: Backend, pieces: Collection
) -> None:
    """The change stream begins a little in the past."""
    for number in range(1, 4):
        await other.append("a", f"old {number}")
    await other.forget("a")
    await other.append("a", "new 1")
    found: list[Any] = []

    async def go() -> None:
        async for item in backend.AsyncResult("a").stream(timeout=PATIENCE):
            found.append(item.value)  # noqa: PERF401  (they are looked at meanwhile)

    reading = asyncio.create_task(go())

    async def has_begun() -> bool:
        return bool(found and open_streams(pieces))

    await eventually(has_begun)
    await other.append("a", "new 2")
    await other.mark_as_done("a", None)
    await reading
    assert found == ["new 1", "new 2"]


async def test_readers_outlive_killed_cursors(backend: Backend, other: Backend, pieces: Collection) -> None:
    seen: list[int] = []
    reading = reader(backend, "a", seen)
    await other.append("a", 0)
    await until_read(reading, seen, 1)
    for number in range(1, 100):
        if number % 20 == 0:
            pieces.database.command("killCursors", pieces.name, cursors=open_streams(pieces))
        await other.append("a", number)
    await other.mark_as_done("a", None)
    await reading
    assert seen == list(range(1, 101))


async def test_readers_outlive_the_collection(backend: Backend, other: Backend, pieces: Collection) -> None:
    seen: list[int] = []
    reading = reader(backend, "a", seen)
    await other.append("b", 0)

    async def opened() -> bool:
        return bool(open_streams(pieces))

    await eventually(opened)
    pieces.drop()

    async def reopened() -> bool:
        return backend.stats().reconnects > 0

    await eventually(reopened)
    await other.append("a", 1)
    await other.mark_as_done("a", None)
    await reading
    assert seen == [1]


# --- refusals ---------------------------------------------------------------------------------------------------------


def on_streams(refused: Callable[[Document], bool], code: int) -> Callable[[Document], Document | None]:
    """Return answers that refuse some of the requests to the collection of streams."""

    def answer(request: Document) -> Document | None:
        names = {request.get(name) for name in ("aggregate", "insert", "createIndexes")}
        return refusal(code, "not here") if "celery_taskstream" in names and refused(request) else None

    return answer


def opens_changes(request: Document) -> bool:
    return "$changeStream" in str(request.get("pipeline"))


@pytest.mark.parametrize("driver", DRIVERS)
async def test_where_their_change_stream_is_refused_streams_are_polled_with_one_warning(
    mongo_url: str, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 0.05}
    async with (
        AnsweringMongoProxy(mongo_url, on_streams(opens_changes, 13)) as proxy,
        Backend(by_driver(proxy.url, driver), **options) as backend,
        Backend(mongo_url) as other,
    ):
        seen: list[int] = []
        reading = reader(backend, "a", seen)
        for number in range(1, 5):
            await other.append("a", number)
            await until_read(reading, seen, number)
        await other.mark_as_done("a", None)
        await reading
        assert seen == [1, 2, 3, 4]
        assert backend.stats().reconnects == 0
    assert len([record for record in caplog.records if "items of streams" in record.message]) == 1


async def test_a_throttled_insertion_is_repeated_and_stores_its_items_once(mongo_url: str) -> None:
    throttled = [{"index": 0, "code": 16500, "errmsg": "RetryAfterMs=1"}]
    left = 2

    def answer(request: Document) -> Document | None:
        nonlocal left
        if request.get("insert") != "celery_taskstream" or not left:
            return None
        left -= 1
        return {"ok": 1.0, "n": 0, "writeErrors": throttled}

    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url) as backend:
        assert await backend.append("a", 1, 2) == 2
        assert await backend.append("a", 3) == 3
    assert left == 0
