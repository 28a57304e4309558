"""An unmodified Celery client, in a process of its own, and the Redis store understand each other both ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aioresult import Backend, RemoteTaskError
from aioresult.testing.conformance import eventually, fresh_id
from tests.programs import Program

PATIENCE = 30

CELERY = """
import json, sys
import celery
from celery.result import AsyncResult, GroupResult

def get(task_id):
    try:
        return AsyncResult(task_id, app=app).get(timeout=30)
    except Exception as exc:
        return repr(exc)

def store(*args):
    app.backend.store_result(*args)

def restore(group_id):
    return [member.id for member in GroupResult.restore(group_id, app=app).results]

def save(group_id, ids):
    GroupResult(group_id, [AsyncResult(task_id, app=app) for task_id in ids], app=app).save()

app = celery.Celery(broker="memory://", backend=sys.argv[1], set_as_current=False)
print(json.dumps(globals()[sys.argv[2]](*json.loads(sys.argv[3]))))
"""


@pytest_asyncio.fixture
async def backend(redis_url: str) -> AsyncIterator[Backend]:
    async with Backend(redis_url) as backend:
        yield backend


async def celery(redis_url: str, function: str, *args: Any) -> Any:
    """Call a function of the script above in a new process."""
    async with Program("tests.statements", CELERY, redis_url, function, json.dumps(args)) as program:
        output = await program.line()
        assert await program.ended() == 0
    return json.loads(output)


async def subscribed(client: Redis, task_id: str) -> bool:
    return bool(await client.pubsub_channels(f"*{task_id}"))


async def test_what_is_stored_here_wakes_celerys_client(redis_url: str, client: Redis, backend: Backend) -> None:
    done, failed = fresh_id(), fresh_id()
    waiting = [asyncio.create_task(celery(redis_url, "get", task_id)) for task_id in (done, failed)]
    for task_id in (done, failed):
        await eventually(partial(subscribed, client, task_id))
    await backend.update_state(done, "PROGRESS", {"current": 1})
    await backend.store_result(done, {"value": [1, "zwei"]}, "SUCCESS")
    await backend.mark_as_failure(failed, KeyError("missing"))
    assert await asyncio.gather(*waiting) == [{"value": [1, "zwei"]}, "KeyError('missing')"]


async def test_what_celery_stores_wakes_us(redis_url: str, backend: Backend) -> None:
    done, failed = backend.AsyncResult(fresh_id()), backend.AsyncResult(fresh_id())
    waiting = [asyncio.create_task(result.get(timeout=PATIENCE)) for result in (done, failed)]

    async def watched() -> bool:
        return backend.stats().watched == 2

    await eventually(watched)
    await celery(redis_url, "store", done.id, {"value": 1}, "SUCCESS")
    await celery(redis_url, "store", failed.id, {"exc_type": "X", "exc_message": [1], "exc_module": "m"}, "FAILURE")
    assert await waiting[0] == {"value": 1}
    with pytest.raises(RemoteTaskError, match="X"):
        await waiting[1]


async def test_celerys_success_is_not_replaced(redis_url: str, backend: Backend) -> None:
    task_id = fresh_id()
    await celery(redis_url, "store", task_id, 1, "SUCCESS")
    assert not await backend.store_result(task_id, 2, "SUCCESS")
    assert not await backend.mark_as_started(task_id)
    assert await celery(redis_url, "get", task_id) == 1


async def test_groups_are_saved_for_each_other(redis_url: str, backend: Backend) -> None:
    ours, theirs, ids = fresh_id(), fresh_id(), [fresh_id() for _ in range(3)]
    await backend.GroupResult(ours, [backend.AsyncResult(task_id) for task_id in ids]).save()
    assert await celery(redis_url, "restore", ours) == ids
    await celery(redis_url, "save", theirs, ids)
    found = await backend.restore_group(theirs)
    assert found is not None
    assert [member.id for member in found.results] == ids
