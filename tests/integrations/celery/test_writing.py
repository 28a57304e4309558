"""What aioresult stores, an unmodified Celery client reads; groups saved by either side are restored by the other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult as CeleryResult
from celery.result import GroupResult as CeleryGroup
from celery.result import result_from_tuple

from aioresult import Backend, GroupResult
from aioresult.integrations.celery import backend_from_app
from aioresult.testing.conformance import eventually
from tests.integrations.celery.comparing import by_aioresult, by_celery, in_milliseconds, lineage
from tests.integrations.celery.conftest import STORES, Places
from tests.integrations.celery.tasks import PLAIN, VALUES, Rejected
from tests.integrations.celery.workers import application
from tests.servers import RedisServer

WAIT = 20.0


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["json", "pickle", "msgpack", "yaml"])
def serializer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def app(store: str, serializer: str, places: Places) -> Iterator[Celery]:
    with application(
        broker="memory://", backend=places.url(store), result_serializer=serializer, result_extended=True
    ) as app:
        yield app


@pytest.fixture
async def backend(app: Celery) -> AsyncIterator[Backend]:
    async with backend_from_app(app) as backend:
        yield backend


def fresh() -> str:
    return str(uuid.uuid4())


@pytest.mark.slow
async def test_reads_all_that_aioresult_has_stored(app: Celery, backend: Backend, store: str, serializer: str) -> None:
    child = ((fresh(), None), None)
    stored: list[tuple[Any, str, dict[str, Any]]] = [
        (
            VALUES[serializer],
            "SUCCESS",
            {"children": [child], "name": "tasks.one", "args": [1, "x"], "kwargs": {"k": None}},
        ),
        (PLAIN, "SUCCESS", {"worker": "w@host", "retries": 2, "queue": "celery"}),
        (None, "SUCCESS", {}),
        (ValueError("boom", 42), "FAILURE", {"traceback": "Traceback ...\nValueError: boom"}),
        (Rejected("no"), "FAILURE", {}),
        ({"done": 1, "of": 2}, "PROGRESS", {}),
        (KeyError("again"), "RETRY", {}),
    ]
    for value, state, meta in stored:
        task_id = fresh()
        assert await backend.store_result(task_id, value, state, **meta)
        ours = await by_aioresult(backend.AsyncResult(task_id))
        theirs = await asyncio.to_thread(by_celery, app.AsyncResult(task_id))
        assert theirs == (in_milliseconds(ours) if store == "mongodb" else ours)
    revoked = fresh()
    await backend.mark_as_revoked(revoked)
    assert await asyncio.to_thread(lambda: app.AsyncResult(revoked).state) == "REVOKED"


@pytest.mark.parametrize("serializer", ["json"], indirect=True)
async def test_a_success_is_kept_whichever_side_has_stored_it(app: Celery, backend: Backend) -> None:
    ours, theirs = fresh(), fresh()
    await backend.mark_as_done(ours, "ours")
    await asyncio.to_thread(app.backend.store_result, ours, "late", "STARTED")
    await asyncio.to_thread(app.backend.store_result, theirs, "theirs", "SUCCESS")
    assert not await backend.mark_as_started(theirs)
    assert await backend.AsyncResult(ours).get(timeout=0) == "ours"
    assert await asyncio.to_thread(app.AsyncResult(theirs).get) == "theirs"


async def test_groups_are_restored_by_the_other_side(app: Celery, backend: Backend, store: str) -> None:
    tree = ((fresh(), None), [((fresh(), None), None) for _ in range(3)])
    theirs: CeleryGroup = result_from_tuple(tree, app)
    await asyncio.to_thread(theirs.save)
    restored = await GroupResult.restore(theirs.id, backend)
    assert restored is not None
    assert lineage(restored) == lineage(theirs)

    ours = GroupResult(fresh(), [backend.AsyncResult(fresh()) for _ in range(3)], backend=backend)
    await ours.save()
    found = await asyncio.to_thread(CeleryGroup.restore, ours.id, app=app)
    assert [member.id for member in found] == [member.id for member in ours.leaves()]
    if store != "mongodb":  # there Celery itself keeps no more than a list
        assert lineage(found) == lineage(ours)


@pytest.mark.parametrize("serializer", ["json"], indirect=True)
@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
async def test_the_older_format_of_databases_is_read_too(app: Celery) -> None:
    async with backend_from_app(app, database_result_format="pickle") as older:
        task_id = fresh()
        await older.mark_as_done(task_id, PLAIN)
        assert await asyncio.to_thread(lambda: app.AsyncResult(task_id).result) == PLAIN
        ours = GroupResult(fresh(), [older.AsyncResult(fresh()) for _ in range(3)], backend=older)
        await ours.save()
        found = await asyncio.to_thread(CeleryGroup.restore, ours.id, app=app)
        assert isinstance(found, CeleryGroup)
        assert [member.id for member in found] == [member.id for member in ours.leaves()]
        async with backend_from_app(app) as newer:
            assert await newer.AsyncResult(task_id).get(timeout=0) == PLAIN
            assert lineage(await GroupResult.restore(ours.id, newer)) == lineage(ours)


async def test_wakes_a_client_that_blocks_on_redis(celery_redis: RedisServer) -> None:
    with application(broker="memory://", backend=celery_redis.url) as app:
        async with backend_from_app(app) as backend:
            task_id = fresh()
            blocked = asyncio.create_task(asyncio.to_thread(CeleryResult(task_id, app=app).get, timeout=WAIT))

            async def listens() -> bool:
                return celery_redis.call("PUBSUB", "NUMSUB", f"celery-task-meta-{task_id}")[-1] == 1  # type: ignore[index]  # a list

            await eventually(listens)
            await backend.mark_as_done(task_id, "pushed")
            assert await blocked == "pushed"
