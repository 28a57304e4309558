"""What is stored is read until it is deleted, whatever the zone of its dates; deleting allows for the zones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pymongo
import pytest
from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.ext.asyncio import create_async_engine

from aioresult import Backend, GroupResult
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.urls import parse
from tests.stores.mongodb.drivers import Document
from tests.stores.sqlalchemy.sql import PATIENCE, celery_app, foreign_writer, on_postgresql, waiting_for
from tests.stores.sqlalchemy.sql import GroupResult as CelerysGroup

TABLES = ("celery_taskmeta", "celery_tasksetmeta")
OLD = timedelta(days=2)
SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    found: str = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")
    return found.replace("asyncpg", driver) if driver else found


@pytest.fixture(params=["sqlite", "mysql"])
def wall_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database that holds wall time of whoever writes."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    found: str = request.getfixturevalue("mariadb_url")
    return found


async def date_rows(url: str, moment: datetime, zone: tzinfo = UTC) -> None:
    """Give all that is stored the date ``moment``, as a writer in ``zone`` would."""
    wall = moment.astimezone(zone).replace(tzinfo=None)
    engine = create_async_engine(parse(url).url)
    async with engine.begin() as connection:
        for table in TABLES:
            statement = text(f"UPDATE {table} SET date_done = :wall").bindparams(bindparam("wall", type_=DateTime))
            await connection.execute(statement, {"wall": wall})
    await engine.dispose()


def by_celery(app: Any) -> None:
    """Store a result and a group with Celery's own backend."""
    app.backend.store_result("a", 1, "SUCCESS")
    CelerysGroup("g", [app.AsyncResult("a")], app=app).save(backend=app.backend)


# --- age --------------------------------------------------------------------------------------------------------------


async def test_old_rows_of_celery_are_read_and_restored_until_they_are_purged(url: str) -> None:
    async with Backend(url) as backend:
        await create_tables(backend._runtime.store)  # Celery up to 5.4 does so for one database of a process
        with celery_app(url) as app:
            by_celery(app)
        await date_rows(url, datetime.now(UTC) - OLD)
        assert (await backend.fetch("a")).result == 1
        assert await backend.AsyncResult("a").get(timeout=PATIENCE) == 1
        group = await GroupResult.restore("g", backend=backend)
        assert group is not None
        assert await group.join(timeout=PATIENCE) == [1]
        assert await backend.purge() == 2
        assert (await backend.fetch("a")).status == "PENDING"
        assert await GroupResult.restore("g", backend=backend) is None


async def test_a_row_that_comes_with_an_old_date_wakes_its_waiter(url: str) -> None:
    # All that is stored is older than that when it is read.
    async with Backend(url, result_expires=1e-6) as backend, foreign_writer(url) as writer:
        (waiter,) = await waiting_for(backend, ["a"])
        await writer.store("a", 1)
        assert await waiter == 1


async def test_an_old_row_may_be_written_over_by_any_state_and_a_fresh_one_not(url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        assert not await backend.store_result("a", None, "STARTED")
        await date_rows(url, datetime.now(UTC) - OLD)
        assert await backend.store_result("a", None, "STARTED")
        assert (await backend.fetch("a")).status == "STARTED"


async def test_a_lifetime_without_end_is_possible(url: str) -> None:
    async with Backend(url, result_expires=float("inf")) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await date_rows(url, datetime.now(UTC) - 1000 * OLD)
        assert await backend.purge() == 0
        assert not await backend.store_result("a", None, "STARTED")


async def test_a_number_in_place_of_a_date_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    async with Backend(f"sqlite:///{tmp_path / 'results.db'}", result_expires=1) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'results.db'}")
        async with engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE celery_taskmeta SET date_done = 1.7e9")
        await engine.dispose()
        assert await backend.purge() == 0
        assert not await backend.store_result("a", None, "STARTED")


# --- age, in MongoDB --------------------------------------------------------------------------------------------------


@pytest.fixture
def database(mongo_url: str) -> Iterator[pymongo.database.Database[Document]]:
    with pymongo.MongoClient[Document](mongo_url) as client:
        yield client.get_default_database()


async def test_old_documents_of_celery_are_read_and_restored_until_they_are_purged(
    mongo_url: str, database: pymongo.database.Database[Document]
) -> None:
    from tests.stores.sqlalchemy.sql import Celery

    app = Celery("tests", backend=mongo_url, set_as_current=False)
    by_celery(app)
    app.backend._connection.close()
    for collection in ("celery_taskmeta", "celery_groupmeta"):
        database[collection].update_many({}, {"$set": {"date_done": datetime.now(UTC) - OLD}})
    async with Backend(mongo_url) as backend:
        assert await backend.AsyncResult("a").get(timeout=PATIENCE) == 1
        group = await GroupResult.restore("g", backend=backend)
        assert group is not None
        assert [member.id for member in group] == ["a"]
        assert await backend.purge() == 2
        assert (await backend.fetch("a")).status == "PENDING"
        assert await GroupResult.restore("g", backend=backend) is None


