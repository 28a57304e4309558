"""``revoke`` of results of ``aioresult.sync`` with ``app=``: what workers are told, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import celery.result
import pytest
from celery import Celery

from aioresult import Unsupported, WouldBlockLoop, sync
from aioresult.integrations.celery import BrokerUnavailable, revoking
from aioresult.sync.surroundings import fulfil
from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.tasks import make_app
from tests.integrations.celery.workers import Worker, application, close
from tests.servers import RedisServer, TcpProxy
from tests.servers.process import HOST
from tests.sync.test_gevent import PATCHED
from tests.sync.test_portal import run_script

WAIT = 30.0
SOON = 0.3

Heard = Callable[[], dict[str, Any]]


@pytest.fixture
def app(celery_redis: RedisServer) -> Iterator[Celery]:
    with application(broker="memory://", backend=celery_redis.url) as app:
        yield app
        sync.AsyncResult("any", app=app).backend.close()


@contextmanager
def listening(app: Celery) -> Iterator[Heard]:
    """Yield a function that returns the next command that workers get."""
    with app.connection_for_read() as connection:
        node = app.control.mailbox(connection).Node(f"{uuid.uuid4()}@here", channel=connection.default_channel)
        heard: list[dict[str, Any]] = []
        with node.Consumer() as consumer:
            consumer.register_callback(lambda body, _message: heard.append(body))

            def hear() -> dict[str, Any]:
                while not heard:
                    connection.drain_events(timeout=WAIT)
                return heard.pop()

            yield hear


# Each as code that was written for ``celery.result`` says it.
COMMANDS: dict[str, Callable[[ModuleType, Celery], object]] = {
    "revoke": lambda module, app: module.AsyncResult("a", app=app).revoke(),
    "terminate": lambda module, app: module.AsyncResult("a", app=app).revoke(None, True, "SIGKILL"),
    "replies": lambda module, app: module.AsyncResult("a", app=app).revoke(wait=True, timeout=0.01),
    "headers": lambda module, app: module.AsyncResult("a", app=app).revoke_by_stamped_headers(
        {"customer": ["7"]}, terminate=True
    ),
    "group": lambda module, app: module.GroupResult("g", [module.AsyncResult(each, app=app) for each in "ab"]).revoke(
        signal="SIGINT"
    ),
}


@pytest.mark.parametrize("how", COMMANDS)
def test_the_workers_are_told_what_celerys_results_tell_them(app: Celery, how: str) -> None:
    told = []
    with listening(app) as hear:
        for module in (celery.result, sync):
            COMMANDS[how](module, app)
            command = hear()
            assert bool(command.pop("ticket", None)) == bool(command.pop("reply_to", None)) == (how == "replies")
            told.append(command)
    assert told[0] == told[1]


def test_a_nested_group_is_revoked_by_the_ids_of_its_tasks(app: Celery) -> None:
    results = [sync.AsyncResult(task_id, app=app) for task_id in "abc"]
    with listening(app) as hear:
        sync.GroupResult("outer", [results[0], sync.GroupResult("inner", results[1:])]).revoke()
        assert hear()["arguments"]["task_id"] == ["a", "b", "c"]


def test_a_connection_that_is_given_is_used_and_stays_open(app: Celery) -> None:
    with app.connection_for_write() as connection, listening(app) as hear:
        sync.AsyncResult("a", app=app).revoke(connection)
        assert hear()["arguments"]["task_id"] == "a"
        assert connection.connected
    assert app._pool is None, "none of the application's own"


def test_replies_are_returned_and_are_not_waited_for_without_end(celery_redis: RedisServer) -> None:
    settings = {**broker_settings(celery_redis, "sync-revoking-"), "backend": celery_redis.url}
    with Worker(**settings) as worker, application(**worker.settings) as app:
        result = sync.AsyncResult("a", app=app)
        (reply,) = result.revoke(wait=True)
        assert "flagged as revoked" in str(reply)
        result.backend.close()


def test_a_reason_is_refused_where_workers_are_told(app: Celery) -> None:
    with pytest.raises(Unsupported, match="without app="):
        sync.AsyncResult("t", app=app).revoke(reason="enough")


async def test_revoking_does_not_block_a_loop(app: Celery) -> None:
    with pytest.raises(WouldBlockLoop):
        sync.AsyncResult("t", app=app).revoke()
    with pytest.raises(WouldBlockLoop):
        sync.AsyncResult("t", app=app).revoke_by_stamped_headers({"customer": "7"})


# --- brokers that are away --------------------------------------------------------------------------------------------

REVOKE: dict[str, Callable[[Celery], object]] = {
    "revoke": lambda app: sync.AsyncResult("t", sync.Backend("memory://"), app=app).revoke(),
    "replies": lambda app: sync.AsyncResult("t", sync.Backend("memory://"), app=app).revoke(wait=True, timeout=SOON),
    "headers": lambda app: sync.AsyncResult("t", sync.Backend("memory://"), app=app).revoke_by_stamped_headers(
        {"customer": "7"}
    ),
}


async def in_a_thread(call: Callable[[], object]) -> None:
    """Call in a thread that may be left behind: one that waits for ever must fail its test, and not hang it."""
    future: Future[object] = Future()
    threading.Thread(target=fulfil, args=(future, call), daemon=True).start()
    async with asyncio.timeout(WAIT):
        await asyncio.wrap_future(future)


@pytest.mark.parametrize("how", REVOKE)
async def test_it_is_given_up_where_the_broker_falls_silent_on_a_pooled_connection(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with RedisServer(password="secret") as broker:
        async with TcpProxy(broker.url) as proxy:
            app = make_app(broker=proxy.url, backend="disabled")
            await in_a_thread(lambda: REVOKE[how](app))
            monkeypatch.setattr(revoking, "PUBLISH_TIMEOUT", SOON)
            proxy.freeze()
            with pytest.raises(BrokerUnavailable, match=r"did not take it within 0\.3 s") as caught:
                await in_a_thread(lambda: REVOKE[how](app))
            monkeypatch.undo()
            await proxy.resume()
            await in_a_thread(lambda: REVOKE[how](app))
            await in_a_thread(lambda: close(app))  # the proxy needs the loop meanwhile
    assert f"the broker at redis://{HOST}:{proxy.port}/0" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("how", REVOKE)
def test_it_is_given_up_where_the_broker_is_down_and_works_when_it_is_back(how: str) -> None:
    with RedisServer(password="secret") as broker, application(broker=broker.url, backend=None) as app:
        REVOKE[how](app)
        broker.stop()
        with pytest.raises(BrokerUnavailable, match=r"cannot be reached: .*; it was not sent") as caught:
            REVOKE[how](app)
        assert "secret" not in str(caught.value)
        broker.start()
        REVOKE[how](app)


PATCHED_CLIENT = (
    PATCHED
    + """
import gevent, json, sys
from aioresult import sync
from aioresult.integrations.celery import BrokerUnavailable, revoking
from tests.integrations.celery.tasks import make_app
from tests.integrations.celery.workers import close

app = make_app(**json.loads(sys.argv[1]))
add = app.tasks["tests.add"]
waiting = add.delay(2, 3)  # the connection to the broker is made in this thread
result = sync.AsyncResult(waiting.id, app=app)
result.revoke()
assert result.revoke(wait=True, timeout=0.01) == []

turns = 0
def count():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)
counting = gevent.spawn(count)
app.control.broadcast = lambda *_, **__: gevent.sleep(60)
revoking.PUBLISH_TIMEOUT = 0.3
try:
    result.revoke()
except BrokerUnavailable as exc:
    assert "did not take it within 0.3 s" in str(exc)
assert turns > 5, "no other greenlet went on"
counting.kill()
result.backend.close()
close(app)
print("done")
"""
)


def test_under_gevent_other_greenlets_go_on(celery_redis: RedisServer) -> None:
    settings = {**broker_settings(celery_redis, f"{uuid.uuid4()}-"), "backend": celery_redis.url}
    assert run_script(PATCHED_CLIENT, json.dumps(settings)) == "done\n"
