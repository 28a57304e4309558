"""Values of richer types are stored in JSON by their plain form, and come back by ``result_type``."""

from __future__ import annotations

import enum
import json
import math
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from aioresult import AsyncResult, Backend, DecodeError
from aioresult.errors import EncodeError
from tests.codec.celery_codec import CeleryCodec, codec, kombu_json

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ID = UUID(int=7)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.Enum):
    HIGH = 3


class Corner(enum.Enum):
    """Its values are of a kind that msgspec does not decode by itself."""

    TOP = (0, 1)
    SIDE = 0.5
    BOTH = ((0, 1), (1, 1))


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: Decimal
    at: datetime
    tags: set[str] = field(default_factory=set)
    raw: bytes = b""


@dataclass
class Order:
    id: UUID
    items: list[Item]
    colours: dict[Colour, int]
    wait: timedelta = timedelta(0)


class Shape(msgspec.Struct, tag=True, rename="camel"):
    side_length: float


class Circle(msgspec.Struct, tag=True):
    radius: int
    drawn: timedelta


@attrs.define
class Address:
    street: str
    moved_in: date
    former: deque[str] = attrs.field(factory=deque)


class Model(pydantic.BaseModel):
    x: int
    at: datetime
    colour: Colour = Colour.RED


class Renamed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    amount: Decimal = pydantic.Field(alias="theAmount")
    parts: list[Model] = []
    tags: frozenset[str] = frozenset()


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


T = TypeVar("T")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Numbers(pydantic.RootModel[list[int]]): ...


@dataclass
class Mixed:
    """One library's class within another's."""

    model: Model
    shape: Shape
    address: Address
    size: np.float64


class Pair(NamedTuple):
    left: Colour
    right: int


ITEM = Item("bolt", Decimal("1.50"), NOON, {"steel"}, b"\xff")
MODEL = Model(x=1, at=NOON)
ADDRESS = Address("Main", date(2020, 1, 2), deque(["Side"]))
PET = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
ROUND_TRIPS: list[tuple[Any, Any]] = [
    (ITEM, Item),
    (Order(ID, [ITEM], {Colour.RED: 2}, timedelta(hours=1.5)), Order),
    ([Shape(1.5), Circle(2, timedelta(seconds=1))], list[Shape | Circle]),
    (ADDRESS, Address),
    ({"here": ADDRESS}, dict[str, Address]),
    (MODEL, Model),
    ([MODEL], list[Model]),
    ({"a": [MODEL]}, dict[str, list[Model]]),
    (MODEL, Model | None),
    (None, Model | None),
    (Renamed(theAmount=Decimal("2.5"), parts=[MODEL], tags=frozenset("t")), Renamed),
    (Dog(), PET),
    ([Dog(), Cat(lives=2)], list[PET]),
    (Dog(), Cat | Dog),
    (Page[Model](items=[MODEL]), Page[Model]),
    (Numbers([1, 2]), Numbers),
    (Mixed(MODEL, Shape(2.0), ADDRESS, np.float64(0.1)), Mixed),
    (Colour.RED, Colour),
    ([Level.HIGH], list[Level]),
    (Corner.TOP, Corner),
    (Corner.SIDE, Corner),
    (Corner.BOTH, Corner),
    (Right.READ | Right.WRITE, Right),
    ({1, 2}, set[int]),
    (frozenset("ab"), frozenset[str]),
    ({Colour.RED}, set[Colour]),
    (timedelta(days=-3, microseconds=5), timedelta),
    (timedelta.max, timedelta),
    (deque([1, 2]), deque[int]),
    (deque([Colour.RED]), deque[Colour]),
    (deque([1]), deque),
    (OrderedDict(b=1, a=2), OrderedDict[str, int]),
    (Counter("aab"), Counter[str]),
    (np.int64(3), np.int64),
    (np.float32(0.5), np.float32),
    (np.bool_(True), np.bool_),
    (np.str_("s"), np.str_),
    ([np.uint8(200)], list[np.uint8]),
    (np.float64(2.5), float),
    (np.array([[1, 2], [3, 4]]).tolist(), list[list[int]]),
    ({Colour.RED: 1}, dict[Colour, int]),
    ({Level.HIGH: 1}, dict[Level, int]),
    ({1: "a", 2: "b"}, dict[int, str]),
    ({ID: 1}, dict[UUID, int]),
    ({date(2020, 1, 2): {1}}, dict[date, set[int]]),
    ({np.int64(4): 1}, dict[int, int]),
    (Pair(Colour.RED, 2), Pair),
    (math.inf, float),
    (NOON, datetime),
    (b"\xff", bytes),
    (Decimal("0.10"), Decimal),
    (ID, UUID),
]
IDS = [f"{number} {type(value).__name__}" for number, (value, _) in enumerate(ROUND_TRIPS)]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend("memory://plain-forms") as backend:
        yield backend


