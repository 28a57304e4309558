"""What the tests of the SQL store share: Celery on the same database, and a writer in another process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psycopg
from packaging.version import Version
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

from aioresult import Backend
from aioresult.stores.sqlalchemy import SQLStore
from aioresult.testing.conformance import eventually
from tests.programs import Program
from tests.versions import CELERY

# Without types, or not with all.
Celery: Any = import_module("celery").Celery
Context: Any = import_module("celery.app.task").Context
GroupResult: Any = import_module("celery.result").GroupResult
_CelerysBackend: Any = import_module("celery.backends.database").DatabaseBackend

FOR_CELERY: Final[dict[str, Any]] = {} if Version("5.7") <= CELERY else {"database_result_format": "pickle"}
"""Settings with which a store writes what the Celery that is installed can read."""
PATIENCE: Final = 60.0
"""Seconds after which something that should happen counts as not happening."""
VECTORS: Final = Path(__file__).parents[2] / "vectors"
_SYNCHRONOUS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}

_WRITER: Final = """
import json, sys
from celery import Celery
app = Celery(backend=sys.argv[1], set_as_current=False)
app.conf.update(json.loads(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    app.backend.store_result(*json.loads(line))
    print("stored", flush=True)
"""


def for_celery(url: str) -> str:
    """Return ``url`` with a synchronous driver, and Celery's prefix."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=_SYNCHRONOUS[parsed.get_backend_name()])
    if parsed.get_backend_name() == "mysql":
        parsed = parsed.update_query_dict({"ssl_disabled": "true"})  # else PyMySQL reads all CAs for each connection
    return f"db+{parsed.render_as_string(hide_password=False)}"


@contextmanager
def celery_app(url: str, **conf: Any) -> Iterator[Any]:
    """Give a Celery application whose results are in the database at ``url``.

    Celery 5.4 looks for its tables once in each process, whatever database they were in: so it is made to look again.
    """
    for sessions in filter(None, _CelerysBackend.ResultSession.__defaults__):
        sessions.prepared = False
    app = Celery("tests", backend=for_celery(url), set_as_current=False)
    app.conf.update(conf)
    yield app


@contextmanager
def lasting_engines() -> Iterator[None]:
    """Have Celery's backends in this process make one engine for each URL, and not one for each query.

    An engine compiles each statement once. It keeps no connection: Celery's clients open one for each query.
    """
    engines: dict[str, Engine] = {}

    def make(url: str, **options: Any) -> Engine:
        key = f"{url} {options}"
        return engines.get(key) or engines.setdefault(key, create_engine(url, **options))

    with patch("celery.backends.database.session.create_engine", make):
        yield


class ForeignWriter:
    """A process that stores results with Celery's own backend."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def store(self, task_id: str, result: Any, state: str = "SUCCESS") -> None:
        """Store a result, and return when that is done."""
        self._program.type(json.dumps([task_id, result, state]))
        await self.answer()

    async def answer(self) -> None:
        """Wait for the process to say that it has done something."""
        assert await self._program.line(), "the writing process has failed"


@asynccontextmanager
async def foreign_writer(url: str, **conf: Any) -> AsyncIterator[ForeignWriter]:
    """Give a writer in another process; it ends with the context."""
    async with Program("tests.statements", _WRITER, for_celery(url), json.dumps(conf)) as program:
        writer = ForeignWriter(program)
        await writer.answer()
        yield writer


def sql_store(backend: Backend) -> SQLStore:
    """Return the store of ``backend`` in the running loop."""
    store = backend._runtime.store
    assert isinstance(store, SQLStore)
    return store


async def until_watched(backend: Backend, number: int) -> None:
    """Wait until the feed of ``backend`` watches ``number`` ids, and what was stored before would have been seen."""

    async def watched() -> bool:
        return backend.stats().watched >= number and not backend._runtime.hub.looking

    await eventually(watched)
    for _ in range(2):  # where the feed looks by itself, it has begun to
        await backend.ping()


async def waiting_for(backend: Backend, ids: list[str]) -> list[asyncio.Task[Any]]:
    """Start a waiter for each of ``ids``, and return when all of them are watched."""
    waiters = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE)) for task_id in ids]
    await until_watched(backend, len(ids))
    return waiters


async def until_silent(backend: Backend) -> None:
    """Wait until nothing has been sent for a while, in which a store that is polled would have been asked."""

    async def silent() -> bool:
        before = backend.stats().commands
        await asyncio.sleep(2 * backend.settings.poll_interval)
        return backend.stats().commands == before

    await eventually(silent)


def on_postgresql(url: str, statement: str, *parameters: Any) -> list[Any]:
    """Execute ``statement`` on PostgreSQL behind everybody's back, commit it, and return its rows."""
    libpqs = url.replace("+asyncpg", "").replace("+psycopg", "")
    with psycopg.connect(libpqs, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []
