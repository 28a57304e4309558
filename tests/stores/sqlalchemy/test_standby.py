"""Servers that only read: a standby is polled, and one that was the primary until a failover is left."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from aioresult import Backend, subscription
from aioresult.errors import AccessDenied, StoreUnavailable
from aioresult.stores import notices
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.dialects.mysql import MySQLDialect
from aioresult.stores.sqlalchemy.feeds import postgresql as feeds
from tests.cli.commandline import aioresult
from tests.servers import MariaDBServer, PostgresServer, PostgresStandby, TcpProxy
from tests.servers.mariadb import execute
from tests.stores.sqlalchemy.sql import on_postgresql, until_silent, waiting_for
from tests.stores.sqlalchemy.test_postgresql import DRIVERS

ONLY_POLLING: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 0.05, "poll_min_interval": 0.05}
ONLY_PUSH: dict[str, Any] = {
    "fallback_interval": 3600,
    "poll_interval": 3600,
    "poll_min_interval": 3600,
    "database_trigger": False,
}


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: PostgresServer) -> Iterator[PostgresStandby]:
    with PostgresStandby(primary) as server:
        yield server


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    driver: str = request.param
    return driver


@pytest.fixture
async def urls(primary: PostgresServer, standby: PostgresStandby, driver: str) -> tuple[str, str]:
    """URLs of a primary and of its standby, with empty tables on both."""
    url, copy = (server.url.replace("asyncpg", driver) for server in (primary, standby))
    async with Backend(url) as backend:
        await create_tables(backend._runtime.store)
    await asyncio.to_thread(on_postgresql, url, "TRUNCATE celery_taskmeta")
    await asyncio.to_thread(standby.catch_up)
    return url, copy


# --- a standby --------------------------------------------------------------------------------------------------------


async def test_who_waits_at_a_standby_is_woken_by_polling(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_given", set())
    url, copy = urls
    async with Backend(copy, **ONLY_POLLING) as reader, Backend(url) as writer:
        (waiter,) = await waiting_for(reader, ["a"])
        await writer.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
        capabilities = await reader.capabilities()
        assert (capabilities.push, capabilities.writes) == (False, False)
        assert "cannot execute LISTEN during recovery" in capabilities.reason
        assert "standby" in capabilities.details["role"]
        assert (await writer.capabilities()).writes
        assert reader.stats().reconnects == 0
    assert len([record for record in caplog.records if "cannot execute LISTEN" in record.message]) == 1


async def test_what_cannot_be_stored_at_a_standby_is_no_fault_of_the_account(urls: tuple[str, str]) -> None:
    async with Backend(urls[1]) as backend:
        with pytest.raises(StoreUnavailable, match="the server only reads"):
            await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).status == "PENDING"


async def test_an_account_that_only_reads_is_told_so(urls: tuple[str, str]) -> None:
    url = urls[0]
    on_postgresql(url, "CREATE ROLE looker LOGIN")
    on_postgresql(url, "ALTER ROLE looker SET default_transaction_read_only = on")
    on_postgresql(url, "GRANT ALL ON celery_taskmeta, celery_tasksetmeta TO looker")
    try:
        async with Backend(url.replace("postgres@", "looker@")) as backend:
            with pytest.raises(AccessDenied, match=r"account is not allowed.*read-only transaction"):
                await backend.store_result("a", 1, "SUCCESS")
    finally:
        on_postgresql(url, "DROP OWNED BY looker")
        on_postgresql(url, "DROP ROLE looker")


async def test_the_doctor_examines_a_standby(urls: tuple[str, str]) -> None:
    done = await asyncio.to_thread(aioresult, "doctor", urls[1], "--json")
    assert done.code == 0, done.err
    (report,) = done.objects
    assert not report["push"]
    assert not report["capabilities"]["writes"]
    assert any("Nothing can be stored here" in text for text in report["advice"])


async def test_once_a_standby_is_promoted_waiters_are_pushed_to(
    primary: PostgresServer, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_NEXT_PROBE", 0.1)
    monkeypatch.setattr(subscription, "_SECOND_CHANCE", 0.2)
    async with Backend(primary.url) as backend:
        await create_tables(backend._runtime.store)
    with await asyncio.to_thread(PostgresStandby(primary).__enter__) as successor:
        url = successor.url.replace("asyncpg", driver)
        async with Backend(url, database_trigger=False, **ONLY_POLLING) as backend, Backend(url) as writer:
            (waiter,) = await waiting_for(backend, ["promoted"])
            assert not (await backend.capabilities()).push
            await asyncio.to_thread(successor.promote)
            await until_silent(backend)
            await writer.store_result("promoted", 1, "SUCCESS")
            assert await waiter == 1
            assert (await backend.capabilities()).writes


# --- servers without LISTEN -------------------------------------------------------------------------------------------


class Rewriting(TcpProxy):
    """Has the server refuse LISTEN, as those do that speak PostgreSQL's protocol without it."""

    refused = b"SELECT count(*) FOR UPDATE"
    """What PostgreSQL does not support: SQLSTATE 0A000, which CockroachDB has for LISTEN."""

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        if way == "to the client":
            await super()._forward(source, target, way)
            return
        try:
            first = True
            while True:
                kind = b"" if first else await source.readexactly(1)
                (size,) = struct.unpack("!I", await source.readexactly(4))
                body = await source.readexactly(size - 4)
                first = first and size == 8  # a request for encryption, which is followed by another first message
                start = body.find(b"LISTEN ")
                if start >= 0:
                    body = body[:start] + self.refused + body[body.index(b"\0", start) :]
                target.write(kind + struct.pack("!I", len(body) + 4) + body)
        except asyncio.IncompleteReadError:
            return


