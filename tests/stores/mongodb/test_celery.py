"""Celery's own backend reads what this store writes, and this store reads what Celery's backend writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import json_util

import aioresult
from aioresult import Backend, Record
from aioresult.errors import RemoteTaskError
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, Collection, Document, by_driver, until_watched
from tests.versions import since_celery

# Without types, or not with all.
Celery: Any = import_module("celery").Celery
Context: Any = import_module("celery.app.task").Context
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mongo-json.json").read_text())["data"]
Worker = Callable[..., AbstractContextManager[Any]]
COMPRESSING = since_celery("5.7", "result_compression")
SETTINGS: list[Any] = [
    {},
    {"result_extended": True},
    {"result_serializer": "msgpack", "accept_content": ["msgpack"]},
    {"result_serializer": "pickle", "accept_content": ["pickle"]},
    {"result_serializer": "yaml", "accept_content": ["yaml"]},
    pytest.param({"result_compression": "gzip"}, marks=COMPRESSING),
    pytest.param(
        {"result_compression": "lzma", "result_serializer": "pickle", "accept_content": ["pickle"]}, marks=COMPRESSING
    ),
]


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, mongo_url: str) -> str:
    return by_driver(mongo_url, request.param)


@pytest.fixture
def database(mongo_url: str) -> Iterator[pymongo.database.Database[Document]]:
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()


@pytest.fixture
def tasks(database: pymongo.database.Database[Document]) -> Collection:
    return database["celery_taskmeta"]


@pytest.fixture
def celery_app(mongo_url: str) -> Worker:
    """Gives a Celery application with its MongoDB backend."""

    @contextmanager
    def make(**conf: Any) -> Iterator[Any]:
        app = Celery("tests", backend=mongo_url, set_as_current=False)
        app.conf.update(conf)
        yield app
        if app.backend._connection is not None:
            app.backend._connection.close()

    return make


def request(task_id: str, **fields: Any) -> Any:
    """Return what a worker knows of the task that it runs."""
    return Context(id=task_id, _children=[], **fields)


# --- Celery reads ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_celery_reads_values_failures_and_progress(
    url: str, celery_app: Worker, settings: dict[str, Any]
) -> None:
    async with Backend(url, **settings) as backend:
        await backend.store_result("value", {"a": [1, None, "\u4e2d"]}, "SUCCESS", children=[[["child", None], None]])
        await backend.store_result("failure", ValueError("bad", 42), "FAILURE", "the traceback")
        await backend.store_result("progress", {"current": 1, "total": 2}, "PROGRESS")
        record = await backend.fetch("value")
    with celery_app(**settings) as app:
        value, failure = app.AsyncResult("value"), app.AsyncResult("failure")
        assert value.get(timeout=PATIENCE) == {"a": [1, None, "\u4e2d"]}
        assert [child.id for child in value.children] == ["child"]
        assert record.date_done is not None
        assert abs(value.date_done.timestamp() - record.date_done.replace(tzinfo=None).timestamp()) < 0.001
        with pytest.raises(ValueError, match="bad") as caught:
            failure.get(timeout=PATIENCE)
        assert caught.value.args == ("bad", 42)
        assert failure.traceback == "the traceback"
        assert app.AsyncResult("progress").info == {"current": 1, "total": 2}


async def test_celery_with_extended_results_reads_ours_with_and_without_them(url: str, celery_app: Worker) -> None:
    meta: dict[str, Any] = {
        "name": "tasks.add",
        "args": [1, 2],
        "kwargs": {"x": 1},
        "worker": "w@h",
        "retries": 2,
        "queue": "q",
    }
    async with Backend(url, result_extended=True) as on, Backend(url) as off:
        await on.store_result("on", 1, "SUCCESS", **meta)
        await off.store_result("off", 1, "SUCCESS", **meta)
    with celery_app(result_extended=True) as app:
        assert {key: getattr(app.AsyncResult("on"), key) for key in meta} == meta
        assert app.AsyncResult("off").get(timeout=PATIENCE) == 1


async def test_the_fields_that_older_celery_demands_are_always_there(url: str, tasks: Collection) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", None, "STARTED")
    document = tasks.find_one({"_id": "a"})
    assert document is not None
    mandatory = {"status", "result", "date_done", "traceback", "children"}
    assert mandatory | {"name", "args", "kwargs", "queue", "worker", "retries"} <= document.keys()
    assert (document["result"], document["date_done"]) == ("null", None)


@since_celery("5.5", "the guard of final states on MongoDB")
async def test_celery_does_not_replace_our_success(url: str, celery_app: Worker) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        with celery_app() as app:
            app.backend.store_result("a", None, "RETRY", request=request("a"))
        assert (await backend.fetch("a")).result == 1


async def test_celery_restores_our_groups(url: str, celery_app: Worker) -> None:
    async with Backend(url) as backend:
        await backend.GroupResult("group", [backend.AsyncResult("a"), backend.AsyncResult("b")]).save()
    with celery_app() as app:
        restored = app.GroupResult.restore("group", backend=app.backend)
        assert [member.id for member in restored] == ["a", "b"]


# --- we read Celery's -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_what_celery_stores_is_read_and_wakes_waiters(
    url: str, celery_app: Worker, settings: dict[str, Any]
) -> None:
    async with Backend(url, **settings) as backend:
        waiting = [asyncio.create_task(backend.AsyncResult(i).wait(timeout=PATIENCE)) for i in ("value", "failure")]
        await until_watched(backend, 2)
        with celery_app(**settings) as app:
            known = request(
                "value", task="tasks.add", args=[1], kwargs={"b": 2}, group="g", parent_id="p", hostname="w@h"
            )
            app.backend.store_result("value", None, "STARTED", request=known)
            app.backend.store_result("value", {"a": [1, None]}, "SUCCESS", request=known)
            app.backend.store_result("failure", KeyError("k", 1), "FAILURE", traceback="tb", request=request("failure"))
        value, failure = await asyncio.gather(*waiting)
    assert (value.result, value.group_id, value.parent_id) == ({"a": [1, None]}, "g", "p")
    assert value.date_done is not None
    if settings.get("result_extended"):
        assert (value.name, value.args, value.kwargs, value.worker) == ("tasks.add", [1], {"b": 2}, "w@h")
    assert (failure.traceback, failure.result.args) == ("tb", ("k", 1))
    assert isinstance(failure.result, KeyError)


async def test_we_do_not_replace_celerys_success(url: str, celery_app: Worker) -> None:
    with celery_app() as app:
        app.backend.store_result("a", 1, "SUCCESS", request=request("a"))
    async with Backend(url) as backend:
        assert not await backend.store_result("a", None, "STARTED")
        assert not await backend.store_result("a", ValueError(), "FAILURE")
        assert (await backend.fetch("a")).result == 1


async def test_celerys_groups_come_back_flat_and_ours_that_it_has_replaced_too(url: str, celery_app: Worker) -> None:
    async with Backend(url) as backend:
        await backend.GroupResult("group", [backend.AsyncResult("old")]).save()
        with celery_app() as app:
            app.GroupResult("group", [app.AsyncResult("a"), app.AsyncResult("b")]).save(backend=app.backend)
        restored = await aioresult.GroupResult.restore("group", backend)
        assert restored is not None
        assert (restored.id, [member.id for member in restored], restored.parent) == ("group", ["a", "b"], None)


@pytest.mark.parametrize("settings", [{}, {"timezone": "Asia/Tokyo"}, {"enable_utc": False}], ids=str)
async def test_celerys_dates_are_the_moments_at_which_they_were_written(
    url: str, celery_app: Worker, settings: dict[str, Any]
) -> None:
    async with Backend(url, **settings) as backend:
        await backend.store_result("ours", 1, "SUCCESS")
        with celery_app(**settings) as app:
            app.backend.store_result("celerys", 1, "SUCCESS", request=request("celerys"))
        ours, celerys = await backend.fetch("ours"), await backend.fetch("celerys")
    assert ours.date_done is not None
    assert celerys.date_done is not None
    assert abs((celerys.date_done - ours.date_done).total_seconds()) < PATIENCE


async def test_documents_of_real_workers_are_all_readable(url: str, tasks: Collection) -> None:
    documents = json_util.loads(json.dumps(VECTORS["celery_taskmeta"]["docs"]))
    tasks.insert_many(documents)
    async with Backend(url, result_expires=None) as backend:
        records = await backend._runtime.store.get_many([document["_id"] for document in documents])
    for document in documents:
        check(records[document["_id"]], document)


def check(record: Record, document: Document) -> None:
    """Compare what was read with the document, whose result is JSON."""
    assert record.error is None
    assert (record.status, record.children) == (document["status"], document["children"])
    assert record.group_id == document.get("group_id")
    stored = json.loads(document["result"])
    if record.status not in ("FAILURE", "RETRY", "REVOKED"):
        assert type(record.result) is type(stored) or "__type__" in document["result"]
    elif isinstance(record.result, RemoteTaskError):
        assert record.result.exc_type in document["result"]
    elif stored is not None:
        assert type(record.result).__name__ in stored["exc_type"]
