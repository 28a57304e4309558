"""``purge_interval``: a backend that stores results deletes what has expired, now and then, and in nobody's way."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import ref

import pymongo
import pytest

from aioresult import Backend, Record, SettingsError
from aioresult.abc import Store
from aioresult.errors import StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.testing.conformance import eventually
from tests.stores.mongodb.drivers import Document
from tests.stores.sqlalchemy.sql import sql_store

OLD = datetime.now(UTC) - timedelta(days=3)


def tasks() -> set[str]:
    """Return the names of all tasks that purge."""
    return {task.get_name() for task in asyncio.all_tasks() if "purge" in task.get_name()}


class WatchedStore(MemoryStore):
    """Notes when it is purged, and does so only when it is told to."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("memory://", make_settings(settings))
        self.purges: list[float] = []
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def purge(self) -> int:
        self.purges.append(asyncio.get_running_loop().time())
        self.begun.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return await super().purge()


async def purged(store: WatchedStore, times: int) -> None:
    """Wait until ``store`` has been purged so many times."""

    async def enough() -> bool:
        return len(store.purges) >= times

    await eventually(enough)


# --- when -------------------------------------------------------------------------------------------------------------


async def test_nothing_is_purged_unless_asked_for() -> None:
    assert make_settings({}).purge_interval is None
    store = WatchedStore(result_expires=0.001)
    async with Backend(store) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        assert backend._runtime.purging._timer is None
    assert store.purges == []


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_an_interval_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="purge_interval"):
        make_settings({"purge_interval": value})


async def test_a_writer_purges_again_and_again_but_no_more_often_than_that() -> None:
    store = WatchedStore(purge_interval=0.05)
    async with Backend(store) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await purged(store, 3)
    pauses = [later - earlier for earlier, later in zip(store.purges, store.purges[1:], strict=False)]
    assert min(pauses) >= 0.049, "a timer may ring as early as the clock's resolution allows"


async def test_who_only_reads_purges_nothing() -> None:
    store = WatchedStore(purge_interval=0.01)
    async with Backend(store) as backend:
        await backend.fetch("a")
        purging = backend._runtime.purging
        for _ in range(3):  # as often as the timer rings
            purging.begin()
        assert (store.purges, purging._task) == ([], None)
        await backend.store_result("a", 1, "SUCCESS")
        await purged(store, 1)


async def test_a_store_that_deletes_by_itself_is_left_alone() -> None:
    class Expiring(MemoryStore):
        purge = Store.purge

    async with Backend(Expiring("memory://", make_settings({"purge_interval": 0.01}))) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        assert backend._runtime.purging._timer is None


# --- in nobody's way --------------------------------------------------------------------------------------------------


async def test_nobody_waits_for_a_purge_and_closing_ends_it() -> None:
    store = WatchedStore(purge_interval=0.01)
    store.go_on.clear()
    async with Backend(store) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await store.begun.wait()
        assert await backend.store_result("b", 2, "SUCCESS")
        assert (await backend.fetch("b")).result == 2
        assert tasks() == {"aioresult purge of memory://"}
    assert tasks() == set()
    assert len(store.purges) == 1


async def test_a_purge_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = WatchedStore(purge_interval=0.01)
    store.error = StoreUnavailable("gone")
    with caplog.at_level(logging.WARNING):
        async with Backend(store) as backend:
            await backend.store_result("a", 1, "SUCCESS")
            await purged(store, 2)
            store.error = None
            await purged(store, 4)
    assert "memory://: purging what has expired failed" in caplog.text
    assert "gone" in caplog.text


async def test_purging_goes_on_after_somebody_has_cancelled_all_tasks() -> None:
    store = WatchedStore(purge_interval=0.01)
    store.go_on.clear()
    async with Backend(store) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await store.begun.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        store.go_on.set()
        await purged(store, 2)


