"""Failures keep what their exception said, and exception groups their members, whoever has stored them."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import traceback
import urllib.error
from collections.abc import Awaitable, Callable
from email.message import Message
from typing import Any

import pydantic
import pytest
from celery.utils.serialization import get_pickleable_exception

from aioresult import Backend, RemoteTaskError, register_exception
from aioresult.codec import exceptions
from aioresult.codec.exceptiongroups import members_of
from aioresult.record import Record
from tests.codec.celery_codec import CeleryCodec, codec

SERIALIZERS = ["json", "msgpack", "yaml", "pickle"]
ID = "aaaaaaaa-0000-4000-8000-000000000048"


class Model(pydantic.BaseModel):
    x: int


class Quota(Exception):
    """Says what it has to say by an attribute."""

    def __init__(self, *, limit: int = 0) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"over the limit of {self.limit}\nfor today"


class Chatty(Exception):
    def __str__(self) -> str:
        return f"it was {self.args[0]}, sorry"


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


class Plain(Exception): ...


class OwnGroup(ExceptionGroup[Exception]):
    def derive(self, excs: Any, /) -> Any:
        return OwnGroup(self.message, excs)


def invalid() -> pydantic.ValidationError:
    try:
        Model(x="seven")  # type: ignore[arg-type]  # on purpose
    except pydantic.ValidationError as exc:
        return exc
    raise AssertionError


def not_found() -> urllib.error.HTTPError:
    error = urllib.error.HTTPError("http://example.org", 404, "Not Found", Message(), None)
    error.close()  # it holds a file, which nobody needs
    return error


def raised(exc: BaseException) -> BaseException:
    """Return an exception with a traceback, as it has after it was raised."""
    try:
        raise exc
    except BaseException as caught:  # noqa: BLE001  (whatever was given)
        return caught


def write(exc: Any, serializer: str = "json", **fields: Any) -> bytes:
    return codec(result_serializer=serializer).encode_record(Record(id=ID, status="FAILURE", result=exc, **fields))


def through(exc: Any, serializer: str = "json", **fields: Any) -> Any:
    return codec(result_serializer=serializer).decode_record(ID, write(exc, serializer, **fields)).result


def by_worker(exc: BaseException, serializer: str = "json", state: str = "FAILURE") -> Any:
    """Return what is read of a failure that Celery has written, which knows the exception's text by its traceback."""
    copied: BaseException = get_pickleable_exception(exc)
    text = "".join(
        traceback.format_exception(type(copied), copied.with_traceback(exc.__traceback__), exc.__traceback__)
    )
    payload = CeleryCodec(result_serializer=serializer).write(ID, copied, state, text)
    return codec(result_serializer=serializer).decode_record(ID, payload).result


LOST: list[tuple[Callable[[], BaseException], str]] = [
    (invalid, "Input should be a valid integer, unable to parse string"),
    (not_found, "HTTP Error 404: Not Found"),
    (lambda: Quota(limit=5), "over the limit of 5\nfor today"),
    (lambda: Chatty("late"), "it was late, sorry"),
]


@pytest.mark.parametrize(("make", "said"), LOST, ids=["pydantic", "urllib", "attribute", "overridden"])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_what_an_exception_said_is_stored_beside_its_arguments(
    serializer: str, make: Callable[[], BaseException], said: str
) -> None:
    assert said in str(through(make(), serializer))


@pytest.mark.parametrize(("make", "said"), [LOST[0], *LOST[2:]], ids=["pydantic", "attribute", "overridden"])
def test_what_an_exception_said_at_a_worker_of_celery_is_at_the_end_of_the_traceback(
    make: Callable[[], BaseException], said: str
) -> None:
    error = by_worker(raised(make()))
    assert isinstance(error, RemoteTaskError)
    assert said in str(error)
    assert str(error).startswith(f"{error.exc_module}.{error.exc_type}: ")
    nested = by_worker(raised(_caused(make())))
    assert said in str(nested)


def _caused(exc: BaseException) -> BaseException:
    exc.__cause__ = raised(ValueError("the cause, which is another exception"))
    return exc


def test_what_celery_has_lost_stays_as_it_is_stored() -> None:
    """It stores an exception that pickle cannot copy as a base class, without its arguments and its text."""
    assert repr(by_worker(raised(not_found()))) == "OSError()"


def test_an_exception_that_said_nothing_still_says_nothing() -> None:
    assert by_worker(raised(ValueError())).args == ()
    assert str(by_worker(raised(Plain()))) == f"{__name__}.Plain()"
    assert through(Mute("a")).exc_args == ("a",)
    retry = "Traceback ...\ncelery.exceptions.Retry: Retry in 3s: ValueError()"
    payload = CeleryCodec().write(ID, ValueError(), "RETRY", retry)
    assert codec().decode_record(ID, payload).result.args == ()


def test_what_the_arguments_tell_is_not_stored_twice() -> None:
    for exc in (Plain("x", 1), KeyError("k"), Plain(), FileNotFoundError(2, "No such file")):
        assert json.loads(write(exc))["result"] == json.loads(CeleryCodec().write(ID, exc, "FAILURE"))["result"]
        assert getattr(by_worker(raised(exc)), "message", None) is None


