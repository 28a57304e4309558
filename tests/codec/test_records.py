"""Records: byte for byte Celery's, and read back with nothing but what a record has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from aioresult.errors import DecodeError, EncodeError, ResultTooLarge
from aioresult.record import Encoded, Record
from tests.codec.celery_codec import CeleryCodec, child, codec

ID = "aaaaaaaa-0000-4000-8000-000000000001"
DONE = datetime(2026, 11, 22, 12, 20, 59, 180529, tzinfo=UTC)
PLAIN: dict[str, Any] = {"task": "t.add", "args": [2], "kwargs": {"y": 3}, "hostname": "w1@lab", "retries": 1}


def stored(**fields: Any) -> bytes:
    return json.dumps({"status": "SUCCESS", "result": 1, "task_id": ID} | fields).encode()


def same_but_for_the_date(ours: bytes, theirs: bytes, date: str) -> bool:
    return ours.replace(date.encode(), b"DATE") == theirs.replace(json.loads(theirs)["date_done"].encode(), b"DATE")


@pytest.mark.parametrize("result", [5, None, "é\U0001f600\ud800", [1, (2,)], {"a": float("nan"), "b": float("-inf")}])
@pytest.mark.parametrize("links", [{}, {"group": "g"}, {"parent_id": "p"}, {"group": "g", "parent_id": "p"}], ids=str)
def test_json_is_written_byte_for_byte_as_celery_writes_it(result: Any, links: dict[str, str]) -> None:
    theirs = CeleryCodec().write(ID, result, "SUCCESS", children=[child("c")], **links)
    record = Record(
        id=ID,
        status="SUCCESS",
        result=result,
        children=[[["c", None], None]],
        date_done=DONE,
        group_id=links.get("group"),
        parent_id=links.get("parent_id"),
    )
    assert same_but_for_the_date(codec().encode_record(record), theirs, DONE.isoformat())


def test_extended_records_and_stamps_are_written_byte_for_byte_as_celery_writes_them() -> None:
    theirs = CeleryCodec(result_extended=True).write(
        ID, 5, "SUCCESS", stamps={"mon": "id-1"}, stamped_headers=["mon"], delivery_info={"routing_key": "q"}, **PLAIN
    )
    record = Record(
        id=ID,
        status="SUCCESS",
        result=5,
        children=[],
        date_done=DONE,
        name="t.add",
        args=[2],
        kwargs={"y": 3},
        worker="w1@lab",
        retries=1,
        queue="q",
        stamps={"mon": "id-1"},
    )
    ours = codec(result_extended=True).encode_record(record)
    assert same_but_for_the_date(ours, theirs, DONE.isoformat())
    assert codec().decode_record(ID, ours) == record
    assert b"t.add" not in codec().encode_record(record)


def test_states_that_are_not_final_are_written_as_celery_writes_them() -> None:
    theirs = CeleryCodec().write(ID, {"done": 1}, "PROGRESS")
    assert codec().encode_record(Record(id=ID, status="PROGRESS", result={"done": 1}, children=[])) == theirs


@pytest.mark.parametrize("serializer", ["msgpack", "yaml", "pickle"])
def test_other_serializers_write_the_same_bytes_too(serializer: str) -> None:
    theirs = CeleryCodec(result_serializer=serializer).write(ID, {"a": [1, b"x"]}, "PROGRESS")
    record = Record(id=ID, status="PROGRESS", result={"a": [1, b"x"]}, children=[])
    ours = codec(result_serializer=serializer)
    assert ours.encode_record(record) == theirs
    assert ours.decode_record(ID, theirs) == record


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE"])
def test_a_celery_client_reads_what_is_written(serializer: str, state: str) -> None:
    result = {"a": 1} if state == "SUCCESS" else ValueError("boom", 42)
    record = Record(id=ID, status=state, result=result, traceback="tb", children=[], date_done=DONE)
    meta = CeleryCodec(result_serializer=serializer).read(codec(result_serializer=serializer).encode_record(record))
    assert (meta["status"], meta["traceback"], meta["task_id"]) == (state, "tb", ID)
    assert datetime.fromisoformat(meta["date_done"]) == DONE
    if state == "SUCCESS":
        assert meta["result"] == {"a": 1}
    else:
        assert (type(meta["result"]), meta["result"].args) == (ValueError, ("boom", 42))


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is not UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "2026-11-22T12:20:59.180529+00:00"),
        ({"timezone": "Asia/Tokyo"}, "2026-11-22T21:20:59.180529+09:00"),
        ({"enable_utc": False}, "2026-11-22T17:50:59.180529+05:30"),
    ],
    ids=str,
)
def test_dates_are_written_in_the_zone_of_the_settings_and_read_as_utc(settings: dict[str, Any], expected: str) -> None:
    for moment in (DONE, DONE.astimezone(timezone(timedelta(hours=-3))), DONE.replace(tzinfo=None)):
        payload = codec(**settings).encode_record(Record(id=ID, status="SUCCESS", date_done=moment))
        assert json.loads(payload)["date_done"] == expected
        assert codec().decode_record(ID, payload).date_done == DONE


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T12:20:59.180529",  # Celery up to 5.3: UTC without saying so
        "2026-11-22T12:20:59.180529+00:00",
        "2026-11-22T12:20:59.180529Z",
        "2026-11-22T21:20:59.180529+09:00",
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_every_form_of_a_date_is_read_as_aware_utc(text: str, typed: bool) -> None:
    result = {"__type__": "bytes", "__value__": "x"} if typed else 1
    date_done = codec().decode_record(ID, stored(date_done=text, result=result)).date_done
    assert date_done == DONE
    assert date_done.tzinfo is UTC


def test_a_date_without_microseconds_or_none_at_all_is_read() -> None:
    assert codec().decode_record(ID, stored(date_done="2026-11-22T12:20:59")).date_done == DONE.replace(microsecond=0)
    assert codec().decode_record(ID, stored(date_done=None)).date_done is None
    assert codec().decode_record(ID, stored()).date_done is None


def test_the_id_that_was_asked_for_wins() -> None:
    for payload in (stored(task_id="other"), b'{"status": "SUCCESS", "result": 1}', stored(task_id=7)):
        record = codec().decode_record(ID, payload)
        assert (record.id, record.status, record.result) == (ID, "SUCCESS", 1)


def test_stored_keys_set_nothing_but_the_fields_of_a_record() -> None:
    payload = stored(id="evil", error="evil", ready=True, __class__="x", stamps={"a": 1}, unknown=[1])
    record = codec().decode_record(ID, payload)
    assert record == Record(id=ID, status="SUCCESS", result=1)
    assert not hasattr(record, "unknown")


def test_stamps_named_like_fields_neither_overwrite_them_nor_are_taken_from_them() -> None:
    stamps = {"status": "REVOKED", "task_id": "evil", "mon": 1, "stamped_headers": 5}
    record = Record(id=ID, status="SUCCESS", result=1, children=[], stamps=stamps)
    back = codec().decode_record(ID, codec(result_extended=True).encode_record(record))
    assert (back.status, back.result, back.stamps) == ("SUCCESS", 1, {"mon": 1})
    assert codec().decode_record(ID, stored(stamped_headers=["status", "gone", 4])).stamps is None
    assert codec().decode_record(ID, stored(stamped_headers="mon", mon=1)).stamps is None


def test_an_empty_payload_is_nothing_stored_as_it_is_for_celery() -> None:
    assert codec().decode_record(ID, b"") == Record(id=ID)


def test_payloads_are_taken_in_every_type_that_drivers_return() -> None:
    record = codec().decode_record(ID, stored())
    for kind in (bytearray, memoryview, lambda data: data.decode()):
        assert codec().decode_record(ID, kind(stored())) == record


def test_a_result_that_is_encoded_already_is_left_alone() -> None:
    record = Record(id=ID, status="SUCCESS", result=Encoded(b"done before"))
    assert codec(max_result_bytes=1).encode_record(record) == b"done before"
    assert codec(max_result_bytes=1).encode_result(record) == b"done before"


NESTING = b"[\n" * 100_000  # on one line, PyYAML would look back at hundreds of brackets for each
POISON = {
    "truncated": stored()[:-5],
    "garbage": b"\x13\x37\xff\xfe",
    "only white space": b"  ",
    "not an object": b"[1, 2]",
    "a number": b"5",
    "no status": b'{"result": 1}',
    "no status but an id": b'{"result": 1, "task_id": "x"}',
    "a group": b'{"result": [["g", null], []]}',
    "a status that is no text": stored(status=5),
    "a status that is null": stored(status=None),
    "a traceback that is no text": stored(traceback={"a": 1}),
    "children that are no list": stored(children="x"),
    "retries that are no number": stored(retries="many"),
    "a date that is none": stored(date_done="yesterday"),
    "a date out of range": stored(date_done="0001-01-01T00:00:00+14:00"),
    "an unknown kind of value": stored(result={"__type__": "shell", "__value__": "rm"}),
    "a kind that is no text": stored(result={"__type__": [1], "__value__": "rm"}),
    "a malformed value": stored(result={"__type__": "uuid", "__value__": "x"}),
    "a malformed decimal": stored(result={"__type__": "decimal", "__value__": "x"}),
    "a failure with a malformed value": stored(status="FAILURE", result={"__type__": "bytes", "__value__": 5}),
    "nesting without end": b'{"status": "SUCCESS", "result": ' + NESTING,
    "typed nesting without end": b'{"__type__": 1, "status": "SUCCESS", "result": ' + NESTING,
    "an unknown compression": b"\x00celery-compressed\x00application/x-rot13\x00abc",
    "a compression without end": b"\x00celery-compressed\x00application/x-gzip",
    "pickle": b"\x80\x04K\x05.",
    "msgpack": msgspec.msgpack.encode({"status": "SUCCESS", "result": "s3cret"}),
    "yaml": b"status: SUCCESS\nresult: s3cret\n",
    "UTF-16": stored().decode().encode("utf-16"),
    "invalid UTF-8": b'{"status": "SUCCESS", "result": "\xff"}',
    "an integer of a million digits": b'{"status": "SUCCESS", "result": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("payload", POISON.values(), ids=POISON)
@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_whatever_cannot_be_read_is_an_error_for_its_own_id_only(payload: bytes, serializer: str) -> None:
    record = codec(result_serializer=serializer).decode_record(ID, payload)
    assert record.id == ID
    if serializer == "json":
        assert isinstance(record.error, DecodeError)
    if record.error is not None:
        assert ID in str(record.error)
        assert len(str(record.error)) < 1000


@pytest.mark.parametrize("looks", ["pickle", "msgpack", "yaml"])
def test_the_error_says_what_a_payload_looks_like_and_which_setting_reads_it_but_not_what_it_says(looks: str) -> None:
    message = str(codec().decode_record(ID, POISON[looks]).error)
    assert looks in message
    assert "result_serializer" in message
    assert "s3cret" not in message
    assert ("accept_content" in message) == (looks == "pickle")
    if looks != "yaml":  # which JSON is a part of
        assert "looks like json" in str(codec(result_serializer=looks).decode_record(ID, stored(result="s3cret")).error)


@pytest.mark.slow
@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_random_damage_never_escapes_as_anything_but_a_record(serializer: str) -> None:
    import random

    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    ours = codec(result_serializer=serializer if serializer != "pickle" else "json")
    whole = codec(result_serializer=serializer).encode_record(
        Record(id=ID, status="FAILURE", result=KeyError("x"), children=[], date_done=DONE, traceback="tb")
    )
    for _ in range(1000):
        damaged = bytearray(whole[: dice.randrange(1, len(whole) + 1)])
        for _ in range(dice.randrange(4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        assert ours.decode_record(ID, bytes(damaged)).id == ID


def test_a_value_that_cannot_be_encoded_is_named_by_its_path() -> None:
    record = Record(id=ID, status="SUCCESS", result={"items": [0, 1, 2, {"owner": range(3)}]})
    with pytest.raises(
        EncodeError, match=r"result\['items'\]\[3\]\['owner'\]: object of type range .* as JSON"
    ) as caught:
        codec().encode_record(record)
    assert ID in str(caught.value)
    assert "nothing was stored" in str(caught.value)


def test_the_field_that_cannot_be_encoded_is_named_too() -> None:
    for name in ("children", "args", "kwargs", "stamps"):
        record = msgspec.structs.replace(Record(id=ID, status="SUCCESS"), **{name: {"k": object()}})
        with pytest.raises(EncodeError, match=rf"{name}\['k'\]: object of type object"):
            codec(result_extended=True).encode_record(record)


def test_a_result_above_the_limit_is_refused_with_its_size_and_one_at_the_limit_is_not() -> None:
    record = Record(id=ID, status="SUCCESS", result="x" * 1000, children=[])
    size = len(codec().encode_record(record))
    assert len(codec(max_result_bytes=size).encode_record(record)) == size
    with pytest.raises(ResultTooLarge, match=rf"{ID}.* {size} bytes.*max_result_bytes={size - 1}"):
        codec(max_result_bytes=size - 1).encode_record(record)
    with pytest.raises(ResultTooLarge, match="1002 bytes"):
        codec(max_result_bytes=1001).encode_result(record)
    assert len(codec(max_result_bytes=1002).encode_result(record)) == 1002
    assert codec(max_result_bytes=size - 1, result_compression="zlib").encode_record(record)


def test_a_failure_above_the_limit_is_cut_down_rather_than_lost() -> None:
    record = Record(id=ID, status="FAILURE", result=ValueError("x" * 9000, 7), traceback="t" * 9000, children=[])
    payload = codec(max_result_bytes=1000).encode_record(record)
    assert len(payload) <= 1000
    back = codec().decode_record(ID, payload)
    assert isinstance(back.result, ValueError)
    assert back.result.args[1] == 7
    assert back.traceback is not None
    assert back.traceback.endswith("ttt")
    assert len(codec(max_result_bytes=1000).encode_result(record)) <= 1000
