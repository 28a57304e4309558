"""Reading changes nothing: tables and columns come into being when something is stored, or when an operator says so."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect

from aioresult import Backend
from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.feeds import files
from tests.servers import ExternalServer, MariaDBServer, mariadb
from tests.stores.sqlalchemy.sql import celery_app, for_celery, foreign_writer, on_postgresql, sql_store, waiting_for

DJANGO = {"task": "django_celery_results_taskresult"}
DJANGOS_TABLE = (
    "CREATE TABLE django_celery_results_taskresult (id INTEGER PRIMARY KEY {}, task_id VARCHAR(255) NOT NULL UNIQUE, "
    "status VARCHAR(50) NOT NULL, content_type VARCHAR(128) NOT NULL, content_encoding VARCHAR(64) NOT NULL, "
    "result TEXT, date_done {} NOT NULL, traceback TEXT, meta TEXT, task_args TEXT, task_kwargs TEXT)"
)
INSERT = (
    "INSERT INTO django_celery_results_taskresult (id, task_id, status, content_type, content_encoding, result, "
    "date_done) VALUES (1, 'a', 'SUCCESS', 'application/json', 'utf-8', '{\"n\": 1}', '2030-01-02 03:04:05')"
)
MORE = INSERT.replace("(1, 'a'", "(2, 'b'")


def run(url: str, *statements: str) -> list[list[Any]]:
    """Execute ``statements`` behind everybody's back, and return the rows of each."""
    engine = create_engine(for_celery(url).removeprefix("db+"))
    with engine.begin() as connection:
        results = [connection.exec_driver_sql(statement) for statement in statements]
        found = [[tuple(row) for row in result] if result.returns_rows else [] for result in results]
    engine.dispose()
    return found


def tables(url: str) -> dict[str, set[str]]:
    """Return all tables and sequences, with their columns."""
    engine = create_engine(for_celery(url).removeprefix("db+"))
    found = inspect(engine)
    there = {table: {column["name"] for column in found.get_columns(table)} for table in found.get_table_names()}
    if engine.dialect.supports_sequences:
        there |= {f"sequence {name}": set() for name in found.get_sequence_names()}
    engine.dispose()
    return there


def djangos(url: str) -> str:
    """Return what creates django-celery-results' table."""
    return DJANGOS_TABLE.format("AUTO_INCREMENT" if url.startswith("mysql") else "", "TIMESTAMP")


async def test_a_reader_of_a_foreign_table_changes_nothing(url: str) -> None:
    await asyncio.to_thread(run, url, djangos(url), INSERT)
    before = await asyncio.to_thread(tables, url)
    async with Backend(url, database_table_names=DJANGO, result_extended=True, poll_interval=0.05) as backend:
        assert (await backend.fetch("a")).result == {"n": 1}
        (waiter,) = await waiting_for(backend, ["b"])
        await asyncio.to_thread(run, url, MORE)
        assert await waiter == {"n": 1}
        await backend.capabilities()
        await backend.ping()
        store = sql_store(backend)
        assert await store.get_group("g") is None
        await store.delete_group("g")
        await backend.forget("b")
    assert await asyncio.to_thread(tables, url) == before


async def test_nothing_is_created_until_something_is_stored(url: str) -> None:
    async with Backend(url, poll_interval=0.05) as backend:
        assert (await backend.fetch("a")).status == "PENDING"
        (waiter,) = await waiting_for(backend, ["a"])
        await backend.forget("a")
        assert await backend.purge() == 0
        details = (await backend.capabilities()).details
        assert "created when the first result is stored" in details["tables"]
        assert await asyncio.to_thread(tables, url) == {}
        async with Backend(url) as writer:
            assert await writer.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        assert "tables" not in (await backend.capabilities()).details
    assert {"celery_taskmeta", "celery_tasksetmeta"} <= (await asyncio.to_thread(tables, url)).keys()


async def test_whoever_waits_before_there_is_a_table_hears_of_it(url: str) -> None:
    """A web application is often there before the first worker."""
    async with Backend(url, poll_interval=0.05, fallback_interval=3600) as backend, foreign_writer(url) as writer:
        waiters = await waiting_for(backend, ["a", "b"])
        await writer.store("a", 1)
        assert await waiters[0] == 1
        await writer.store("b", 2)
        assert await waiters[1] == 2
        (later,) = await waiting_for(backend, ["c"])
        async with Backend(url) as other:
            await other.store_result("c", 3, "PROGRESS")
            await other.store_result("c", 3, "SUCCESS")
        assert await later == 3


async def test_without_leave_to_create_tables_nobody_creates_any(url: str) -> None:
    async with Backend(url, database_create_tables_at_setup=False) as backend:
        for attempt in (backend.fetch("a"), backend.store_result("a", 1, "SUCCESS")):
            with pytest.raises(SettingsError, match=r"no table celery_taskmeta.*database_create_tables_at_setup"):
                await attempt
        with pytest.raises(SettingsError, match="celery_tasksetmeta"):
            await sql_store(backend).put_group("g", [["g", None], []])
        assert await asyncio.to_thread(tables, url) == {}
        await create_tables(backend._runtime.store)
        assert await backend.store_result("a", 1, "SUCCESS")


async def test_single_results_are_stored_without_the_groups_table(url: str) -> None:
    async with Backend(url) as backend:
        await create_tables(sql_store(backend))
    await asyncio.to_thread(run, url, "DROP TABLE celery_tasksetmeta")
    async with Backend(url) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
        assert "celery_tasksetmeta" not in await asyncio.to_thread(tables, url)
        await sql_store(backend).put_group("g", [["g", None], []])
        assert await sql_store(backend).get_group("g") == [["g", None], []]


