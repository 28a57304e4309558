"""Celery's own backend reads what this store writes, and this store what Celery's backend writes, on each database."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aioresult import Backend, Record, RemoteTaskError
from aioresult.errors import DecodeError
from aioresult.groups import GroupResult
from aioresult.stores.sqlalchemy import SQLStore
from aioresult.stores.sqlalchemy.admin import create_tables
from aioresult.stores.sqlalchemy.urls import parse
from tests.stores.sqlalchemy.sql import FOR_CELERY, PATIENCE, VECTORS, Context, celery_app, lasting_engines, sql_store
from tests.stores.sqlalchemy.sql import GroupResult as CelerysGroup
from tests.versions import CELERY, since_celery

pytestmark = pytest.mark.filterwarnings("ignore:The DatabaseBackend result backend cannot store compressed:UserWarning")

WITH_CHILDREN = Version("5.7") <= CELERY
"""Whether Celery's tables have columns for children and stamps."""
TABLES = ("celery_taskmeta", "celery_tasksetmeta")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"result_serializer": "msgpack", "accept_content": ["msgpack"]},
    {"result_serializer": "pickle", "accept_content": ["pickle"]},
    {"result_compression": "gzip"},  # which Celery ignores on SQL, and so must we
]
META: dict[str, Any] = {
    "name": "tasks.add",
    "args": [1, 2],
    "kwargs": {"x": 1},
    "worker": "w@h",
    "retries": 2,
    "queue": "q",
}


@pytest.fixture(scope="module", autouse=True)
def engines() -> Iterator[None]:
    with lasting_engines():
        yield


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    found: str = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")
    return found.replace("asyncpg", driver) if driver else found


# --- Celery reads ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*SETTINGS, {"database_result_format": "pickle"}], ids=str)
async def test_celery_reads_values_failures_and_progress(url: str, settings: dict[str, Any]) -> None:
    async with Backend(url, **{**FOR_CELERY, **settings}) as backend:
        await backend.store_result("value", {"a": [1, None, "\u4e2d"]}, "SUCCESS", children=[[["child", None], None]])
        await backend.store_result("none", None, "SUCCESS")
        await backend.store_result("failure", ValueError("bad", 42), "FAILURE", "the traceback")
        await backend.store_result("progress", {"current": 1, "total": 2}, "PROGRESS")
    celerys = {key: value for key, value in settings.items() if not key.startswith("database_result")}
    with celery_app(url, **celerys) as app:
        value, failure = app.AsyncResult("value"), app.AsyncResult("failure")
        assert value.get(timeout=PATIENCE) == {"a": [1, None, "\u4e2d"]}
        assert not WITH_CHILDREN or [child.id for child in value.children] == ["child"]
        assert app.AsyncResult("none").get(timeout=PATIENCE) is None
        with pytest.raises(ValueError, match="bad") as caught:
            failure.get(timeout=PATIENCE)
        assert caught.value.args == ("bad", 42)
        assert failure.traceback == "the traceback"
        assert app.AsyncResult("progress").info == {"current": 1, "total": 2}


async def test_celery_reads_extended_fields_and_stamps(url: str) -> None:
    async with Backend(url, result_extended=True, **FOR_CELERY) as backend:
        await backend.store_result("a", 1, "SUCCESS", **META, stamps={"origin": "here"})
    with celery_app(url, result_extended=True) as app:
        assert {key: getattr(app.AsyncResult("a"), key) for key in META} == META
        meta = app.backend.get_task_meta("a")
        assert not WITH_CHILDREN or (meta["stamped_headers"], meta["origin"]) == (["origin"], "here")


@pytest.mark.parametrize("timezone", [None, "Asia/Tokyo", "America/New_York"])
async def test_both_read_the_same_date(url: str, timezone: str | None) -> None:
    """What one of them writes as now, the other takes for now, wherever the application says that it lives.

    Except that Celery up to 5.4 writes UTC into columns without a zone, which only a reader in UTC takes for now.
    """
    conf = {} if timezone is None else {"timezone": timezone}
    as_one = Version("5.5") <= CELERY or "postgresql" in url
    writer = Backend(url, database_result_format="pickle", **conf)  # any Celery reads that
    async with writer as backend, Backend(url, **(conf if as_one else {})) as reader:
        await backend.store_result("ours", 1, "SUCCESS")
        with celery_app(url, **conf) as app:
            app.backend.store_result("theirs", 1, "SUCCESS")
            stored_by_us, stored_by_them = (app.AsyncResult(name).date_done for name in ("ours", "theirs"))
        ours, theirs = await backend.fetch("ours"), await reader.fetch("theirs")
    assert not as_one or abs(stored_by_us - stored_by_them) < timedelta(minutes=5)
    for record in (ours, theirs):
        assert record.date_done is not None
        assert record.date_done.utcoffset() == timedelta(0)
        assert abs(record.date_done - datetime.now(UTC)) < timedelta(minutes=5)


