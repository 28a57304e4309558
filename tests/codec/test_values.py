"""Values: each serializer writes what kombu writes and reads what kombu reads, and says what it cannot write."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aioresult.errors import DecodeError, EncodeError, SettingsError
from aioresult.settings import Settings
from tests.codec.celery_codec import codec, kombu_json, kombu_serialization, msgpack

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))])
text = st.text(st.characters(exclude_categories=[]))  # lone surrogates too, which Python's JSON can hold
typed = st.one_of(
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=zones),
    st.decimals(),
    st.uuids(),
    st.binary(),
)
numbers = st.integers() | st.floats()


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


json_values = nested(st.none() | st.booleans() | numbers | text | typed, text)
msgpack_values = nested(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(), st.text()
)
yaml_values = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(), st.text()
)


def same(left: Any, right: Any) -> bool:
    """Compare by type and value, taking NaN for equal to itself."""
    return repr(left) == repr(right)


@pytest.mark.slow
@settings(deadline=None)
@given(json_values)
def test_json_and_kombu_write_and_read_the_same(value: Any) -> None:
    ours, theirs = codec().encode_value(value, "value"), kombu_json.dumps(value).encode()
    assert ours == theirs
    assert same(codec().decode_value(theirs, "value"), kombu_json.loads(theirs))


@pytest.mark.slow
@settings(deadline=None)
@given(msgpack_values)
def test_msgpack_and_kombu_write_and_read_the_same(value: Any) -> None:
    ours = codec(result_serializer="msgpack")
    encoded = msgpack.packb(value, use_bin_type=True)
    assert ours.encode_value(value, "value") == encoded
    assert same(ours.decode_value(encoded, "value"), msgpack.unpackb(encoded, raw=False))


@pytest.mark.slow
@settings(deadline=None)
@given(yaml_values)
def test_yaml_and_kombu_write_and_read_the_same(value: Any) -> None:
    ours = codec(result_serializer="yaml")
    encoded = yaml.safe_dump(value).encode()
    assert ours.encode_value(value, "value") == encoded
    assert same(ours.decode_value(encoded, "value"), yaml.safe_load(encoded))


@pytest.mark.slow
@settings(deadline=None)
@given(json_values)
def test_pickle_and_kombu_write_and_read_the_same(value: Any) -> None:
    ours = codec(result_serializer="pickle")
    encoded = kombu_serialization.dumps(value, serializer="pickle")[2]
    assert ours.encode_value(value, "value") == encoded
    assert same(ours.decode_value(encoded, "value"), value)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what is stored"


class Whole(int): ...


class Real(float): ...


class Octets(bytes): ...


class Point(NamedTuple):
    x: int
    y: int


class Own:
    def __json__(self) -> Any:
        return {"own": (1, Decimal("2.50"))}


SUBCLASSES = [Colour.RED, Level.HIGH, Text("t"), Whole(5), Real(1.5), Octets(b"\xff"), Point(1, 2), {Level.HIGH: 1}]


@pytest.mark.parametrize("value", [*SUBCLASSES, Own(), {1: "a", None: "b", False: "c", 1.5: "d"}])
def test_subclasses_odd_keys_and_own_json_methods_are_written_as_kombu_writes_them(value: Any) -> None:
    assert codec().encode_value([value], "value") == kombu_json.dumps([value]).encode()


@pytest.mark.parametrize("value", [*SUBCLASSES, bytearray(b"x"), memoryview(b"x"), {b"k": 1}])
def test_msgpack_takes_subclasses_for_what_they_derive_from_as_kombu_does(value: Any) -> None:
    assert codec(result_serializer="msgpack").encode_value([value], "v") == msgpack.packb([value], use_bin_type=True)


@dataclass
class Data:
    x: int = 1


class Plain(enum.Enum):
    A = "a"


NEVER = [(serializer, value) for value in (object(), range(3), print) for serializer in ("json", "msgpack", "yaml")]
IN_JSON_ONLY = [(serializer, value) for value in (Data(), Plain.A, timedelta(1)) for serializer in ("msgpack", "yaml")]


@pytest.mark.parametrize(
    ("serializer", "value"),
    [*NEVER, *IN_JSON_ONLY],
    ids=lambda item: item if type(item) is str else type(item).__name__,
)
def test_what_kombu_refuses_is_refused_and_named_by_its_path(serializer: str, value: Any) -> None:
    with pytest.raises(kombu_serialization.EncodeError):
        kombu_serialization.dumps({"a": [0, value]}, serializer=serializer)
    with pytest.raises(EncodeError, match=rf"^args: value\['a'\]\[1\]: object of type {type(value).__name__} "):
        codec(result_serializer=serializer).encode_value({"a": [0, value]}, "args")


@pytest.mark.parametrize(
    "value", [datetime.now(UTC), date(2020, 1, 1), time(1), Decimal(1), UUID(int=1), {1}], ids=type
)
def test_msgpack_refuses_what_it_could_only_store_as_something_else(value: Any) -> None:
    with pytest.raises(EncodeError, match=r"value\[0\]: object of type"):
        codec(result_serializer="msgpack").encode_value([value], "v")


def test_pickle_names_the_part_that_it_cannot_copy() -> None:
    with pytest.raises(EncodeError, match=r"value\['f'\]\[0\]: object of type function cannot be encoded as pickle"):
        codec(result_serializer="pickle").encode_value({"f": [lambda: None]}, "v")


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_a_value_that_contains_itself_is_refused_with_the_place(serializer: str) -> None:
    loop: dict[str, Any] = {"a": [{}]}
    loop["a"][0]["back"] = loop
    with pytest.raises(EncodeError, match=r"value\['a'\]\[0\]\['back'\]: circular reference"):
        codec(result_serializer=serializer).encode_value(loop, "v")


@pytest.mark.parametrize("serializer", ["yaml", "pickle"])
def test_serializers_that_know_references_keep_a_value_that_contains_itself(serializer: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    ours = codec(result_serializer=serializer)
    back = ours.decode_value(ours.encode_value(loop, "v"), "v")
    assert back[0] is back


@pytest.mark.slow
@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_nesting_beyond_all_bounds_is_refused(serializer: str) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec(result_serializer=serializer).encode_value(deep, "v")
    while deep:
        deep = deep[0]


def test_keys_that_cannot_be_written_are_named() -> None:
    with pytest.raises(
        EncodeError, match=r"value\['a'\]: dict key of type tuple: object of type tuple cannot be .*JSON"
    ):
        codec().encode_value({"a": {(1, 2): 3}}, "v")
    with pytest.raises(EncodeError, match=r"value: dict key of type Data"):
        codec(result_serializer="msgpack").encode_value({Level.HIGH: 1, Unhashed(): 2}, "v")


class Unhashed(Data):
    __hash__ = object.__hash__


Unhashed.__name__ = Unhashed.__qualname__ = "Data"


class Hostile:
    def __json__(self) -> Any:
        raise LookupError("s3cret service is down")

    def __reduce__(self) -> Any:
        raise LookupError("no copy")

    def __repr__(self) -> str:
        raise LookupError("no repr")


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_values_that_raise_when_looked_at_are_refused_like_others(serializer: str) -> None:
    with pytest.raises(EncodeError, match=r"value\['x'\]: object of type Hostile"):
        codec(result_serializer=serializer).encode_value({"x": Hostile()}, "v")


def test_integers_beyond_the_format_are_refused() -> None:
    with pytest.raises(EncodeError, match=r"value\[0\]: object of type int cannot be encoded as msgpack .Overflow"):
        codec(result_serializer="msgpack").encode_value([2**64], "v")
    with pytest.raises(EncodeError, match=r"value\[0\]: object of type int"):
        codec().encode_value([10**5000], "v")


def test_a_long_key_does_not_make_a_long_message() -> None:
    with pytest.raises(EncodeError) as caught:
        codec().encode_value({"k" * 10_000: object()}, "v")
    assert len(str(caught.value)) < 500


def test_json_reads_what_only_pythons_json_writes() -> None:
    assert math.isnan(codec().decode_value(b"[NaN]", "v")[0])
    assert codec().decode_value(b"[Infinity, -Infinity, 1e999]", "v") == [math.inf, -math.inf, math.inf]
    assert codec().decode_value(rb'"\ud800"', "v") == "\ud800"
    assert codec().decode_value(str(2**200).encode(), "v") == 2**200


def test_an_envelope_is_opened_only_if_it_has_exactly_its_two_keys() -> None:
    for other in ({"__type__": "bytes"}, {"__type__": "bytes", "__value__": "x", "more": 1}, {"x": "__type__"}):
        assert codec().decode_value(json.dumps(other), "v") == other
    assert codec().decode_value('{"__type__": "bytes", "__value__": "x"}', "v") == b"x"


def test_undecodable_values_are_reported_by_name() -> None:
    with pytest.raises(DecodeError, match=r"^args of task 'x' cannot be read: "):
        codec().decode_value(b"{", "args of task 'x'")
    with pytest.raises(DecodeError, match="unknown __type__ 'shell'"):
        codec().decode_value('{"__type__": "shell", "__value__": 1}', "v")


def test_a_serializer_without_its_package_is_refused_when_the_codec_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(
        SettingsError, match=r"'yaml' needs the package PyYAML: pip install 'aioresult-backend\[yaml\]'"
    ):
        codec(result_serializer="yaml")


def test_yaml_cannot_expand_beyond_its_payload() -> None:
    laughs = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    with pytest.raises(DecodeError, match="merge keys"):
        codec(result_serializer="yaml").decode_value(laughs, "v")
    ours = codec(result_serializer="yaml")
    assert ours.decode_value(ours.encode_value({"<<": 1, "=": 2}, "v"), "v") == {"<<": 1, "=": 2}


def test_errors_of_yaml_do_not_quote_the_payload() -> None:
    with pytest.raises(DecodeError, match="it is not YAML") as caught:
        codec(result_serializer="yaml").decode_value(b"token: [s3cret", "v")
    assert "s3cret" not in str(caught.value)


def test_pickle_is_not_read_unless_it_is_accepted() -> None:
    from aioresult.codec import Codec

    with pytest.raises(DecodeError, match="pickle is not accepted; name it in accept_content"):
        Codec(Settings(result_serializer="pickle")).decode_value(b"\x80\x04K\x05.", "v")


@pytest.mark.parametrize("alias", ["application/json", "application/x-msgpack", "application/x-yaml"])
def test_mime_types_name_serializers_too(alias: str) -> None:
    ours = codec(result_serializer=alias)
    assert ours.decode_value(ours.encode_value({"a": 1}, "v"), "v") == {"a": 1}


@pytest.mark.parametrize(
    ("serializer", "text"), [("json", True), ("yaml", True), ("msgpack", False), ("pickle", False)]
)
def test_whether_results_are_text_is_known(serializer: str, text: bool) -> None:
    assert codec(result_serializer=serializer).is_text is text
    assert codec(result_serializer=serializer, result_compression="zlib").is_text is False


def test_groups_are_written_as_celery_writes_them_and_read_back_as_lists() -> None:
    tree = [
        ["g", None],
        [[["a", None], None], [["b", [["p", None], None]], None], [["inner", None], [[["c", None], None]]]],
    ]
    for serializer in ("json", "msgpack", "yaml", "pickle"):
        ours = codec(result_serializer=serializer)
        assert ours.decode_group("g", ours.encode_group(tree)) == tree
    assert codec().encode_group(tree) == kombu_json.dumps({"result": tree}).encode()
    assert codec().decode_group("g", b'{"result": ["g", [["a", null]]]}') == [["g", None], [[["a", None], None]]]


@pytest.mark.parametrize(
    "payload", [b"", b"5", b"{}", b'{"result": 5}', b'{"result": [["g"], []]}', b'{"result": ["g", "x"]}']
)
def test_a_broken_group_is_an_error_that_names_it(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="saved group 'g1'"):
        codec().decode_group("g1", payload)
