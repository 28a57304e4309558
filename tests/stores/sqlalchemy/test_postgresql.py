"""PostgreSQL: the conformance suite over both drivers, and what is particular to its tables and statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, Record
from aioresult.errors import AccessDenied, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy import database
from aioresult.stores.sqlalchemy.admin import create_tables, install_trigger, uninstall_trigger
from aioresult.stores.sqlalchemy.dialects.postgresql import PostgreSQLDialect
from aioresult.testing import StoreTests
from aioresult.testing.conformance import eventually
from tests.servers import ExternalServer, PostgresServer, TcpProxy
from tests.stores.sqlalchemy.sql import PATIENCE, celery_app, on_postgresql, sql_store, waiting_for
from tests.versions import since_celery

DRIVERS = ["asyncpg", "psycopg"]
COLUMNS = (
    "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
)


class TestConformanceOverAsyncpg(StoreTests):
    driver: ClassVar[str] = "asyncpg"
    foreign: ClassVar[dict[str, Any]] = {"database_trigger": False}
    """Settings about foreign writers; with these there is nothing but notifications."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres_url: str) -> None:
        self.database = postgres_url.replace("asyncpg", self.driver)

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(self.database, **{"idle_timeout": 0.05, **self.foreign, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        statement = "UPDATE celery_taskmeta SET result = '{broken', status = 'SUCCESS' WHERE task_id = %s"
        await asyncio.to_thread(on_postgresql, self.database, statement, task_id)


class TestConformanceOverPsycopg(TestConformanceOverAsyncpg):
    driver = "psycopg"


class TestConformanceWithPollingForForeignWriters(TestConformanceOverAsyncpg):
    foreign: ClassVar[dict[str, Any]] = {"poll_interval": 0.1}


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    return postgres_url.replace("asyncpg", request.param)


@pytest_asyncio.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url) as backend:
        yield backend


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[PostgresServer]:
    """A server that asks for a password."""
    with PostgresServer(password="right-secret") as server:
        yield server


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_wrong_password_says_so_and_is_not_repeated(guarded_server: PostgresServer, driver: str) -> None:
    url = guarded_server.url.replace("right-secret", "wrong-secret").replace("asyncpg", driver)
    async with Backend(url) as backend:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1.*authentication failed") as caught:
            await backend.store_result("a", 1, "SUCCESS")
        assert "secret" not in f"{caught.value!r} {backend!r} {await _reprs(backend)}"
    async with Backend(guarded_server.url.replace("asyncpg", driver)) as backend:
        assert await backend.store_result(driver, 1, "SUCCESS")


async def _reprs(backend: Backend) -> str:
    return f"{backend._runtime.store!r} {backend._runtime.store.location}"


async def test_an_unknown_database_and_a_closed_port_say_so(url: str) -> None:
    missing = url.rpartition("/")[0] + "/nonesuch"
    async with Backend(missing) as backend:
        with pytest.raises(StoreUnavailable, match=r"nonesuch.*no such database"):
            await backend.ping()
    async with Backend("postgresql://user:secret@127.0.0.1:1/d") as backend:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/d") as caught:
            await backend.ping()
        assert "secret" not in str(caught.value)


async def test_urls_of_libpq_are_understood(postgres_url: str) -> None:
    libpqs = postgres_url.replace("+asyncpg", "") + "?sslmode=prefer&connect_timeout=5&application_name=tests"
    async with Backend(libpqs) as backend:
        await backend.ping()
        names = on_postgresql(postgres_url, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tests'")
        assert len(names) >= 1
    async with Backend(postgres_url.replace("asyncpg", "psycopg2")) as backend:
        await backend.ping()


async def test_connections_that_the_server_has_cut_are_replaced_silently(backend: Backend, url: str) -> None:
    for number in range(3):
        await backend.store_result(f"id-{number}", number, "SUCCESS")
        terminate_others(url)
        assert (await backend.fetch(f"id-{number}")).result == number
        terminate_others(url)


async def test_a_restart_that_leaves_several_dead_connections_costs_one_of_them(backend: Backend, url: str) -> None:
    counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"

    async def several() -> bool:
        await asyncio.gather(*(backend.ping() for _ in range(4)))
        return bool(on_postgresql(url, counted)[0][0] > 2)

    await eventually(several)
    terminate_others(url)
    assert await backend.store_result("a", 1, "SUCCESS")
    terminate_others(url)
    assert (await backend.fetch("a")).result == 1


def terminate_others(url: str) -> None:
    """Have the server cut all other connections to this database."""
    on_postgresql(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def test_a_statement_that_took_too_long_does_not_spoil_those_after_it(
    backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    plain = url.replace("+asyncpg", "").replace("+psycopg", "")
    with psycopg.connect(plain) as connection:
        connection.execute("LOCK TABLE celery_taskmeta")
        monkeypatch.setattr(PostgreSQLDialect, "deadline", 0.1)
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await backend.store_result("b", 2, "SUCCESS")
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await backend.fetch("a")
        monkeypatch.undo()
    assert await backend.store_result("b", 2, "SUCCESS")
    assert {task_id: record.result for task_id, record in (await backend.fetch_many(["a", "b"])).items()} == {
        "a": 1,
        "b": 2,
    }


async def test_a_silent_connection_is_replaced_and_those_beside_it_are_not_trusted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgreSQLDialect, "patience", 0.5)
    async with TcpProxy(url) as proxy, Backend(proxy.url) as backend:
        await backend.store_result("a", 1, "SUCCESS")

        async def several() -> bool:
            await asyncio.gather(*(backend.ping() for _ in range(4)))
            return proxy.accepted >= 3

        await eventually(several)
        before = proxy.accepted
        proxy.silence()
        assert (await backend.fetch("a")).result == 1
        monkeypatch.setattr(PostgreSQLDialect, "patience", 3600)
        assert await backend.store_result("b", 2, "SUCCESS")
        await asyncio.gather(*(backend.ping() for _ in range(4)))
        assert (await backend.fetch("b")).result == 2
        assert proxy.accepted > before


async def test_a_server_that_answers_no_connection_is_given_up(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TcpProxy(postgres_url) as proxy, Backend(proxy.url, connect_timeout=2) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        monkeypatch.setattr(PostgreSQLDialect, "patience", 0.3)
        proxy.freeze()
        with pytest.raises(StoreUnavailable):
            await backend.fetch("a")
        await proxy.resume()
        assert (await backend.fetch("a")).result == 1


async def test_a_value_or_row_that_the_tables_refuse_is_explained(backend: Backend, url: str) -> None:
    await create_tables(sql_store(backend))
    alter = "ALTER TABLE celery_taskmeta ADD CONSTRAINT even CHECK (id % 2 = 3)"
    await asyncio.to_thread(on_postgresql, url, alter)
    with pytest.raises(SettingsError, match=r"tables cannot be used as they are.*even"):
        await backend.store_result("a", 1, "SUCCESS")
    results = await asyncio.gather(
        *(backend.store_result(f"m{i}", i, "SUCCESS") for i in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, SettingsError) for result in results)


@pytest.mark.parametrize("query", ["", "?prepared_statement_cache_size=0"])
async def test_whoever_sets_how_statements_are_prepared_has_them_sent_by_sqlalchemy(
    postgres_url: str, query: str
) -> None:
    seen: list[str] = []

    def listen(engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))

    async with Backend(postgres_url + query, database_engine_callback=listen) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
    assert any("INSERT INTO celery_taskmeta" in statement for statement in seen) == bool(query)


async def test_an_engine_of_the_callers_is_used_and_left_open(url: str) -> None:
    engine = create_async_engine(url, pool_size=1, max_overflow=1)
    async with Backend(engine) as backend:
        (waiter,) = await waiting_for(backend, ["a"])
        await backend.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        await sql_store(backend).put_many([Record(id=f"id-{number}", status="STARTED") for number in range(6000)])
    async with engine.begin() as connection:
        counted = await connection.exec_driver_sql("SELECT count(*) FROM celery_taskmeta")
        assert counted.scalar() == 6001
    await engine.dispose()


# --- tables -----------------------------------------------------------------------------------------------------------


@since_celery("5.7", "all of today's columns")
async def test_the_tables_are_those_that_celery_creates(url: str) -> None:
    with celery_app(url) as app:
        app.backend.store_result("a", 1, "SUCCESS")
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    sequences = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
    celerys = [on_postgresql(url, statement) for statement in (COLUMNS, indexes, sequences)]
    on_postgresql(url, "DROP SCHEMA public CASCADE")
    on_postgresql(url, "CREATE SCHEMA public")
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
    assert [on_postgresql(url, statement) for statement in (COLUMNS, indexes, sequences)] == celerys


async def test_many_stores_may_create_the_tables_at_the_same_time(url: str) -> None:
    backends = [Backend(url) for _ in range(6)]
    written = await asyncio.gather(*(b.store_result(f"id-{n}", n, "SUCCESS") for n, b in enumerate(backends)))
    assert written == [True] * 6
    await asyncio.gather(*(backend.aclose() for backend in backends))


async def test_celery_and_stores_may_create_the_tables_at_the_same_time(url: str) -> None:
    def celery(number: int) -> None:
        with celery_app(url) as app:
            app.backend.store_result(f"theirs-{number}", number, "SUCCESS")

    backends = [Backend(url) for _ in range(3)]
    await asyncio.gather(
        *(asyncio.to_thread(celery, number) for number in range(3)),
        *(backend.store_result(f"ours-{number}", number, "SUCCESS") for number, backend in enumerate(backends)),
    )
    await asyncio.gather(*(backend.aclose() for backend in backends))
    assert on_postgresql(url, "SELECT count(*) FROM celery_taskmeta") == [(6,)]


async def test_tables_may_have_other_names_and_schemas(url: str) -> None:
    schema = 'My "100%" Results'
    quoted = schema.replace('"', '""')
    on_postgresql(url, f'CREATE SCHEMA "{quoted}"')
    settings: dict[str, Any] = {
        "database_table_names": {"task": 'my %s "tasks"', "group": "my-%%-groups"},
        "database_table_schemas": {"task": schema, "group": schema},
        "fallback_interval": 3600,
    }
    try:
        async with Backend(url, **settings) as backend, Backend(url) as plain:
            (waiter,) = await waiting_for(backend, ["a"])
            await plain.store_result("a", "of another table", "SUCCESS")
            assert await backend.store_result("a", 1, "SUCCESS")
            assert await waiter == 1
            await sql_store(backend).put_group("g", [["g", None], []])
            assert await sql_store(backend).get_group("g") == [["g", None], []]
            assert await backend.purge() == 0
            store = backend._runtime.store
            assert [await install_trigger(store) for _ in range(2)] == [True, False]
            assert (await backend.capabilities()).details["trigger"] == "ready states"
            assert [await uninstall_trigger(store) for _ in range(2)] == [True, False]
            await backend.forget("a")
            assert not (await backend.fetch("a")).ready
        sequences = "SELECT sequencename FROM pg_sequences WHERE schemaname = %s ORDER BY 1"
        assert on_postgresql(url, sequences, schema) == [("task_id_sequence",), ("taskset_id_sequence",)]
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1"
        assert on_postgresql(url, tables, schema) == [('my %s "tasks"',), ("my-%%-groups",)]
    finally:
        on_postgresql(url, f'DROP SCHEMA "{quoted}" CASCADE')


async def test_all_states_of_a_task_use_one_number_of_the_sequence(backend: Backend, url: str) -> None:
    for state in ("STARTED", "PROGRESS", "PROGRESS", "RETRY", "SUCCESS", "SUCCESS"):
        await backend.store_result("a", ValueError() if state == "RETRY" else 1, state)
    await backend.store_result("b", 1, "SUCCESS")
    assert on_postgresql(url, "SELECT task_id, id FROM celery_taskmeta ORDER BY id") == [("a", 1), ("b", 2)]


async def test_a_table_whose_ids_fill_themselves_needs_no_sequence(url: str) -> None:
    columns = "task_id VARCHAR(155) UNIQUE, status VARCHAR(50), result BYTEA, date_done TIMESTAMP, traceback TEXT"
    on_postgresql(url, f"CREATE TABLE celery_taskmeta (id SERIAL PRIMARY KEY, {columns})")
    on_postgresql(
        url,
        "CREATE TABLE celery_tasksetmeta (id INTEGER GENERATED ALWAYS AS IDENTITY, taskset_id VARCHAR(155) UNIQUE, "
        "result BYTEA, date_done TIMESTAMP)",
    )
    async with Backend(url, database_create_tables_at_setup=False) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        await sql_store(backend).put_group("g", [["g", None], []])
        assert (await backend.fetch("a")).result == 1


async def test_a_table_without_the_unique_id_is_refused(url: str) -> None:
    async with Backend(url) as backend:
        await create_tables(sql_store(backend))
        on_postgresql(url, "ALTER TABLE celery_taskmeta DROP CONSTRAINT celery_taskmeta_task_id_key")
        with pytest.raises(SettingsError, match="tables cannot be used as they are"):
            await backend.store_result("a", 1, "SUCCESS")


@pytest.fixture
def reader_url(url: str, postgres_server: PostgresServer | ExternalServer) -> Iterator[str]:
    """URL of an account that may connect, and nothing else."""
    on_postgresql(url, "CREATE ROLE reader LOGIN")
    on_postgresql(url, "GRANT USAGE ON SCHEMA public TO reader")
    yield url.replace("//postgres@", "//reader@")
    on_postgresql(url, "DROP OWNED BY reader")
    on_postgresql(url, "DROP ROLE reader")


async def test_an_account_that_may_only_read_reads_and_is_told_when_it_writes(reader_url: str, url: str) -> None:
    async with Backend(reader_url) as reader:
        assert (await reader.fetch("a")).status == "PENDING", "there is no table yet, and reading creates none"
        with pytest.raises(AccessDenied, match=r"not allowed.*permission denied for schema public"):
            await reader.store_result("a", 1, "SUCCESS")
    async with Backend(url) as owner, Backend(reader_url, fallback_interval=3600) as reader:
        await create_tables(owner._runtime.store)
        with pytest.raises(AccessDenied, match=r"not allowed.*permission denied for table celery_taskmeta"):
            await reader.AsyncResult("a").get(timeout=PATIENCE)
        on_postgresql(url, "GRANT SELECT ON celery_taskmeta TO reader")
        (waiter,) = await waiting_for(reader, ["a"])
        with pytest.raises(AccessDenied, match="not allowed"):
            await reader.store_result("a", 1, "SUCCESS")
        await owner.store_result("a", 1, "SUCCESS")
        assert await waiter == 1


# --- statements -------------------------------------------------------------------------------------------------------


async def test_a_thousand_writes_at_once_are_one_transaction(backend: Backend, url: str) -> None:
    await backend.ping()
    before = backend.stats().commands
    await asyncio.gather(*(backend.store_result(f"id-{number}", number, "SUCCESS") for number in range(1000)))
    assert backend.stats().commands - before <= 3
    assert len(on_postgresql(url, "SELECT DISTINCT xmin::text FROM celery_taskmeta")) <= 2


async def test_a_batch_beyond_one_statement_is_written(backend: Backend) -> None:
    store = sql_store(backend)
    records = [Record(id=f"id-{number}", status="SUCCESS", result=number) for number in range(12_000)]
    assert all(await store.put_many(records))
    assert len(await store.get_many([record.id for record in records])) == 12_000


async def test_batches_with_the_same_ids_in_other_orders_do_not_deadlock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_CONFLICT_REPEATS", 0)
    ids = [f"id-{number}" for number in range(2000)]
    async with Backend(url) as one, Backend(url) as other:
        for _ in range(5):
            await asyncio.gather(
                sql_store(one).put_many([Record(id=task_id, status="PROGRESS") for task_id in ids]),
                sql_store(other).put_many([Record(id=task_id, status="STARTED") for task_id in reversed(ids)]),
            )
        assert len(await sql_store(one).get_many(ids)) == 2000


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/St_Johns"])
async def test_dates_are_those_of_the_sessions_time_zone_as_with_celerys_driver(url: str, zone: str) -> None:
    database = url.rpartition("/")[2]
    on_postgresql(url, f"ALTER DATABASE {database} SET timezone TO '{zone}'")
    try:
        async with Backend(url) as backend:
            await backend.store_result("ours", 1, "SUCCESS")
            with celery_app(url) as app:
                app.backend.store_result("theirs", 1, "SUCCESS")
            for name in ("ours", "theirs"):
                date = (await backend.fetch(name)).date_done
                assert date is not None
                assert abs(date - datetime.now(UTC)) < timedelta(minutes=5)
            wall = on_postgresql(url, "SELECT max(date_done) - min(date_done) FROM celery_taskmeta")
            assert wall[0][0] < timedelta(minutes=5)
            assert await backend.purge() == 0
    finally:
        on_postgresql(url, f"ALTER DATABASE {database} RESET timezone")


async def test_only_one_process_sweeps_at_a_time(backend: Backend, url: str) -> None:
    from aioresult.stores.sqlalchemy.dialects.postgresql import lock_key

    old = datetime.now(UTC) - timedelta(days=2)
    store = sql_store(backend)
    await store.put_many([Record(id=f"old-{number}", status="SUCCESS", date_done=old) for number in range(10)])
    key = lock_key("purge public.celery_taskmeta")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
        assert await backend.purge() == 0
    assert await backend.purge() == 10
    await engine.dispose()
