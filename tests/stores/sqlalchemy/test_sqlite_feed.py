"""SQLite wakes its waiters: directly within a process, by file events across processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aioresult import Backend, Record
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.feeds import filefeed as feeds
from aioresult.stores.sqlalchemy.feeds import files
from aioresult.testing.conformance import Collected, eventually
from tests.stores.sqlalchemy.sql import (
    FOR_CELERY,
    PATIENCE,
    foreign_writer,
    sql_store,
    until_silent,
    until_watched,
    waiting_for,
)
from tests.stores.sqlalchemy.test_sqlite import remove

PUSH_ONLY: dict[str, Any] = {"fallback_interval": 3600, "idle_timeout": 0.05}
"""Settings with which nothing but the feed can wake a waiter."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest_asyncio.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, **PUSH_ONLY) as backend:
        yield backend


@pytest.mark.all_loops
async def test_another_process_wakes_waiters_of_new_tasks_and_of_known_ones(backend: Backend, url: str) -> None:
    async with Backend(url, **FOR_CELERY) as other:
        await other.store_result("known", None, "STARTED")
    async with foreign_writer(url) as writer:
        waiters = await waiting_for(backend, ["new", "known"])
        await writer.store("other", 0)
        await writer.store("known", 1)
        await writer.store("new", 2)
        assert await asyncio.gather(*waiters) == [2, 1]


async def test_progress_of_another_process_is_heard_step_by_step(backend: Backend, url: str) -> None:
    heard: asyncio.Queue[Record] = asyncio.Queue()

    async def follow() -> None:
        async for record in backend.AsyncResult("a").updates(timeout=PATIENCE):
            if record.status != "PENDING":
                heard.put_nowait(record)

    async with foreign_writer(url) as writer, asyncio.TaskGroup() as group:
        group.create_task(follow())
        await until_watched(backend, 1)
        for step in range(4):
            await writer.store("a", {"step": step}, "PROGRESS")
            assert (await heard.get()).result == {"step": step}
        await writer.store("a", "done")
        assert (await heard.get()).result == "done"


