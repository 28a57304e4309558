"""``revoke`` and ``revoke_by_stamped_headers``: what workers of each pool then store, and that whoever waits ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, group

from aioresult import AsyncResult, Backend, GroupResult, TaskRevokedError
from aioresult.integrations.celery import apply_async, revoke, revoke_by_stamped_headers
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer

WAIT = 30.0
POOLS = ["prefork", "threads", "gevent"]
REPLY: dict[str, Any] = {"reply": True, "timeout": WAIT, "limit": 1}


class Release:
    """A file for which held tasks wait."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.now = path.touch


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path / "release")


@pytest.fixture(scope="module", params=["", "aioresult+"], ids=["stock", "plugin"])
def settings(request: pytest.FixtureRequest, celery_redis: RedisServer, places: Places) -> dict[str, Any]:
    place = request.param + places.url("redis")
    # What a worker has fetched ahead is in its pool already; threads and greenlets execute that, revoked or not.
    none_ahead = {"worker_prefetch_multiplier": 1, "task_acks_late": True}
    return {**broker_settings(celery_redis, f"revoking{len(request.param)}_"), "backend": place, **none_ahead}


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(pool: str, settings: dict[str, Any]) -> Iterator[Worker]:
    """A worker that executes one task at a time."""
    with Worker(pool=pool, concurrency=1, **settings) as worker:
        yield worker


@pytest.fixture
def app(settings: dict[str, Any], worker: Worker) -> Iterator[Celery]:
    with application(**settings) as app:
        yield app


async def begun(result: AsyncResult[Any]) -> None:
    """Wait until a task that holds has begun."""
    async for record in result.updates(timeout=WAIT):
        if record.status == "HOLDING":
            return
    pytest.fail("it has ended")


async def held(app: Celery, backend: Backend, until: Release, **options: Any) -> AsyncResult[str]:
    """Return the result of a running task, which has emitted one item."""
    result = await apply_async(app.tasks["tests.say_and_hold"], (300, until.path), backend=backend, **options)
    assert isinstance(result, AsyncResult)
    await begun(result)
    return result


async def reading(result: AsyncResult[Any]) -> list[Any]:
    """Return what the stream of a task that is revoked has given before its end."""
    items: list[Any] = []
    try:
        async for item in result.stream(timeout=WAIT):
            items.append(item.value)  # noqa: PERF401  (also what came before the error)
    except TaskRevokedError:
        return items
    pytest.fail("the stream has ended without an error")


async def is_revoked(result: AsyncResult[Any], reason: str) -> None:
    with pytest.raises(TaskRevokedError) as caught:
        await result.get(timeout=WAIT)
    assert caught.value.args == (reason,)


class TestATaskThatHasNotBegun:
    async def test_is_stored_as_revoked_and_never_runs(self, app: Celery, backend: Backend, release: Release) -> None:
        running = await held(app, backend, release)
        result = await apply_async(app.tasks["tests.say_and_hold"], (300,), backend=backend)
        assert isinstance(result, AsyncResult)
        waiting = asyncio.create_task(is_revoked(result, "revoked"))
        stream = asyncio.create_task(reading(result))
        replies = await revoke(result, app=app, **REPLY)
        assert replies is not None
        assert [str(said) for reply in replies for said in reply.values() if result.id in str(said["ok"])]
        release.now()
        await waiting
        assert await stream == []
        assert await running.get(timeout=WAIT) == "held"
        assert (await asyncio.to_thread(lambda: app.AsyncResult(result.id).state)) == "REVOKED"

    async def test_is_revoked_together_with_others(self, app: Celery, backend: Backend, release: Release) -> None:
        await held(app, backend, release)
        task = app.tasks["tests.hold"]
        many = await apply_async(group(task.s(300) for _ in range(2)), backend=backend)
        single = await apply_async(task, (300,), backend=backend)
        again = await apply_async(task, (300,), backend=backend)
        assert isinstance(many, GroupResult)
        assert isinstance(single, AsyncResult)
        assert isinstance(again, AsyncResult)
        await revoke([many, single, again.id], app=app, **REPLY)
        release.now()
        for result in (*many.leaves(), single, again):
            await is_revoked(result, "revoked")

    async def test_is_revoked_by_its_stamps(self, app: Celery, backend: Backend, release: Release) -> None:
        await held(app, backend, release)
        task = app.tasks["tests.hold"].s(0)
        customer = str(uuid4())
        results = []
        for stamp in (customer, "another"):
            stamped = task.clone()
            stamped.stamp(customer=stamp)
            results.append(await apply_async(stamped, backend=backend))
        revoked, other = results
        assert isinstance(revoked, AsyncResult)
        waiting = asyncio.create_task(is_revoked(revoked, "revoked"))
        assert await revoke_by_stamped_headers({"customer": [customer]}, app=app, **REPLY)
        release.now()
        await waiting
        assert await other.get(timeout=WAIT) == "held"


class TestARunningTask:
    async def test_goes_on_if_it_is_not_to_be_terminated(self, app: Celery, backend: Backend, release: Release) -> None:
        result = await held(app, backend, release)
        assert await revoke(result.id, app=app, **REPLY)
        release.now()
        assert await result.get(timeout=WAIT) == "held"

    async def test_is_terminated_where_the_pool_can_do_that(
        self, pool: str, app: Celery, backend: Backend, release: Release
    ) -> None:
        result = await held(app, backend, release)
        await ends_or_goes_on(pool, result, release, lambda **reply: revoke(result, None, True, app=app, **reply))
        assert await apply_and_wait(app, backend) == 3, "the worker goes on"

    async def test_is_terminated_by_its_stamps_and_with_another_signal(
        self, pool: str, app: Celery, backend: Backend, release: Release
    ) -> None:
        customer = str(uuid4())
        stamped = app.tasks["tests.say_and_hold"].s(300, release.path)
        stamped.stamp(customer=customer)
        result = await apply_async(stamped, backend=backend)
        assert isinstance(result, AsyncResult)
        await begun(result)
        await ends_or_goes_on(
            pool,
            result,
            release,
            lambda **reply: revoke_by_stamped_headers(
                {"customer": customer}, terminate=True, signal="SIGKILL", app=app, **reply
            ),
        )


async def ends_or_goes_on(
    pool: str, result: AsyncResult[Any], release: Release, terminate: Callable[..., Awaitable[Any]]
) -> None:
    """Assert that those who wait for a running task are told of its end; threads cannot be ended, and say so."""
    if pool == "threads":
        assert "does not implement" in str(await terminate(**REPLY))
        release.now()
        assert await result.get(timeout=WAIT) == "held"
        return
    waiting = asyncio.create_task(is_revoked(result, "terminated"))
    stream = asyncio.create_task(reading(result))
    assert await terminate() is None
    await waiting
    assert await stream == ["begun"]


async def apply_and_wait(app: Celery, backend: Backend) -> Any:
    return await (await apply_async(app.tasks["tests.add"], (1, 2), backend=backend)).get(timeout=WAIT)
