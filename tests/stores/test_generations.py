"""What each generation of Celery that is still deployed has stored, read from SQLite, MongoDB and Redis.

``vectors/generations.json`` was recorded from the real versions, as ``vectors/recorder.py`` says, with two time zones.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pymongo
import pytest
from redis.asyncio import Redis

from aioresult import Backend, GroupResult, Record
from aioresult.errors import DecodeError
from tests.stores.mongodb.drivers import PATIENCE, Document
from tests.stores.sqlalchemy.sql import VECTORS

GENERATIONS: Final[dict[str, Any]] = json.loads((VECTORS / "generations.json").read_text())
ZONES: Final = ("UTC", "Asia/Shanghai")
EXTENDED: Final = ("tasks.add", [1], {"b": 2}, "w@h", 1, "q")
HOUR: Final = timedelta(hours=1)
MOMENTS: Final = timedelta(seconds=30)
"""How long recording has taken at most."""


def original(value: Any) -> Any:
    """Return a recorded value as the driver gave it."""
    if isinstance(value, list):
        return [original(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes"}:
        return base64.b64decode(value["bytes"])
    if value.keys() == {"date"}:
        return datetime.fromisoformat(value["date"])
    return {key: original(part) for key, part in value.items()}


def restore_sqlite(path: Path, tables: dict[str, Any], date: str | None = None) -> None:
    """Make a database out of what was found in one, with another date in all rows if need be."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, table in tables.items():
            connection.execute(table["schema"])
            for row in original(table["rows"]):
                row["date_done"] = date or row["date_done"]
                places = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({places})", list(row.values()))


def restore_mongodb(url: str, collections: dict[str, Any]) -> None:
    """Insert the documents that were found."""
    with pymongo.MongoClient[Document](url) as client:
        for name, documents in collections.items():
            client.get_default_database()[name].insert_many(original(documents))


async def restore_redis(url: str, keys: dict[str, Any]) -> None:
    """Set the keys that were found."""
    async with Redis.from_url(url) as client:
        await client.mset(original(keys))


async def check(backend: Backend, recorded: datetime | None = None, *, dated: bool = True) -> dict[str, Record]:
    """Read everything, and compare it with what the recorder has stored.

    Args:
        backend: where it is.
        recorded: when it was stored, as the store's dates are to say; ``None`` where they cannot.
        dated: whether this version stores dates there at all.
    """
    records = {name: await backend.fetch(name) for name in ("value", "none", "failure", "progress", "extended")}
    assert {name: record.status for name, record in records.items()} == {
        "value": "SUCCESS",
        "none": "SUCCESS",
        "failure": "FAILURE",
        "progress": "PROGRESS",
        "extended": "SUCCESS",
    }
    assert (records["value"].result, records["none"].result) == ({"a": [1, None, "\u4e2d"]}, None)
    assert (records["progress"].result, records["extended"].result) == ({"current": 1}, 1)
    assert records["failure"].traceback == "Traceback: it"
    with pytest.raises(ValueError, match="bad") as caught:
        await backend.AsyncResult("failure").get(timeout=PATIENCE)
    assert caught.value.args == ("bad", 42)
    assert [records[name].traceback for name in ("value", "none", "progress", "extended")] == [None] * 4
    group = await GroupResult.restore("group", backend=backend)
    assert group is not None
    assert [member.id for member in group] == ["a", "b"]
    for name in ("value", "none", "failure", "extended"):
        date = records[name].date_done
        assert (date is not None) == dated
        if recorded is not None and date is not None:
            assert timedelta() <= recorded - date <= MOMENTS
    return records


def extended(record: Record) -> tuple[Any, ...]:
    return record.name, record.args, record.kwargs, record.worker, record.retries, record.queue


