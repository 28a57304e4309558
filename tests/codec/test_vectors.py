"""What unmodified Celery workers of 5.6 and 5.7 stored in real servers, read value by value.

The dumps in ``vectors`` are bytes (base64) as found in the stores; ``appendix.json`` holds some of other settings.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aioresult import RemoteTaskError, TaskRevokedError
from aioresult.errors import RemoteTraceback
from aioresult.states import EXCEPTION_STATES
from tests.codec.celery_codec import codec

VECTORS = Path(__file__).parent.parent / "vectors"
TASK = "aaaaaaaa-0000-4000-8000-0000000000"
GROUP = "bbbbbbbb-0000-4000-8000-000000000010"
MEMBERS = [f"bbbbbbbb-0000-4000-8000-00000000000{number}" for number in (1, 2)]
RICH = {
    "dt": datetime(2020, 1, 2, 3, 4, 5, 678900),  # noqa: DTZ001  (stored without a zone)
    "dtz": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    "d": date(2020, 1, 2),
    "t": time(3, 4, 5),
    "dec": Decimal("1.10"),
    "uuid": UUID("12345678123456781234567812345678"),
    "bytes": b"abc",
    "b64": b"\xff\xfe",
    "tuple": [1, "two", None],
    "nan": float("nan"),
    "uni": "hé中",
    "int_key": {"1": 2},
}
EXPECTED: dict[str, Any] = {
    f"{TASK}01": 5,
    f"{TASK}02": None,
    f"{TASK}03": ValueError("boom", 42),
    f"{TASK}04": KeyError(),
    f"{TASK}05": RemoteTaskError("Plain", "labtasks", ("custom", {"k": [1, 2]})),
    f"{TASK}06": RemoteTaskError("Outer.Inner", "labtasks", ("nested",)),
    f"{TASK}07": RemoteTaskError("TwoArg", "labtasks", ("7: det",)),
    f"{TASK}08": RuntimeError("outer"),
    f"{TASK}09": ValueError("x", "<Opaque obj>", b"\xff\x00", datetime(2020, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001  (as above)
    f"{TASK}10": RemoteTaskError("Local", "labtasks", ("loc",)),
    f"{TASK}11": "done",
    f"{TASK}12": "after-retry",
    f"{TASK}13": "after-retry",
    f"{TASK}14": RemoteTaskError(
        "MaxRetriesExceededError",
        "celery.exceptions",
        (f"Can't retry labtasks.retry_exhaust[{TASK}14] args:() kwargs:{{}}",),
    ),
    f"{TASK}15": RICH,
    f"{TASK}16": RemoteTaskError(
        "EncodeError", "kombu.exceptions", ("TypeError('Object of type set is not JSON serializable')",)
    ),
    f"{TASK}17": "p",
    f"{TASK}18": [["cccccccc-0000-4000-8000-000000000021", None], None],
    f"{TASK}21": ValueError("ignored but stored"),
    f"{TASK}23": RemoteTaskError("Reject", "celery.exceptions", ("no thanks", False)),
    f"{TASK}24": {"a": 1},
    f"{TASK}25": ExceptionGroup("eg", [ValueError("a"), TypeError("b")]),
    f"{TASK}26": "pg",
    f"{TASK}30": RemoteTaskError("NotRegistered", "celery.exceptions", ("no.such.task",)),
    "bbbbbbbb-0000-4000-8000-000000000071": TaskRevokedError("revoked"),
}


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def values(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the ids and values of the tasks in a dump of Redis."""
    for key, item in load(name)["data"].items():
        yield key.removeprefix("celery-task-meta-"), base64.b64decode(item["value"]["b64"])


