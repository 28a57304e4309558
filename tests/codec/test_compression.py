"""Compression: Celery's marker and methods, recognised whatever the settings, and never beyond the limit."""

from __future__ import annotations

import bz2
import functools
import lzma
import sys
import zlib
from typing import Any

import brotli
import pytest

from aioresult.errors import DecodeError, SettingsError
from aioresult.record import Record
from tests.codec.celery_codec import CeleryCodec, codec
from tests.versions import since_celery

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ID = "aaaaaaaa-0000-4000-8000-000000000001"
MARKER = b"\x00celery-compressed\x00"
TYPES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "bz2": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
    "brotli": "application/x-brotli",
}
RECORD = Record(id=ID, status="SUCCESS", result=["some text"] * 50, children=[])
BOMB = b'{"status": "SUCCESS", "result": "' + b"a" * 20_000_000 + b'"}'
PACK: dict[str, Any] = {
    "gzip": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": lzma.compress,
    "zstd": zstd.compress,
    "brotli": lambda data: brotli.compress(data, quality=1),
}


def marked(name: str, body: bytes) -> bytes:
    return MARKER + TYPES[name].encode() + b"\x00" + body


@pytest.mark.parametrize(("name", "content_type"), TYPES.items())
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_every_method_is_marked_as_celery_marks_it_and_read_by_any_reader(
    name: str, content_type: str, serializer: str
) -> None:
    payload = codec(result_serializer=serializer, result_compression=name).encode_record(RECORD)
    assert payload.startswith(MARKER + content_type.encode() + b"\x00")
    for setting in (None, "gzip", "lzma"):
        assert codec(result_serializer=serializer, result_compression=setting).decode_record(ID, payload) == RECORD


@since_celery("5.7", "result_compression")
@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "zstd", "zstandard", "brotli"])
def test_celery_writes_and_reads_the_same(name: str) -> None:
    celery = CeleryCodec(result_compression=name)
    theirs = celery.write(ID, RECORD.result, "PROGRESS")
    ours = codec(result_compression=name).encode_record(
        Record(id=ID, status="PROGRESS", result=RECORD.result, children=[])
    )
    assert ours == theirs
    assert celery.read(ours)["result"] == RECORD.result


def test_results_and_groups_are_compressed_but_not_where_celery_does_not() -> None:
    ours = codec(result_compression="zlib")
    assert ours.encode_result(RECORD).startswith(MARKER)
    assert not ours.encode_result(RECORD, compress=False).startswith(MARKER)
    assert ours.encode_group([["g", None], []]).startswith(MARKER)
    assert not ours.encode_value([1], "children").startswith(MARKER)
    assert ours.decode_group("g", ours.encode_group([["g", None], []])) == [["g", None], []]
    assert ours.decode_result(ID, "SUCCESS", ours.encode_result(RECORD)) == RECORD.result


@functools.cache
def packed_bomb(name: str) -> bytes:
    packed: bytes = PACK[name](BOMB)
    return packed


@pytest.mark.slow
@pytest.mark.parametrize("name", PACK)
def test_a_small_payload_cannot_expand_beyond_the_limit(name: str) -> None:
    payload = marked(name, packed_bomb(name))
    assert len(payload) < len(BOMB) / 100
    reader = codec(max_decompressed_bytes=1_000_000)
    record = reader.decode_record(ID, payload)
    assert "expands to more than max_decompressed_bytes=1000000" in str(record.error)
    assert codec(max_decompressed_bytes=len(BOMB)).decode_record(ID, payload).result == "a" * 20_000_000
    assert codec(max_decompressed_bytes=len(BOMB) - 1).decode_record(ID, payload).error is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", PACK)
def test_expanding_stops_at_the_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    payload = marked(name, packed_bomb(name))
    reader = codec(max_decompressed_bytes=100_000)
    reader.decode_record(ID, payload)  # imports what it needs
    tracemalloc.start()
    try:
        reader.decode_record(ID, payload)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", PACK)
def test_truncated_and_broken_data_is_an_error_that_says_so(name: str) -> None:
    body = PACK[name](b'{"status": "SUCCESS", "result": "' + bytes(range(32, 34)) * 300 + b'"}')
    for damaged in (
        body[:-1],
        body[: len(body) // 2],
        body[:1],
        b"",
        b"not compressed at all",
        body[:4] + b"\xff" * 40,
    ):
        error = codec().decode_record(ID, marked(name, damaged)).error
        assert isinstance(error, DecodeError)
        assert f"{name} data is" in str(error)
        assert ID in str(error)


def test_an_unknown_method_is_an_error_that_names_it() -> None:
    error = codec().decode_record(ID, MARKER + b"application/x-snappy\x00abc").error
    assert "unknown method 'application/x-snappy'" in str(error)


@pytest.mark.parametrize(("name", "module"), [("zstd", zstd.__name__), ("brotli", "brotli")])
def test_a_method_without_its_package_is_refused_and_names_what_to_install(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = codec(result_compression=name).encode_record(RECORD)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(sys.modules[module.rpartition(".")[0] or module], "zstd", raising=False)
    wanted = rf"{module}: pip install 'aioresult-backend\[compression\]'"
    if module == "compression.zstd":
        wanted = "a Python that was built with zstd"
    with pytest.raises(SettingsError, match=wanted):
        codec(result_compression=name)
    with pytest.raises(DecodeError, match=wanted):
        raise codec().decode_record(ID, payload).error or AssertionError


def test_an_unknown_setting_is_refused_and_names_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match="unknown result_compression 'rar'; known are gzip, bzip2, lzma, zstd, brotli"
    ):
        codec(result_compression="rar")


def test_a_payload_that_only_begins_like_the_marker_is_not_taken_for_compressed() -> None:
    assert "looks" not in str(codec().decode_record(ID, MARKER[:-1]).error)
    assert codec().decode_value(b'"\\u0000celery-compressed\\u0000"', "v") == MARKER.decode()
