"""Celery under gevent: a worker of greenlets stores through the plugin, and a patched client waits for its results."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.workers import Worker
from tests.servers import RedisServer
from tests.sync.test_gevent import PATCHED
from tests.sync.test_portal import run_script

STORES = ["redis", "mongodb", "sqlite", "postgresql"]

CLIENT = (
    PATCHED
    + """
import gevent, json, sys
from celery import group
from gevent.event import Event
from tests.integrations.celery.tasks import make_app
from tests.integrations.celery.workers import close

app = make_app(**json.loads(sys.argv[1]))
add, sleep, fail = app.tasks["tests.add"], app.tasks["tests.sleep"], app.tasks["tests.fail"]

slow = [sleep.delay(0.5) for _ in range(20)]
waiting = [gevent.spawn(result.get, timeout=30) for result in slow]
ticks = 0
while not any(greenlet.ready() for greenlet in waiting):
    ticks += 1
    gevent.sleep(0.01)
assert ticks > 1, "no other greenlet went on"
gevent.joinall(waiting, raise_error=True)
assert [greenlet.value for greenlet in waiting] == [0.5] * 20

result = add.delay(2, 3)
assert result.get(timeout=30) == 5
assert app.AsyncResult(result.id).get(timeout=30) == 5
assert group(add.s(n, n) for n in range(10))().get(timeout=30) == [2 * n for n in range(10)]
try:
    fail.delay().get(timeout=30)
except ValueError as exc:
    assert exc.args == ("boom", 42)

called, values = Event(), []
later = sleep.delay(0.2)
def callback(result):
    values.append(result.get(timeout=30))
    values.append(add.delay(1, 1).get(timeout=30))  # waits in its turn
    called.set()
later.then(callback)
assert called.wait(30) and values == [0.2, 2]
close(app)
print("done")
"""
)


@pytest.fixture(scope="module", params=STORES)
def worker(request: pytest.FixtureRequest, places: Places, celery_redis: RedisServer) -> Iterator[Worker]:
    settings = broker_settings(celery_redis, f"gevent-{request.param}-")
    url = f"aioresult+{places.url(request.param)}"
    with Worker(pool="gevent", concurrency=50, backend=url, **settings) as worker:
        yield worker


def test_a_patched_client_waits_for_what_a_worker_of_greenlets_stores(worker: Worker) -> None:
    assert run_script(CLIENT, json.dumps(worker.settings)) == "done\n"
