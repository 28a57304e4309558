"""The blocking API and Celery's plugin in processes that gevent has patched: one greenlet waits, the others go on.

Each program runs in a process of its own, since patching must not touch the one that runs the tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_sync_portal import run_script

STORES = ["memory", "redis", "mongodb", "sqlite", "postgresql"]

PATCHED = "import gevent.monkey; gevent.monkey.patch_all()\n"

WAITING = (
    PATCHED
    + """
import gevent, sys
from gevent.event import Event
from aioresult.sync import AsyncResult, configure

backend = configure(sys.argv[1])
backend.mark_as_done("ready", "there")
assert AsyncResult("ready").get(timeout=30) == "there"

ids = [f"t{number}" for number in range(100)]
waiting = [gevent.spawn(AsyncResult(task_id).get, timeout=30) for task_id in ids]
while backend.stats().waiting < 100:  # which waits itself
    gevent.sleep(0.001)

ticks, enough = [], Event()
def tick():
    while not enough.is_set():
        ticks.append(len(ticks))
        if len(ticks) == 20:
            enough.set()
        gevent.sleep(0.001)

ticking = gevent.spawn(tick)
assert enough.wait(30), "a greenlet did not go on while others waited"
for task_id in ids:
    backend.mark_as_done(task_id, task_id.upper())
gevent.joinall(waiting, raise_error=True)
assert [greenlet.value for greenlet in waiting] == [task_id.upper() for task_id in ids]
backend.close()
print("done")
"""
)


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    fixtures = {"redis": "redis_url", "mongodb": "mongo_url", "postgresql": "postgres_url"}
    if request.param in fixtures:
        return str(request.getfixturevalue(fixtures[request.param]))
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/results.db"}[request.param]


def test_a_hundred_greenlets_wait_at_once_and_others_go_on(url: str) -> None:
    assert run_script(WAITING, url) == "done\n"
