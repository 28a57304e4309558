"""Fixtures for all tests: servers that are started once, event loops, and the search for leaks after each test."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TypeVar

import pytest
import pytest_asyncio
import uvloop

from tests.servers import ExternalServer, RedisServer, Server

S = TypeVar("S", bound=Server)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
_TURNS_TO_END = 10


# --- event loops ------------------------------------------------------------------------------------------------------


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Run coroutine tests on asyncio's loop; those marked ``all_loops`` on each kind of loop that this Python has."""
    if item.get_closest_marker("all_loops") is None:
        return {"asyncio": asyncio.new_event_loop}
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if sys.version_info >= (3, 12):
        factories["eager"] = _eager_loop
    return factories


# --- leaks ------------------------------------------------------------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what was imported out of the garbage collector's sight, so that looking for leaks is quick."""
    gc.collect()
    gc.freeze()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put the search for leaks around every test: first to be set up, last to be torn down, and not to be left out."""
    if isinstance(item, pytest.Function):
        checks = ["no_garbage", "no_task_left"] if pytest_asyncio.is_async_test(item) else ["no_garbage"]
        item.fixturenames[:0] = checks


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Make unclosed resources and unseen exceptions show up in the test that left them, as unraisable exceptions."""
    yield
    gc.collect()


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail if a task that the test started is still there once all its fixtures are torn down."""
    before = asyncio.all_tasks()
    yield
    for _ in range(_TURNS_TO_END):  # what was cancelled or told to end has these turns of the loop to do so
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail("tasks left running:\n" + "\n".join(sorted(map(repr, left))), pytrace=False)


# --- servers ----------------------------------------------------------------------------------------------------------


def _server(variable: str, make: Callable[[], S]) -> Iterator[S | ExternalServer]:
    if url := os.environ.get(variable):
        yield ExternalServer(variable, url)
        return
    with make() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer | ExternalServer]:
    """One Redis for the whole run; a test that stops it has to start it again."""
    yield from _server("AIORESULT_TEST_REDIS_URL", RedisServer)


@pytest.fixture
def redis_url(redis_server: RedisServer | ExternalServer) -> str:
    """URL of a running Redis, which is empty unless it is the user's own."""
    redis_server.start()
    if isinstance(redis_server, RedisServer):
        redis_server.flush()
    return redis_server.url


@pytest.fixture
def keyprefix() -> str:
    """Return a prefix, of keys, tables or databases, that nobody else uses."""
    return f"t{uuid.uuid4().hex[:12]}_"