async def test_an_old_document_of_celery_may_be_written_over(
    mongo_url: str, database: pymongo.database.Database[Document]
) -> None:
    document: Document = {"_id": "a", "status": "SUCCESS", "result": "1", "traceback": None, "children": []}
    async with Backend(mongo_url) as backend:
        database["celery_taskmeta"].insert_one({**document, "date_done": datetime.now(UTC)})
        assert not await backend.store_result("a", None, "STARTED")
        database["celery_taskmeta"].replace_one({"_id": "a"}, {**document, "date_done": datetime.now(UTC) - OLD})
        assert await backend.store_result("a", None, "STARTED")


# --- zones ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [UTC, SHANGHAI, NEW_YORK], ids=str)
@pytest.mark.parametrize("readers", ["UTC", "Asia/Shanghai", "America/New_York"])
async def test_a_fresh_row_is_read_whatever_the_zones_of_writer_and_reader(
    wall_url: str, writers: tzinfo, readers: str
) -> None:
    async with Backend(wall_url, timezone=readers, result_expires=3600) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await date_rows(wall_url, datetime.now(UTC), writers)
        assert await backend.AsyncResult("a").get(timeout=PATIENCE) == 1


@pytest.mark.parametrize(
    ("writers", "purgers"),
    [(UTC, "Asia/Shanghai"), (NEW_YORK, "Asia/Shanghai"), (SHANGHAI, "UTC"), (UTC, "America/New_York")],
    ids=str,
)
async def test_a_fresh_row_of_another_zone_is_neither_purged_nor_written_over(
    wall_url: str, writers: tzinfo, purgers: str
) -> None:
    async with Backend(wall_url, timezone=purgers, result_expires=3600) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await date_rows(wall_url, datetime.now(UTC), writers)
        assert await backend.purge() == 0
        assert not await backend.store_result("a", None, "STARTED")
        assert (await backend.fetch("a")).result == 1
        await date_rows(wall_url, datetime.now(UTC) - OLD, writers)
        assert await backend.purge() == 1


async def test_two_processes_of_different_zones_see_each_others_fresh_results(wall_url: str) -> None:
    zones = ("UTC", "Asia/Shanghai", "America/New_York")
    backends = [Backend(wall_url, timezone=zone, result_expires=3600) for zone in zones]
    for zone, backend in zip(zones, backends, strict=True):
        await backend.store_result(zone, zone, "SUCCESS")
    for backend in backends:
        assert [(await backend.fetch(zone)).result for zone in zones] == list(zones)
    await asyncio.gather(*(backend.aclose() for backend in backends))


@pytest.fixture
def in_zone(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """URL of a PostgreSQL database whose sessions have the time zone of the parameter."""
    database = postgres_url.rpartition("/")[2]
    on_postgresql(postgres_url, f"ALTER DATABASE {database} SET timezone TO '{request.param}'")
    yield postgres_url
    on_postgresql(postgres_url, f"ALTER DATABASE {database} RESET timezone")


@pytest.mark.parametrize("in_zone", ["Asia/Shanghai"], indirect=True)
async def test_on_postgresql_a_fresh_row_of_a_session_with_another_zone_is_read_and_not_purged(in_zone: str) -> None:
    """asyncpg ignores what psycopg heeds: PGTZ, and ``options`` in the URL."""
    async with Backend(in_zone, result_expires=3600) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await date_rows(in_zone, datetime.now(UTC), NEW_YORK)
        assert (await backend.fetch("a")).result == 1
        assert await backend.purge() == 0
        assert not await backend.store_result("a", None, "STARTED")
        await date_rows(in_zone, datetime.now(UTC) - OLD)
        assert await backend.purge() == 1


@pytest.mark.parametrize("in_zone", ["Etc/UTC"], indirect=True)
async def test_on_postgresql_an_hour_is_an_hour_where_sessions_are_in_utc(in_zone: str) -> None:
    await check_that_an_hour_is_an_hour(in_zone)


async def test_an_hour_is_an_hour_where_everybody_is_in_utc(wall_url: str) -> None:
    await check_that_an_hour_is_an_hour(wall_url)


async def check_that_an_hour_is_an_hour(url: str) -> None:
    async with Backend(url, result_expires=3600) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        await date_rows(url, datetime.now(UTC) - timedelta(minutes=59))
        assert await backend.purge() == 0
        await date_rows(url, datetime.now(UTC) - timedelta(minutes=61))
        assert await backend.purge() == 1
