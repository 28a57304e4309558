"""Rows that others have made: whatever a driver hands over, decoding is total, and one bad row is one task's error."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioresult import Backend, Record
from aioresult.codec import Codec
from aioresult.errors import DecodeError, SettingsError
from aioresult.settings import Settings
from aioresult.states import SUCCESS
from aioresult.stores.mongodb.documents import CODEC_OPTIONS, READING, Documents
from aioresult.stores.sqlalchemy.dates import Dates, TextDates, WallDates
from aioresult.stores.sqlalchemy.rows import Rows
from aioresult.stores.sqlalchemy.tables import COLUMNS
from aioresult.testing.conformance import eventually
from tests.servers import mariadb
from tests.stores.sqlalchemy.sql import PATIENCE, on_postgresql, sql_store, waiting_for


def _view(octets: bytes) -> memoryview:
    return memoryview(octets)


_AWARE = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
ENDS = [*_AWARE, *(end.replace(tzinfo=None) for end in _AWARE)]

Values = st.SearchStrategy[Any]
MANY = settings(max_examples=3 * settings().max_examples, deadline=None)


def nested(leaves: Values, held: Callable[[Values], Values]) -> Values:
    """Return values of which about half hold others, up to two levels deep; ``st.recursive`` takes twice as long."""
    return st.one_of(leaves, held(leaves), *(held(leaves | held(leaves)) for _ in range(4)))


anything = nested(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.binary()
    | st.binary().map(bytearray)
    | st.binary().map(_view)
    | st.text()
    | st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "REVOKED", '{"a": 1}', "[]", '"x"', b"\x80\x04N.", b"{}"])
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=14))))
    | st.sampled_from(ENDS)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
)
"""What a driver may hand over for one column."""


def check(record: Record, task_id: str) -> None:
    """See that a record is usable, or says why not."""
    assert record.id == task_id
    assert isinstance(record.status, str)
    assert record.date_done is None or record.date_done.tzinfo is UTC
    assert record.traceback is None or isinstance(record.traceback, str)
    assert record.error is None or isinstance(record.error, DecodeError)
    repr(record)


@pytest.mark.slow
@settings(MANY)
@given(
    values=st.lists(anything, min_size=len(COLUMNS) - 1, max_size=len(COLUMNS) - 1),
    dates=st.sampled_from([Dates(), WallDates(None), WallDates(timezone(timedelta(hours=14))), TextDates(UTC)]),
    serializer=st.sampled_from(["json", "yaml", "msgpack", "pickle"]),
)
def test_no_row_is_too_strange_to_be_decoded(values: list[Any], dates: Dates, serializer: str) -> None:
    chosen = Settings(result_serializer=serializer, accept_content=(serializer,))
    rows = Rows(chosen, Codec(chosen), dates)
    check(rows.to_record(("id", *values)), "id")
    check(rows.to_record(("id", SUCCESS, *values[1:])), "id")
    with suppress(DecodeError):
        rows.decode_group("g", values[0])


bson_values = nested(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary()
    | st.text()
    | st.sampled_from(["SUCCESS", "FAILURE", '{"a": 1}', "[]", b"{}"])
    | st.datetimes()
    | st.builds(bson.DatetimeMS, st.integers(-(2**62), 2**62))
    | st.uuids()
    | st.builds(bson.ObjectId)
    | st.builds(bson.Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.just(bson.MinKey())
    | st.just(bson.MaxKey())
    | st.just(bson.Decimal128("NaN"))
    | st.just(bson.Regex("(", 0))
    | st.builds(bson.Code, st.text())
    | st.builds(bson.Binary, st.binary(), st.sampled_from([0, 2, 3, 4, 5, 6, 128])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"])), inner, max_size=3)
    ),
)
FIELDS = (
    "status result traceback children date_done date_done_us group_id parent_id name args kwargs worker retries queue "
    "stamped_headers expires_at tree"
).split()


@pytest.mark.slow
@settings(MANY)
@given(document=st.dictionaries(st.sampled_from(FIELDS), bson_values))
def test_no_document_is_too_strange_to_be_decoded(document: dict[str, Any]) -> None:
    chosen = Settings()
    documents = Documents(Codec(chosen), chosen)
    stored = bson.encode({"_id": "id", **document}, codec_options=CODEC_OPTIONS)
    found = bson.decode(stored, codec_options=READING)
    check(documents.decode(found), "id")
    check(documents.decode({**found, "status": "SUCCESS"}), "id")
    with suppress(DecodeError):
        documents.decode_group(found)


@pytest.mark.slow
@settings(MANY)
@given(
    payload=st.binary() | st.dictionaries(st.sampled_from(FIELDS), st.text() | st.integers() | st.none()).map(repr),
    serializer=st.sampled_from(["json", "yaml", "msgpack", "pickle"]),
)
def test_no_payload_is_too_strange_to_be_decoded(payload: bytes | str, serializer: str) -> None:
    codec = Codec(Settings(result_serializer=serializer, accept_content=(serializer,)))
    check(codec.decode_record("id", payload), "id")


# --- SQLite: each value has a type of its own -------------------------------------------------------------------------

SQLITE_VALUES: dict[str, tuple[str, object]] = {
    "real": ("1.5", DecodeError),
    "integer": ("1500000000", DecodeError),
    "text that is JSON": ("'{\"a\": 1}'", {"a": 1}),
    "text that is none": ("'{broken'", DecodeError),
    "text that is not UTF-8": ("CAST(x'FFFE' AS TEXT)", DecodeError),
    "nothing": ("NULL", None),
    "bytes": ("x'31'", 1),
}


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def on_sqlite(path: Path, *statements: str) -> None:
    """Execute ``statements`` behind everybody's back."""
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("push", [True, False])
async def test_a_foreign_value_in_sqlite_is_one_tasks_error(sqlite_path: Path, push: bool) -> None:
    async with Backend(
        f"sqlite:///{sqlite_path}", push=push, poll_min_interval=0.01, fallback_interval=3600
    ) as backend:
        await backend.store_result("first", 1, "SUCCESS")
        waiters = await waiting_for(backend, [*SQLITE_VALUES, "other"])
        insert = "INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('{}', 'SUCCESS', {})"
        on_sqlite(
            sqlite_path,
            *(insert.format(name, value) for name, (value, _) in SQLITE_VALUES.items()),
            insert.format("other", "x'22796573 22'".replace(" ", "")),
        )
        *outcomes, other = await asyncio.gather(*waiters, return_exceptions=True)
    assert other == "yes"
    for outcome, (name, (_, expected)) in zip(outcomes, SQLITE_VALUES.items(), strict=True):
        assert isinstance(outcome, DecodeError) if expected is DecodeError else outcome == expected, name


