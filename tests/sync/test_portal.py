"""The thread behind the blocking API: shared, interruptible, fork-safe, and gone with the interpreter."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import redis

from aioresult.sync import AsyncResult, Backend, as_completed, portal
from aioresult.testing.conformance import fresh_id
from tests.blocking import PATIENCE, eventually
from tests.stores.mongodb.drivers import LATE_SOCKETS_OF_A_PROCESS

THREADS = 64


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend("memory://", idle_timeout=0.05) as backend:
        yield backend


def run_script(script: str, *args: str) -> str:
    """Run ``script`` with every warning being an error, fail if it complains, and return what it prints."""
    ignored = ["-W", "ignore:This process:DeprecationWarning"]  # it forks; -W takes how a text begins
    if any(arg.startswith("mongodb") for arg in args):
        ignored += LATE_SOCKETS_OF_A_PROCESS
    command = [sys.executable, "-W", "error", *ignored, "-c", script, *args]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


# --- threads ----------------------------------------------------------------------------------------------------------


def test_64_waiting_threads_share_one_subscriber_connection(redis_url: str) -> None:
    ids = [fresh_id() for _ in range(THREADS)]
    with Backend(redis_url) as backend, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(backend.AsyncResult(task_id).get, PATIENCE) for task_id in ids]
        eventually(lambda: backend.stats().watched == THREADS)
        with redis.Redis.from_url(redis_url) as client:
            assert client.pubsub_numsub(*[f"celery-task-meta-{task_id}" for task_id in ids]) == [
                (f"celery-task-meta-{task_id}".encode(), 1) for task_id in ids
            ]
            assert len(client.client_list(_type="pubsub")) == 1
        with Backend(redis_url) as writer:
            for task_id in ids:
                writer.mark_as_done(task_id, task_id)
        assert [future.result(PATIENCE) for future in futures] == ids


def test_all_threads_run_on_one_portal(backend: Backend) -> None:
    async def where() -> threading.Thread:
        return threading.current_thread()

    with ThreadPoolExecutor(8) as pool:
        portals = {future.result() for future in [pool.submit(portal.run, where) for _ in range(32)]}
    assert len(portals) == 1
    assert portals.pop().daemon


def test_context_variables_are_those_of_the_caller() -> None:
    variable = ContextVar("variable", default="nobody's")
    variable.set("the caller's")

    async def seen() -> str:
        return variable.get()

    assert portal.run(seen) == "the caller's"


NO_LOOP = """
import asyncio
from aioresult import AioResultError
from aioresult.sync import Backend

def refuse():
    raise OSError("too many open files")

backend, new_event_loop, asyncio.new_event_loop = Backend("memory://"), asyncio.new_event_loop, refuse
try:
    backend.ping()
except AioResultError as exc:
    print(exc, repr(exc.__cause__), sep="; ")
