"""Our results in MongoDB expire: by a TTL index for their deletion, and for readers at the very moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pymongo
import pytest

import aioresult
from aioresult import Backend, Record
from aioresult.testing.conformance import eventually
from tests.stores.mongodb.drivers import DRIVERS, Collection, Document, by_driver

Celery: Any = import_module("celery").Celery  # has not all types
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, mongo_url: str) -> str:
    return by_driver(mongo_url, request.param)


@pytest.fixture
def tasks(mongo_url: str) -> Iterator[Collection]:
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()["celery_taskmeta"]


def document(task_id: str, status: str = "SUCCESS", **fields: Any) -> Document:
    return {"_id": task_id, "status": status, "result": "1", "traceback": None, "children": [], **fields}


# --- the TTL index ----------------------------------------------------------------------------------------------------


async def test_expired_results_and_groups_are_deleted_by_the_server(url: str, tasks: Collection) -> None:
    async with Backend(url, result_expires=0.2) as backend:
        await backend.store_result("a", 1, "PROGRESS")
        await backend.GroupResult("g", [backend.AsyncResult("a")]).save()

        async def empty() -> bool:
            return tasks.count_documents({}) == tasks.database["celery_groupmeta"].count_documents({}) == 0

        await eventually(empty)


@pytest.mark.parametrize("celery_first", [True, False])
async def test_celerys_index_and_ours_get_along_whichever_comes_first(
    url: str, mongo_url: str, tasks: Collection, celery_first: bool
) -> None:
    app = Celery("tests", backend=mongo_url, set_as_current=False)

    def by_celery() -> None:
        app.backend.store_result("celerys", 1, "SUCCESS")
        app.backend.save_group("g", [app.AsyncResult("celerys")])

    try:
        if celery_first:
            by_celery()
        async with Backend(url) as backend:
            await backend.store_result("ours", 1, "SUCCESS")
            await backend.GroupResult("h", [backend.AsyncResult("a")]).save()
        if not celery_first:
            by_celery()
        app.backend.cleanup()
    finally:
        app.backend._connection.close()
    for collection in (tasks, tasks.database["celery_groupmeta"]):
        indexes = collection.index_information()
        assert "expireAfterSeconds" not in indexes["date_done_1"]
        assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    assert {found["_id"] for found in tasks.find()} == {"celerys", "ours"}


async def test_what_is_to_be_kept_for_ever_has_no_expiry_and_no_index(url: str, tasks: Collection) -> None:
    async with Backend(url, result_expires=None) as backend:
        await backend.store_result("a", 1, "SUCCESS")
    assert "expires_at" not in (tasks.find_one() or {"expires_at": "nothing is stored"})
    assert set(tasks.index_information()) == {"_id_"}


@pytest.mark.parametrize("seconds", [1e13, float("inf")])
async def test_any_lifetime_is_possible(url: str, seconds: float) -> None:
    async with Backend(url, result_expires=seconds) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
        assert await backend.purge() == 0


async def test_failures_may_have_a_lifetime_of_their_own(url: str, tasks: Collection) -> None:
    async with Backend(url, result_expires=100, result_failure_expires=10_000) as backend:
        await backend.store_result("good", 1, "SUCCESS")
        await backend.store_result("bad", ValueError(), "FAILURE")
    now = datetime.now(UTC).replace(tzinfo=None)
    left = {found["_id"]: (found["expires_at"] - now).total_seconds() for found in tasks.find()}
    assert 0 < left["good"] <= 100
    assert 100 < left["bad"] <= 10_000


async def test_an_index_that_cannot_be_made_is_warned_of_once_and_results_are_stored(
    url: str, tasks: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.create_index("expires_at")
    for task_id in ("a", "b"):
        async with Backend(url) as backend:
            assert await backend.store_result(task_id, 1, "SUCCESS")
    assert caplog.text.count("no TTL index on celery_taskmeta") == 1


# --- for readers, before the server has deleted anything --------------------------------------------------------------


async def test_what_says_that_it_has_expired_is_absent_and_all_else_is_there_until_purged(
    url: str, tasks: Collection
) -> None:
    now = datetime.now(UTC)
    tasks.insert_many(
        [
            document("ours", expires_at=PAST, date_done=now),
            document("celerys", date_done=PAST),
            document("ours alive", expires_at=now + timedelta(hours=1), date_done=PAST),
            document("celerys alive", date_done=now),
            document("celerys running", "PROGRESS", date_done=None),
        ]
    )
    async with Backend(url) as backend:
        found = await backend._runtime.store.get_many([d["_id"] for d in tasks.find()])
        assert set(found) == {"celerys", "ours alive", "celerys alive", "celerys running"}
        assert await backend.purge() == 2
    assert {found["_id"] for found in tasks.find()} == {"ours alive", "celerys alive", "celerys running"}


async def test_without_expiry_nothing_of_celerys_is_old(url: str, tasks: Collection) -> None:
    tasks.insert_one(document("celerys", date_done=PAST))
    async with Backend(url, result_expires=None) as backend:
        assert (await backend.fetch("celerys")).ready
        assert await backend.purge() == 0


async def test_an_expired_group_is_absent_and_purged(url: str, tasks: Collection) -> None:
    group = {"_id": "g", "result": '["a"]', "date_done": datetime.now(UTC), "expires_at": PAST}
    tasks.database["celery_groupmeta"].insert_one(group)
    async with Backend(url) as backend:
        assert await aioresult.GroupResult.restore("g", backend) is None
        assert await backend.purge() == 1


async def test_what_has_expired_is_replaced_by_any_state_but_by_one_writer_only(url: str, tasks: Collection) -> None:
    tasks.insert_many([document(str(number), expires_at=PAST, date_done=PAST) for number in range(20)])
    async with Backend(url) as first, Backend(url) as second:
        started = [Record(id=str(number), status="STARTED") for number in range(20)]
        final = [Record(id=str(number), status="SUCCESS", result=2) for number in range(20)]
        _, late = await asyncio.gather(first._runtime.store.put_many(started), second._runtime.store.put_many(final))
        found = await first._runtime.store.get_many([str(number) for number in range(20)])
    assert all(late)
    assert {record.status for record in found.values()} == {"SUCCESS"}


async def test_an_expired_result_that_is_announced_wakes_nobody(url: str, tasks: Collection) -> None:
    async with Backend(url) as backend:
        feed = await backend._runtime.store.feed()
        assert feed is not None
        events: list[tuple[str, Record | None]] = []
        feed.attach(lambda task_id, record: events.append((task_id, record)))
        await feed.watch(["a", "b"])
        iteration = asyncio.ensure_future(anext(aiter(feed)))
        tasks.insert_one(document("a", expires_at=PAST, date_done=PAST))
        tasks.insert_one(document("b", date_done=datetime.now(UTC)))

        async def both() -> bool:
            return len(events) == 4

        await eventually(both)
        iteration.cancel()
        await asyncio.wait([iteration])
        await feed.aclose()
    assert events[2] == ("a", None)
    assert events[3][1] is not None