@pytest.mark.parametrize(
    "value", ["1.5", "7", "CAST(x'FFFE' AS TEXT)", "x'FFFE'", "'0001-01-01'", "'9999-12-31 23:59'"]
)
async def test_a_foreign_value_in_any_column_of_sqlite_hurts_nobody_else(sqlite_path: Path, value: str) -> None:
    async with Backend(f"sqlite:///{sqlite_path}", timezone="Asia/Shanghai") as backend:
        ids = [f"{column} {number}" for column in COLUMNS for number in range(2)]
        await asyncio.gather(*(backend.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
        for column in COLUMNS[1:]:
            on_sqlite(sqlite_path, f"UPDATE celery_taskmeta SET {column} = {value} WHERE task_id = '{column} 1'")
        found = await sql_store(backend).get_many(ids)
        for column in COLUMNS:
            assert found[f"{column} 0"].result == f"{column} 0"
            check(found.get(f"{column} 1") or Record(id=f"{column} 1"), f"{column} 1")


async def test_a_saved_group_of_another_type_is_its_own_error(sqlite_path: Path) -> None:
    async with Backend(f"sqlite:///{sqlite_path}") as backend:
        store = sql_store(backend)
        await store.put_group("g", [["g", None], []])
        for value in ("1.5", "7", "CAST(x'FFFE' AS TEXT)", "'{broken'"):
            on_sqlite(sqlite_path, f"UPDATE celery_tasksetmeta SET result = {value}")
            with pytest.raises(DecodeError, match="saved group 'g'"):
                await store.get_group("g")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------

TABLE = (
    "CREATE TABLE celery_taskmeta (id SERIAL PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status VARCHAR(50), "
    "result {}, date_done {}, traceback TEXT)"
)


@pytest.fixture(params=["asyncpg", "psycopg"])
def pg(request: pytest.FixtureRequest, postgres_url: str) -> str:
    return postgres_url.replace("asyncpg", request.param)


@pytest.mark.parametrize("kind", ["text", "json", "jsonb"])
async def test_a_column_of_text_or_json_is_read_and_not_written_to(pg: str, kind: str) -> None:
    on_postgresql(pg, TABLE.format(kind, "timestamp"))
    values = {"object": {"a": [1, None, "x"]}, "number": 1.5, "text": "abc", "null": None, "list": []}
    async with Backend(pg, fallback_interval=3600) as backend:
        waiters = await waiting_for(backend, [*values, "none", "bad"])
        insert = "INSERT INTO celery_taskmeta (task_id, status, result) VALUES (%s, %s, %s)"
        encoded = ['{"a": [1, null, "x"]}', "1.5", '"abc"', "null", "[]", None]
        for task_id, text in zip([*values, "none"], encoded, strict=True):
            on_postgresql(pg, insert, task_id, "SUCCESS", text)
        on_postgresql(pg, insert, "bad", "SUCCESS", '{"__type__": "nonesuch", "__value__": 1}')
        *found, none, bad = await asyncio.gather(*waiters, return_exceptions=True)
        assert (found, none) == (list(values.values()), None)
        assert isinstance(bad, DecodeError)
        with pytest.raises(SettingsError, match=r"column result is of type .*ALTER COLUMN result TYPE bytea"):
            await backend.store_result("b", 1, "SUCCESS")
        assert (await backend.fetch("b")).status == "PENDING"
        (remedy,) = [text for text in [await refusal(backend)] if text]
        on_postgresql(pg, remedy)
        assert await backend.store_result("b", 1, "SUCCESS")
        assert (await backend.fetch("object")).result == values["object"]


async def refusal(backend: Backend) -> str:
    """Return the statement that is recommended to whoever wants to write."""
    try:
        await backend.store_result("b", 1, "SUCCESS")
    except SettingsError as exc:
        return str(exc).partition("whoever may do it: ")[2]
    return ""


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "text", "date"])
async def test_dates_at_the_ends_of_the_calendar_hurt_nobody(pg: str, kind: str) -> None:
    dates = ["infinity", "-infinity", "0001-01-01", "9999-12-31 23:59:59", "4700-01-01 BC", "294276-12-31"]
    on_postgresql(pg, TABLE.format("bytea", kind))
    on_postgresql(pg, "ALTER DATABASE {} SET timezone = 'Asia/Tokyo'".format(pg.rpartition("/")[2]))
    insert = "INSERT INTO celery_taskmeta (task_id, status, result, date_done) VALUES (%s, 'SUCCESS', '1', %s)"
    async with Backend(pg, result_expires=None, fallback_interval=3600) as backend:
        ids = [*dates, "other"]
        waiters = await waiting_for(backend, ids)
        for task_id in ids:
            on_postgresql(pg, insert, task_id, task_id if task_id in dates else "2030-01-01")
        *outcomes, other = await asyncio.gather(*waiters, return_exceptions=True)
        assert other == 1
        for outcome in outcomes:
            assert outcome == 1 or isinstance(outcome, DecodeError)
            assert "database does not take" not in str(outcome)  # nobody has given it anything
        found = await sql_store(backend).get_many(ids)
        assert set(found) == set(ids)


