"""SQLite: the conformance suite on a file and in memory, and what is particular to SQLite."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
import re
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, Record
from aioresult.errors import AccessDenied, EncodeError, InvalidTaskId, MissingDriver, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.urls import parse
from aioresult.testing import StoreTests
from tests.stores.sqlalchemy.sql import PATIENCE, celery_app, sql_store, until_watched
from tests.versions import since_celery


class TestConformance(StoreTests):
    """On a file, which is also where other processes would write."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "results.db"

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(f"sqlite+aiosqlite:///{self.path}", **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(
                "UPDATE celery_taskmeta SET result = ?, status = 'SUCCESS' WHERE task_id = ?", (b"{broken", task_id)
            )


@pytest.mark.slow
class TestConformanceByPolling(TestConformance):
    """Where the files cause no events that could be had."""

    def make_backend(self, **settings: Any) -> Backend:
        return super().make_backend(**{"push": False, "poll_min_interval": 0.01, **settings})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may come into being."""
    return tmp_path / "results.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def rows(path: Path, statement: str, *parameters: Any) -> list[Any]:
    """Execute ``statement`` behind everybody's back and return its rows."""
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def remove(path: Path) -> None:
    """Delete a database that is in use."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


# --- URLs, files, tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite", "db+sqlite", "sqlalchemy+sqlite"])
async def test_every_spelling_of_the_scheme_means_the_same_file(path: Path, scheme: str) -> None:
    async with Backend(f"{scheme}:///{path}") as backend:
        await backend.store_result("a", 1, "SUCCESS")
    assert rows(path, "SELECT task_id, status, result FROM celery_taskmeta") == [("a", "SUCCESS", b"1")]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite+nonesuch:///a.db", "sqlite.nonesuch.* cannot be used here; known are .*aiosqlite"),
        ("postgresql+pg8000://h/d", "pg8000. cannot be used here; known are .*asyncpg.*psycopg"),
        ("postgresql://host:port/d", "cannot be understood"),
        ("sqlite://results.db", "three slashes.*sqlite:///results.db"),
        ("sqlite://var/results.db", "three slashes.*sqlite:///results.db"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_can(url: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Backend(url)


@pytest.mark.parametrize("family", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    "rest",
    [
        "secret@host:port/database",
        "12@secret@host/database",
        "12@x/secret@host/database",
        "12@x:secret@host/database",
        "12@x?a=1&secret@=1",
    ],
)
def test_a_malformed_url_is_refused_without_its_password(family: str, rest: str) -> None:
    """SQLAlchemy ends a password at its first ``@``, and takes the rest for a host, a port or a database."""
    with pytest.raises(SettingsError, match="cannot be understood") as caught:
        Backend(f"{family}://user:{rest}")
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("password", ["12/secret", "12?secret", "12#secret", "se[cret", "secret"])
def test_a_password_is_in_no_representation(password: str) -> None:
    target = parse(f"postgresql://user:{password}@host/database?sslmode=require&password=secret")
    assert target.url.password == password
    assert "cret" not in f"{target.location} {target!r} {target.__rich_repr__()}"
    assert target.location == "postgresql://host/database"


def test_a_timeout_that_is_none_is_told() -> None:
    with pytest.raises(SettingsError, match="connect_timeout"):
        Backend("postgresql://host/database?connect_timeout=soon")


@pytest.mark.parametrize("url", ["postgresql://u:sek@ret@h/d", "mysql://u:s@ret/k@h/d", "db+postgresql://u:@ret@h:1/d"])
def test_a_password_with_a_bare_at_sign_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as caught:
        Backend(url)
    assert "ret" not in str(caught.value)


async def test_an_engine_whose_password_has_a_bare_at_sign_does_not_show_it() -> None:
    engine = create_async_engine("postgresql+asyncpg://u:sek@ret@h/d")
    async with Backend(engine) as backend:
        assert backend._runtime.store.location == "postgresql://h/d"


async def test_a_percent_encoded_password_is_not_shown_either() -> None:
    async with Backend("postgresql://u:sek%40ret@h/d") as backend:
        assert backend._runtime.store.location == "postgresql://h/d"


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDriver, match=r"'aiosqlite'.*aioresult-backend\[sqlalchemy\]"):
        Backend("sqlite:///a.db")
    with pytest.raises(MissingDriver, match=r"'asyncpg'.*aioresult-backend\[postgresql\]"):
        Backend("postgresql://h/d")
    with pytest.raises(MissingDriver, match=r"'asyncmy'.*aioresult-backend\[mysql\]"):
        Backend("mysql://h/d")
    with pytest.raises(MissingDriver, match=r"'aiomysql'.*: pip install aiomysql"):  # it is in no extra
        Backend("mysql+aiomysql://h/d")


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with Backend(f"sqlite:///{tmp_path}/missing/results.db") as backend:
        with pytest.raises(StoreUnavailable, match=r"missing/results.db"):
            await backend.store_result("a", 1, "SUCCESS")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, url: str) -> None:
    await asyncio.to_thread(path.write_text, "this is no database, but longer than a header of one hundred bytes" * 3)
    async with Backend(url) as backend:
        with pytest.raises(SettingsError, match="not a database"):
            await backend.store_result("a", 1, "SUCCESS")
    assert (await asyncio.to_thread(path.read_text)).startswith("this is no database")


async def test_without_tables_and_the_leave_to_create_them_the_setting_is_named(path: Path, url: str) -> None:
    async with Backend(url, database_create_tables_at_setup=False) as backend:
        with pytest.raises(SettingsError, match=r"celery_taskmeta.*database_create_tables_at_setup"):
            await backend.fetch("a")
        await create_tables(backend._runtime.store)
        assert await backend.store_result("a", 1, "SUCCESS")


async def test_a_table_that_is_none_of_celerys_is_refused(path: Path, url: str) -> None:
    rows(path, "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id TEXT, other TEXT)")
    async with Backend(url, database_create_tables_at_setup=False) as backend:
        with pytest.raises(SettingsError, match=r"no column status.*none of Celery's"):
            await backend.fetch("a")


async def test_two_stores_with_tables_of_their_own_share_a_file(path: Path, url: str) -> None:
    names = {"task": "other_tasks", "group": "other_groups"}
    async with Backend(url) as one, Backend(url, database_table_names=names) as other:
        await asyncio.gather(one.store_result("a", 1, "SUCCESS"), other.store_result("a", 2, "SUCCESS"))
        assert [(await backend.fetch("a")).result for backend in (one, other)] == [1, 2]
    assert rows(path, "SELECT result FROM other_tasks") == [(b"2",)]


@since_celery("5.7", "indices of dates")
async def test_the_tables_are_those_that_celery_creates(path: Path, url: str, tmp_path: Path) -> None:
    with celery_app(f"sqlite:///{tmp_path / 'celerys.db'}") as app:
        app.backend.store_result("a", 1, "SUCCESS")
    async with Backend(url) as backend:
        await backend.ping()
        await backend.store_result("a", 1, "SUCCESS")
    definitions = "SELECT name, sql FROM sqlite_master ORDER BY name"
    ours, theirs = (dict(rows(file, definitions)) for file in (path, tmp_path / "celerys.db"))
    assert ours.keys() == theirs.keys()
    for name, definition in theirs.items():
        lines = [set(re.split(r",?\s*\n\s*", text.strip(" )\n"))) for text in (ours[name] or "", definition or "")]
        assert lines[0] == lines[1], name


async def test_many_stores_may_create_the_tables_at_the_same_time(url: str) -> None:
    backends = [Backend(url) for _ in range(6)]
    written = await asyncio.gather(*(b.store_result(f"id-{n}", n, "SUCCESS") for n, b in enumerate(backends)))
    assert written == [True] * 6
    await asyncio.gather(*(backend.aclose() for backend in backends))


async def test_a_table_that_is_created_while_a_reader_looks_for_it_is_one_of_celerys(
    path: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy asks SQLite for the columns, and after that whether the table exists."""
    rows(path, "CREATE TABLE another (id INTEGER)")
    async with Backend(f"sqlite:///{tmp_path / 'made.db'}") as backend:
        await create_tables(sql_store(backend))
    ((made,),) = rows(tmp_path / "made.db", "SELECT sql FROM sqlite_master WHERE name = 'celery_taskmeta'")
    exists: Any = SQLiteDialect.has_table

    def created(self: SQLiteDialect, connection: Any, name: str, *args: Any, **options: Any) -> Any:
        if name == "celery_taskmeta" and not exists(self, connection, name, *args, **options):
            rows(path, made)
        return exists(self, connection, name, *args, **options)

    monkeypatch.setattr(SQLiteDialect, "has_table", created)
    async with Backend(url) as backend:
        assert (await backend.fetch("a")).status == "PENDING"
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1


async def test_a_table_that_was_dropped_is_created_again(path: Path, url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        rows(path, "DROP TABLE celery_taskmeta")
        assert (await backend.fetch("a")).status == "PENDING"
        assert await backend.store_result("a", 2, "SUCCESS")


async def test_a_file_that_was_deleted_or_replaced_is_opened_anew(path: Path, url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        remove(path)
        assert await backend.store_result("b", 2, "SUCCESS")
        assert {row[0] for row in rows(path, "SELECT task_id FROM celery_taskmeta")} == {"b"}


async def test_the_write_ahead_log_is_used_unless_the_user_prefers_otherwise(path: Path, url: str) -> None:
    async with Backend(url) as backend:
        await backend.ping()
        assert (await backend.capabilities()).details["journal_mode"] == "wal"

    def keep(engine: Engine) -> None:
        event.listen(
            engine, "connect", lambda connection, _: connection.cursor().execute("PRAGMA journal_mode = DELETE")
        )

    async with Backend(url, database_engine_callback=keep) as backend:
        assert (await backend.capabilities()).details["journal_mode"] == "delete"


async def test_a_database_that_may_only_be_read_is_read(path: Path, url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
    read_only = f"sqlite:///file:{path}?mode=ro&uri=true"
    async with Backend(read_only) as backend:
        assert (await backend.fetch("a")).result == 1
        with pytest.raises(AccessDenied, match=r"not allowed.*readonly"):
            await backend.store_result("b", 1, "SUCCESS")


async def test_a_database_kept_locked_by_somebody_else_is_unavailable(path: Path, url: str) -> None:
    async with Backend(url, database_engine_options={"connect_args": {"timeout": 0.05}}) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match=r"results.db.*locked"):
                await backend.store_result("b", 1, "SUCCESS")
            assert (await backend.fetch("a")).result == 1, "reading does not wait for writers"
            connection.rollback()
        assert await backend.store_result("b", 1, "SUCCESS")


@pytest.mark.parametrize(
    "options", [{"nonesuch": 1}, {"connect_args": {"nonesuch": 1}}], ids=["of the engine", "of the driver"]
)
async def test_an_engine_option_that_does_not_exist_is_an_error_of_settings(url: str, options: dict[str, Any]) -> None:
    async with Backend(url, database_engine_options=options) as backend:
        with pytest.raises(SettingsError, match=r"database_engine_options.*nonesuch"):
            await backend.fetch("a")


async def test_where_connecting_fails_the_connections_thread_has_ended(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would otherwise report to a loop that may be closed by then."""
    stop = aiosqlite.Connection.stop

    def stop_late(connection: aiosqlite.Connection) -> object:
        connection._tx.put_nowait((None, lambda: time.sleep(0.2)))
        return stop(connection)

    monkeypatch.setattr(aiosqlite.Connection, "stop", stop_late)
    before = threading.enumerate()
    async with Backend(url, database_engine_options={"connect_args": {"nonesuch": 1}}) as backend:
        with pytest.raises(SettingsError):
            await backend.fetch("a")
    assert not [thread for thread in threading.enumerate() if thread not in before and "connection" in thread.name]


async def test_a_loop_that_ends_just_after_a_statement_leaves_no_connection_behind(url: str) -> None:
    engines: list[Engine] = []
    here = asyncio.current_task()

    def cancel_everything() -> None:
        for task in asyncio.all_tasks() - {here}:
            task.cancel()

    async def last_statement(link: Link, _dialect: object) -> None:
        await link.value("SELECT 1")
        asyncio.get_running_loop().call_soon(cancel_everything)

    async with Backend(url, database_engine_callback=engines.append) as backend:
        last = asyncio.create_task(sql_store(backend).database.run(last_statement))
        await asyncio.wait([last])
        assert engines[0].pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_celerys_own_engine_options_are_accepted(url: str) -> None:
    options = {"pool_pre_ping": True, "pool_recycle": 3600, "echo": False}
    async with Backend(url, database_engine_options=options) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")


async def test_an_engine_of_the_callers_is_used_and_left_open(url: str) -> None:
    engine = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"))
    async with Backend(engine) as backend:
        waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
        await until_watched(backend, 1)
        await backend.store_result("a", 1, "SUCCESS")
        assert await waiting == 1
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM celery_taskmeta"))).scalar() == 1
    await engine.dispose()


async def test_a_blocking_engine_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="AsyncEngine"):
        await Backend(create_engine(url)).ping()


# --- values -----------------------------------------------------------------------------------------------------------


async def test_what_sql_text_cannot_hold_is_escaped_in_texts_and_refused_in_ids(url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", ValueError("nul\0"), "FAILURE", "line with \0 and \udc80")
        assert (await backend.fetch("a")).traceback == "line with \\x00 and \\udc80"
        with pytest.raises(InvalidTaskId, match="null character"):
            await backend.store_result("a\0b", 1, "SUCCESS")
        assert (await backend.fetch("a\0b")).status == "PENDING"


@pytest.mark.parametrize("state", ["X" * 51, "X\0", "\udcff"], ids=["long", "null", "surrogate"])
async def test_a_state_that_the_column_cannot_hold_is_refused(url: str, state: str) -> None:
    async with Backend(url) as backend:
        with pytest.raises(EncodeError, match="50 characters"):
            await backend.store_result("a", 1, state)


async def test_the_result_column_holds_the_form_that_the_setting_says(path: Path, url: str) -> None:
    async with Backend(url) as new, Backend(url, database_result_format="pickle") as old:
        await new.store_result("new", {"a": 1}, "SUCCESS")
        await old.store_result("old", {"a": 1}, "SUCCESS")
        with pytest.raises(EncodeError, match="plain data"):
            await old.store_result("object", object(), "SUCCESS")
        assert [(await backend.fetch(name)).result for backend in (old, new) for name in ("old", "new")] == [
            {"a": 1}
        ] * 4
    stored = dict(rows(path, "SELECT task_id, result FROM celery_taskmeta"))
    assert stored["new"] == b'{"a": 1}'
    assert pickle.loads(stored["old"]) == {"a": 1}


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_purging_deletes_what_has_expired_in_small_transactions_and_nothing_else(path: Path, url: str) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    async with Backend(url) as backend:
        store = sql_store(backend)
        await store.put_many([Record(id=f"old-{n}", status="SUCCESS", date_done=old) for n in range(2500)])
        await store.put_many([Record(id="alive", status="SUCCESS"), Record(id="begun", status="STARTED")])
        await store.put_group("alive", [["alive", None], []])
        assert set(await store.get_many(["old-1"])) == {"old-1"}, "what has expired is there until it is deleted"
        before = store.commands
        assert await backend.purge() == 2500
        assert 3 <= store.commands - before <= 8
        assert set(await store.get_many(["alive", "begun"])) == {"alive", "begun"}
        assert await store.get_group("alive") is not None
    assert rows(path, "SELECT count(*) FROM celery_taskmeta") == [(2,)]


async def test_nothing_expires_where_the_setting_says_so(url: str) -> None:
    ancient = datetime(2001, 1, 1, tzinfo=UTC)
    async with Backend(url, result_expires=None) as backend:
        await sql_store(backend).put_many([Record(id="a", status="SUCCESS", date_done=ancient)])
        assert await backend.purge() == 0
        assert (await backend.fetch("a")).date_done == ancient


# --- cost -------------------------------------------------------------------------------------------------------------


async def test_a_thousand_reads_or_writes_at_once_are_a_handful_of_statements(url: str) -> None:
    async with Backend(url) as backend:
        await backend.ping()
        before = backend.stats().commands
        await asyncio.gather(*(backend.store_result(f"id-{n}", n, "SUCCESS") for n in range(1000)))
        found = await asyncio.gather(*(backend.fetch(f"id-{n}") for n in range(1000)))
        assert [record.result for record in found] == list(range(1000))
        assert backend.stats().commands - before <= 4