asyncio.new_event_loop = new_event_loop
print(backend.mark_as_done("t", 1))
"""


def test_a_portal_that_cannot_start_says_why_and_the_next_call_tries_again() -> None:
    why, written = run_script(NO_LOOP).splitlines()
    assert why.endswith("too many open files; OSError('too many open files')")
    assert written == "True"


# --- interrupts -------------------------------------------------------------------------------------------------------


all_waits = pytest.mark.parametrize(
    "wait",
    [
        lambda result: result.get(),
        lambda result: result.get(on_interval=lambda: None),
        lambda result: list(result.updates()),
        lambda result: list(as_completed([result])),
    ],
    ids=["get", "observed get", "updates", "as_completed"],
)


@all_waits
def test_an_interrupted_wait_returns_at_once_and_cancels_its_coroutine(
    backend: Backend, wait: Callable[[AsyncResult[Any]], object]
) -> None:
    def interrupt() -> None:
        eventually(lambda: backend.stats().waiting == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            wait(backend.AsyncResult("never"))
        interrupted.result()
    eventually(lambda: backend.stats().waiting == 0)


@all_waits
def test_a_wait_that_is_interrupted_as_soon_as_it_begins_cancels_its_coroutine(
    backend: Backend, wait: Callable[[AsyncResult[Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = portal._Portal.submit

    def interrupted(self: portal._Portal, call: Any) -> None:
        submit(self, call)
        with monkeypatch.context() as asking:
            asking.setattr(portal._Portal, "submit", submit)
            eventually(lambda: backend.stats().waiting == 1 or (call.task is not None and call.task.done()))
            if backend.stats().waiting:  # else it was a step that did not wait
                raise KeyboardInterrupt

    result: AsyncResult[Any] = backend.AsyncResult("never")
    backend.ping()  # begins the thread
    monkeypatch.setattr(portal._Portal, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wait(result)
    monkeypatch.undo()
    eventually(lambda: backend.stats().waiting == 0)


async def test_an_abandoned_iterator_is_finished_without_blocking_whoever_collects_it(backend: Backend) -> None:
    def half_way() -> Iterator[Any]:
        backend.update_state("t", "PROGRESS", 1)
        updates = backend.AsyncResult("t").updates()
        next(updates)
        return updates

    abandoned = await asyncio.to_thread(half_way)
    assert await asyncio.to_thread(lambda: backend.stats().waiting) == 1
    del abandoned  # in a thread that runs a loop
    gc.collect()
    await asyncio.to_thread(eventually, lambda: backend.stats().waiting == 0)
    await asyncio.to_thread(backend.close)


# --- processes --------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, warnings
from aioresult.sync import AsyncResult, configure

backend = configure(sys.argv[1], idle_timeout=0.05)
in_use = sys.argv[1].startswith("redis:")  # SQLite itself forbids to fork a process that has a database open
if in_use:
    backend.mark_as_done("before", "before the fork")
    threading.Thread(target=AsyncResult("never").get, daemon=True).start()
    while backend.stats().watched != 1:
        pass
child = os.fork()
if not child:  # what it has inherited is the parent's, and is left alone: not closed either
    warnings.simplefilter("ignore", ResourceWarning)
me, other = ("parent", "child") if child else ("child", "parent")
for turn in range(20):
    backend.mark_as_done(f"{me}-{turn}", [me, turn])
    assert AsyncResult(f"{other}-{turn}").get(timeout=30) == [other, turn]
assert AsyncResult("before").status == ("SUCCESS" if in_use else "PENDING")
assert backend.stats().waiting == (in_use and child != 0)
if child:
    assert os.waitpid(child, 0) == (child, 0)
print(me, "ends")
"""


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_a_forked_child_starts_afresh_and_leaves_the_parent_alone(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("redis_url") if store == "redis" else f"sqlite+aiosqlite:///{tmp_path}/results.db"
    assert run_script(FORK, url).splitlines() == ["child ends", "parent ends"]


ITERATING = """
import os, signal, sys
from aioresult import AioResultError
from aioresult.sync import AsyncResult, configure

backend = configure(sys.argv[1])
backend.append("task", *range(1000))
stream = AsyncResult("task").stream()
for _ in range(32):
    last = next(stream)
child = os.fork()
if child:
    assert os.waitpid(child, 0) == (child, 0)
    print("parent", next(stream).seq)
    os._exit(0)
signal.alarm(60)  # ends a child that hangs
try:
    for _ in range(500):
        next(stream)
except AioResultError as error:
    print(error)
print("child", next(AsyncResult("task").stream(after=last.seq)).seq, flush=True)
os._exit(0)
"""


def test_an_iterator_does_not_go_on_in_a_forked_child_and_says_so(redis_url: str) -> None:
    said = run_script(ITERATING.replace("os._exit", "sys.stdout.flush(); os._exit"), redis_url).splitlines()
    assert said[0].startswith("this iterator belongs to the process")
    assert said[1:] == ["child 33", "parent 33"]


EXIT = """
import sys, threading
from aioresult.sync import AsyncResult, configure

backend = configure(sys.argv[1])
backend.mark_as_done("t", 1)
print(AsyncResult("t").get(timeout=30))
if sys.argv[2] == "waiting":
    for _ in range(3):
        threading.Thread(target=AsyncResult("never").get, daemon=True).start()
    while backend.stats().waiting != 1:
        pass
"""


@pytest.mark.parametrize("how", ["idle", "waiting"])
@pytest.mark.parametrize("store", ["memory", "redis", "mongodb", "sqlite"])
def test_the_interpreter_exits_without_delay_and_without_a_word(
    store: str, how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite+aiosqlite:///{tmp_path}/results.db"}.get(store)
    url = url or request.getfixturevalue({"redis": "redis_url", "mongodb": "mongo_url"}[store])
    assert run_script(EXIT, url, how) == "1\n"


FIRST_CALLS = """
import sys, threading
from pymongo import monitoring
from aioresult.sync import AsyncResult, configure

reached = threading.Event()

class Listener(monitoring.ServerHeartbeatListener):
    def started(self, event): pass
    def succeeded(self, event): reached.set()
    def failed(self, event): pass

monitoring.register(Listener())
configure(sys.argv[1])
threading.Thread(target=AsyncResult("never").get, daemon=True).start()
assert reached.wait(30)  # the server is known; the connection for commands is only being made
"""


def test_the_interpreter_exits_without_a_word_during_the_first_calls_to_mongodb(mongo_url: str) -> None:
    assert run_script(FIRST_CALLS, mongo_url) == ""


CLOSING = """
import asyncio, atexit, sys
from aioresult import AioResultError
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.sync import Backend

class Told(MemoryStore):
    async def aclose(self):  # as drivers do that look a host's address up once more
        await asyncio.get_running_loop().getaddrinfo("localhost", 1)
        print("the store is closed")

backend = Backend(Told("memory://", make_settings({})))

@atexit.register  # before the portal's own, and so called after it
def late():
    try:
        backend.ping()
    except AioResultError as exc:
        print(exc)

backend.ping()
"""


def test_connections_are_closed_at_exit_and_nothing_can_be_asked_afterwards() -> None:
    closed, late = run_script(CLOSING).splitlines()
    assert closed == "the store is closed"
    assert "the interpreter is exiting" in late