@since_celery("5.7", "the guard of final states in SQL tables")
async def test_celery_does_not_replace_our_success_and_forgets_our_results(url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
        with celery_app(url) as app:
            app.backend.store_result("a", 2, "FAILURE")
            assert (await backend.fetch("a")).result == 1
            app.AsyncResult("a").forget()
        assert (await backend.fetch("a")).status == "PENDING"


# --- we read Celery's -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_values_failures_and_progress_of_celery_are_read(url: str, settings: dict[str, Any]) -> None:
    with celery_app(url, **settings) as app:
        request = Context(id="value")
        app.backend.store_result("value", {"a": [1, None, "\u4e2d"]}, "SUCCESS", request=request)
        app.backend.store_result("none", None, "SUCCESS")
        app.backend.store_result("failure", ValueError("bad", 42), "FAILURE", traceback="the traceback")
        app.backend.store_result("progress", {"current": 1}, "PROGRESS")
    async with Backend(url, **settings) as backend:
        assert await backend.AsyncResult("value").get(timeout=PATIENCE) == {"a": [1, None, "\u4e2d"]}
        assert await backend.AsyncResult("none").get(timeout=PATIENCE) is None
        with pytest.raises(ValueError, match="bad") as caught:
            await backend.AsyncResult("failure").get(timeout=PATIENCE)
        assert caught.value.args == ("bad", 42)
        assert (await backend.fetch("failure")).traceback == "the traceback"
        progress = await backend.fetch("progress")
        assert (progress.status, progress.result, progress.date_done) == ("PROGRESS", {"current": 1}, None)


async def test_extended_fields_children_and_stamps_of_celery_are_read(url: str) -> None:
    with celery_app(url, result_extended=True) as app:
        request = Context(
            id="a",
            task=META["name"],
            args=META["args"],
            kwargs=META["kwargs"],
            hostname=META["worker"],
            retries=META["retries"],
            delivery_info={"routing_key": META["queue"]},
            _children=[app.AsyncResult("child")],
            stamped_headers=["origin"],
            stamps={"origin": "here"},
        )
        app.backend.store_result("a", 1, "SUCCESS", request=request)
    async with Backend(url) as backend:
        record = await backend.fetch("a")
    assert {key: getattr(record, key) for key in META} == META
    assert not WITH_CHILDREN or record.children == [[["child", None], None]]
    assert not WITH_CHILDREN or record.stamps == {"origin": "here"}


async def test_our_success_over_celerys_state_leaves_its_extended_fields(url: str) -> None:
    with celery_app(url, result_extended=True) as app:
        request = Context(id="a", task="tasks.add", args=[1], kwargs={}, hostname="w", retries=0)
        app.backend.store_result("a", None, "STARTED", request=request)
    async with Backend(url) as backend:
        assert await backend.store_result("a", 2, "SUCCESS")
        record = await backend.fetch("a")
    assert (record.result, record.name, record.args) == (2, "tasks.add", [1])


async def test_celerys_success_is_not_replaced(url: str) -> None:
    with celery_app(url) as app:
        app.backend.store_result("a", 1, "SUCCESS")
    async with Backend(url) as backend:
        assert not await backend.store_result("a", 2, "SUCCESS")
        assert not await backend.store_result("a", None, "STARTED")
        assert (await backend.fetch("a")).result == 1


async def test_both_may_create_the_tables_first_and_share_what_numbers_the_rows(url: str) -> None:
    async with Backend(url) as backend:
        for number in range(3):
            await backend.store_result(f"ours-{number}", number, "SUCCESS")
            with celery_app(url) as app:
                app.backend.store_result(f"theirs-{number}", number, "SUCCESS")
        ids = [f"{whose}-{number}" for whose in ("ours", "theirs") for number in range(3)]
        found = await sql_store(backend).get_many(ids)
    assert [found[task_id].result for task_id in ids] == [0, 1, 2, 0, 1, 2]


async def test_an_expired_result_is_deleted_by_celerys_cleanup_and_by_ours(url: str) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    async with Backend(url) as backend:
        store = sql_store(backend)
        await store.put_many([Record(id=name, status="SUCCESS", result=1, date_done=old) for name in ("a", "b")])
        await store.put_many([Record(id="alive", status="SUCCESS", result=1), Record(id="begun", status="STARTED")])
        with celery_app(url) as app:
            app.backend.store_result("c", 1, "SUCCESS")
            app.backend.cleanup()
        assert await backend.purge() == 0, "Celery has deleted what had expired"
        await store.put_many([Record(id=name, status="SUCCESS", result=1, date_done=old) for name in ("a", "b")])
        assert await backend.purge() == 2
        assert set(await store.get_many(["a", "b", "c", "alive", "begun"])) == {"c", "alive", "begun"}


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_group_that_we_saved_is_restored_by_celery_and_the_other_way_round(url: str) -> None:
    async with Backend(url, **FOR_CELERY) as backend:
        ours = GroupResult("ours", [backend.AsyncResult(name) for name in ("a", "b")], backend=backend)
        for _ in range(2):  # saving again replaces; in Celery it is an error
            await ours.save()
        with celery_app(url) as app:
            assert [member.id for member in CelerysGroup.restore("ours", app=app)] == ["a", "b"]
            CelerysGroup("theirs", [app.AsyncResult("c"), app.AsyncResult("d")], app=app).save()
        theirs = await GroupResult.restore("theirs", backend=backend)
        assert theirs is not None
        assert [member.id for member in theirs.results] == ["c", "d"]
        await theirs.delete()
        assert await GroupResult.restore("theirs", backend=backend) is None


async def test_a_group_for_older_celery_is_one_of_its_own_objects_without_a_url(url: str) -> None:
    async with Backend(url, database_result_format="pickle") as backend:
        await GroupResult("ours", [backend.AsyncResult("a")], backend=backend).save()
        restored = await GroupResult.restore("ours", backend=backend)
        assert restored is not None
        assert [member.id for member in restored.results] == ["a"]
        with celery_app(url) as app:
            assert [member.id for member in CelerysGroup.restore("ours", app=app)] == ["a"]


# --- rows of older generations, as they were found in a database ------------------------------------------------------


def _octets(value: Any) -> Any:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


@pytest.fixture
def old_database(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a SQLite file out of a dump in ``vectors``."""

    def make(name: str) -> Path:
        dump = json.loads((VECTORS / name).read_text())["data"]
        path = tmp_path / "old.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in dump["schema"]:
                if "sqlite_sequence" not in statement:
                    connection.execute(statement)
            for table, found in dump["tables"].items():
                if table == "sqlite_sequence":
                    continue
                places = ", ".join("?" * len(found["columns"]))
                for row in found["rows"]:
                    connection.execute(f"INSERT INTO {table} VALUES ({places})", [_octets(value) for value in row])
        return path

    return make


def _of_old(path: Path, **settings: Any) -> Backend:
    return Backend(f"sqlite:///{path}", result_expires=None, **settings)


@pytest.mark.parametrize("name", ["sqlite-json-v563.json", "sqlite-json.json"])
async def test_rows_of_both_generations_are_read(old_database: Callable[[str], Path], name: str) -> None:
    task = "aaaaaaaa-0000-4000-8000-0000000000"
    async with _of_old(old_database(name)) as backend:
        assert (await backend.fetch(f"{task}01")).result == 5
        assert (await backend.fetch(f"{task}02")).result is None
        with pytest.raises(ValueError, match="boom") as caught:
            await backend.AsyncResult(f"{task}03").get(timeout=PATIENCE)
        assert caught.value.args == ("boom", 42)
        group = await GroupResult.restore("bbbbbbbb-0000-4000-8000-000000000010", backend=backend)
        assert group is not None
        assert [member.id[-2:] for member in group.results] == ["01", "02"]


async def test_a_table_of_older_celery_gets_the_columns_that_it_lacks(old_database: Callable[[str], Path]) -> None:
    path = old_database("sqlite-json-v563.json")
    async with _of_old(path, result_extended=True) as backend:
        await backend.store_result("new", 1, "SUCCESS", children=[[["child", None], None]], stamps={"a": 1})
        record = await backend.fetch("new")
    assert (record.children, record.stamps) == ([[["child", None], None]], {"a": 1})


async def test_a_table_that_must_stay_as_it_is_works_without_the_columns(old_database: Callable[[str], Path]) -> None:
    path = old_database("sqlite-json-v563.json")
    async with _of_old(path, database_create_tables_at_setup=False, result_extended=True) as backend:
        assert await backend.store_result("new", 1, "SUCCESS", children=[[["child", None], None]], name="tasks.add")
        record = await backend.fetch("new")
    assert (record.result, record.children, record.name) == (1, None, "tasks.add")


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/nonexistent/aioresult-was-here"),))


async def test_a_pickled_row_that_wants_more_than_plain_data_is_refused_and_says_what_would_accept_it(url: str) -> None:
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "STARTED")
        evil = sql_store(backend).encode(Record(id="a", status="SUCCESS", result=1))
        payload = pickle.dumps(Evil())
        await _store_payload(sql_store(backend), evil, payload)
        with pytest.raises(DecodeError, match=r"accept_content=.*pickle") as caught:
            await backend.AsyncResult("a").get(timeout=PATIENCE)
    assert "'a'" in str(caught.value)


async def _store_payload(store: SQLStore, record: Record, payload: bytes) -> None:
    """Store a row with ``payload`` as its result, whatever that is."""
    import msgspec

    from aioresult.record import Encoded

    await store.put_many([msgspec.structs.replace(record, result=Encoded(payload))])


async def test_an_exception_type_that_is_not_known_here_comes_out_with_its_name(url: str) -> None:
    with celery_app(url) as app:
        failure = {"exc_type": "Odd", "exc_module": "elsewhere", "exc_message": ["a"]}
        app.backend.store_result("a", failure, "STARTED")
    async with Backend(url) as backend:
        await backend.store_result("a", failure, "FAILURE", "the traceback")
        with pytest.raises(RemoteTaskError) as caught:
            await backend.AsyncResult("a").get(timeout=PATIENCE)
    assert (caught.value.exc_type, caught.value.exc_module) == ("Odd", "elsewhere")


async def test_waiters_in_many_loops_of_one_process_are_woken(url: str) -> None:
    """A backend is used in several loops, each with connections of its own."""
    backend = Backend(url)

    async def wait() -> Any:
        async with backend:
            return await backend.AsyncResult("a").get(timeout=PATIENCE)

    async with Backend(url) as writer:
        waiting = [asyncio.create_task(asyncio.to_thread(asyncio.run, wait())) for _ in range(2)]
        await writer.store_result("a", 1, "SUCCESS")
        assert await asyncio.gather(*waiting) == [1, 1]


# --- tables of older generations --------------------------------------------------------------------------------------


async def test_indexes_that_older_generations_lack_are_created_where_an_operator_asks_for_it(url: str) -> None:
    engine = create_async_engine(parse(url).url)
    async with Backend(url) as backend:
        await create_tables(backend._runtime.store)
    complete = await _indexes(engine)
    async with engine.begin() as connection:
        for table in TABLES:
            where = f" ON {table}" if "mysql" in url else ""
            await connection.exec_driver_sql(f"DROP INDEX ix_{table}_date_done{where}")
    lacking = await _indexes(engine)
    assert lacking < complete
    async with Backend(url) as backend:
        await backend.store_result("a", 1, "SUCCESS")
    assert await _indexes(engine) == lacking
    backends = [Backend(url) for _ in range(4)]
    for _ in range(2):
        await asyncio.gather(*(create_tables(backend._runtime.store) for backend in backends))
        assert await _indexes(engine) == complete
    await asyncio.gather(*(backend.aclose() for backend in backends), engine.dispose())


async def test_an_index_of_another_name_serves_as_well(url: str) -> None:
    engine = create_async_engine(parse(url).url)
    async with Backend(url) as backend:
        await create_tables(backend._runtime.store)
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE INDEX of_my_own ON celery_taskmeta (date_done, status)")
            where = " ON celery_taskmeta" if "mysql" in url else ""
            await connection.exec_driver_sql(f"DROP INDEX ix_celery_taskmeta_date_done{where}")
        before = await _indexes(engine)
        await create_tables(backend._runtime.store)
    assert await _indexes(engine) == before
    await engine.dispose()


async def _indexes(engine: AsyncEngine) -> set[tuple[str, str | None]]:
    async with engine.connect() as connection:
        return await connection.run_sync(
            lambda sync: {(table, found["name"]) for table in TABLES for found in inspect(sync).get_indexes(table)}
        )