async def test_a_backend_that_is_forgotten_is_closed_and_purges_no_more() -> None:
    backend = Backend(WatchedStore(purge_interval=3600))
    await backend.store_result("a", 1, "SUCCESS")
    runtime = ref(backend._runtime)
    timer = backend._runtime.purging._timer
    assert timer is not None
    del backend

    async def gone() -> bool:
        gc.collect()  # finds it; the event loop then closes it, which takes a few turns
        return timer.cancelled() and runtime() is None

    await eventually(gone)


def test_a_loop_that_ends_without_closing_leaves_nothing_behind() -> None:
    """Warnings are errors here: a task that is destroyed while it is pending would be one."""

    async def store_one() -> None:
        await Backend(MemoryStore("memory://", make_settings({"purge_interval": 3600}))).store_result("a", 1, "SUCCESS")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(store_one())
    loop.close()
    gc.collect()


# --- on each store ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    found: str = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")
    return found.replace("asyncpg", driver) if driver else found


async def test_rows_that_have_expired_are_deleted_while_results_are_stored(url: str) -> None:
    old = [Record(id=f"old-{number}", status="SUCCESS", date_done=OLD) for number in range(2500)]
    async with Backend(url) as other, Backend(url, purge_interval=0.05) as backend:
        await sql_store(other).put_many(old)
        assert await backend.store_result("new", 1, "SUCCESS")

        async def deleted() -> bool:
            return set(await sql_store(other).get_many([record.id for record in old] + ["new"])) == {"new"}

        await eventually(deleted)
    assert tasks() == set()


async def test_several_processes_purge_side_by_side_and_each_row_is_deleted_once(url: str) -> None:
    old = [Record(id=f"old-{number}", status="SUCCESS", date_done=OLD) for number in range(3000)]
    backends = [Backend(url) for _ in range(4)]
    await sql_store(backends[0]).put_many(old)
    counts: list[int] = []
    while sum(counts) < len(old):  # who comes while another is at it leaves it to that one
        counts += await asyncio.gather(*(backend.purge() for backend in backends))
    assert sum(counts) == len(old)
    await asyncio.gather(*(backend.aclose() for backend in backends))


async def test_a_purge_that_is_cancelled_leaves_no_lock_behind(url: str) -> None:
    old = [Record(id=f"old-{number}", status="SUCCESS", date_done=OLD) for number in range(5000)]
    async with Backend(url) as backend, Backend(url) as other:
        await sql_store(backend).put_many(old)
        await other.ping()
        before = backend.stats().commands
        purge = asyncio.create_task(backend.purge())

        async def begun() -> bool:
            return backend.stats().commands > before or purge.done()

        await eventually(begun)
        purge.cancel()
        await asyncio.wait([purge])
        assert purge.cancelled() or purge.exception() is None

        async def all_deleted() -> bool:
            await other.purge()
            return not await sql_store(other).get_many(["old-0", "old-4999"])

        await eventually(all_deleted)
        assert await backend.store_result("new", 1, "SUCCESS")


async def test_documents_of_celery_that_have_expired_are_deleted(mongo_url: str) -> None:
    with pymongo.MongoClient[Document](mongo_url) as client:
        collection = client.get_default_database()["celery_taskmeta"]
        documents = [{"_id": str(number), "status": "SUCCESS", "result": "1", "date_done": OLD} for number in range(10)]
        collection.insert_many(documents)
        async with Backend(mongo_url, purge_interval=0.05) as backend:
            assert await backend.store_result("new", 1, "SUCCESS")

            async def deleted() -> bool:
                return collection.count_documents({}) == 1

            await eventually(deleted)


def test_reading_it_from_a_celery_application() -> None:
    from aioresult.integrations.celery import backend_from_app
    from tests.stores.sqlalchemy.sql import Celery

    app = Celery("tests", backend="redis://", set_as_current=False)
    app.conf.purge_interval = 3600
    assert backend_from_app(app).settings.purge_interval == 3600
