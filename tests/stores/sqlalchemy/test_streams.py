"""Streams in SQL tables: numbers and ends under concurrency, the table's life, and what the account may do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from aioresult import Backend, StreamEnded
from aioresult.errors import AccessDenied
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stream import Append, Chunk, Cursor
from aioresult.testing.conformance import eventually
from aioresult.testing.streams import numbered, read
from tests.programs import Program
from tests.servers import ExternalServer, PostgresServer
from tests.stores.sqlalchemy.sql import for_celery, on_postgresql, sql_store, until_watched
from tests.stores.sqlalchemy.test_reading import run, tables

ROUNDS = 25
STREAM = {"celery_taskstream": {"task_id", "seq", "item", "date"}}


async def stored(backend: Backend, task_id: str) -> Chunk:
    """Return what the store holds of a stream."""
    (chunk,) = await sql_store(backend).read_many([Cursor(task_id, 0, 1000)])
    return chunk


async def holds(backend: Backend, task_id: str, number: int) -> bool:
    """Return whether a stream has come as far as ``number``."""
    return (await stored(backend, task_id)).last >= number


async def append_until_the_end(backend: Backend, task_id: str, name: str) -> list[int]:
    """Append one item after the other until the task is final; return their numbers."""
    numbers: list[int] = []
    while True:
        try:
            numbers.append(await backend.append(task_id, [name, len(numbers)]))
        except StreamEnded:
            return numbers


@pytest.mark.slow
@pytest.mark.parametrize("state", [None, "STARTED"])
async def test_whoever_sees_the_end_has_seen_everything(url: str, state: str | None) -> None:
    """Whether the task has a row that can be locked, or none at all."""
    async with Backend(url) as one, Backend(url) as other, Backend(url) as third:
        await one.append("to create the table", 1)
        for number in range(ROUNDS):
            task_id = f"task {number}"
            if state is not None:
                await third.store_result(task_id, None, state)
            producing = [
                asyncio.create_task(append_until_the_end(backend, task_id, name))
                for backend, name in ((one, "a"), (other, "b"))
            ]
            await eventually(partial(holds, third, task_id, number % 3))
            assert await third.mark_as_done(task_id, "over")
            seen = await stored(third, task_id)
            numbers = sorted(n for own in await asyncio.gather(*producing) for n in own)
            assert numbers == list(range(1, seen.last + 1)) == list(range(1, len(seen.items) + 1))
            assert await stored(third, task_id) == seen


WAITING = {
    "postgresql": "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}
KEEP_ITEMS_OUT = {
    "postgresql": "LOCK TABLE celery_taskstream IN SHARE MODE",
    "mysql": "SELECT * FROM celery_taskstream FOR UPDATE",
}


@pytest.mark.parametrize("state", [None, "STARTED"])
@pytest.mark.parametrize("url", ["postgresql+asyncpg", "postgresql+psycopg", "mysql"], indirect=True)
async def test_a_task_becomes_final_after_the_append_that_is_under_way(url: str, state: str | None) -> None:
    kind = make_url(url).get_backend_name()

    async def wait(number: int) -> bool:
        await asyncio.sleep(0.15)  # InnoDB renews what it tells of transactions once nobody has asked for 0.1 s
        return int((await asyncio.to_thread(rows, url, WAITING[kind]))[0][0]) >= number

    async with Backend(url) as appending, Backend(url) as ending:
        await appending.append("a", 1)
        if state is not None:
            await ending.store_result("a", None, state)
        engine = create_engine(for_celery(url).removeprefix("db+"))
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(KEEP_ITEMS_OUT[kind])
                append = asyncio.create_task(appending.append("a", 2))
                await eventually(partial(wait, 1))
                end = asyncio.create_task(ending.mark_as_done("a", None))
                await eventually(partial(wait, 2))  # would not wait if the append left the task to others
        finally:
            engine.dispose()
        assert (await append, await end) == (2, 1)
        with pytest.raises(StreamEnded):
            await appending.append("a", 3)


async def test_a_stream_leaves_nothing_in_the_results_table_and_uses_up_no_ids(url: str) -> None:
    async with Backend(url) as backend:
        for _ in range(5):
            await backend.append("a", 1)
        await asyncio.gather(*(backend.append(f"id {number}", number) for number in range(50)))
        assert (await backend.fetch("a")).status == "PENDING"
        assert await asyncio.to_thread(rows, url, "SELECT count(*) FROM celery_taskmeta") == [(0,)]
        await backend.mark_as_done("a", None)
        assert await asyncio.to_thread(rows, url, "SELECT id FROM celery_taskmeta") == [(1,)]


def rows(url: str, statement: str) -> list[Any]:
    """Return the rows of ``statement``, asked for behind everybody's back."""
    return run(url, statement)[0]


async def test_the_table_comes_into_being_with_the_first_item_and_not_before(url: str) -> None:
    async with Backend(url) as backend:
        assert (await stored(backend, "a")).last == 0
        await backend.forget("a")
        await backend.purge()
        assert await asyncio.to_thread(tables, url) == {}
        await backend.store_result("a", 1, "STARTED")
        await backend.forget("a")
        assert "celery_taskstream" not in await asyncio.to_thread(tables, url)
        await backend.append("a", 1)
        assert (await asyncio.to_thread(tables, url)).items() >= STREAM.items()