async def test_a_server_that_has_no_notifications_is_polled_with_one_warning(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    url = urls[0]
    async with Rewriting(url) as proxy, Backend(proxy.url, **ONLY_POLLING) as backend, Backend(url) as writer:
        for name in ("a", "b"):
            (waiter,) = await waiting_for(backend, [name])
            await writer.store_result(name, name, "SUCCESS")
            assert await waiter == name
        capabilities = await backend.capabilities()
        assert (capabilities.push, capabilities.writes) == (False, True)
        assert "refuses notifications" in capabilities.reason
        assert backend.stats().reconnects == 0
    assert len([record for record in caplog.records if "refuses notifications" in record.message]) == 1


# --- after a failover -------------------------------------------------------------------------------------------------


async def test_connections_to_a_server_that_only_reads_by_now_are_replaced(urls: tuple[str, str]) -> None:
    url, copy = urls
    async with TcpProxy(copy) as proxy, Backend(proxy.url) as backend:
        await asyncio.gather(*(backend.fetch("a"), backend.fetch("b"), backend.ping()))
        proxy.lead_to(url)
        assert await backend.store_result("a", 1, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
        await backend.AsyncResult("a").forget()


async def test_who_begins_to_wait_after_a_failover_listens_at_the_new_primary(urls: tuple[str, str]) -> None:
    url, copy = urls
    async with TcpProxy(copy) as proxy, Backend(proxy.url, **ONLY_PUSH) as backend, Backend(url) as writer:
        assert (await backend.fetch("a")).status == "PENDING"
        proxy.lead_to(url)
        (waiter,) = await waiting_for(backend, ["a"])
        await writer.store_result("a", 1, "SUCCESS")
        assert await waiter == 1


@pytest.fixture(scope="module")
def mariadbs() -> Iterator[tuple[MariaDBServer, MariaDBServer]]:
    """Two servers with an account that may not write where the server only reads."""
    with MariaDBServer() as one, MariaDBServer() as other:
        for server in (one, other):
            execute(
                server.url.replace("aioresult:aioresult", "root"),
                "CREATE USER app@'%' IDENTIFIED BY 'app'",
                "GRANT ALL ON test.* TO app@'%'",
            )
        yield one, other


async def test_connections_to_a_mysql_server_that_only_reads_by_now_are_replaced(
    mariadbs: tuple[MariaDBServer, MariaDBServer],
) -> None:
    old, new = (server.url.replace("aioresult:aioresult", "app:app") for server in mariadbs)
    for url in (old, new):
        async with Backend(url) as backend:
            await create_tables(backend._runtime.store)
    async with TcpProxy(old) as proxy, Backend(proxy.url) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        await asyncio.to_thread(execute, mariadbs[0].url, "SET GLOBAL read_only = 1")
        with pytest.raises(StoreUnavailable, match="the server only reads"):
            await backend.store_result("b", 2, "SUCCESS")
        assert (await backend.fetch("a")).result == 1
        proxy.lead_to(new)
        assert await backend.store_result("b", 2, "SUCCESS")
        assert (await backend.fetch("b")).result == 2


@pytest.mark.parametrize(
    ("number", "text", "only_reads"),
    [
        (1290, "The MySQL server is running with the --super-read-only option so it cannot execute this", True),
        (1836, "Running in read-only mode", True),
        (1290, "The MySQL server is running with the --secure-file-priv option so it cannot execute this", False),
        (1142, "INSERT command denied to user 'app'@'%' for table 'celery_taskmeta'", False),
    ],
)
async def test_what_mysql_says_of_a_server_that_only_reads_is_told_from_what_it_says_of_an_account(
    number: int, text: str, only_reads: bool
) -> None:
    unused: Any = None
    assert await MySQLDialect.demoted(unused, Exception(number, text)) == only_reads
