"""Leases of runners in SQL tables: the table's life, what the account may do, and waiters of a runner that has gone."""

from __future__ import annotations

import asyncio

import pytest

from aioresult import Backend, Record, TaskLost, Unsupported
from aioresult.record import RUNNER
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.testing.conformance import eventually
from tests.servers import MariaDBServer
from tests.stores.sqlalchemy.sql import on_postgresql, sql_store
from tests.stores.sqlalchemy.test_reading import run, tables


async def test_the_table_comes_into_being_with_the_first_lease(url: str) -> None:
    async with Backend(url) as backend:
        store = sql_store(backend)
        assert list(await store.ended_leases(["one", "two"])) == ["one", "two"]
        await store.end_lease("one")
        await store.purge()
        assert "celery_taskrunner" not in await asyncio.to_thread(tables, url)
        await store.renew_lease("one", 60)
        assert (await asyncio.to_thread(tables, url))["celery_taskrunner"] == {"runner", "expires"}
        assert list(await store.ended_leases(["one", "two"])) == ["two"]


async def test_the_table_is_named_as_the_settings_say(url: str) -> None:
    async with Backend(url, database_table_names={"runner": "run%ners: 1"}) as backend:
        store = sql_store(backend)
        await store.renew_lease("one", 60)
        await store.renew_lease("one", 60)
        assert list(await store.ended_leases(["one", "two"])) == ["two"]
        await store.end_lease("one")
        assert list(await store.ended_leases(["one"])) == ["one"]
    assert "run%ners: 1" in await asyncio.to_thread(tables, url)


@pytest.mark.parametrize("expires", [3600, None], ids=["", "results are kept for ever"])
async def test_an_operator_creates_the_table_and_purging_deletes_what_has_ended(
    url: str, expires: float | None
) -> None:
    async with Backend(url, result_expires=expires) as backend:
        store = sql_store(backend)
        await create_tables(store)
        await store.renew_lease("short", 0.001)
        await store.renew_lease("long", 60)

        async def has_ended() -> bool:
            return list(await store.ended_leases(["short", "long"])) == ["short"]

        await eventually(has_ended)
        await store.purge()
        assert (await asyncio.to_thread(run, url, "SELECT runner FROM celery_taskrunner"))[0] == [("long",)]


async def test_a_runner_has_an_id_that_can_stand_in_any_statement(url: str) -> None:
    async with Backend(url) as backend:
        for runner in ("it's", "a b", "", "x" * 101, "%s"):
            with pytest.raises(ValueError, match="the id of a runner consists of"):
                await sql_store(backend).renew_lease(runner, 60)


async def test_an_account_that_may_not_create_the_table_is_told_what_to_run(postgres_url: str) -> None:
    on_postgresql(postgres_url, "CREATE ROLE worker LOGIN")
    try:
        on_postgresql(postgres_url, "GRANT USAGE ON SCHEMA public TO worker")
        async with Backend(postgres_url) as owner, Backend(postgres_url.replace("//postgres@", "//worker@")) as worker:
            await owner.store_result("a", 1, "STARTED")
            on_postgresql(postgres_url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker")
            with pytest.raises(Unsupported, match=r"keep no lease: .*celery_taskrunner.*CREATE TABLE"):
                await sql_store(worker).renew_lease("one", 60)
            await sql_store(worker).end_lease("one")
    finally:
        on_postgresql(postgres_url, "DROP OWNED BY worker")
        on_postgresql(postgres_url, "DROP ROLE worker")


async def test_who_waits_for_a_runner_that_has_gone_is_told(url: str) -> None:
    async with Backend(url, fallback_interval=0.1) as one, Backend(url, fallback_interval=0.1) as other:
        await sql_store(one).renew_lease("alive", 60)
        for task_id, runner in (("lost", "gone"), ("kept", "alive")):
            await one._put_record(Record(id=task_id, status="STARTED", traceback=RUNNER + runner))
        kept = asyncio.create_task(other.AsyncResult("kept").get(timeout=60))
        outcomes = await asyncio.gather(
            one.AsyncResult("lost").get(timeout=60), other.AsyncResult("lost").get(timeout=60), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {TaskLost}
        assert len({str(outcome) for outcome in outcomes}) == 1
        assert not kept.done()
        await one.store_result("kept", 7, "SUCCESS")
        assert await kept == 7


async def test_a_lease_lasts_while_the_server_s_clock_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = 1_792_886_390, 1_792_886_405  # 1:59:50 and 2:00:05 in Berlin, an hour before 3:00 becomes 2:00
    monkeypatch.setenv("TZ", "Europe/Berlin")
    with MariaDBServer(default_time_zone="SYSTEM") as server:

        def at(moment: int) -> Backend:
            given = {"connect_args": {"init_command": f"SET timestamp = {moment}"}}
            return Backend(server.url, database_engine_options=given)

        async with at(before) as producer, at(after) as waiting:
            await sql_store(producer).renew_lease("one", 30)
            assert list(await sql_store(waiting).ended_leases(["one"])) == []
        async with at(after + 30) as late:
            assert list(await sql_store(late).ended_leases(["one"])) == ["one"]
