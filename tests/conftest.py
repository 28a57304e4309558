"""Fixtures for all tests: servers that are started once, event loops, and the search for leaks after each test."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, TypeVar

import pytest
import pytest_asyncio
import uvloop
from hypothesis import settings
from sqlalchemy.dialects.postgresql.base import PGDialect

from tests.servers import ExternalServer, mariadb, mongo, postgres
from tests.servers.mariadb import MariaDBServer
from tests.servers.mongo import MongoReplicaSet, MongoServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import is_left_out, leave_out, with_path
from tests.servers.redis import RedisServer
from tests.stores.mongodb.drivers import LATE_SOCKETS

S = TypeVar("S")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
_TURNS_TO_END = 10
LONGEST = """
project/test_pages.py stores/sqlalchemy/test_postgresql.py stores/sqlalchemy/test_postgresql_feed.py
project/test_benchmarks.py stores/mongodb/test_store.py integrations/celery/test_plugin.py stores/redis/test_cluster.py
stores/mongodb/test_outages.py integrations/asgi/test_chat.py stores/test_producers_that_die.py
testing/test_conformance.py integrations/celery/test_reading.py integrations/celery/test_revoking.py
stores/sqlalchemy/test_celery.py integrations/celery/test_faults.py integrations/celery/test_tokens_example.py
cli/test_cli.py stores/sqlalchemy/test_mysql_modes.py stores/redis/test_sentinel.py integrations/celery/test_gevent.py
stores/sqlalchemy/test_sqlite.py stores/sqlalchemy/test_mysql.py project/test_servers.py stores/mongodb/test_feed.py
integrations/asgi/test_events.py sync/test_gevent.py stores/mongodb/test_settings.py integrations/asgi/test_snapshots.py
""".split()
"""The files whose tests take longest. They come first, so that no process is busy with one when the others are done."""
SERVERS = {
    "redis_server",
    "mongo_server",
    "mongo_replica_set",
    "postgres_server",
    "mariadb_server",
    "celery_redis",
    "chromium",
}
"""The fixtures of servers, and of the browser."""
SLOW = {"browse", "serving"}
"""The fixtures of web servers in this process, which take a fifth of a second to end."""


def pytest_configure(config: pytest.Config) -> None:
    """Let interrupts arrive, which a run that a shell has put into the background ignores, and its children with it.

    In a quick run Hypothesis tries fewer examples.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_left_out("servers"):
        settings.register_profile("quick", max_examples=25)
        settings.load_profile("quick")
    if is_left_out("processes"):
        sys.addaudithook(_leave_out_processes)


def _leave_out_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"subprocess.Popen", "os.fork"}:
        leave_out("processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; leave out at once those tests of which it is known that they need a server."""
    ranks = {f"tests/{file}": rank for rank, file in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))
    if is_left_out("servers"):
        needing = {item for item in items if isinstance(item, pytest.Function) and SERVERS & {*item.fixturenames}}
        items[:] = [item for item in items if item not in needing]
        config.hook.pytest_deselected(items=[*needing])


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


_begun: set[str] = set()
_KEPT_BY_SQLALCHEMY = [method for method in vars(PGDialect).values() if hasattr(method, "cache_clear")]
"""They keep queries of the last 128 engines, 1,000 objects of each, through which the collector would look."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take what was there before each file's tests out of the garbage collector's sight.

    It has been imported, most of it, and looking through it took longer than many a test. What a file's own fixtures
    keep is not among it: that may become garbage within the file.
    """
    file = item.nodeid.partition("::")[0]
    if file not in _begun:
        _begun.add(file)
        gc.collect()
        gc.freeze()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put the search for leaks around every test: first to be set up, last to be torn down, and not to be left out."""
    if isinstance(item, pytest.Function):
        checks = ["unseen_errors", "no_task_left"] if pytest_asyncio.is_async_test(item) else ["unseen_errors"]
        item.fixturenames[:0] = checks
        if "mongo" in item.nodeid or any(name.startswith("mongo") for name in item.fixturenames):
            item.add_marker(LATE_SOCKETS)
        if SLOW & {*item.fixturenames}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def unseen_errors() -> Iterator[list[str]]:
    """Fail for what event loops were told that nobody else has seen, and collect garbage to bring the rest to light.

    Resources that were not closed then show up as unraisable exceptions, in the test that left them.
    """
    unseen: list[str] = []
    yield unseen
    for kept in _KEPT_BY_SQLALCHEMY:
        kept.cache_clear()
    gc.collect()
    if unseen:
        pytest.fail("errors that nobody saw:\n" + "\n".join(unseen), pytrace=False)


@pytest.fixture
async def no_task_left(unseen_errors: list[str]) -> AsyncIterator[None]:
    """Fail if a task that the test started is still there once all its fixtures are torn down."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen_errors.append(str(context)))
    before = asyncio.all_tasks()
    yield
    left: set[asyncio.Task[object]] = set()
    for _ in range(_TURNS_TO_END):  # what was cancelled or told to end has these turns of the loop to do so
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail("tasks left running:\n" + "\n".join(sorted(map(repr, left))), pytrace=False)