async def test_a_commit_that_becomes_visible_late_is_seen(backend: Backend, path: Path) -> None:
    """What is written to the log before the commit causes events when there is nothing to be seen yet."""
    await create_tables(sql_store(backend))
    (waiter,) = await waiting_for(backend, ["a"])

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = 1")  # spills into the log long before the commit
            connection.execute("BEGIN IMMEDIATE")
            insert = "INSERT INTO celery_taskmeta (task_id, status, result) VALUES (?, 'SUCCESS', ?)"
            for number in range(50):
                connection.execute(insert, (f"bulk-{number}", b'"' + b"x" * 20_000 + b'"'))
            connection.execute(insert, ("a", b"1"))
            connection.execute("COMMIT")

    await asyncio.to_thread(write)
    assert await waiter == 1


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
async def test_other_journal_modes_push_too(path: Path, url: str, mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")

    def keep(engine: Any) -> None:
        from sqlalchemy import event

        event.listen(engine, "connect", lambda raw, _: raw.cursor().execute(f"PRAGMA journal_mode = {mode}"))

    async with Backend(url, database_engine_callback=keep, **PUSH_ONLY) as backend:
        await create_tables(sql_store(backend))
        assert (await backend.capabilities()).details["journal_mode"] == mode.lower()
        waiters = await waiting_for(backend, ["a"])

        def write() -> None:
            with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
                connection.execute("INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('a', 'SUCCESS', '1')")

        await asyncio.to_thread(write)
        assert await asyncio.gather(*waiters) == [1]


async def test_rows_whose_ids_are_used_again_are_seen(path: Path, url: str) -> None:
    """A table that somebody else has created may lack AUTOINCREMENT, and then ids do not grow."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status VARCHAR(50), "
            "result BLOB, date_done DATETIME, traceback TEXT)"
        )
    async with Backend(url, **PUSH_ONLY) as backend, Backend(url) as other:
        await other.store_result("first", 1, "SUCCESS")
        (waiter,) = await waiting_for(backend, ["a"])
        await other.forget("first")

        def write() -> None:
            with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
                connection.execute("INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('a', 'SUCCESS', '1')")

        await asyncio.to_thread(write)
        assert await waiter == 1


async def test_a_database_that_is_replaced_while_somebody_waits_is_opened_anew(backend: Backend, path: Path) -> None:
    await backend.ping()
    (waiter,) = await waiting_for(backend, ["a"])
    remove(path)
    async with Backend(f"sqlite:///{path}") as other:
        await other.store_result("a", 1, "SUCCESS")
        assert await waiter == 1
    assert backend.stats().reconnects >= 1


async def test_when_events_were_lost_everything_is_looked_at(backend: Backend, path: Path) -> None:
    """The kernel's queue overflows when nobody reads it for long."""
    await backend.ping()
    feed = await sql_store(backend).feed()
    assert isinstance(feed, feeds.FileFeed)
    collected = Collected(feed)
    try:
        await feed.watch(["a", "b"])
        await collected.expect(lambda events: {"a", "b"} <= {task_id for task_id, _ in events})
        collected.events.clear()
        feed._on_change("")
        await collected.expect(lambda events: {"a", "b"} <= {task_id for task_id, _ in events})
    finally:
        await collected.aclose()


@pytest.mark.slow
@pytest.mark.all_loops
async def test_writers_in_other_threads_and_loops_wake_directly(
    backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds.FileFeed, "_on_change", lambda *_: None)  # so that no file event can help
    waiters = await waiting_for(backend, [f"id-{number}" for number in range(4)])

    async def write(number: int) -> None:
        async with Backend(url) as other:
            await other.store_result(f"id-{number}", number, "SUCCESS")

    threads = [threading.Thread(target=asyncio.run, args=(write(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert await asyncio.gather(*waiters) == [0, 1, 2, 3]
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_a_database_in_memory_wakes_its_own_waiters() -> None:
    async with Backend("sqlite://", **PUSH_ONLY) as backend:
        capabilities = await backend.capabilities()
        assert capabilities.push
        assert "private to this event loop" in capabilities.reason
        (waiter,) = await waiting_for(backend, ["a"])
        await asyncio.gather(
            backend.store_result("a", 1, "SUCCESS"), *(backend.store_result(f"x{n}", n, "SUCCESS") for n in range(1500))
        )
        assert await waiter == 1
        await asyncio.gather(*(backend.fetch(f"x{n}") for n in range(50)), backend.forget("x1"), backend.purge())


# --- where there are no file events -----------------------------------------------------------------------------------


async def test_without_file_events_it_polls_and_says_why(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    async with Backend(url, poll_interval=0.05, **PUSH_ONLY) as backend, foreign_writer(url) as writer:
        capabilities = await backend.capabilities()
        assert not capabilities.push
        assert "darwin" in capabilities.reason
        (waiter,) = await waiting_for(backend, ["a"])
        await writer.store("a", 1)
        assert await waiter == 1


async def test_a_system_out_of_file_watches_means_polling_and_one_warning(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "_open", refuse)
    async with Backend(url, poll_interval=0.05, **PUSH_ONLY) as backend, Backend(url) as writer:
        for name in ("a", "b"):
            (waiter,) = await waiting_for(backend, [name])
            await writer.store_result(name, name, "SUCCESS")
            assert await waiter == name
        capabilities = await backend.capabilities()
        assert not capabilities.push
        assert "max_user_instances" in capabilities.reason
    assert len([record for record in caplog.records if "polling" in record.message]) == 1


def test_network_file_systems_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / / rw - ext4 /dev/sda rw\n"
        f"30 22 0:40 / {tmp_path}/mounted\\040here rw,relatime shared:1 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    assert files.obstacle(tmp_path / "a.db") == ""
    assert "nfs4" in files.obstacle(tmp_path / "mounted here" / "a.db")


async def test_on_a_network_file_system_the_journal_stays_as_it_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log needs memory that all its users share, which those on other machines do not."""
    monkeypatch.setattr(files, "network_of", lambda path: "nfs4")
    async with Backend(url) as backend:
        capabilities = await backend.capabilities()
    assert capabilities.details["journal_mode"] == "delete"
    assert not capabilities.push


# --- cost and leaks ---------------------------------------------------------------------------------------------------


async def test_ten_thousand_waiters_are_a_handful_of_statements_and_hear_of_one_write_by_few_more(
    backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    query = feeds.FileFeed._query

    async def recorded(feed: feeds.FileFeed, statement: str, *parameters: Any) -> list[Any]:
        found = await query(feed, statement, *parameters)
        if statement != "PRAGMA data_version":  # how often it looks depends on how long the writer takes to commit
            reads.append(statement)
        return found

    async def looked() -> bool:
        return any("json_each" in statement for statement in reads)

    monkeypatch.setattr(feeds.FileFeed, "_query", recorded)
    await create_tables(sql_store(backend))
    before = backend.stats().commands
    async with foreign_writer(url) as writer:
        waiters = await waiting_for(backend, [f"id-{number}" for number in range(10_000)])
        assert backend.stats().commands - before <= 12
        await eventually(looked)
        reads.clear()
        await writer.store("id-5000", 1)
        assert await waiters[5000] == 1
        assert 2 <= len(reads) <= 4, reads  # which rows came in, and what they hold: of two commits, as Celery makes
    for waiter in waiters:
        waiter.cancel()


@pytest.mark.slow
async def test_nothing_is_sent_while_nothing_happens_and_nothing_is_left_behind(url: str, path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a count, of a folder that changes)

    threads, descriptors = threading.active_count(), open_files()
    async with Backend(url, **PUSH_ONLY) as backend:
        (waiter,) = await waiting_for(backend, ["a"])
        await until_silent(backend)
        assert (
            threading.active_count() <= threads + 4
        )  # a reader, a writer, the feed's, and asyncio's own for the start
        await backend.store_result("a", 1, "SUCCESS")
        assert await waiter == 1

        async def quiet() -> bool:
            return backend.stats().watched == 0

        await eventually(quiet)

    async def as_before() -> bool:  # the threads of closed connections end on their own time; asyncio keeps one
        return open_files() == descriptors and threading.active_count() <= threads + 1

    await eventually(as_before)


async def test_a_feed_only_tells_of_what_it_watches(backend: Backend, url: str) -> None:
    await backend.ping()
    feed = await sql_store(backend).feed()
    assert feed is not None
    collected = Collected(feed)
    try:
        await feed.watch(["a"])
        async with Backend(url) as other:
            await sql_store(other).put_many([Record(id=f"x{number}", status="SUCCESS") for number in range(100)])
            await other.store_result("a", 1, "SUCCESS")
        await collected.expect(lambda events: any(record is not None and record.ready for _, record in events))
        assert {task_id for task_id, _ in collected.events} == {"a"}
    finally:
        await collected.aclose()