def rows(name: str, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dump of a database, with their binary columns as bytes."""
    dump = load(name)["data"]["tables"][table]
    for row in dump["rows"]:
        columns = dict(zip(dump["columns"], row, strict=True))
        yield {key: base64.b64decode(item["b64"]) if isinstance(item, dict) else item for key, item in columns.items()}


def check(task_id: str, status: str, value: Any, traceback: str | None = None) -> None:
    """Check a value against what the task of this number did, and the exception of a failed one whatever it did."""
    assert isinstance(value, BaseException) is (status in EXCEPTION_STATES)
    if isinstance(value, BaseException):
        assert isinstance(value, Exception)
        assert (value.__cause__ is None) is (traceback is None)
        if traceback is not None:
            assert isinstance(value.__cause__, RemoteTraceback)
            assert value.__cause__.text == traceback
    if status == "STARTED":
        assert set(value) == {"pid", "hostname"}
    elif task_id in EXPECTED:
        wanted = EXPECTED[task_id]
        if isinstance(wanted, RemoteTaskError):
            assert isinstance(value, RemoteTaskError)
            value = RemoteTaskError(value.exc_type, value.exc_module, value.exc_args)
        assert repr(value) == repr(wanted)


@pytest.mark.parametrize("name", ["redis-json", "redis-json-ext", "redis-json-v563"])
def test_records_in_redis_are_read_and_written_again_byte_for_byte(name: str) -> None:
    count = 0
    for task_id, payload in values(name):
        meta = json.loads(payload)
        record = codec().decode_record(task_id, payload)
        check(task_id, meta["status"], record.result, meta["traceback"])
        for field in ("status", "traceback", "children", "group_id", "parent_id", "name", "worker", "retries", "queue"):
            assert getattr(record, field) == meta.get(field)
        assert (record.args, record.kwargs) == (meta.get("args"), meta.get("kwargs"))
        assert (record.date_done and record.date_done.isoformat()) == meta["date_done"]
        if b"UnpickleableExceptionWrapper" not in payload:
            assert codec(result_extended="name" in meta).encode_record(record) == payload
        count += 1
    assert count == {"redis-json": 28, "redis-json-ext": 29, "redis-json-v563": 11}[name]


@pytest.mark.parametrize("name", ["sqlite-json", "pg-json", "sqlite-json-v563"])
def test_rows_in_sql_are_read_whether_serialized_or_pickled(name: str) -> None:
    seen = set()
    for row in rows(name, "celery_taskmeta"):
        task_id, status, traceback = row["task_id"], row["status"], row["traceback"]
        value = codec().decode_result(task_id, status, row["result"], traceback=traceback, legacy_pickle=True)
        if name == "sqlite-json-v563" and task_id in (f"{TASK}15", f"{TASK}18"):
            value = as_json_would(value)
        check(task_id, status, value, traceback)
        if row.get("children"):
            children = codec().decode_value(row["children"], f"children of task {task_id!r}")
            assert all(len(child) == 2 for child in children)
        seen.add(task_id)
    assert {f"{TASK}01", f"{TASK}03", f"{TASK}24"} & seen == {f"{TASK}01", f"{TASK}03", f"{TASK}24"}


def as_json_would(value: Any) -> Any:
    """Return a pickled value with the types that it has after JSON."""
    if isinstance(value, dict):
        return {str(key): as_json_would(item) for key, item in value.items()}
    return [as_json_would(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", ["sqlite-json", "pg-json", "sqlite-json-v563"])
def test_groups_in_sql_are_read_as_ids(name: str) -> None:
    (row,) = rows(name, "celery_tasksetmeta")
    tree = codec().decode_value(row["result"], "group", legacy_pickle=True)
    assert codec().as_tree(tree, "group") == [[GROUP, None], [[[member, None], None] for member in MEMBERS]]
    assert "sqlite:" not in repr(tree)


def test_documents_in_mongodb_are_read() -> None:
    data = load("mongo-json")["data"]
    for document in data["celery_taskmeta"]["docs"]:
        task_id, status, traceback = document["_id"], document["status"], document["traceback"]
        check(
            task_id, status, codec().decode_result(task_id, status, document["result"], traceback=traceback), traceback
        )
    (group,) = data["celery_groupmeta"]["docs"]
    assert codec().decode_value(group["result"], "group") == MEMBERS


def test_pickled_and_compressed_records_in_redis_are_read() -> None:
    appendix = load("appendix")
    readers = {
        "redis-pickle": codec(result_serializer="pickle"),
        "redis-pickle-bzip2": codec(result_serializer="pickle"),
        "redis-json-gzip": codec(),
        "redis-json-lzma": codec(),
    }
    for name, reader in readers.items():
        for task_id, payload in appendix[name].items():
            record = reader.decode_record(task_id, base64.b64decode(payload))
            assert record.error is None, name
            assert record.date_done is not None
            check(task_id, record.status, record.result)


def test_failures_of_workers_are_described() -> None:
    found = {
        task_id[-1]: codec().decode_record(task_id, base64.b64decode(payload)).result
        for task_id, payload in load("appendix")["redis-json-ext-prefork"].items()
    }
    assert [str(found[number]) for number in "123"] == [
        "billiard.exceptions.TimeLimitExceeded(1)",
        "billiard.exceptions.SoftTimeLimitExceeded()",
        "billiard.exceptions.WorkerLostError('Worker exited prematurely: exitcode 3 Job: 2.')",
    ]
    assert repr(found["4"]) == "TaskRevokedError('terminated')"


@pytest.mark.parametrize("settings", [{}, {"result_serializer": "pickle"}], ids=["as plain data", "in full"])
def test_rows_that_celery_pickled_are_read_with_and_without_trust(settings: dict[str, str]) -> None:
    ours = codec(**settings)
    for key, item in load("appendix")["sqlite-pickle"].items():
        payload = base64.b64decode(item["result"])
        if item["status"] is None:
            tree = ours.decode_value(payload, "group", legacy_pickle=True)
            assert tree == [[GROUP, None], [[[member, None], None] for member in MEMBERS]]
        else:
            check(key, item["status"], ours.decode_result(key, item["status"], payload, legacy_pickle=True))