async def test_a_reader_that_came_before_the_table_gets_what_comes(url: str) -> None:
    quick = {"poll_interval": 0.05, "poll_min_interval": 0.01}
    async with Backend(url, **quick) as reader, Backend(url) as writer:
        reading = asyncio.create_task(read(reader, "a"))
        await until_watched(reader, 1)
        await writer.append("a", 1)
        await writer.append("a", 2)
        await writer.mark_as_done("a", None)
        assert await reading == numbered([1, 2])


async def test_the_table_is_named_as_the_settings_say(url: str) -> None:
    async with Backend(url, database_table_names={"stream": "tok%ens: 1"}) as backend:
        await backend.append("a", 1, 2)
        await backend.mark_as_done("a", None)
        assert await read(backend, "a") == numbered([1, 2])
        await backend.forget("a")
        assert (await stored(backend, "a")).last == 0
    assert "tok%ens: 1" in await asyncio.to_thread(tables, url)


async def test_an_operator_creates_the_table_and_all_is_well_where_it_is_dropped(url: str) -> None:
    async with Backend(url) as backend:
        await create_tables(sql_store(backend))
        assert (await asyncio.to_thread(tables, url)).items() >= STREAM.items()
        await backend.append("a", 1)
        await asyncio.to_thread(run, url, "DROP TABLE celery_taskstream")
        assert (await stored(backend, "a")).last == 0
        await backend.forget("a")
        assert await backend.append("a", 1) == 1


async def test_whole_streams_are_purged_once_their_last_item_is_old(url: str) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%d %H:%M:%S.%f")
    async with Backend(url, result_expires=3600) as backend:
        await backend.append("old", *range(1500))
        await backend.append("alive", 1, 2)
        await asyncio.to_thread(run, url, f"UPDATE celery_taskstream SET date = '{long_ago}'")
        await backend.append("alive", 3)
        await backend.append("new", 1)
        await backend.purge()
        lasts = [
            (chunk.oldest, chunk.last) for chunk in [await stored(backend, one) for one in ("old", "alive", "new")]
        ]
        assert lasts == [(1, 0), (1, 3), (1, 1)]
        assert await asyncio.to_thread(rows, url, "SELECT count(*) FROM celery_taskstream") == [(4,)]


async def test_one_call_for_many_streams_says_of_each_what_became_of_it(url: str) -> None:
    async with Backend(url, stream_max_items=3) as backend:
        store = sql_store(backend)
        await backend.append("full", 1, 2, 3)
        await backend.mark_as_done("final", None)
        again = backend._encode_items("again", [1, 2])
        await store.append_many([again])
        again.repeated = True
        new = [backend._encode_items(one, [1]) for one in ("full", "final", "nul\0", "new", "it's \\ a $1 %s :x")]
        outcomes = await store.append_many([*new, again, Append("z", backend._encode_items("z", [1, 2, 3]).items)])
        assert [one if isinstance(one, int) else type(one).__name__ for one in outcomes] == [
            "StreamFull", "StreamEnded", "InvalidTaskId", 1, 1, 2, 3,
        ]  # fmt: skip


WRITER = """
import asyncio, sys
from aioresult import Backend

async def main():
    async with Backend(sys.argv[1]) as backend:
        for number in range(20):
            sys.stdin.readline()
            await backend.append("t", number)
        await backend.mark_as_done("t", None)

asyncio.run(main())
"""


@pytest.mark.parametrize("url", ["sqlite", "postgresql+asyncpg"], indirect=True)
async def test_items_of_another_process_are_pushed(url: str) -> None:
    options = {"fallback_interval": 3600, "database_trigger": False}
    async with Backend(url, **options) as backend:
        await backend.append("another", 1)
        found = []
        async with Program("tests.statements", WRITER, url) as writer:
            writer.type()
            async for item in backend.AsyncResult("t").stream(timeout=30):
                found.append((item.seq, item.value))
                if len(found) < 20:
                    writer.type()
            assert await writer.ended() == 0
        assert found == numbered(list(range(20)))


@pytest.fixture
def worker_url(postgres_url: str, postgres_server: PostgresServer | ExternalServer) -> Iterator[str]:
    """URL of an account that uses tables, and creates none."""
    on_postgresql(postgres_url, "CREATE ROLE worker LOGIN")
    on_postgresql(postgres_url, "GRANT USAGE ON SCHEMA public TO worker")
    yield postgres_url.replace("//postgres@", "//worker@")
    on_postgresql(postgres_url, "DROP OWNED BY worker")
    on_postgresql(postgres_url, "DROP ROLE worker")


async def test_an_account_that_may_not_create_the_table_is_told_what_to_run(worker_url: str, postgres_url: str) -> None:
    grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker"
    async with Backend(postgres_url) as owner, Backend(worker_url) as worker:
        await owner.store_result("a", 1, "STARTED")
        on_postgresql(postgres_url, grant)
        on_postgresql(postgres_url, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO worker")
        with pytest.raises(AccessDenied, match=r"permission denied for schema public.*CREATE TABLE") as caught:
            await worker.append("a", 1)
        several = [f"b{number}" for number in range(10)]
        outcomes = await asyncio.gather(
            *(worker.append(task_id, 1) for task_id in ["a", "x", "y"]),
            *(worker.store_result(task_id, 1, "SUCCESS") for task_id in several),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes[:3]] == [AccessDenied] * 3
        assert outcomes[3:] == [True] * 10, "results work without it, also at the same moment"
        statements = str(caught.value).partition("`aioresult sql create`, or ")[2].split("; ")
        for statement in [*statements, grant]:
            on_postgresql(postgres_url, statement)
        assert await worker.append("a", 1) == 1
