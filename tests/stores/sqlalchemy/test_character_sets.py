"""An id with characters that a table's character set lacks is its own caller's error, and nobody else's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from aioresult import Backend
from aioresult.errors import DecodeError, EncodeError
from tests.servers import ExternalServer, MariaDBServer, PostgresServer, mariadb, postgres
from tests.servers.process import with_path
from tests.stores.sqlalchemy.sql import PATIENCE, celery_app, on_postgresql, waiting_for

UNKNOWN = "日本"
OTHERS = [f"ü{number}" for number in range(10)]


@pytest.fixture
def mariadb_in_latin1(mariadb_server: MariaDBServer | ExternalServer) -> Iterator[str]:
    """URL of a database in Latin 1, which is the default of many servers, with Celery's tables."""
    mariadb_server.start()
    name = f"aioresult_test_{uuid.uuid4().hex[:12]}"
    mariadb.execute(mariadb_server.url, f"CREATE DATABASE {name} CHARACTER SET latin1")
    url = with_path(mariadb_server.url, name)
    with celery_app(url) as app:
        app.backend.store_result("there", 1, "SUCCESS")
    yield url
    mariadb.drop_database(mariadb_server.url, name)


@pytest.fixture(params=["asyncpg", "psycopg"])
def postgresql_in_latin1(
    request: pytest.FixtureRequest, postgres_server: PostgresServer | ExternalServer
) -> Iterator[str]:
    postgres_server.start()
    name = f"aioresult_test_{uuid.uuid4().hex[:12]}"
    options = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    on_postgresql(postgres_server.url, f"CREATE DATABASE {name} {options}")
    yield with_path(postgres_server.url, name).replace("asyncpg", request.param)
    postgres.drop_database(postgres_server.url, name)


async def nobody_else_is_hurt(url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("there", 1, "SUCCESS")
        unknown = asyncio.create_task(backend.AsyncResult(UNKNOWN).get(timeout=PATIENCE))
        waiters = await waiting_for(backend, OTHERS)
        stored = await asyncio.gather(
            *(backend.append(task_id, 1) for task_id in ["a", UNKNOWN, "b"]),
            *(backend.store_result(task_id, 1, "SUCCESS") for task_id in [UNKNOWN, *OTHERS]),
            return_exceptions=True,
        )
        assert [one if isinstance(one, int) else type(one) for one in stored] == [
            *(1, EncodeError, 1, EncodeError),
            *[True] * len(OTHERS),
        ]
        assert await asyncio.gather(*waiters) == [1] * len(OTHERS)
        with pytest.raises(DecodeError, match=UNKNOWN):
            await unknown
        gone = await asyncio.gather(*map(backend.forget, [UNKNOWN, *OTHERS]), return_exceptions=True)
        assert [type(one) for one in gone] == [EncodeError, *[bool] * len(OTHERS)]
        assert await backend.fetch_many(OTHERS) == {}


async def test_in_tables_of_mariadb(mariadb_in_latin1: str) -> None:
    await nobody_else_is_hurt(mariadb_in_latin1)


async def test_in_a_database_of_postgresql(postgresql_in_latin1: str) -> None:
    await nobody_else_is_hurt(postgresql_in_latin1)