# --- MySQL and MariaDB ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("JSON", "'{\"a\": 1}'", {"a": 1}),
        ("TEXT CHARACTER SET latin1", "'\"x\"'", "x"),
        ("DOUBLE", "1.5", DecodeError),
        ("DECIMAL(5,2)", "1.5", DecodeError),
        ("DATETIME", "'2030-01-01'", DecodeError),
        ("TIME", "'-800:00:00'", DecodeError),
        ("BIT(8)", "b'00110001'", 1),
    ],
)
async def test_a_column_of_another_type_in_mysql_is_read_where_it_can_be(
    mariadb_url: str, kind: str, value: str, expected: object
) -> None:
    await asyncio.to_thread(
        mariadb.execute,
        mariadb_url,
        f"CREATE TABLE celery_taskmeta (id INT AUTO_INCREMENT PRIMARY KEY, task_id VARBINARY(155) UNIQUE, status "
        f"VARBINARY(50), result {kind}, date_done VARCHAR(50), traceback BLOB, retries DOUBLE)",
        f"INSERT INTO celery_taskmeta (task_id, status, result, date_done, retries) VALUES ('a', 'SUCCESS', {value}, "
        f"'0000-00-00', 2), ('b', 'SUCCESS', NULL, NULL, NULL), ('c', 'SUCCESS', NULL, NULL, 1.5)",
    )
    async with Backend(mariadb_url) as backend:
        found = await sql_store(backend).get_many(["a", "b", "c"])
    assert (found["b"].result, found["b"].error) == (None, None)
    assert isinstance(found["c"].error, DecodeError)
    if expected is DecodeError:
        assert isinstance(found["a"].error, DecodeError)
    else:
        assert (found["a"].result, found["a"].retries, found["a"].date_done) == (expected, 2, None)


