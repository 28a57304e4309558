"""Workers, clients, brokers and stores are killed: nobody waits beyond the timeout, and the error says why."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from aioresult import AsyncResult, Backend, RemoteTaskError, ResultTimeout
from aioresult.integrations.celery import BrokerUnavailable, apply_async, backend_from_app
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.programs import Program
from tests.servers import RedisServer

WAIT = 30.0
CLIENT = """
import asyncio, sys
from aioresult import AsyncResult, Backend

async def main(url, task_id):
    async with Backend(url) as backend:
        async for record in AsyncResult(task_id, backend).updates(timeout=30):
            print(record.status, record.result, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def broker_server() -> Iterator[RedisServer]:
    """A broker of the test's own, which keeps its messages when it is killed."""
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture(params=["redis", "aioresult+redis", "aioresult+sqlite"])
def settings(
    request: pytest.FixtureRequest,
    places: Places,
    broker_server: RedisServer,
    celery_redis: RedisServer,
    keyprefix: str,
) -> dict[str, Any]:
    """Settings of an application without the plugin and with it."""
    plugin, _, store = request.param.rpartition("+")
    return {
        **broker_settings(broker_server, keyprefix),
        "backend": f"{plugin}{'+' if plugin else ''}{places.url(store)}",
        "task_track_started": True,
    }


@pytest.fixture
def worker(settings: dict[str, Any]) -> Iterator[Worker]:
    with Worker(pool="prefork", concurrency=1, **settings) as worker:
        yield worker


@pytest.fixture
def app(settings: dict[str, Any]) -> Iterator[Celery]:
    with application(**settings) as app:
        yield app


async def reaches(result: AsyncResult[Any], state: str) -> Any:
    """Wait for a state, and return what is told with it."""
    async for record in result.updates(timeout=WAIT):
        if record.status == state:
            return record.result
    raise AssertionError(f"ended without {state}")


async def start(app: Celery, backend: Backend, name: str, *args: Any) -> tuple[AsyncResult[Any], int]:
    """Publish a task that holds, and return its result and the process that runs it, once it does."""
    result = await apply_async(app.tasks[f"tests.{name}"], args, backend=backend)
    assert isinstance(result, AsyncResult)
    meta = await reaches(result, "HOLDING")
    return result, meta["pid"]


async def test_a_killed_pool_process_is_a_failure_that_says_so(worker: Worker, app: Celery, backend: Backend) -> None:
    result, pid = await start(app, backend, "hold", 600)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RemoteTaskError, match=r"WorkerLostError.*SIGKILL"):
        await result.get(timeout=WAIT)


async def test_a_killed_worker_is_a_timeout_and_the_last_state_stays(
    worker: Worker, app: Celery, backend: Backend
) -> None:
    result, pid = await start(app, backend, "hold", 600)
    waiting = asyncio.create_task(result.get(timeout=1.0))
    worker.kill()
    with pytest.raises(ResultTimeout, match=f"{result.id}.*not ready within 1 s"):
        await waiting
    record = await result.fetch()
    assert (record.status, record.result) == ("HOLDING", {"pid": pid})


async def test_a_task_that_another_worker_takes_over_ends_the_same_wait(
    settings: dict[str, Any], app: Celery, backend: Backend, tmp_path: Path
) -> None:
    released = tmp_path / "released"
    settings["broker_transport_options"].update(
        visibility_timeout=1,
        unacked_restore_interval=1,
        unacked_restore_throttle=1,
        unacked_mutex_expire=1,  # the lock for restoring, with which in its hands a worker may be killed
    )
    with Worker(pool="prefork", concurrency=1, **settings) as first:
        result, _ = await start(app, backend, "hold_late", 600, str(released))
        waiting = asyncio.create_task(result.get(timeout=60))
        first.kill()
    released.touch()
    with Worker(pool="prefork", concurrency=1, **settings):
        assert await waiting == "held"


async def test_a_client_that_was_killed_waits_on_when_it_is_started_again(
    worker: Worker, app: Celery, backend: Backend, settings: dict[str, Any], tmp_path: Path
) -> None:
    released = tmp_path / "released"
    result, pid = await start(app, backend, "hold", 600, str(released))
    command = ["tests.statements", CLIENT, settings["backend"], result.id]
    async with Program(*command) as client:
        assert await client.line() == f"HOLDING {{'pid': {pid}}}"
        client.process.send_signal(signal.SIGKILL)
        assert await client.ended() == -signal.SIGKILL
    released.touch()
    async with Program(*command) as client:
        while (line := await client.line()) and not line.startswith("SUCCESS"):
            pass
        assert line == "SUCCESS held"
        assert await client.ended() == 0


async def test_a_broker_that_is_killed_neither_ends_a_wait_nor_outlasts_its_restart(
    worker: Worker, app: Celery, backend: Backend, broker_server: RedisServer
) -> None:
    result, _ = await start(app, backend, "hold", 10)
    await asyncio.to_thread(broker_server.kill)
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{broker_server.port}"):
        await apply_async(app.tasks["tests.add"], (1, 2), backend=backend)
    assert await result.get(timeout=WAIT) == "held"
    await asyncio.to_thread(broker_server.start)
    after = await apply_async(app.tasks["tests.add"], (1, 2), timeout=WAIT, backend=backend)
    assert await after.get(timeout=WAIT) == 3


# Celery's own client leaves the socket of a lost connection to the garbage collector.
LOST_SOCKETS = pytest.mark.filterwarnings(
    "ignore:Exception ignored .*<socket.socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.parametrize(
    ("plugin", "retries"),
    [
        pytest.param("aioresult+", {}, id="plugin"),
        pytest.param("", {"result_backend_always_retry": True}, id="stock", marks=LOST_SOCKETS),  # gives up without
    ],
)
async def test_a_store_that_is_killed_gets_the_result_once_it_is_back(
    plugin: str, retries: dict[str, Any], broker_server: RedisServer, keyprefix: str, tmp_path: Path
) -> None:
    with RedisServer(persistent=True) as store:
        settings = {**broker_settings(broker_server, keyprefix), "backend": f"{plugin}{store.url}", **retries}
        with Worker(pool="prefork", concurrency=1, **settings), application(**settings) as app:
            async with backend_from_app(app) as backend:
                released = tmp_path / "released"
                result, _ = await start(app, backend, "hold", 600, str(released))
                assert await asyncio.to_thread(lambda: app.AsyncResult(result.id).state) == "HOLDING"
                blocked = asyncio.create_task(asyncio.to_thread(app.AsyncResult(result.id).get, timeout=WAIT))
                await asyncio.to_thread(store.kill)
                released.touch()
                with pytest.raises(ResultTimeout, match=f"the store is unavailable.*{store.port}"):
                    await result.get(timeout=1)
                await asyncio.to_thread(store.start)
                assert await result.get(timeout=WAIT) == "held"
                assert await blocked == "held"
