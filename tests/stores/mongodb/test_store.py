"""The MongoDB store keeps every promise of a store: with both drivers, with and without change streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

import aioresult
from aioresult import Backend, Record
from aioresult.errors import EncodeError, ResultTooLarge, SettingsError
from aioresult.stores.mongodb import MongoStore
from aioresult.stores.mongodb.clients import close_client
from aioresult.testing import StoreTests
from tests.servers import TcpProxy
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, Collection, Document, by_driver


class MongoTests(StoreTests):
    """What all variants have in common: how to store garbage."""

    scheme: ClassVar[str] = "mongodb"

    def connect(self, url: str) -> None:
        self.plain_url = url
        self.url = by_driver(url, self.scheme)  # type: ignore[misc]  # known only once the server runs

    async def poison(self, backend: Backend, task_id: str) -> None:
        with pymongo.MongoClient[Document](self.plain_url) as client:
            tasks = client.get_default_database()["celery_taskmeta"]
            tasks.update_one({"_id": task_id}, {"$set": {"status": "SUCCESS", "result": '{"stat'}})


class TestMongoStore(MongoTests):
    @pytest.fixture(autouse=True)
    def connect_to(self, mongo_url: str) -> None:
        self.connect(mongo_url)


class TestMongoStoreByMotor(TestMongoStore):
    scheme = "mongodb+motor"


class TestMongoStoreStandalone(MongoTests):
    @pytest.fixture(autouse=True)
    def connect_to(self, mongo_standalone_url: str) -> None:
        self.connect(mongo_standalone_url)


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, mongo_url: str) -> str:
    return by_driver(mongo_url, request.param)


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, result_extended=True) as backend:
        yield backend


@pytest.fixture
def tasks(mongo_url: str) -> Iterator[Collection]:
    """The collection as any other program sees it."""
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()["celery_taskmeta"]


# --- ready clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_class", [AsyncMongoClient, AsyncIOMotorClient])
async def test_a_ready_client_is_used_and_left_open(
    client_class: type[AsyncMongoClient[Document]], mongo_url: str, tasks: Collection
) -> None:
    client = client_class(mongo_url)
    try:
        async with Backend(client) as backend:
            waiting = asyncio.create_task(backend.AsyncResult("ready").get(timeout=PATIENCE))
            await backend.store_result("ready", 1, "SUCCESS")
            assert await waiting == 1
            assert tasks.database.name in backend._runtime.store.location
        assert (await client.admin.command("ping"))["ok"] == 1
        assert tasks.count_documents({}) == 1
    finally:
        await close_client(client, PATIENCE)


async def test_the_options_of_a_ready_client_do_not_change_what_is_read(mongo_url: str) -> None:
    commands = Commands()
    client = AsyncMongoClient[Document](
        mongo_url,
        tz_aware=False,
        w=0,
        readPreference="secondaryPreferred",
        readConcernLevel="majority",
        event_listeners=[commands],
    )
    try:
        async with Backend(client) as backend:
            assert await backend.store_result("a", 1, "SUCCESS")
            assert not await backend.store_result("a", 2, "STARTED")
            record = await backend.fetch("a")
            assert record.date_done is not None
            assert record.date_done.tzinfo is not None
        finds = [command for command in commands.sent if "find" in command]
        assert finds
        for find in finds:
            assert find["readConcern"] == {"level": "local"}  # a stream does not tell what was waiting for a majority
            assert find.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}
    finally:
        await client.close()


async def test_closing_motor_lets_the_event_loop_run(mongo_url: str) -> None:
    """It tells the server, and waits for the answer; its own method does so in the thread of the loop."""
    async with TcpProxy(mongo_url) as proxy:  # it runs in this loop
        client = AsyncIOMotorClient[Document](proxy.url, directConnection=True)
        await client.admin.command("ping")
        received = proxy.bytes["to the client"]
        await close_client(client, PATIENCE)
        assert proxy.bytes["to the client"] > received


async def test_a_blocking_client_is_refused(mongo_url: str) -> None:
    with pymongo.MongoClient[Document](mongo_url) as client, pytest.raises(SettingsError, match="AsyncMongoClient"):
        _ = Backend(client)._runtime


# --- what is written --------------------------------------------------------------------------------------------------


class Commands(CommandListener):
    """Keeps the commands that a client sends."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.mark.parametrize("client_class", [AsyncMongoClient, AsyncIOMotorClient])
async def test_a_batch_is_one_command_and_so_is_reading_it(
    client_class: type[AsyncMongoClient[Document]], mongo_url: str
) -> None:
    commands = Commands()
    client = client_class(mongo_url, event_listeners=[commands])
    try:
        async with Backend(client) as backend:
            store = backend._runtime.store
            await store.put_many([Record(id="first", status="SUCCESS")])
            commands.sent.clear()
            before = store.commands
            records = [Record(id=str(index), status="SUCCESS", result=index) for index in range(1000)]
            assert all(await store.put_many(records))
            assert len(await store.get_many([record.id for record in records])) == 1000
            assert [next(iter(command)) for command in commands.sent] == ["update", "find"]
            assert store.commands == before + 2
    finally:
        await close_client(client, PATIENCE)