# --- MongoDB ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("push", [True, False])
async def test_a_document_of_any_shape_is_one_tasks_error(mongo_url: str, push: bool) -> None:
    odd: dict[str, dict[str, Any]] = {
        "result": {"result": 1.5},
        "status": {"status": 7},
        "date": {"date_done": bson.DatetimeMS(2**60)},
        "uuid of three octets": {"args": [bson.Binary(b"abc", 4)]},
        "legacy uuid of three octets": {"args": [bson.Binary(b"abc", 3)]},
        "headers": {"stamped_headers": {"a": 1}},
        "expiry": {"expires_at": "never"},
        "microseconds": {"date_done_us": 2**62},
    }
    async with Backend(mongo_url, push=push, poll_min_interval=0.01, fallback_interval=3600) as backend:
        await backend.store_result("first", 1, "SUCCESS")
        waiters = [asyncio.create_task(backend.AsyncResult(one).get(timeout=PATIENCE)) for one in [*odd, "other"]]

        async def watched() -> bool:
            return backend.stats().watched == len(waiters)

        await eventually(watched)

        def write() -> None:
            base: dict[str, Any] = {
                "status": "SUCCESS",
                "result": "1",
                "traceback": None,
                "children": [],
                "date_done": datetime.now(UTC),
            }
            with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
                collection = client.get_default_database()["celery_taskmeta"]
                collection.insert_many([{"_id": one, **base, **change} for one, change in {**odd, "other": {}}.items()])

        await asyncio.to_thread(write)
        *outcomes, other = await asyncio.gather(*waiters, return_exceptions=True)
    assert other == 1
    for outcome in outcomes:
        assert outcome == 1 or isinstance(outcome, DecodeError), outcome
    for name, outcome in zip(odd, outcomes[:3], strict=False):
        assert f"the document {name!r}: its field " in str(outcome)