def plain(value: Any) -> Any:
    return json.loads(codec().encode_value(value, "value"))


@pytest.mark.parametrize(("value", "result_type"), ROUND_TRIPS, ids=IDS)
async def test_a_result_type_gives_back_what_was_stored(backend: Backend, value: Any, result_type: Any) -> None:
    await backend.mark_as_done("t", value)
    found = await AsyncResult[Any]("t", backend, result_type=result_type).get(timeout=0)
    assert found == value
    assert type(found) is (type(value) if result_type is not float else float)


@pytest.mark.parametrize("value", [value for value, _ in ROUND_TRIPS], ids=IDS)
def test_what_is_stored_is_read_by_celery_as_plain_data(value: Any) -> None:
    assert CeleryCodec().decode(codec().encode_value([value], "v")) == codec().decode_value(
        codec().encode_value([value], "v"), "v"
    )


def test_each_kind_has_a_plain_form() -> None:
    assert plain(Colour.RED) == "red"
    assert plain([Level.HIGH, Corner.TOP]) == [3, [0, 1]]
    assert plain({5}) == [5]
    assert plain(frozenset({"a"})) == ["a"]
    assert plain(deque([1, {2}])) == [1, [2]]
    assert plain(timedelta(days=1, seconds=1.5)) == "P1DT1.5S"
    assert plain(Shape(1.0)) == {"type": "Shape", "sideLength": 1.0}
    assert plain(ADDRESS)["former"] == ["Side"]
    assert plain(MODEL) == MODEL.model_dump(mode="json")
    assert plain(Numbers([1])) == [1]
    assert plain([np.int8(1), np.float32(0.5), np.bool_(False), np.array([1, 2])]) == [1, 0.5, False, [1, 2]]
    assert plain({"deep": [{"er": (Colour.RED, {Level.HIGH})}]}) == {"deep": [{"er": ["red", [3]]}]}
    assert plain({Colour.RED: 1, Level.HIGH: 2, ID: 3, None: 4}) == {"red": 1, "3": 2, str(ID): 3, "null": 4}


def test_what_celery_marks_stays_marked_inside_of_other_values() -> None:
    found = codec().decode_value(codec().encode_value(ITEM, "v"), "v")
    assert (found["price"], found["at"], found["raw"]) == (ITEM.price, ITEM.at, ITEM.raw)
    assert plain({Colour.RED: NOON}) == {"red": {"__type__": "datetime", "__value__": NOON.isoformat()}}


def test_numpys_dates_are_dates() -> None:
    loaded = codec().decode_value(codec().encode_value([np.datetime64("2020-01-02T03:04:05.000006", "ns")], "v"), "v")
    assert loaded == [datetime(2020, 1, 2, 3, 4, 5, 6)]  # noqa: DTZ001  (NumPy's have no zone)
    assert plain(np.timedelta64(90, "s")) == "PT90S"


def test_a_method_json_comes_first_as_with_kombu() -> None:
    @dataclass
    class Own:
        x: int

        def __json__(self) -> Any:
            return {"own": self.x}

    for value in (Own(1), {ID: Own(1)}, [Own(1), {2}]):
        assert '"own": 1' in codec().encode_value(value, "v").decode()
    assert codec().encode_value([Own(1)], "v") == kombu_json.dumps([Own(1)]).encode()


REFUSED: list[Any] = [
    lambda: 0,
    print,
    iter(()),
    (letter for letter in "ab"),
    threading.Lock(),
    object(),
    range(3),
    1j,
    Exception("x"),
    Item,
    Model,
    Colour,
    np.complex64(1),
    np.longdouble(1) if np.dtype(np.longdouble).itemsize > 8 else object(),
    np.array([object()]),
]


@pytest.mark.parametrize(
    "value", REFUSED, ids=[f"{number} {type(value).__name__}" for number, value in enumerate(REFUSED)]
)
def test_what_has_no_plain_form_is_refused_wherever_it_is(value: Any) -> None:
    order = Order(ID, [ITEM], {})
    order.items.append(value)
    for held in (value, {1, 2} and [value], deque([value]), {"k": {Colour.RED: value}}, order):
        with pytest.raises(EncodeError, match="cannot be encoded as JSON"):
            codec().encode_value(held, "v")


