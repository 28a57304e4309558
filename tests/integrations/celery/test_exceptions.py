"""Failures of Celery's workers keep their messages and their members, and stock clients read what aioresult stores."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery

from aioresult import Backend, RemoteTaskError, register_exception
from aioresult.codec import exceptions
from aioresult.integrations.celery import backend_from_app
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.tasks import Reading, Rejected, fail_http, fail_together, fail_validation
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer

WAIT = 20.0


@pytest.fixture(scope="module", params=["", "aioresult+"], ids=["stock", "plugin"])
def worker(request: pytest.FixtureRequest, places: Places, celery_redis: RedisServer) -> Iterator[Worker]:
    settings = broker_settings(celery_redis, f"exceptions-{request.param}-")
    with Worker(backend=f"{request.param}{places.url('redis')}", **settings) as worker:
        yield worker


@pytest.fixture
def app(worker: Worker) -> Iterator[Celery]:
    """A client of the worker's own kind."""
    with application(**worker.settings) as app:
        yield app


@pytest.fixture
async def backend(app: Celery) -> AsyncIterator[Backend]:
    async with backend_from_app(app) as backend:
        yield backend


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "_registered", {})
    register_exception(Rejected)


async def failure(app: Celery, backend: Backend, name: str) -> Any:
    published = app.tasks[f"tests.{name}"].delay()
    return await backend.AsyncResult(published.id).get(timeout=WAIT, propagate=False)


async def test_a_validation_error_says_what_is_wrong(app: Celery, backend: Backend) -> None:
    error = await failure(app, backend, "fail_validation")
    assert "1 validation error for Reading\nvalue\n  Input should be a valid integer" in str(error)


async def test_what_failed_together_is_caught_apart(app: Celery, backend: Backend, registered: None) -> None:
    caught: dict[str, list[BaseException]] = {}

    def flat(group: BaseExceptionGroup[Any]) -> list[BaseException]:
        return [e for m in group.exceptions for e in (flat(m) if isinstance(m, BaseExceptionGroup) else [m])]

    published = app.tasks["tests.fail_together"].delay()
    try:
        await backend.AsyncResult(published.id).get(timeout=WAIT)
    except* ValueError as group:
        caught["ValueError"] = flat(group)
    except* KeyError as group:
        caught["KeyError"] = flat(group)
    except* Rejected as group:
        caught["Rejected"] = flat(group)
    except* TypeError as group:
        caught["TypeError"] = flat(group)
    assert {name: [error.args for error in found] for name, found in caught.items()} == {
        "ValueError": [("boom", 42)],
        "KeyError": [("k",)],
        "Rejected": [("no", 1)],
        "TypeError": [("t",)],
    }


async def test_members_that_are_not_registered_are_described(app: Celery, backend: Backend) -> None:
    error = await failure(app, backend, "fail_together")
    described = error.exceptions[0]
    assert isinstance(described, RemoteTaskError)
    assert (described.exc_module, described.exc_type, described.exc_args) == (
        Rejected.__module__,
        "Rejected",
        ("no", 1),
    )


@pytest.mark.parametrize("worker", ["aioresult+"], ids=["plugin"], indirect=True)
def test_a_client_with_the_plugin_knows_the_members_classes_as_celery_knows_any(app: Celery) -> None:
    error = app.tasks["tests.fail_together"].delay().get(timeout=WAIT, propagate=False)
    assert isinstance(error, ExceptionGroup)
    kinds = {type(error) for error in (*error.exceptions, *error.exceptions[-1].exceptions)}
    assert {Rejected, ValueError, ExceptionGroup} <= kinds


@pytest.mark.parametrize("worker", ["aioresult+"], ids=["plugin"], indirect=True)
async def test_a_model_comes_back_from_a_worker_with_the_plugin(app: Celery, backend: Backend) -> None:
    published = app.tasks["tests.model"].delay()
    assert await backend.AsyncResult(published.id, result_type=Reading).get(timeout=WAIT) == Reading(value=7)


@pytest.mark.parametrize("fail", [fail_validation, fail_http, fail_together], ids=lambda fail: fail.__name__)
async def test_a_stock_client_reads_what_aioresult_stores(fail: Any, celery_redis: RedisServer) -> None:
    with application(broker="memory://", backend=celery_redis.url) as app:
        async with backend_from_app(app) as backend:
            task_id = str(uuid.uuid4())
            try:
                await asyncio.to_thread(fail)
            except Exception as exc:  # noqa: BLE001  (whatever the task fails with)
                await backend.mark_as_failure(task_id, exc)
                app.backend.store_result(f"{task_id}-celery", exc, "FAILURE", traceback="")
            ours, theirs = (app.AsyncResult(name) for name in (task_id, f"{task_id}-celery"))
            assert await asyncio.to_thread(lambda: ours.state) == "FAILURE"
            assert await asyncio.to_thread(lambda: repr(ours.result)) == await asyncio.to_thread(
                lambda: repr(theirs.result)
            )
            with pytest.raises(type(theirs.result)):
                await asyncio.to_thread(ours.get, timeout=WAIT)