def test_a_described_exception_that_is_stored_again_or_pickled_keeps_its_text() -> None:
    first = through(Quota(limit=5))
    again = through(first)
    assert str(first) == str(again) == str(pickle.loads(pickle.dumps(first)))
    assert first.message == "over the limit of 5\nfor today"
    assert first.exc_args == ()


def test_a_text_that_no_serializer_takes_is_stored_as_far_as_it_can_be() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return "odd \ud800"

    for serializer in SERIALIZERS:
        assert "odd " in str(through(Odd(), serializer))


def test_a_long_text_is_cut_rather_than_the_failure_lost() -> None:
    class Long(Exception):
        def __str__(self) -> str:
            return "begin" + "x" * 10**6

    ours = codec(max_result_bytes=2000)
    group = ExceptionGroup("many", [Long() for _ in range(50)])
    for exc in (Long(), group):
        payload = ours.encode_record(Record(id=ID, status="FAILURE", result=exc))
        assert len(payload) <= 2000
        assert type(exc).__name__ in repr(ours.decode_record(ID, payload).result)


async def test_the_text_is_the_same_through_every_way_of_reading() -> None:
    async with Backend("memory://lost-messages") as backend:
        await backend.mark_as_failure("t", invalid())
        with pytest.raises(RemoteTaskError, match="ValidationError: 1 validation error for Model\nx\n"):
            await backend.AsyncResult("t").get(timeout=0)


# -- exception groups -------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "_registered", {})
    register_exception(Plain)
    register_exception(OwnGroup)


async def task_group() -> BaseException:
    """Return what a TaskGroup raises, in which another one has failed."""

    async def fail(exc: Exception) -> None:
        raise exc

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(KeyError("k")))
            group.create_task(fail(Plain("p", 2)))

    return await _caught(lambda: _run(inner(), fail(ValueError("a", 1))))


async def _run(*tasks: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)
        await asyncio.sleep(3600)


async def _caught(call: Callable[[], Awaitable[None]]) -> BaseException:
    try:
        await call()
    except ExceptionGroup as exc:
        return exc
    raise AssertionError


def shape(exc: Any) -> Any:
    """Return an exception with its members in a form that can be compared."""
    if isinstance(exc, ExceptionGroup):
        return type(exc), exc.message, [shape(member) for member in exc.exceptions]
    if isinstance(exc, RemoteTaskError):
        return exc.exc_module, exc.exc_type, exc.exc_args
    return type(exc), exc.args


def caught_by_except_star(exc: BaseException) -> list[str]:
    found = []
    try:
        raise exc
    except* ValueError as group:
        found.append(f"ValueError {len(group.exceptions)}")
    except* KeyError as group:
        found.append(f"KeyError {len(group.exceptions)}")
    except* Plain as group:
        found.append(f"Plain {len(group.exceptions)}")
    except* RemoteTaskError as group:
        found.append(f"RemoteTaskError {len(group.exceptions)}")
    return sorted(found)


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("by", ["aioresult", "celery"])
async def test_a_task_groups_failure_is_rebuilt_so_that_except_star_works(
    registered: None, serializer: str, by: str
) -> None:
    exc = await task_group()
    back = through(exc, serializer) if by == "aioresult" else by_worker(exc, serializer)
    assert shape(back) == shape(exc)
    assert caught_by_except_star(back) == ["KeyError 1", "Plain 1", "ValueError 1"]


@pytest.mark.parametrize("by", [through, lambda exc: by_worker(raised(exc))], ids=["aioresult", "celery"])
def test_each_member_is_under_the_same_allow_list(by: Callable[[Any], Any]) -> None:
    back = by(ExceptionGroup("eg", [ValueError("a"), Plain("p"), ExceptionGroup("in", [Chatty("late")])]))
    assert type(back) is ExceptionGroup
    value, plain, inner = back.exceptions
    assert (type(value), type(plain), type(inner)) == (ValueError, RemoteTaskError, ExceptionGroup)
    assert shape(plain) == (__name__, "Plain", ("p",))
    assert shape(inner.exceptions[0]) == (__name__, "Chatty", ("late",))


def test_members_that_would_end_the_reader_are_described() -> None:
    group = BaseExceptionGroup("eg", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), ValueError("v")])
    for serializer in SERIALIZERS:
        back = through(group, serializer)
        assert type(back) is ExceptionGroup
        assert [type(member) for member in back.exceptions] == [RemoteTaskError] * 3 + [ValueError]
    forged = [
        {"exc_type": name, "exc_message": [1], "exc_module": module}
        for module, name in (("builtins", "SystemExit"), ("os", "system"), ("builtins", "eval"))
    ]
    form: dict[str, Any] = {"exc_type": "ExceptionGroup", "exc_message": ["m", ""], "exc_module": "builtins"}
    form["exc_members"] = forged
    assert {type(member) for member in _read(form).exceptions} == {RemoteTaskError}
    form = {**form, "exc_message": ["m", "[SystemExit(1), eval('1'), __import__('os')]"], "exc_members": None}
    assert {type(member) for member in _read(form).exceptions} == {RemoteTaskError}


