"""Databases of other encodings, and sessions with other settings than PostgreSQL's own: values stay what they are."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, Record
from aioresult.errors import SettingsError
from tests.servers import ExternalServer, PostgresServer, postgres
from tests.servers.process import with_path
from tests.stores.sqlalchemy.sql import PATIENCE, on_postgresql, sql_store, waiting_for
from tests.stores.sqlalchemy.test_postgresql import DRIVERS

TEXT = "Gänse \\ ' \" {} 日本 \U0001f600"
SESSIONS = {
    "standard_conforming_strings": "off",
    "DateStyle": "German",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "default_transaction_isolation": "serializable",
}
MakeDatabase = Callable[[str], str]


@pytest.fixture
def make_database(postgres_server: PostgresServer | ExternalServer) -> Iterator[MakeDatabase]:
    """Return a function that makes a database with the given options, and returns its URL."""
    postgres_server.start()
    with ExitStack() as made:

        def make(options: str = "") -> str:
            name = f"aioresult_test_{uuid.uuid4().hex[:12]}"
            on_postgresql(postgres_server.url, f"CREATE DATABASE {name} {options}")
            made.callback(postgres.drop_database, postgres_server.url, name)
            return with_path(postgres_server.url, name)

        yield make


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("setting", SESSIONS)
async def test_values_and_dates_are_stored_and_announced_as_they_are(
    setting: str, driver: str, make_database: MakeDatabase
) -> None:
    url = make_database("")
    name = url.rpartition("/")[2]
    on_postgresql(url, f"ALTER DATABASE {name} SET {setting} = {SESSIONS[setting]}")
    async with Backend(url.replace("asyncpg", driver)) as backend:
        (waiter,) = await waiting_for(backend, ["ü"])
        assert await backend.append("ü", TEXT) == 1
        assert await backend.append("ü", TEXT, [TEXT]) == 3
        records = [Record(id=task_id, status="SUCCESS", result=TEXT) for task_id in ("ü", "b", "c")]
        assert await sql_store(backend).put_many(records) == [True] * 3
        assert await waiter == TEXT
        found = await backend.fetch_many(["ü", "b", "c"])
        assert [record.result for record in found.values()] == [TEXT] * 3
        assert [item.value async for item in backend.AsyncResult("ü").stream(timeout=PATIENCE)] == [TEXT, TEXT, [TEXT]]
        failure = ValueError(TEXT)
        assert await backend.mark_as_failure("failed", failure, traceback=TEXT)
        record = await backend.fetch("failed")
        assert (str(record.result), record.traceback) == (TEXT, TEXT)
        assert record.date_done is not None


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("encoding", "traceback"),
    [
        ("LATIN1", "Gänse \\ ' \" {} \\u65e5\\u672c \\U0001f600"),
        ("EUC_JP", "G\\xe4nse \\ ' \" {} \\u65e5\\u672c \\U0001f600"),
        ("SQL_ASCII", TEXT),
        ("UTF8", TEXT),
    ],
)
async def test_what_a_database_s_encoding_lacks_does_not_keep_a_failure_from_being_stored(
    encoding: str, traceback: str, driver: str, make_database: MakeDatabase
) -> None:
    url = make_database(f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    async with Backend(url.replace("asyncpg", driver), result_extended=True) as backend:
        (waiter,) = await waiting_for(backend, ["ü"])
        assert await backend.mark_as_failure("ü", ValueError(TEXT), traceback=TEXT, worker=TEXT, name=TEXT, queue=TEXT)
        with pytest.raises(ValueError, match="日本"):
            await waiter
        record = await backend.fetch("ü")
        assert [record.traceback, record.worker, record.name, record.queue] == [traceback] * 4


@pytest.mark.parametrize("setting", ["standard_conforming_strings", "DateStyle", "client_encoding"])
async def test_an_engine_of_the_caller_s_whose_sessions_would_change_values_is_refused(
    setting: str, make_database: MakeDatabase
) -> None:
    url = make_database("").replace("asyncpg", "psycopg")
    name = url.rpartition("/")[2]
    on_postgresql(url, f"ALTER DATABASE {name} SET {setting} = {SESSIONS[setting]}")
    engine = create_async_engine(url)
    async with Backend(engine) as backend:
        with pytest.raises(SettingsError, match=rf"sessions with {setting} cannot be used") as caught:
            await backend.store_result("a", 1, "SUCCESS")
    await engine.dispose()
    advised = str(caught.value).partition("'options': '")[2].partition("'")[0]
    engine = create_async_engine(url, connect_args={"options": advised})
    async with Backend(engine) as backend:
        assert await asyncio.wait_for(backend.store_result("a", 1, "SUCCESS"), PATIENCE)
    await engine.dispose()


async def test_an_encoding_in_the_url_is_left_out(make_database: MakeDatabase) -> None:
    url = make_database("").replace("asyncpg", "psycopg")
    async with Backend(f"{url}?client_encoding=latin1") as backend:
        assert await backend.mark_as_failure("日本", ValueError(TEXT), traceback=TEXT)
        assert (await backend.fetch("日本")).traceback == TEXT