def moment_of(recording: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(recording["moment"]).replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("version", GENERATIONS)
async def test_rows_in_sqlite_are_read(tmp_path: Path, version: str, zone: str) -> None:
    recording = GENERATIONS[version]["sqlite"][zone]
    restore_sqlite(tmp_path / "old.db", recording["stored"])
    wall_time_of = zone if version == "5.7.0" else "UTC"  # up to 5.4 whatever the application's zone
    async with Backend(f"sqlite:///{tmp_path / 'old.db'}", timezone=wall_time_of, result_expires=1) as backend:
        records = await check(backend, moment_of(recording))
    if version != "4.2.2":
        assert extended(records["extended"]) == EXTENDED
    assert records["value"].children == ([[["child", None], None]] if version == "5.7.0" else None)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("version", GENERATIONS)
async def test_documents_in_mongodb_are_read(mongo_url: str, version: str, zone: str) -> None:
    recording = GENERATIONS[version]["mongodb"][zone]
    await asyncio.to_thread(restore_mongodb, mongo_url, recording["stored"])
    async with Backend(mongo_url, timezone="America/New_York", result_expires=1) as backend:
        records = await check(backend, moment_of(recording))
    if version != "4.2.2":
        assert extended(records["extended"]) == EXTENDED
    assert (records["value"].children, records["none"].children) == ([[["child", None], None]], [])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("version", GENERATIONS)
async def test_keys_in_redis_are_read(redis_url: str, version: str, zone: str) -> None:
    recording = GENERATIONS[version]["redis"][zone]
    await restore_redis(redis_url, recording["stored"])
    async with Backend(redis_url, timezone="America/New_York") as backend:
        records = await check(backend, moment_of(recording), dated=version != "4.2.2")
    if version != "4.2.2":
        assert extended(records["extended"]) == EXTENDED
    assert (records["value"].children, records["none"].children) == ([[["child", None], None]], [])


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("version", ["5.4.0", "5.7.0"])
async def test_what_was_stored_a_second_ago_is_read_and_not_purged(tmp_path: Path, version: str, timezone: str) -> None:
    """With the zone ``Asia/Shanghai``, Celery 5.4 writes UTC and 5.7 that zone's time."""
    recording = GENERATIONS[version]["sqlite"]["Asia/Shanghai"]
    row = original(recording["stored"]["celery_taskmeta"]["rows"])[0]
    offset = round((datetime.fromisoformat(row["date_done"]) - datetime.fromisoformat(recording["moment"])) / HOUR)
    assert offset == {"5.4.0": 0, "5.7.0": 8}[version], "the vectors are not what this test is about"
    fresh = (datetime.now(UTC) + offset * HOUR).replace(tzinfo=None).isoformat(" ", "microseconds")
    restore_sqlite(tmp_path / "new.db", recording["stored"], fresh)
    async with Backend(f"sqlite:///{tmp_path / 'new.db'}", timezone=timezone, result_expires=3600) as backend:
        assert await backend.AsyncResult("value").get(timeout=PATIENCE) == {"a": [1, None, "\u4e2d"]}
        assert await backend.purge() == 0
        await check(backend)


# --- forms that some versions, serializers and drivers give the fields of documents -----------------------------------


async def read_document(mongo_url: str, document: Document, **settings: Any) -> Record:
    with pymongo.MongoClient[Document](mongo_url) as client:
        client.get_default_database()["celery_taskmeta"].insert_one({"_id": "a", "status": "SUCCESS", **document})
    async with Backend(mongo_url, **settings) as backend:
        return await backend.fetch("a")


async def test_a_document_of_celery_4_with_msgpack_is_read(mongo_url: str) -> None:
    fields = {"result": b"\x01", "traceback": b"\xa2tb", "children": b"\x91\x92\x92\xa5child\xc0\xc0"}
    record = await read_document(mongo_url, fields, result_serializer="msgpack")
    assert (record.result, record.traceback, record.children) == (1, "tb", [[["child", None], None]])


async def test_a_traceback_that_only_looks_serialized_is_read_as_it_is(mongo_url: str) -> None:
    record = await read_document(mongo_url, {"result": "1", "traceback": "Traceback: [", "children": "[]"})
    assert (record.traceback, record.children) == ("Traceback: [", [])


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.678901", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        ("2026-01-02T03:04:05+08:00", datetime(2026, 1, 1, 19, 4, 5, tzinfo=UTC)),
    ],
)
async def test_a_date_that_is_text_is_read(mongo_url: str, text: str, read: datetime) -> None:
    record = await read_document(mongo_url, {"result": "1", "date_done": text})
    assert (record.result, record.date_done) == (1, read)


@pytest.mark.parametrize("stored", [1.0, 1, 2**40])
async def test_whole_retries_are_read_whatever_number_they_are(mongo_url: str, stored: float) -> None:
    record = await read_document(mongo_url, {"result": "1", "retries": stored})
    assert record.retries == stored
    assert isinstance(record.retries, int)


@pytest.mark.parametrize(
    "fields", [{"date_done": "yesterday"}, {"children": "["}, {"retries": 1.5}, {"traceback": b"\xc1"}], ids=str
)
async def test_a_field_that_cannot_be_read_is_named(mongo_url: str, fields: Document) -> None:
    with pytest.raises(DecodeError, match=next(iter(fields))):
        await read_document(mongo_url, {"result": "1", **fields})


async def test_whole_retries_in_redis_are_read(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.set("celery-task-meta-a", '{"status": "SUCCESS", "result": 1, "retries": 1.0}')
    async with Backend(redis_url) as backend:
        assert (await backend.fetch("a")).retries == 1