async def test_what_may_not_be_written_does_not_keep_the_rest_of_its_batch_from_being_written(backend: Backend) -> None:
    store = backend._runtime.store
    now = datetime.now(UTC)
    await store.put_many([Record(id="a", status="SUCCESS", result="old", date_done=now)])
    batch = [Record(id=task_id, status="FAILURE", result=ValueError("new"), date_done=now) for task_id in "abc"]
    assert list(await store.put_many(batch)) == [False, True, True]
    assert {task_id: record.status for task_id, record in (await store.get_many("abc")).items()} == {
        "a": "SUCCESS", "b": "FAILURE", "c": "FAILURE",
    }  # fmt: skip


async def test_an_upsert_that_loses_a_race_to_another_insert_is_tried_again(
    backend: Backend, tasks: Collection
) -> None:
    """Two writers that insert the same id at once collide, though one may replace what the other has written."""
    for round_ in range(20):
        store, ids = backend._runtime.store, [f"{round_}-{index}" for index in range(50)]
        finals = store.put_many([Record(id=task_id, status="SUCCESS", result=1) for task_id in ids])
        early = [Record(id=task_id, status="STARTED") for task_id in reversed(ids)]
        async with Backend(str(backend._runtime.store.location) + "?replicaSet=rs0") as other:
            written, _ = await asyncio.gather(finals, other._runtime.store.put_many(early))
        assert all(written)
        assert {record.status for record in (await store.get_many(ids)).values()} == {"SUCCESS"}


@pytest.mark.parametrize(
    ("meta", "path"),
    [
        ({"kwargs": {"price": {"net": [1, object()]}}}, r"kwargs\['price'\]\['net'\]\[1\]"),
        ({"args": [2**64]}, r"args\[0\]"),
        ({"kwargs": {1: "x"}}, "kwargs"),
        ({"args": ["\ud800"]}, r"args\[0\]"),
    ],
)
async def test_a_native_value_that_bson_cannot_hold_is_refused_by_name(
    backend: Backend, tasks: Collection, meta: dict[str, Any], path: str
) -> None:
    with pytest.raises(EncodeError, match=f"task 'a': {path} cannot be stored"):
        await backend.store_result("a", 1, "SUCCESS", **meta)
    assert tasks.count_documents({}) == 0


async def test_a_value_that_contains_itself_is_refused(backend: Backend) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="args"):
        await backend.store_result("a", 1, "SUCCESS", args=loop)


async def test_a_result_beyond_the_limit_of_a_document_is_refused_and_one_just_below_is_stored(
    backend: Backend, tasks: Collection
) -> None:
    with pytest.raises(ResultTooLarge, match="16777216"):
        await backend.store_result("big", "x" * 2**24, "SUCCESS")
    assert tasks.count_documents({}) == 0
    value = "x" * (2**24 - 500)
    waiting = asyncio.create_task(backend.AsyncResult("big").get(timeout=PATIENCE))
    await backend.store_result("big", value, "SUCCESS")
    assert await waiting == value


async def test_a_traceback_that_quotes_half_a_character_is_stored(backend: Backend) -> None:
    await backend.store_result("a", ValueError("bad"), "FAILURE", "File 'caf\udce9.py'")
    assert (await backend.fetch("a")).traceback == "File 'caf\\udce9.py'"


async def test_arguments_changed_after_the_call_are_stored_as_they_were(backend: Backend) -> None:
    args = [1]
    storing = asyncio.create_task(backend.store_result("a", 1, "SUCCESS", args=args))
    await asyncio.sleep(0)
    args.append(2)
    await storing
    assert (await backend.fetch("a")).args == [1]


async def test_a_document_that_the_servers_own_rules_refuse_hurts_its_own_task_only(
    backend: Backend, tasks: Collection
) -> None:
    tasks.database.create_collection(tasks.name, validator={"status": {"$ne": "BANNED"}})
    refused, stored = await asyncio.gather(
        backend.store_result("bad", 1, "BANNED"), backend.store_result("good", 1, "SUCCESS"), return_exceptions=True
    )
    assert isinstance(refused, EncodeError)
    assert "bad" in str(refused)
    assert stored is True


async def test_a_unique_index_of_somebody_elses_is_an_error_and_no_endless_retry(
    backend: Backend, tasks: Collection
) -> None:
    tasks.create_index("queue", unique=True)
    await backend.store_result("a", 1, "SUCCESS", queue="q")
    with pytest.raises(EncodeError, match=r"task 'b': .* does not accept"):
        await backend.store_result("b", 1, "SUCCESS", queue="q")


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"status": "SUCCESS", "result": {"native": 1}},
        {"status": "SUCCESS"},
        {"status": None, "result": "1"},
        {"status": 7, "result": "1"},
        {"status": "SUCCESS", "result": "1", "date_done": "yesterday"},
        {"status": "SUCCESS", "result": "1", "children": "none"},
        {"status": "SUCCESS", "result": "1", "traceback": 5},
        {},
    ],
)
async def test_a_document_of_another_shape_is_undecodable_and_hurts_nobody_else(
    backend: Backend, tasks: Collection, document: dict[str, Any]
) -> None:
    tasks.insert_one({"_id": "odd", **document})
    await backend.store_result("good", 1, "SUCCESS")
    found = await backend._runtime.store.get_many(["odd", "good"])
    assert "odd" in str(found["odd"].error)
    assert found["good"].result == 1


