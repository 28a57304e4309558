"""PgBouncer between us and PostgreSQL, in each of its modes: everything works, with as many connections as it has."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend
from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.admin import install_trigger
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.feeds import postgresql as feeds
from aioresult.stores.sqlalchemy.link import Link
from tests.servers import PgBouncer
from tests.servers.pgbouncer import keeps_statements
from tests.stores.sqlalchemy.sql import PATIENCE, on_postgresql, sql_store, waiting_for
from tests.stores.sqlalchemy.test_postgresql import DRIVERS

MODES = ["session", "transaction", "statement"]
ROUND: dict[str, Any] = {"server_round_robin": 1, "min_pool_size": 3}
"""With these, one statement after the other goes to another process of the server."""
SETTINGS: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 0.05, "poll_min_interval": 0.05}

Pooler = Callable[..., PgBouncer]


@pytest.fixture(params=DRIVERS)
def pooler(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Pooler]:
    """Start poolers before an empty database."""
    with ExitStack() as stack:

        def start(mode: str, **options: Any) -> PgBouncer:
            return stack.enter_context(PgBouncer(postgres_url.replace("asyncpg", request.param), mode, **options))

        yield start


def statements(keeping: int) -> dict[str, int]:
    """Return the option for keeping so many statements, where this PgBouncer has it."""
    if keeping and not keeps_statements():
        pytest.skip("this PgBouncer is older than 1.21 and has no max_prepared_statements")
    return {"max_prepared_statements": keeping} if keeping else {}


async def open_servers(pool: PgBouncer, number: int = 3) -> None:
    """Make the pooler open ``number`` connections to the server, which it otherwise does when it finds time."""
    url = pool.url.replace("+asyncpg", "")
    clients = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(number)]
    for client in clients:
        await client.execute("BEGIN")
    for client in clients:
        await client.execute("ROLLBACK")
        await client.close()


async def outcome(call: Awaitable[object]) -> object:
    """Return what ``call`` returns or raises."""
    return (await asyncio.gather(call, return_exceptions=True))[0]


async def names(link: Link, _dialect: Dialect) -> int:
    """Return how many statements the server knows by name on a connection."""
    return int(await link.value("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))


@pytest.mark.parametrize("keeping", [0, 100])
@pytest.mark.parametrize("mode", MODES)
async def test_everything_works_in_each_mode(pooler: Pooler, mode: str, keeping: int) -> None:
    pool = pooler(mode, **ROUND, **statements(keeping))
    async with Backend(pool.url, **SETTINGS) as backend, Backend(pool.url) as other:
        (waiter,) = await waiting_for(backend, ["a"])
        await other.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        for number in range(8):  # more often than drivers wait before they give a statement a name
            assert await backend.store_result(f"id-{number}", number, "SUCCESS")
            assert (await other.fetch(f"id-{number}")).result == number
        await asyncio.gather(*(backend.store_result(f"many-{n}", n, "SUCCESS") for n in range(100)))
        assert len(await other.fetch_many([f"many-{n}" for n in range(100)])) == 100
        await backend.AsyncResult("a").forget()
        assert (await other.fetch("a")).status == "PENDING"
        assert await backend.purge() == 0
        capabilities = await backend.capabilities()
        assert capabilities.push == (mode == "session")
        assert "pooler" in capabilities.details


@pytest.mark.parametrize("size", [2, 3])
async def test_two_connections_suffice_for_any_number_of_reads_and_writes(pooler: Pooler, size: int) -> None:
    pool = pooler("session", size=size)
    async with Backend(pool.url, database_trigger=False, **SETTINGS) as backend:
        (waiter,) = await waiting_for(backend, ["late"])

        async def write_and_read(number: int) -> int:
            await backend.store_result(f"id-{number}", number, "SUCCESS")
            value: int = await backend.AsyncResult(f"id-{number}").get(timeout=PATIENCE)
            return value

        assert await asyncio.gather(*map(write_and_read, range(500))) == list(range(500))
        await backend.store_result("late", 1, "SUCCESS")
        assert await waiter == 1
        assert (await backend.capabilities()).push


async def test_a_pooler_that_is_recognised_gets_no_statements_with_names(pooler: Pooler, postgres_url: str) -> None:
    pool = pooler("session")
    one: dict[str, Any] = {"database_engine_options": {"pool_size": 1}}
    async with Backend(pool.url, **one) as pooled, Backend(postgres_url, **one) as direct:
        for backend in (pooled, direct):
            for number in range(8):
                assert await backend.store_result(f"id-{number}", number, "PROGRESS")
                assert (await backend.fetch(f"id-{number}")).result == number
        assert await sql_store(pooled).database.run(names) == 0
        assert await sql_store(direct).database.run(names) > 0


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_is_not_recognised_is_suspected_when_a_statement_is_unknown(
    pooler: Pooler, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pooler(mode, **ROUND)
    if "psycopg" in pool.url:
        pytest.skip("psycopg names no statement, unless it is asked to")
    named = {"prepared_statement_name_func": lambda: f"named_{uuid.uuid4().hex}"}
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.3)
    async with Backend(pool.url, database_engine_options={"connect_args": named}) as backend:
        for number in range(8):
            assert await backend.store_result(f"id-{number}", number, "SUCCESS")
            assert (await backend.fetch(f"id-{number}")).result == number


async def test_an_engine_of_the_callers_that_names_its_statements_is_told_how_not_to(pooler: Pooler) -> None:
    pool = pooler("transaction", **ROUND)
    if "psycopg" in pool.url:
        pytest.skip("psycopg is told on each connection, and needs no other engine")
    await open_servers(pool)
    engine = create_async_engine(pool.url)
    async with Backend(engine) as backend:
        written = [await outcome(backend.store_result(f"id-{number}", number, "SUCCESS")) for number in range(8)]
        assert any(isinstance(error, SettingsError) and "'statement_cache_size': 0" in str(error) for error in written)
    await engine.dispose()
    nameless = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    engine = create_async_engine(pool.url, connect_args=nameless)
    async with Backend(engine) as backend:
        for number in range(8):
            await backend.store_result(f"id-{number}", number, "SUCCESS")
    await engine.dispose()


async def test_in_statement_mode_the_trigger_is_refused_with_what_to_do(
    pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pooler("statement")
    async with Backend(pool.url, database_trigger=True) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        with pytest.raises(SettingsError, match="leads to the server itself"):
            await install_trigger(sql_store(backend))
        await backend.store_result("b", 1, "SUCCESS")


async def test_a_pooler_that_refuses_further_connections_keeps_nobody_from_those_that_there_are(
    pooler: Pooler, postgres_url: str
) -> None:
    on_postgresql(postgres_url, "CREATE ROLE frugal LOGIN CONNECTION LIMIT 2")
    on_postgresql(postgres_url, "GRANT ALL ON SCHEMA public TO frugal")
    try:
        url = postgres_url.replace("postgres@", "frugal@")
        async with Backend(url, **SETTINGS) as backend:
            (waiter,) = await waiting_for(backend, ["late"])
            await asyncio.gather(*(backend.store_result(f"id-{n}", n, "SUCCESS") for n in range(500)))
            found = await asyncio.gather(*(backend.fetch(f"id-{n}") for n in range(500)))
            assert [record.result for record in found] == list(range(500))
            await backend.store_result("late", 1, "SUCCESS")
            assert await waiter == 1
    finally:
        on_postgresql(postgres_url, "DROP OWNED BY frugal")
        on_postgresql(postgres_url, "DROP ROLE frugal")


async def test_the_option_of_other_guides_does_no_harm(pooler: Pooler) -> None:
    pool = pooler("transaction", **ROUND)
    query = urlencode({"statement_cache_size": 0, "prepared_statement_cache_size": 0})
    if "psycopg" in pool.url:
        pytest.skip("the options are asyncpg's")
    async with Backend(f"{pool.url}?{query}") as backend:
        for number in range(8):
            assert await backend.store_result(f"id-{number}", number, "SUCCESS")


@pytest.mark.parametrize("query", ["schema=results", "options=-c%20work_mem%3D8MB"])
async def test_a_parameter_that_the_pooler_does_not_take_is_no_outage(pooler: Pooler, query: str) -> None:
    async with Backend(f"{pooler('session', **ROUND).url}?{query}") as backend:
        with pytest.raises(SettingsError, match=r"does not take an option of the URL.*unsupported startup parameter"):
            await backend.store_result("a", 1, "SUCCESS")