# --- servers ----------------------------------------------------------------------------------------------------------
# Each is started when the first test asks for it and serves the whole run. A test may stop it, if it starts it again.


def _server(variable: str, make: Callable[[], AbstractContextManager[S]]) -> Iterator[S | ExternalServer]:
    """Yield a private server, or the user's own where the environment names one."""
    if url := os.environ.get(variable):
        yield ExternalServer(variable, url)
        return
    with make() as server:
        yield server


@pytest.fixture
def keyprefix() -> str:
    """Return a prefix, of keys, tables or databases, that nobody else uses."""
    return f"t{uuid.uuid4().hex[:12]}_"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer | ExternalServer]:
    rare = partial(RedisServer, hz=2)  # its periodic work, at ten times a second, is half of the CPU time that it takes
    yield from _server("AIORESULT_TEST_REDIS_URL", rare)


@pytest.fixture
def redis_url(redis_server: RedisServer | ExternalServer) -> str:
    """URL of a running Redis, which is empty unless it is the user's own."""
    redis_server.start()
    if isinstance(redis_server, RedisServer):
        redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer | ExternalServer]:
    """A standalone server, which cannot push."""
    yield from _server("AIORESULT_TEST_MONGODB_STANDALONE_URL", MongoServer)


@pytest.fixture(scope="session")
def mongo_replica_set() -> Iterator[MongoReplicaSet | ExternalServer]:
    """A replica set of one, which has change streams."""
    yield from _server("AIORESULT_TEST_MONGODB_URL", MongoReplicaSet)


@pytest.fixture
def mongo_standalone_url(mongo_server: MongoServer | ExternalServer, keyprefix: str) -> Iterator[str]:
    """URL of a database of the test's own on the standalone server."""
    yield from _mongo_database(mongo_server, keyprefix)


@pytest.fixture
def mongo_url(mongo_replica_set: MongoReplicaSet | ExternalServer, keyprefix: str) -> Iterator[str]:
    """URL of a database of the test's own on the replica set."""
    yield from _mongo_database(mongo_replica_set, keyprefix)


def _mongo_database(server: MongoServer | MongoReplicaSet | ExternalServer, name: str) -> Iterator[str]:
    server.start()
    url = with_path(server.url, name)
    yield url
    if isinstance(server, ExternalServer):
        mongo.drop_database(url, name)
    elif server.running:
        server.drop_database(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | ExternalServer]:
    yield from _server("AIORESULT_TEST_POSTGRESQL_URL", PostgresServer)


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: PostgresServer | ExternalServer) -> Iterator[str]:
    yield from _database_of_this_run(postgres_server, postgres)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer | ExternalServer, _postgres_database: str) -> str:
    """URL of an empty PostgreSQL database, for asyncpg."""
    postgres_server.start()
    postgres.empty_database(_postgres_database)
    return _postgres_database


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer | ExternalServer]:
    yield from _server("AIORESULT_TEST_MYSQL_URL", MariaDBServer)


@pytest.fixture(scope="session")
def _mariadb_database(mariadb_server: MariaDBServer | ExternalServer) -> Iterator[str]:
    yield from _database_of_this_run(mariadb_server, mariadb)


@pytest.fixture
def mariadb_url(mariadb_server: MariaDBServer | ExternalServer, _mariadb_database: str) -> str:
    """URL of an empty MariaDB (or MySQL) database, for asyncmy."""
    mariadb_server.start()
    mariadb.empty_database(_mariadb_database)
    return _mariadb_database


class _Databases(Protocol):
    """What ``tests.servers.postgres`` and ``.mariadb`` have in common."""

    def create_database(self, url: str, name: str) -> None: ...
    def drop_database(self, url: str, name: str) -> None: ...


def _database_of_this_run(
    server: PostgresServer | MariaDBServer | ExternalServer, databases: _Databases
) -> Iterator[str]:
    """Yield the URL of a new database; it is dropped where the server outlives the run."""
    name = f"aioresult_test_{uuid.uuid4().hex[:12]}"
    databases.create_database(server.url, name)
    yield with_path(server.url, name)
    if not server.owned:
        databases.drop_database(server.url, name)
