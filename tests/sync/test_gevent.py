"""The blocking API and Celery's plugin in processes that gevent has patched: one greenlet waits, the others go on.

Each program runs in a process of its own, since patching must not touch the one that runs the tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sync.test_portal import run_script

STORES = ["memory", "redis", "mongodb", "sqlite", "postgresql", "mysql"]

PATCHED = "import gevent.monkey; gevent.monkey.patch_all()\n"

WAITING = (
    PATCHED
    + """
import gevent, logging, os, sys
from gevent.event import Event
from aioresult.sync import AsyncResult, configure

logging.basicConfig(level=logging.DEBUG, filename=os.devnull)  # whose lock all threads and greenlets share
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
writing = [gevent.spawn(backend.mark_as_done, task_id, task_id.upper()) for task_id in ids]
gevent.joinall([*writing, *waiting], raise_error=True)
assert [greenlet.value for greenlet in waiting] == [task_id.upper() for task_id in ids]
backend.close()
print("done")
"""
)


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    fixtures = {"redis": "redis_url", "mongodb": "mongo_url", "postgresql": "postgres_url", "mysql": "mariadb_url"}
    if request.param in fixtures:
        return str(request.getfixturevalue(fixtures[request.param]))
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/results.db"}[request.param]


def test_a_hundred_greenlets_wait_at_once_and_others_go_on(url: str) -> None:
    assert run_script(WAITING, url) == "done\n"


LEAVING = (
    PATCHED
    + """
import gevent
from aioresult.sync import AsyncResult, as_completed, configure

backend = configure("memory://", idle_timeout=0.05)

def count():
    return backend.stats().waiting

def until(number):
    while count() != number:
        gevent.sleep(0.001)

waits = [
    lambda result: result.get(),
    lambda result: result.get(on_interval=lambda: None, interval=0.001),
    lambda result: list(result.updates()),
    lambda result: list(as_completed([result])),
]
for number, wait in enumerate(waits):
    greenlet = gevent.spawn(wait, AsyncResult(f"never-{number}"))
    until(1)
    greenlet.kill()
    until(0)
    with gevent.Timeout(0.01, False):
        wait(AsyncResult(f"never-{number}"))
    until(0)

calls = []
greenlet = gevent.spawn(AsyncResult("late").get, on_interval=lambda: calls.append(gevent.getcurrent()), interval=0.001)
while len(calls) < 3:
    gevent.sleep(0.001)
backend.mark_as_done("late", 1)
assert greenlet.get(timeout=30) == 1 and set(calls) == {greenlet}
print("done")
"""
)


def test_a_greenlet_that_is_killed_or_runs_out_of_time_leaves_no_waiter() -> None:
    assert run_script(LEAVING) == "done\n"


LOOPS = (
    PATCHED
    + """
import asyncio, gevent, threading
from aioresult import AsyncResult, WouldBlockLoop
from aioresult.sync import AsyncResult as Blocking, configure

backend = configure("memory://shared")
waiting = gevent.spawn(Blocking("t").get, timeout=30)
while backend.stats().waiting != 1:
    gevent.sleep(0.001)

async def main():
    try:
        Blocking("t").get(timeout=0)
    except WouldBlockLoop:
        print("refused")
    await backend.mirrored.store_result("t", "from a loop", "SUCCESS")
    return await AsyncResult("t").get(timeout=30)

print(asyncio.run(main()))  # the application's own loop, in the thread where greenlets wait
print(waiting.get(timeout=30))

values = []
threads = [threading.Thread(target=lambda: values.append(Blocking("t").get(timeout=30))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
pool = gevent.get_hub().threadpool  # of the operating system's threads
values.append(pool.apply(lambda: Blocking("t").get(timeout=30)))
print(len(values), *set(values))
"""
)


def test_the_application_may_run_loops_and_threads_of_its_own() -> None:
    assert run_script(LOOPS).splitlines() == ["refused", "from a loop", "from a loop", "4 from a loop"]


EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
from aioresult import Unsupported
from aioresult.sync import AsyncResult, Backend

backend = Backend("memory://")  # still asks nobody
try:
    backend.mark_as_done("t", 1)
except Unsupported as exc:
    print(exc)
"""


def test_eventlet_is_refused_with_an_error_that_says_what_to_use_instead() -> None:
    message = run_script(EVENTLET)
    assert "eventlet" in message
    assert "gevent" in message
