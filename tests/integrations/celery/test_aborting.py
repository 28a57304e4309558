"""Tasks of ``celery.contrib.abortable``: aborted through aioresult, and awaited until they have really ended."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.abortable import AbortableAsyncResult

from aioresult import ABORTED, AsyncResult, Backend, ResultTimeout, sync
from aioresult.integrations.celery import abort, apply_async, backend_from_app
from aioresult.integrations.celery.backends import shared_backend
from tests.integrations.celery.conftest import STORES, Places, broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer

WAIT = 30.0
STEPS = 3000
PLACES = [*STORES, "aioresult+redis"]


@pytest.fixture(scope="module", params=PLACES)
def settings(request: pytest.FixtureRequest, celery_redis: RedisServer, places: Places) -> dict[str, Any]:
    plugin, _, store = request.param.rpartition("+")
    place = f"{plugin}{plugin and '+'}{places.url(store)}"
    return {**broker_settings(celery_redis, f"aborting-{request.param}-"), "backend": place}


@pytest.fixture(scope="module")
def worker(settings: dict[str, Any]) -> Iterator[Worker]:
    with Worker(pool="threads", concurrency=4, **settings) as worker:
        yield worker


@pytest.fixture
def app(settings: dict[str, Any], worker: Worker) -> Iterator[Celery]:
    with application(**settings) as app:
        yield app


async def working(app: Celery, backend: Backend, then: str, **options: Any) -> AsyncResult[Any]:
    """Return the result of a running task, which works until it is aborted."""
    task = app.tasks["tests.work_until_aborted"]
    result = await apply_async(task, (STEPS, then), backend=backend, **options)
    assert isinstance(result, AsyncResult)
    async for item in result.stream(timeout=WAIT):
        assert item.value == "begun"
        break
    return result


async def test_an_aborted_task_is_awaited_until_it_has_ended(app: Celery, backend: Backend) -> None:
    result = await working(app, backend, "return")
    waiting = asyncio.create_task(result.get(timeout=WAIT))
    states = asyncio.create_task(states_of(result))
    stream = asyncio.create_task(items_of(result))
    assert await abort(result)
    assert await waiting == "aborted"
    assert (await states)[-1] == "SUCCESS"
    assert await stream == ["begun", "aborted"]
    assert await asyncio.to_thread(app.AsyncResult(result.id).get) == "aborted", "as Celery's client has it"
    assert not await abort(result), "it is final"
    assert await result.status() == "SUCCESS"


async def states_of(result: AsyncResult[Any]) -> list[str]:
    return [record.status async for record in result.updates(timeout=WAIT)]


async def items_of(result: AsyncResult[Any]) -> list[Any]:
    return [item.value async for item in result.stream(timeout=WAIT)]


async def test_a_task_may_fail_because_it_was_aborted(app: Celery, backend: Backend) -> None:
    result = await working(app, backend, "fail")
    await abort(result.id, backend=backend)
    with pytest.raises(ValueError, match="aborted"):
        await result.get(timeout=WAIT)


async def test_a_task_that_ends_by_ignore_stays_aborted_as_in_celery(app: Celery, backend: Backend) -> None:
    result = await working(app, backend, "ignore")
    assert await abort(result, app=app)
    async for item in result.stream(after=1, timeout=WAIT):
        assert item.value == "aborted"
        break
    record = await result.fetch()
    assert (record.status, record.ready, record.result) == (ABORTED, False, None)
    with pytest.raises(ResultTimeout):
        await result.get(timeout=0)
    await shared_backend(app).aclose()


async def test_it_is_told_although_its_result_is_ignored(app: Celery, backend: Backend) -> None:
    async with backend_from_app(app, task_ignore_result=True) as ignoring:
        result = await working(app, backend, "return")
        assert await abort(AsyncResult(result.id, ignoring))
        assert await result.get(timeout=WAIT) == "aborted"


async def test_what_is_stored_is_what_celerys_own_client_stores(app: Celery, backend: Backend) -> None:
    ours, theirs = AsyncResult[Any]("ours", backend), AsyncResult[Any]("theirs", backend)
    await abort(ours)
    await asyncio.to_thread(AbortableAsyncResult("theirs", app=app).abort)
    assert await asyncio.to_thread(AbortableAsyncResult("ours", app=app).is_aborted)
    seen, expected = await ours.fetch(), await theirs.fetch()
    assert (seen.status, seen.result, seen.traceback, seen.date_done) == (ABORTED, None, None, None)
    assert (seen.status, seen.result, seen.traceback, seen.date_done) == (
        expected.status,
        expected.result,
        expected.traceback,
        expected.date_done,
    )
    await asyncio.gather(ours.forget(), theirs.forget())


def test_blocking_code_changes_the_import(app: Celery) -> None:
    task = app.tasks["tests.work_until_aborted"]
    result = sync.AbortableAsyncResult[Any](task.delay(STEPS, "return").id, app=app)
    next(iter(result.stream(timeout=WAIT)))
    assert not result.is_aborted()
    assert result.abort()
    assert result.get(timeout=WAIT) == "aborted"
    assert not result.is_aborted()
    assert not result.abort()
    sync.Backend(result.mirrored.backend).close()


def test_a_copy_is_abortable_too() -> None:
    result = sync.AbortableAsyncResult[Any]("t")
    for again in (copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert isinstance(again, sync.AbortableAsyncResult)
        assert again == result
