"""MySQL and MariaDB: the conformance suite, and what is particular to them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, Record
from aioresult.errors import AccessDenied, InvalidTaskId, ResultTooLarge, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.dialects.mysql import lock_name
from aioresult.testing import StoreTests
from aioresult.testing.conformance import eventually
from tests.servers import ExternalServer, MariaDBServer, mariadb
from tests.stores.sqlalchemy.sql import celery_app, sql_store, waiting_for


class TestConformance(StoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, mariadb_url: str) -> None:
        self.database = mariadb_url

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(
            self.database, **{"idle_timeout": 0.05, "poll_interval": 0.1, "poll_min_interval": 0.01, **settings}
        )

    async def poison(self, backend: Backend, task_id: str) -> None:
        statement = f"UPDATE celery_taskmeta SET result = '{{broken', status = 'SUCCESS' WHERE task_id = '{task_id}'"
        await asyncio.to_thread(mariadb.execute, self.database, statement)


@pytest_asyncio.fixture
async def backend(mariadb_url: str) -> AsyncIterator[Backend]:
    async with Backend(mariadb_url, poll_interval=0.1, poll_min_interval=0.01, fallback_interval=3600) as backend:
        yield backend


def by_celery(url: str, task_id: str, result: Any, state: str = "SUCCESS") -> None:
    """Store a result with Celery, which creates the tables if there are none."""
    with celery_app(url) as app:
        app.backend.store_result(task_id, result, state)


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+asyncmy", "mysql+pymysql", "mysql+mysqldb", "db+mysql"])
async def test_every_spelling_of_the_scheme_is_understood(mariadb_url: str, scheme: str) -> None:
    async with Backend(f"{scheme}://{mariadb_url.partition('://')[2]}") as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        capabilities = await backend.capabilities()
    assert not capabilities.push
    assert "cannot notify" in capabilities.reason


async def test_a_wrong_password_and_an_unknown_database_say_so(mariadb_url: str) -> None:
    parts = make_url(mariadb_url)
    wrong = parts.set(username="nobody", password="wrong-secret").render_as_string(hide_password=False)
    async with Backend(wrong) as backend:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1.*authentication failed") as caught:
            await backend.ping()
        assert "secret" not in f"{caught.value!r} {backend!r}"
    missing = parts.set(database="nonesuch").render_as_string(hide_password=False)
    async with Backend(missing) as backend:
        with pytest.raises(StoreUnavailable, match="nonesuch"):
            await backend.ping()


async def test_a_database_that_is_not_the_account_s_is_no_matter_of_passwords_and_tls(mariadb_url: str) -> None:
    database = mariadb_url.rpartition("/")[2]
    statements = ("CREATE USER IF NOT EXISTS clerk@'%' IDENTIFIED BY 'clerk'", "DROP USER clerk@'%'")
    await asyncio.to_thread(mariadb.execute, mariadb_url, statements[0])
    for name in (database, "nonesuch"):
        url = make_url(mariadb_url).set(username="clerk", password="clerk", database=name)
        async with Backend(url.render_as_string(hide_password=False)) as backend:
            with pytest.raises(AccessDenied, match=rf"not allowed.*'{name}'") as caught:
                await backend.ping()
            assert "authentication" not in str(caught.value)
            assert "TLS" not in str(caught.value)
    await asyncio.to_thread(mariadb.execute, mariadb_url, statements[1])


async def test_a_closed_port_is_named(mariadb_url: str) -> None:
    async with Backend("mysql://user:secret@127.0.0.1:1/d") as backend:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/d") as caught:
            await backend.ping()
        assert "secret" not in str(caught.value)


async def test_connections_that_the_server_has_cut_are_replaced_silently(backend: Backend, mariadb_url: str) -> None:
    for number in range(3):
        await backend.store_result(f"id-{number}", number, "SUCCESS")
        await asyncio.to_thread(kill_others, mariadb_url)
        assert (await backend.fetch(f"id-{number}")).result == number
        await asyncio.to_thread(kill_others, mariadb_url)


def kill_others(url: str) -> None:
    """Have the server cut all other connections to this database."""
    others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    for (number,) in mariadb.execute(url, others):
        mariadb.execute(url, f"KILL {number}")


async def test_an_engine_of_the_callers_in_repeatable_read_sees_what_others_store(mariadb_url: str) -> None:
    engine = create_async_engine(mariadb_url, isolation_level="REPEATABLE READ")
    async with Backend(engine, poll_interval=0.05, fallback_interval=3600) as backend:
        (waiter,) = await waiting_for(backend, ["a"])
        await asyncio.to_thread(by_celery, mariadb_url, "a", 1)
        assert await waiter == 1
        assert await backend.store_result("b", 1, "SUCCESS")
    await engine.dispose()


# --- tables -----------------------------------------------------------------------------------------------------------


async def test_tables_may_have_other_names(mariadb_url: str) -> None:
    names = {"task": "my %s `tasks`", "group": "my-%%-groups"}
    async with Backend(mariadb_url, database_table_names=names, poll_interval=0.05) as backend:
        (waiter,) = await waiting_for(backend, ["a"])
        assert await backend.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        await sql_store(backend).put_group("g", [["g", None], []])
        assert await sql_store(backend).get_group("g") == [["g", None], []]
        await sql_store(backend).delete_group("g")
        assert await backend.purge() == 0
        await backend.forget("a")
        assert not (await backend.fetch("a")).ready
    tables = await asyncio.to_thread(mariadb.execute, mariadb_url, "SHOW TABLES")
    assert {name for (name,) in tables} >= set(names.values())


async def test_in_tables_of_celery_a_result_that_does_not_fit_is_refused_alone(
    backend: Backend, mariadb_url: str
) -> None:
    await asyncio.to_thread(by_celery, mariadb_url, "theirs", 1)
    refused, stored = await asyncio.gather(
        backend.store_result("large", "x" * 70_000, "SUCCESS"),
        backend.store_result("small", "x", "SUCCESS"),
        return_exceptions=True,
    )
    assert isinstance(refused, ResultTooLarge)
    assert "'large'" in str(refused)
    assert "LONGBLOB" in str(refused)
    assert stored is True
    await backend.store_result("traceback", ValueError(), "FAILURE", "\u4e2d" * 70_000 + "the end")
    record = await backend.fetch("traceback")
    assert record.traceback is not None
    assert record.traceback.endswith("\\u4e2dthe end"), "the tables have the server's character set, latin1"


async def test_in_tables_of_ours_large_results_and_precise_dates_are_at_home(backend: Backend) -> None:
    date = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    await sql_store(backend).put_many([Record(id="a", status="SUCCESS", result="x" * 1_000_000, date_done=date)])
    record = await backend.fetch("a")
    assert (len(record.result), record.date_done) == (1_000_000, date)
    await backend.store_result("b", ValueError(), "FAILURE", "\u4e2d \U0001f600")
    assert (await backend.fetch("b")).traceback == "\u4e2d \U0001f600"


@pytest.mark.parametrize("whose", ["ours", "celery's"])
async def test_ids_that_a_collation_takes_for_the_same_are_never_mixed_up(
    backend: Backend, mariadb_url: str, whose: str
) -> None:
    if whose == "celery's":
        await asyncio.to_thread(by_celery, mariadb_url, "theirs", 1)
    ids = ["abc", "ABC", "\u00e4bc", "abc "]
    outcomes = [
        (await asyncio.gather(backend.store_result(task_id, task_id, "SUCCESS"), return_exceptions=True))[0]
        for task_id in ids
    ]
    if whose == "ours":
        assert outcomes == [True] * 4
    else:
        assert outcomes[0] is True
        assert isinstance(outcomes[1], InvalidTaskId)
        assert re.search(r"'ABC'.*differs in case.*ALTER TABLE celery_taskmeta", str(outcomes[1]))
    for task_id, outcome in zip(ids, outcomes, strict=True):
        assert (await backend.fetch(task_id)).result == (task_id if outcome is True else None)
    for other in ids[1:]:
        await backend.forget(other)
    assert (await backend.fetch("abc")).result == "abc", "who forgets one task does not delete another"
    await sql_store(backend).put_group("abc", [["abc", None], []])
    assert await sql_store(backend).get_group("ABC") is None
    await sql_store(backend).delete_group("ABC")
    assert await sql_store(backend).get_group("abc") == [["abc", None], []]


async def test_a_sequence_that_does_not_exist_is_named(backend: Backend, mariadb_url: str) -> None:
    await create_tables(sql_store(backend))
    await asyncio.to_thread(mariadb.execute, mariadb_url, "DROP SEQUENCE task_id_sequence")
    with pytest.raises(SettingsError, match=r"needs the sequence task_id_sequence, which does not exist\n"):
        await backend.store_result("a", 1, "SUCCESS")


async def test_a_table_without_a_unique_key_is_read_and_not_written_to(backend: Backend, mariadb_url: str) -> None:
    """Every INSERT would be a further row, so that one task had several results."""
    await asyncio.to_thread(
        mariadb.execute,
        mariadb_url,
        "CREATE TABLE celery_taskmeta (id INT AUTO_INCREMENT PRIMARY KEY, task_id VARCHAR(155), status VARCHAR(50), "
        "result LONGBLOB, date_done DATETIME(6), traceback LONGTEXT, UNIQUE KEY (task_id, status), "
        "UNIQUE KEY (task_id(8)))",
        "INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('a', 'SUCCESS', '1')",
    )
    assert (await backend.fetch("a")).result == 1
    with pytest.raises(SettingsError, match=r"no unique key on task_id.*CREATE UNIQUE INDEX"):
        await backend.store_result("b", 1, "SUCCESS")
    assert (await backend.fetch("a")).result == 1
    await asyncio.to_thread(mariadb.execute, mariadb_url, "CREATE UNIQUE INDEX whole ON celery_taskmeta (task_id)")
    assert await backend.store_result("b", 1, "SUCCESS")


async def test_a_column_of_json_tells_what_was_written(backend: Backend, mariadb_url: str) -> None:
    await asyncio.to_thread(
        mariadb.execute,
        mariadb_url,
        "CREATE TABLE celery_taskmeta (id INT AUTO_INCREMENT PRIMARY KEY, task_id VARCHAR(155) UNIQUE, "
        "status VARCHAR(50), result JSON, date_done DATETIME(6), traceback LONGTEXT)",
    )
    assert await backend.store_result("a", {"a": "\u00e4 'b' \\ c"}, "SUCCESS")
    assert not await backend.store_result("a", 2, "STARTED")
    assert (await backend.fetch("a")).result == {"a": "\u00e4 'b' \\ c"}
    async with Backend(mariadb_url, result_serializer="pickle", accept_content=["pickle"]) as pickling:
        with pytest.raises(SettingsError, match=r"column result is of type LONGTEXT.*MODIFY result LONGBLOB"):
            await pickling.store_result("b", 1, "SUCCESS")


async def test_many_stores_may_create_the_tables_at_the_same_time(mariadb_url: str) -> None:
    backends = [Backend(mariadb_url) for _ in range(6)]
    written = await asyncio.gather(*(b.store_result(f"id-{n}", n, "SUCCESS") for n, b in enumerate(backends)))
    assert written == [True] * 6
    await asyncio.gather(*(backend.aclose() for backend in backends))


# --- statements -------------------------------------------------------------------------------------------------------


async def test_a_thousand_waiters_are_one_query_per_tick(backend: Backend, mariadb_url: str) -> None:
    ids = [f"id-{number}" for number in range(1000)]
    waiters = await waiting_for(backend, ids)
    before, ticks = backend.stats().commands, 0
    reads = sql_store(backend).get_many

    async def counted(ids: Sequence[str]) -> Mapping[str, Record]:
        nonlocal ticks
        ticks += 1
        return await reads(ids)

    sql_store(backend).get_many = counted  # type: ignore[method-assign]  # to count its calls

    async def several() -> bool:
        return ticks >= 3

    await eventually(several)
    assert backend.stats().commands - before <= ticks + 1
    async with Backend(mariadb_url) as other:
        await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
    assert await asyncio.gather(*waiters) == ids


async def test_batches_with_the_same_ids_in_other_orders_are_all_written(mariadb_url: str) -> None:
    backends = [Backend(mariadb_url) for _ in range(3)]
    await asyncio.gather(*(backend.ping() for backend in backends))
    for turn in range(8):
        ids = [f"id-{turn % 4}-{number}" for number in range(100)]
        orders = [ids, ids[::-1], random.sample(ids, 100)]
        await asyncio.gather(
            *(
                sql_store(backend).put_many([Record(id=task_id, status="PROGRESS") for task_id in order])
                for backend, order in zip(backends, orders, strict=True)
            )
        )
        assert len(await sql_store(backends[0]).get_many(ids)) == 100
    await asyncio.gather(*(backend.aclose() for backend in backends))


async def test_a_result_beyond_what_the_server_takes_is_refused_alone(backend: Backend, mariadb_url: str) -> None:
    ((limit,),) = await asyncio.to_thread(mariadb.execute, mariadb_url, "SELECT @@max_allowed_packet")
    sizes = {"fits": limit - 100_000, "large": limit, "quotes": limit * 4 // 5}
    values = {name: ("'" if name == "quotes" else "x") * size for name, size in sizes.items()}
    outcomes = await asyncio.gather(
        *(backend.store_result(name, value, "SUCCESS") for name, value in values.items()), return_exceptions=True
    )
    assert outcomes[0] is True
    for outcome in outcomes[1:]:
        assert isinstance(outcome, ResultTooLarge)
        assert "max_allowed_packet" in str(outcome)
    assert len((await backend.fetch("fits")).result) == sizes["fits"]


async def test_a_batch_beyond_one_statement_is_written(backend: Backend) -> None:
    records = [Record(id=f"id-{number}", status="SUCCESS", result="x" * 10_000) for number in range(2500)]
    store = sql_store(backend)
    assert all(await store.put_many(records))
    assert len(await store.get_many([record.id for record in records])) == 2500


async def test_only_one_process_sweeps_at_a_time(backend: Backend, mariadb_url: str) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    await sql_store(backend).put_many([Record(id=f"old-{n}", status="SUCCESS", date_done=old) for n in range(10)])
    engine = create_async_engine(mariadb_url)
    async with engine.connect() as connection:
        lock = lock_name(make_url(mariadb_url).database or "", "celery_taskmeta")
        await connection.exec_driver_sql("SELECT GET_LOCK(%s, 0)", (lock,))
        assert await backend.purge() == 0
        await connection.exec_driver_sql("SELECT RELEASE_LOCK(%s)", (lock,))
    assert await backend.purge() == 10
    await engine.dispose()


# --- bad days ---------------------------------------------------------------------------------------------------------


async def test_waiters_survive_a_killed_server(
    backend: Backend, mariadb_url: str, mariadb_server: MariaDBServer | ExternalServer
) -> None:
    ids = [f"id-{number}" for number in range(300)]
    waiters = await waiting_for(backend, ids)
    await asyncio.to_thread(mariadb_server.kill)
    await asyncio.to_thread(mariadb_server.start)
    async with Backend(mariadb_url) as other:
        await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
    assert await asyncio.gather(*waiters) == ids
