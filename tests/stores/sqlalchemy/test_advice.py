"""The statements in error messages can be run as they stand, whatever the tables are called."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from aioresult import Backend
from aioresult.errors import AioResultError
from tests.servers import mariadb
from tests.stores.sqlalchemy.sql import on_postgresql

TABLE = 'Results "of" today-%s'
SCHEMA = 'Shop "x"'
NAMES: dict[str, Any] = {"database_table_names": {"task": TABLE}}


async def told(backend: Backend, pattern: str) -> str:
    """Return the statement in the error for storing."""
    with pytest.raises(AioResultError) as caught:
        await backend.store_result("a", 1, "SUCCESS")
    found = re.search(pattern, str(caught.value))
    assert found is not None, caught.value
    return found[1]


async def test_postgresql_s_schema_is_created_by_the_statement(postgres_url: str) -> None:
    schemas = {"task": SCHEMA, "group": SCHEMA}
    quoted = '"Shop ""x"""'
    on_postgresql(postgres_url, f"DROP SCHEMA IF EXISTS {quoted} CASCADE")
    async with Backend(postgres_url, database_table_schemas=schemas, database_create_tables_at_setup=False) as backend:
        on_postgresql(postgres_url, await told(backend, r"by `(CREATE SCHEMA .*?)`"))
    async with Backend(postgres_url, database_table_schemas=schemas) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
    on_postgresql(postgres_url, f"DROP SCHEMA {quoted} CASCADE")


async def test_postgresql_s_column_is_changed_by_the_statement(postgres_url: str) -> None:
    async with Backend(postgres_url, **NAMES) as backend:
        await backend.store_result("there", 1, "SUCCESS")
    column = "ALTER COLUMN result TYPE text USING convert_from(result, 'UTF8')"
    on_postgresql(postgres_url, f'ALTER TABLE "Results ""of"" today-%s" {column}')
    async with Backend(postgres_url, **NAMES) as backend:
        on_postgresql(postgres_url, await told(backend, r"may do it: (ALTER TABLE .*)"))
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("there")).result == 1


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ("DROP INDEX task_id", r"may do it: (CREATE UNIQUE INDEX .*)"),
        ("MODIFY result TEXT", r"may do it: (ALTER TABLE .*)"),
    ],
)
async def test_mariadb_s_table_is_changed_by_the_statement(mariadb_url: str, change: str, pattern: str) -> None:
    msgpack = {"result_serializer": "msgpack"}  # it cannot be kept in a column of text
    async with Backend(mariadb_url, **NAMES, **msgpack) as backend:
        await backend.store_result("there", 1, "SUCCESS")
    await asyncio.to_thread(mariadb.execute, mariadb_url, f"ALTER TABLE `{TABLE}` {change}")
    async with Backend(mariadb_url, **NAMES, **msgpack) as backend:
        await asyncio.to_thread(mariadb.execute, mariadb_url, await told(backend, pattern))
        assert await backend.store_result("a", 1, "SUCCESS")


async def test_a_right_on_mariadb_s_sequence_is_granted_by_the_statement(mariadb_url: str) -> None:
    async with Backend(mariadb_url) as backend:
        await backend.store_result("there", 1, "SUCCESS")
    database = mariadb_url.rpartition("/")[2]
    user = "advised@'%'"
    await asyncio.to_thread(
        mariadb.execute,
        mariadb_url,
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'advised'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.celery_taskmeta TO {user}",
    )
    async with Backend(mariadb_url.replace("aioresult:aioresult@", "advised:advised@")) as backend:
        grant = await told(backend, r"not use: (GRANT .*? TO) it")
        await asyncio.to_thread(mariadb.execute, mariadb_url, f"{grant} {user}")
        assert await backend.store_result("a", 1, "SUCCESS")
    await asyncio.to_thread(mariadb.execute, mariadb_url, f"DROP USER {user}")


@pytest.mark.parametrize("length", [58, 63])
async def test_a_table_may_have_a_name_as_long_as_the_server_takes(
    length: int, mariadb_url: str, postgres_url: str
) -> None:
    names = {kind: kind[0] * length for kind in ("task", "group", "stream", "runner")}
    for url in (mariadb_url, postgres_url):
        async with Backend(url, database_table_names=names, database_trigger=None) as backend:
            assert await backend.store_result("a", 1, "SUCCESS")
            assert await backend.append("b", 1) == 1
            await backend.GroupResult("g", [backend.AsyncResult("a")]).save()
            assert (await backend.restore_group("g")) is not None