async def test_dates_and_text_that_python_cannot_hold_do_not_spoil_the_batch(
    backend: Backend, tasks: Collection
) -> None:
    far = bytes.fromhex("09646174655f646f6e6500") + (2**62).to_bytes(8, "little")  # a date in the year 146,140,482
    text = b"\x02traceback\x00\x03\x00\x00\x00\xff\xfe\x00"  # not UTF-8
    body = (
        b"\x02_id\x00\x02\x00\x00\x00a\x00\x02status\x00\x08\x00\x00\x00SUCCESS\x00\x02result\x00\x02\x00\x00\x001\x00"
    )
    body += text + far
    raw = (len(body) + 5).to_bytes(4, "little") + body + b"\x00"
    tasks.insert_one(RawBSONDocument(raw))
    await backend.store_result("good", 1, "SUCCESS")
    found = await backend._runtime.store.get_many(["a", "good"])
    assert found["a"].error is not None
    assert found["good"].result == 1


async def test_dates_keep_their_microseconds(backend: Backend) -> None:
    moment = datetime(2026, 11, 22, 1, 2, 3, 456789, UTC)
    await backend._runtime.store.put_many([Record(id="a", status="SUCCESS", date_done=moment)])
    assert (await backend.fetch("a")).date_done == moment


async def test_stamps_are_fields_of_their_own_and_never_shadow_others(backend: Backend, tasks: Collection) -> None:
    await backend.store_result("a", 1, "SUCCESS", stamps={"monitoring": "m-1", "status": "shadow"})
    document = tasks.find_one({"_id": "a"})
    assert document is not None
    assert (document["monitoring"], document["status"]) == ("m-1", "SUCCESS")
    assert document["stamped_headers"] == ["monitoring", "status"]
    assert (await backend.fetch("a")).stamps == {"monitoring": "m-1"}


async def test_a_query_for_very_long_ids_is_divided(backend: Backend) -> None:
    """All of them together are more than MongoDB takes in one command."""
    ids = [f"{index}-{'x' * 2**20}" for index in range(20)]
    for task_id in ids:
        await backend.store_result(task_id, 1, "SUCCESS")
    assert len(await backend._runtime.store.get_many(ids)) == 20
    await backend._runtime.store.delete_many(ids)
    assert not await backend._runtime.store.get_many(ids)


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_group_keeps_its_nesting_and_its_parent(backend: Backend) -> None:
    parent = backend.AsyncResult("parent")
    inner = backend.GroupResult("inner", [backend.AsyncResult("b"), backend.AsyncResult("c")])
    group = backend.GroupResult("outer", [backend.AsyncResult("a"), inner], parent=parent)
    await group.save()
    restored = await aioresult.GroupResult.restore("outer", backend)
    assert restored is not None
    assert restored.as_tuple() == group.as_tuple()


# --- what it says of itself -------------------------------------------------------------------------------------------


async def test_capabilities_name_server_driver_and_collections(backend: Backend, url: str, tasks: Collection) -> None:
    capabilities = await backend.capabilities()
    assert capabilities.push
    assert "change stream" in capabilities.mechanism
    assert capabilities.details["server"].startswith("MongoDB ")
    assert capabilities.details["driver"].startswith("motor" if "motor" in url else "pymongo")
    assert tasks.name in capabilities.details["collections"]


async def test_a_standalone_server_is_polled_with_one_warning_that_says_why(
    mongo_standalone_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        async with Backend(mongo_standalone_url, poll_interval=0.05) as backend:
            capabilities = await backend.capabilities()
            assert not capabilities.push
            assert "replica set" in capabilities.reason
            assert isinstance(backend._runtime.store, MongoStore)
            reads = backend._runtime.store.get_many
            asked = 0  # how often depends on how long the writes take

            async def counted(ids: Sequence[str], reads: Any = reads) -> Mapping[str, Record]:
                nonlocal asked
                asked += 1
                found: Mapping[str, Record] = await reads(ids)
                return found

            monkeypatch.setattr(backend._runtime.store, "get_many", counted)
            before = backend.stats().commands
            waiting = [asyncio.create_task(backend.AsyncResult(str(i)).get(timeout=PATIENCE)) for i in range(100)]
            await asyncio.sleep(0)
            await asyncio.gather(*(backend.store_result(str(i), i, "SUCCESS") for i in range(100)))
            assert await asyncio.gather(*waiting) == list(range(100))
            await asyncio.gather(*(backend.forget(str(i)) for i in range(100)))
            assert backend.stats().commands - before <= asked + 12
    warnings = [record.getMessage() for record in caplog.records if "cannot push" in record.getMessage()]
    assert len(warnings) == 1
    assert mongo_standalone_url.split("/")[2] in warnings[0]