def _read(form: Any, text: str | None = None) -> Any:
    meta = {"status": "FAILURE", "result": form, "traceback": text, "task_id": ID}
    record = codec().decode_record(ID, json.dumps(meta).encode())
    assert record.error is None
    return record.result


def test_members_whose_repr_is_no_python_are_read_from_the_traceback(registered: None) -> None:
    members: list[Exception] = [invalid(), ValueError("two\nlines"), ExceptionGroup("in", [invalid(), Plain("p")])]
    back = by_worker(raised(ExceptionGroup("eg", [*members, Plain("last")])))
    assert type(back) is ExceptionGroup
    model, value, inner, last = back.exceptions
    assert isinstance(model, RemoteTaskError)
    assert "valid integer" in str(model)
    assert model.exc_type == "ValidationError"
    assert shape(value) == (ValueError, ("two\nlines",))
    assert (inner.message, shape(inner.exceptions[1])) == ("in", (Plain, ("p",)))
    assert shape(last) == (Plain, ("last",))
    many = by_worker(raised(ExceptionGroup("many", [invalid()] * 40)))
    assert [type(member) for member in many.exceptions] == [RemoteTaskError] * 15  # as many as a traceback shows


def test_a_group_that_had_a_group_as_its_cause_has_its_own_members() -> None:
    exc = ExceptionGroup("second", [invalid(), TypeError("t")])
    exc.__cause__ = raised(ExceptionGroup("first", [KeyError("k"), invalid()]))
    model, other = by_worker(raised(exc)).exceptions
    assert (model.exc_type, type(other)) == ("ValidationError", TypeError)


def test_a_registered_subclass_of_groups_is_rebuilt_and_another_is_described(registered: None) -> None:
    exc = OwnGroup("own", [ValueError("a"), Plain("p")])
    assert shape(through(exc)) == shape(exc)
    exceptions._registered.clear()
    other = through(exc)
    assert type(other) is RemoteTaskError
    assert "ValueError('a')" in str(other)


@pytest.mark.slow
def test_groups_beyond_all_bounds_are_still_written_and_read() -> None:
    deep: Exception = ValueError("bottom")
    for _ in range(3000):
        deep = ExceptionGroup("deep", [deep])
    assert isinstance(through(deep), ExceptionGroup)
    wide = ExceptionGroup("wide", [ValueError(number, "x" * 100) for number in range(3000)])
    assert len(through(wide).exceptions) == 3000
    for shown in ("[" * 100_000, "[ValueError('a'", "[ValueError(" + "(" * 5000 + "]", "['x']", "[]", "{}", "[f(x=1)]"):
        form = {"exc_type": "ExceptionGroup", "exc_message": ["m", shown], "exc_module": "builtins"}
        assert type(_read(form)) is RemoteTaskError


HOSTILE = [
    "[" * 150 + "]" * 150,
    "-" * 60_000 + "1",
    "not " * 15_000 + "1",
    "lambda:" * 8_000 + "1",
    "1**" * 20_000 + "1",
    "1-1" * 20_000,
    "f" + "()" * 30_000,
    "a" + ".b" * 30_000,
    "[f(" + "-" * 5_000 + "1)]",
    "1 if 1 else " * 5_000 + "1",
    "'" + "\\'" * 30_000,
]


def test_a_stored_text_cannot_exhaust_the_stack_of_a_small_thread() -> None:
    program = f"""
import threading
from aioresult.codec.exceptiongroups import members_of
threading.stack_size(512 * 1024)
reader = threading.Thread(target=lambda: print([members_of(shown, None) for shown in {HOSTILE!r}]))
reader.start()
reader.join()
"""
    run = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, repr([[]] * len(HOSTILE)))


@pytest.mark.parametrize(
    "args",
    [
        (-1, 2.5, -1e-300, 1e22, 1 + 2j, 10**30),
        ("it's", 'say "x"', "a\\", "\n\t"),
        (b"\xff'", None, True, [{"k": (1,)}], set()),
    ],
)
def test_arguments_of_members_are_read_from_their_repr(args: tuple[Any, ...]) -> None:
    (member,) = members_of(repr([ValueError(*args)]), None)
    assert repr(member["exc_message"]) == repr(args) or args[-1] == set()
    assert member["exc_message"][:-1] == args[:-1]


def test_a_stock_client_reads_what_is_stored() -> None:
    for exc in (invalid(), not_found(), Quota(limit=5), ExceptionGroup("eg", [Plain("a"), Quota(limit=1)])):
        meta = CeleryCodec().read(write(exc))
        assert isinstance(meta["result"], Exception)
        theirs = CeleryCodec().read(CeleryCodec().write(ID, exc, "FAILURE"))
        assert repr(meta["result"]) == repr(theirs["result"])
