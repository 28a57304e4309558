"""``emit`` in Celery tasks: with Celery's own backends and with the plugin, in every pool, and for retried tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from aioresult import AioResultError, AsyncResult
from aioresult.integrations.celery import apply_async, backend_from_app, emit
from aioresult.stream import Cursor
from aioresult.testing.streams import read
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer

WAIT = 30.0
POOLS = [("prefork", 2), ("threads", 4), ("gevent", 4)]


@pytest.fixture(scope="module", params=["", "aioresult+"], ids=["stock", "plugin"])
def settings(request: pytest.FixtureRequest, celery_redis: RedisServer, places: Places) -> dict[str, Any]:
    place = request.param + places.url("redis")
    return {**broker_settings(celery_redis, f"streams{len(request.param)}_"), "backend": place}


@pytest.fixture(scope="module", params=POOLS, ids=[pool for pool, _ in POOLS])
def worker(request: pytest.FixtureRequest, settings: dict[str, Any]) -> Iterator[Worker]:
    pool, concurrency = request.param
    with Worker(pool=pool, concurrency=concurrency, **settings) as worker:
        yield worker


@pytest.fixture
def app(settings: dict[str, Any], worker: Worker) -> Iterator[Celery]:
    with application(**settings) as app:
        yield app


async def test_what_a_task_emits_reaches_its_readers_before_its_end(app: Celery) -> None:
    async with backend_from_app(app) as backend:
        results = [await apply_async(app.tasks["tests.say"].s(n, 20), backend=backend) for n in range(3)]
        streams = await asyncio.gather(*(read(backend, result.id, timeout=WAIT) for result in results))
        assert streams == [[(i + 1, [n, i]) for i in range(20)] for n in range(3)]
        assert [await result.get(timeout=WAIT) for result in results] == [20, 20, 20]


async def test_a_retried_task_goes_on_numbering_and_says_which_attempt_it_is(app: Celery) -> None:
    async with backend_from_app(app) as backend:
        result = await apply_async(app.tasks["tests.say_and_retry"].s(), backend=backend)
        assert isinstance(result, AsyncResult)
        items = [item async for item in result.stream(timeout=WAIT)]
        assert [(item.seq, item.value, item.attempt) for item in items] == [(1, "a", 0), (2, "b", 0), (3, "a", 1)]
        assert await result.get(timeout=WAIT) == "after 1"


async def test_a_task_that_ignores_its_result_has_no_stream(app: Celery) -> None:
    async with backend_from_app(app) as backend:
        signature = app.tasks["tests.say"].s(0, 3).set(ignore_result=True)
        ignored = await apply_async(signature, backend=backend)
        after = await apply_async(app.tasks["tests.say"].s(1, 3), backend=backend)
        assert await after.get(timeout=WAIT) == 3
        assert (await backend._runtime.batcher.read_stream(Cursor(ignored.id, 0, 0))).last == 0


def test_outside_of_a_task_emit_says_what_else_to_use() -> None:
    with pytest.raises(AioResultError, match=r"Backend\.append"):
        emit(1)
