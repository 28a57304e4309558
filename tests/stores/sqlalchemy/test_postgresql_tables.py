"""PostgreSQL's tables as operators treat them: schemas that are missing, ids that run out, tables that are swapped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from aioresult import Backend
from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.admin import create_tables, install_trigger
from tests.stores.sqlalchemy.sql import on_postgresql, sql_store, waiting_for
from tests.stores.sqlalchemy.test_postgresql import DRIVERS

ONLY_PUSH: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 3600, "poll_min_interval": 3600}


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    return postgres_url.replace("asyncpg", request.param)


@pytest_asyncio.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url) as backend:
        yield backend


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("creating", [True, False])
async def test_a_schema_that_does_not_exist_is_to_be_created(url: str, creating: bool) -> None:
    schemas = {"task": "results", "group": "results"}
    on_postgresql(url, "DROP SCHEMA IF EXISTS results CASCADE")
    async with Backend(url, database_table_schemas=schemas, database_create_tables_at_setup=creating) as backend:
        with pytest.raises(SettingsError, match=r"schema \"?results.*create the schema|create it, by `CREATE SCHEMA"):
            await backend.store_result("a", 1, "SUCCESS")
        on_postgresql(url, "CREATE SCHEMA results")
        if creating:
            assert await backend.store_result("a", 1, "SUCCESS")
        else:
            with pytest.raises(SettingsError, match=r"no table results\.celery_taskmeta"):
                await backend.store_result("a", 1, "SUCCESS")


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", ["bigint", "integer"])
async def test_ids_that_have_run_out_are_no_fault_of_the_value(backend: Backend, url: str, sequence: str) -> None:
    await backend.store_result("there", 1, "STARTED")
    await asyncio.to_thread(on_postgresql, url, f"ALTER SEQUENCE task_id_sequence AS {sequence}")
    await asyncio.to_thread(on_postgresql, url, "SELECT setval('task_id_sequence', 2147483647)")
    with pytest.raises(SettingsError, match=r"no ids left for new rows.*TYPE bigint"):
        await backend.store_result("new", 1, "SUCCESS")
    assert await backend.store_result("there", 2, "SUCCESS")
    await asyncio.to_thread(on_postgresql, url, "ALTER TABLE celery_taskmeta ALTER COLUMN id TYPE bigint")
    await asyncio.to_thread(on_postgresql, url, "ALTER SEQUENCE task_id_sequence AS bigint MAXVALUE 9000000000")
    assert await backend.store_result("new", 1, "SUCCESS")


# --- tables in the place of others ------------------------------------------------------------------------------------

IDS = {
    "an identity": "ALTER TABLE {} ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY",
    "a default": "ALTER TABLE {} ALTER COLUMN id SET DEFAULT nextval('task_id_sequence')",
    "nothing": "SELECT",
}


@pytest.mark.parametrize("before", IDS)
@pytest.mark.parametrize("after", IDS)
async def test_a_table_that_another_one_replaces_is_examined_anew(url: str, before: str, after: str) -> None:
    async with Backend(url) as creator:
        await create_tables(creator._runtime.store)
    for statement in (
        "CREATE TABLE other (LIKE celery_taskmeta INCLUDING INDEXES)",
        IDS[before].format("celery_taskmeta"),
        IDS[after].format("other"),
    ):
        await asyncio.to_thread(on_postgresql, url, statement)
    async with Backend(url) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
        for statement in ("ALTER TABLE celery_taskmeta RENAME TO old", "ALTER TABLE other RENAME TO celery_taskmeta"):
            await asyncio.to_thread(on_postgresql, url, statement)
        assert (await backend.fetch("a")).status == "PENDING"
        assert await backend.store_result("a", 2, "SUCCESS")
        assert all(await asyncio.gather(*(backend.store_result(f"id-{n}", n, "SUCCESS") for n in range(10))))
        assert (await backend.fetch("a")).result == 2


async def test_a_column_whose_type_changes_does_not_spoil_the_statements_prepared_before(
    backend: Backend, url: str
) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    assert (await backend.fetch("a")).result == 1
    await asyncio.to_thread(on_postgresql, url, "ALTER TABLE celery_taskmeta ALTER COLUMN traceback TYPE varchar(9999)")
    assert (await backend.fetch("a")).result == 1
    assert await backend.store_result("b", 2, "SUCCESS")


# --- sessions that replicate ------------------------------------------------------------------------------------------


def _store_as_replica(url: str, task_id: str) -> None:
    libpqs = url.replace("+asyncpg", "").replace("+psycopg", "")
    with psycopg.connect(libpqs, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO celery_taskmeta (id, task_id, status, result, date_done) "
            "VALUES (nextval('task_id_sequence'), %s, 'SUCCESS', '1', now())",
            (task_id,),
        )


async def test_what_a_session_stores_that_replicates_is_announced_too(url: str) -> None:
    async with Backend(url, database_trigger=True, **ONLY_PUSH) as backend:
        (waiter,) = await waiting_for(backend, ["a"])
        await asyncio.to_thread(_store_as_replica, url, "a")
        assert await waiter == 1


async def test_installing_again_has_an_older_trigger_fire_in_such_sessions(url: str) -> None:
    async with Backend(url, database_trigger=True, **ONLY_PUSH) as backend:
        await backend.ping()
        await asyncio.to_thread(on_postgresql, url, "ALTER TABLE celery_taskmeta ENABLE TRIGGER aioresult_notify")
        assert await install_trigger(sql_store(backend))
        assert not await install_trigger(sql_store(backend))
        (waiter,) = await waiting_for(backend, ["a"])
        await asyncio.to_thread(_store_as_replica, url, "a")
        assert await waiter == 1