async def test_an_account_that_may_only_use_one_table_needs_no_other(
    mariadb_url: str, mariadb_server: MariaDBServer | ExternalServer
) -> None:
    if isinstance(mariadb_server, ExternalServer):
        pytest.skip("makes an account on a server that is somebody's own")
    async with Backend(mariadb_url) as owner:
        await create_tables(sql_store(owner))
    database = mariadb_url.rpartition("/")[2]
    statements = [
        "CREATE USER IF NOT EXISTS single@'%' IDENTIFIED BY 'single'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.celery_taskmeta TO single@'%'",
        f"GRANT SELECT, INSERT ON {database}.task_id_sequence TO single@'%'",
    ]
    await asyncio.to_thread(mariadb.execute, mariadb_url, *statements)
    async with Backend(mariadb_url.replace("aioresult:aioresult@", "single:single@")) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
    await asyncio.to_thread(mariadb.execute, mariadb_url, "DROP USER single@'%'")


async def test_names_of_tables_and_schemas_are_names_whatever_they_consist_of(postgres_url: str) -> None:
    names = {"task": 'it\'s a "table" :ids %s $$ \\', "group": "a group' :id --"}
    schemas = dict.fromkeys(names, "a schema's \" :name")
    on_postgresql(postgres_url, 'CREATE SCHEMA "a schema\'s "" :name"')
    for driver in ("asyncpg", "psycopg"):
        async with Backend(
            postgres_url.replace("asyncpg", driver),
            database_table_names=names,
            database_table_schemas=schemas,
            database_trigger=True,
        ) as backend:
            (waiter,) = await waiting_for(backend, [f"a-{driver}"])
            assert await backend.store_result(f"a-{driver}", 1, "SUCCESS")
            assert await waiter == 1
            await sql_store(backend).put_group("g", [["g", None], []])
            assert await sql_store(backend).get_group("g") == [["g", None], []]
            assert await backend.purge() == 0
            assert (await backend.capabilities()).details["trigger"] == "ready states"
    on_postgresql(postgres_url, 'DROP SCHEMA "a schema\'s "" :name" CASCADE')


# --- SQLite -----------------------------------------------------------------------------------------------------------


async def test_a_reader_leaves_the_journal_of_a_foreign_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "celerys.db"
    url = f"sqlite:///{path}"
    with celery_app(url) as app:
        app.backend.store_result("a", 1, "SUCCESS")
    before = await asyncio.to_thread(path.read_bytes)
    async with Backend(url, fallback_interval=3600) as backend:
        assert (await backend.fetch("a")).result == 1
        assert (await backend.capabilities()).details["journal_mode"] == "delete"
        (waiter,) = await waiting_for(backend, ["b"])
        assert await asyncio.to_thread(path.read_bytes) == before
        async with Backend(url) as writer:
            await writer.store_result("b", 2, "SUCCESS")
            assert (await writer.capabilities()).details["journal_mode"] == "wal"
        assert await waiter == 2
        assert await backend.store_result("c", 3, "SUCCESS")


async def test_a_database_in_memory_may_be_shared_by_name(tmp_path: Path) -> None:
    url = "sqlite:///file:shared?mode=memory&cache=shared&uri=true"
    async with Backend(url, fallback_interval=3600) as one, Backend(url) as other:
        (waiter,) = await waiting_for(one, ["a"])
        assert await other.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        assert "shared" in (await one.capabilities()).reason
    assert not (tmp_path / "file:shared").exists()


READ = """
import asyncio, sys
from aioresult import Backend
async def main():
    async with Backend(sys.argv[1]) as backend:
        print((await backend.fetch("a")).result)
asyncio.run(main())
"""


async def test_a_write_ahead_log_in_a_folder_that_the_reader_may_not_write_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        path = folder / "results.db"
        async with Backend(f"sqlite:///{path}") as backend:
            await backend.store_result("a", 1, "SUCCESS")
        folder.chmod(0o555)
        path.chmod(0o444)

        # Rights are no obstacle to root, unless it lays that power down.
        humble = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []

        def read(url: str) -> subprocess.CompletedProcess[str]:
            command = [*humble, sys.executable, "-c", READ, url]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        refused = await asyncio.to_thread(read, f"sqlite:///{path}")
        assert "write-ahead log" in refused.stderr, refused.stderr
        advice = f"sqlite:///file:{path}?immutable=1&uri=true"
        assert advice in refused.stderr
        followed = await asyncio.to_thread(read, advice)
        assert followed.stdout == "1\n", followed.stderr
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        ("ext4", True),
        ("tmpfs", True),
        ("overlay", True),
        ("zfs", True),
        ("fuse.sshfs", False),
        ("fuse.rclone", False),
        ("fuse", False),
        ("drvfs", False),
        ("fakeowner", False),
        ("9p", False),
        ("nfs4", False),
        ("somethingnew", False),
    ],
)
async def test_only_file_systems_that_are_known_to_be_local_have_a_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, local: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    point = str(tmp_path / "m\u00f6unted here")
    await asyncio.to_thread(Path(point).mkdir)
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {point.replace(' ', chr(92) + '040')} rw - {kind} x rw\n"
    )
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    async with Backend(f"sqlite:///{point}/results.db") as backend:
        await backend.store_result("a", 1, "SUCCESS")
        capabilities = await backend.capabilities()
    assert (capabilities.details["journal_mode"] == "wal") == local
    assert capabilities.push == local
    assert local or kind in capabilities.reason