def test_the_error_names_the_field() -> None:
    broken = Order(ID, [ITEM, Item("nut", print, NOON)], {})  # type: ignore[arg-type]  # on purpose
    with pytest.raises(EncodeError, match=r"value\['order'\]\.items\[1\]\.price: object of type builtin_function"):
        codec().encode_value({"order": broken}, "v")
    with pytest.raises(EncodeError, match=r"value\[0\]\['a member'\]: object of type object"):
        codec().encode_value([{object()}], "v")


def test_the_error_names_a_private_field_where_that_is_stored() -> None:
    @dataclass
    class Holder:
        _private: Any

    assert codec().encode_value(Holder(1), "v") == b'{"_private": 1}'
    with pytest.raises(EncodeError, match=r"value\[0\]\._private: object of type builtin_function"):
        codec().encode_value([Holder(print)], "v")


def test_a_model_that_cannot_be_dumped_says_why() -> None:
    class Holder(pydantic.BaseModel):
        held: Any

    with pytest.raises(EncodeError, match=r"value\[0\]: object of type .*Holder .*Unable to serialize unknown type"):
        codec().encode_value([Holder(held=lambda: 0)], "v")


def test_a_dataclass_that_contains_itself_is_refused_with_the_place() -> None:
    item: Any = Item("loop", Decimal(1), NOON)
    item.price = {"of": [item]}
    with pytest.raises(EncodeError, match=r"value\.price\['of'\]\[0\]: circular reference"):
        codec().encode_value(item, "v")


def test_other_serializers_say_what_to_do_instead() -> None:
    for serializer in ("msgpack", "yaml"):
        with pytest.raises(EncodeError, match=r"msgspec\.to_builtins"):
            codec(result_serializer=serializer).encode_value(ITEM, "v")


def test_keys_that_have_no_plain_form_or_the_same_one_are_refused() -> None:
    keys: list[Any] = [(1, 2), b"k", Corner.TOP, frozenset()]
    for key in keys:
        with pytest.raises(EncodeError, match=r"value\['a'\]: dict key .*cannot be encoded as a key in JSON"):
            codec().encode_value({"a": {key: 1}}, "v")
    with pytest.raises(EncodeError, match="two of its dict keys"):
        codec().encode_value({"red": 1, Colour.RED: 2}, "v")


async def test_a_value_of_another_shape_is_a_decode_error_that_names_the_place(backend: Backend) -> None:
    await backend.mark_as_done("t", [{"x": "s3cret", "at": NOON}])
    for wanted, place in ((list[Model], "x"), (list[Item], "name"), (set[int], r"\$\[0\]"), (Model, "")):
        result = AsyncResult[Any]("t", backend, result_type=wanted)
        with pytest.raises(DecodeError, match=f"task 't'.*{place}") as caught:
            await result.get(timeout=0)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(DecodeError, match="uint8"):
        await _typed(backend, 300, np.uint8)
    with pytest.raises(DecodeError, match="Corner"):
        await _typed(backend, 0.25, Corner)
    for unsupported in (threading.Lock, np.ndarray, dict[str, Corner]):
        with pytest.raises(DecodeError, match="not supported"):
            await _typed(backend, {"a": 1}, unsupported)


async def _typed(backend: Backend, value: Any, result_type: Any) -> Any:
    await backend.mark_as_done(f"{value!r}", value)
    return await AsyncResult[Any](f"{value!r}", backend, result_type=result_type).get(timeout=0)


@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "yaml"])
async def test_a_result_type_works_with_every_serializer(serializer: str) -> None:
    async with Backend(f"memory://{serializer}", result_serializer=serializer, accept_content=[serializer]) as backend:
        value = [{"x": 1, "at": NOON.isoformat()}]
        assert await _typed(backend, value, list[Model]) == [MODEL]
        if serializer == "pickle":
            for kept in (ITEM, MODEL, ADDRESS, Corner.TOP, {Colour.RED: deque([1])}):
                assert await _typed(backend, kept, type(kept)) == kept


def test_no_library_is_imported_for_that() -> None:
    program = """
import sys, enum
from dataclasses import dataclass
from aioresult.codec import Codec
from aioresult.codec.typed import convert
from aioresult.settings import make_settings

@dataclass
class Data:
    x: set

codec = Codec(make_settings({}))
stored = codec.decode_value(codec.encode_value({"a": Data({1})}, "v"), "v")
assert convert(stored, dict[str, Data]) == {"a": Data({1})}
print(*{name.partition('.')[0] for name in sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "pydantic_core", "numpy", "attr", "attrs"}.intersection(run.stdout.split())
