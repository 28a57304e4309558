"""Exceptions: written in Celery's form without ever failing, and rebuilt from an allow-list that runs nothing else."""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
import threading
import traceback
from datetime import datetime
from typing import Any

import pytest

import aioresult
from aioresult import RemoteTaskError, TaskRevokedError, register_exception
from aioresult.codec import exceptions
from aioresult.errors import RemoteTraceback, StoreUnavailable
from aioresult.record import Record
from tests.codec.celery_codec import CeleryCodec, codec

ID = "aaaaaaaa-0000-4000-8000-000000000003"
SERIALIZERS = ["json", "msgpack", "yaml", "pickle"]
BUILT_INS = sorted(
    {cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, Exception)}, key=repr
)


def read(
    exc_type: Any, exc_module: Any = "builtins", exc_message: Any = (), status: str = "FAILURE", **fields: Any
) -> Any:
    """Return the exception that is read from a stored failure."""
    form = {"exc_type": exc_type, "exc_message": exc_message, "exc_module": exc_module}
    return read_result(form, status, **fields)


def read_result(result: Any, status: str = "FAILURE", **fields: Any) -> Any:
    record = codec().decode_record(
        ID, json.dumps({"status": status, "result": result, "task_id": ID} | fields).encode()
    )
    assert record.error is None
    assert record.status == status
    return record.result


def write(exc: Any, serializer: str = "json", **fields: Any) -> bytes:
    record = Record(id=ID, status="FAILURE", result=exc, children=[], **fields)
    return codec(result_serializer=serializer).encode_record(record)


def through(exc: Any, serializer: str = "json", **fields: Any) -> Any:
    """Return what is read after an exception was written."""
    return codec(result_serializer=serializer).decode_record(ID, write(exc, serializer, **fields)).result


def form_of(exc: Any) -> Any:
    return json.loads(write(exc))["result"]


# -- reading: the allow-list ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BUILT_INS, ids=lambda cls: cls.__name__)
def test_built_in_exceptions_are_rebuilt_wherever_their_arguments_suffice(cls: type[Exception]) -> None:
    args: dict[str, list[Any]] = {
        "UnicodeDecodeError": ["utf-8", {"__type__": "base64", "__value__": "/w=="}, 0, 1, "bad"],
        "UnicodeEncodeError": ["utf-8", "x", 0, 1, "bad"],
        "UnicodeTranslateError": ["x", 0, 1, "bad"],
    }
    exc = read(cls.__name__, exc_message=args.get(cls.__name__, ["boom"]))
    if cls in (ExceptionGroup, StopIteration):  # whose members cannot be stored; which no coroutine can raise
        assert isinstance(exc, RemoteTaskError)
        assert (exc.exc_type, exc.exc_args) == (cls.__name__, ("boom",))
    else:
        assert type(exc) is cls


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "GeneratorExit"),
        ("builtins", "BaseException"),
        ("builtins", "BaseExceptionGroup"),
        ("builtins", "eval"),
        ("builtins", "Exception.mro"),
        ("builtins", "Exception.__class__"),
        ("asyncio.exceptions", "CancelledError"),
        ("asyncio", "CancelledError"),
        ("os", "system"),
        ("sys", "modules"),
        ("json", "JSONDecodeError"),
        ("json.decoder", "JSONDecodeError"),
        ("aioresult.errors", "Sequence"),
        ("aioresult.errors", "__builtins__"),
        (None, "ValueError"),
        ("", "ValueError"),
        ("builtins", ""),
        ("builtins", "ValueError "),
    ],
)
def test_every_other_name_is_described_and_never_looked_up(module: str | None, name: str) -> None:
    exc = read(name, module, ["a", 1], traceback="the trace")
    assert type(exc) is RemoteTaskError
    assert (exc.exc_type, exc.exc_module, exc.exc_args, exc.traceback) == (name, module, ("a", 1), "the trace")


def test_reading_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"imported {args[0]}")

    read("ValueError")  # whatever is imported at first use is imported here
    monkeypatch.setattr(builtins, "__import__", refuse)
    exc = read("Odd", "this_module_does_not_exist.anywhere", ["x"])
    assert exc.exc_module == "this_module_does_not_exist.anywhere"
    assert "wave" not in sys.modules
    assert type(read("Error", "wave")) is RemoteTaskError


def test_own_errors_are_rebuilt() -> None:
    exc = read("StoreUnavailable", "aioresult.errors", ["redis://h down"])
    assert type(exc) is StoreUnavailable
    assert type(read("RemoteTaskError", "aioresult.errors", ["T", "m", 5])) is RemoteTaskError


def test_celerys_revocation_is_our_own() -> None:
    exc = read("TaskRevokedError", "celery.exceptions", ["terminated"], status="REVOKED")
    assert type(exc) is TaskRevokedError
    assert exc.args == ("terminated",)


class TestRegistration:
    @pytest.fixture(autouse=True)
    def _forget_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exceptions, "_registered", {})

    def test_a_registered_class_is_rebuilt_by_its_module_and_qualified_name(self) -> None:
        @register_exception
        class Payment(Exception): ...

        assert Payment.__name__ == "Payment"  # the decorator returns the class
        exc = through(Payment("card", 5))
        assert type(exc) is Payment
        assert exc.args == ("card", 5)
        assert type(read("Payment", "elsewhere")) is RemoteTaskError

    def test_a_class_that_is_not_registered_is_described(self) -> None:
        class Payment(Exception): ...

        exc = through(Payment("card"))
        assert type(exc) is RemoteTaskError
        assert (exc.exc_module, exc.exc_type) == (Payment.__module__, Payment.__qualname__)

    @pytest.mark.parametrize(
        "arg", [SystemExit, asyncio.CancelledError, KeyboardInterrupt, int, "x", None, ValueError("x")]
    )
    def test_only_subclasses_of_exception_can_be_registered(self, arg: Any) -> None:
        with pytest.raises(TypeError, match="only subclasses of Exception"):
            register_exception(arg)

    def test_a_constructor_that_raises_leaves_a_description(self) -> None:
        @register_exception
        class Picky(Exception):
            def __init__(self, a: int, b: int) -> None:
                raise LookupError("never")

        exc = read(Picky.__qualname__, Picky.__module__, [1, 2], traceback="tb")
        assert type(exc) is RemoteTaskError
        assert (exc.exc_type, exc.exc_args, exc.traceback) == (Picky.__qualname__, (1, 2), "tb")

    def test_a_constructor_that_returns_something_else_leaves_a_description(self) -> None:
        @register_exception
        class Odd(Exception):
            def __new__(cls, *args: Any) -> Any:
                return SystemExit(3)

        assert type(read(Odd.__qualname__, Odd.__module__, [1])) is RemoteTaskError

    def test_threads_may_register_while_others_read(self) -> None:
        classes = [type(f"E{number}", (Exception,), {"__module__": "m"}) for number in range(200)]
        threads = [
            threading.Thread(target=lambda part=part: [*map(register_exception, part)])
            for part in (classes[::2], classes[1::2])
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            read("E7", "m")
        for thread in threads:
            thread.join()
        assert [type(read(cls.__name__, "m")) for cls in classes] == classes


# -- reading: the forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "args"),
    [(["a", 1], ("a", 1)), ([], ()), ("text", ("text",)), ({"k": 1}, ({"k": 1},)), (None, (None,)), (5, (5,))],
)
def test_arguments_come_in_every_form_that_is_stored(message: Any, args: tuple[Any, ...]) -> None:
    assert read("ValueError", exc_message=message).args == args
    assert read("Odd", "m", message).exc_args == args


def test_a_missing_message_is_an_empty_one_as_for_celery() -> None:
    assert read_result({"exc_type": "ValueError", "exc_module": "builtins"}).args == ("",)
    exc = read_result({"exc_type": "ValueError"})
    assert (exc.exc_type, exc.exc_module) == ("ValueError", None)


@pytest.mark.parametrize("stored", ["text", [1, 2], {"detail": 1}, {"exc_type": 5}, {"exc_type": None}, 7, True])
def test_a_failure_that_is_no_exception_is_told_as_it_is(stored: Any) -> None:
    exc = read_result(stored, traceback="tb")
    assert type(exc) is RemoteTaskError
    assert (exc.exc_type, exc.exc_args, exc.traceback) == ("Exception", (stored,), "tb")


@pytest.mark.parametrize("stored", [None, {}, "", [], 0, False])
def test_a_state_without_an_exception_still_says_what_happened(stored: Any) -> None:
    failure = read_result(stored)
    assert type(failure) is RemoteTaskError
    assert "no exception was recorded" in str(failure)
    assert read_result(stored, "RETRY") is None
    assert type(read_result(stored, "REVOKED")) is TaskRevokedError
    assert read_result(stored, "CUSTOM") == stored


def test_celerys_wrapper_is_the_exception_that_it_describes() -> None:
    def wrapped(*message: Any) -> Any:
        return read("UnpickleableExceptionWrapper", "celery.utils.serialization", message)

    exc = wrapped("labtasks", "TwoArg", ["7: det"], "TwoArg('7: det')")
    assert (exc.exc_module, exc.exc_type, exc.exc_args) == ("labtasks", "TwoArg", ("7: det",))
    assert type(wrapped("builtins", "ValueError", ["x"], "ValueError('x')")) is ValueError
    assert type(wrapped("builtins", "SystemExit", [1], "")) is RemoteTaskError
    for odd in (["x"], ["m", 5, [], ""], ["m", "n", 5, ""], []):
        assert wrapped(*odd).exc_type == "UnpickleableExceptionWrapper"


def test_typed_arguments_arrive_as_values() -> None:
    exc = through(ValueError("x", b"\xff\x00", datetime(2020, 1, 2, 3, 4, 5, 6)))  # noqa: DTZ001  (naive ones exist)
    assert exc.args == ("x", b"\xff\x00", datetime(2020, 1, 2, 3, 4, 5, 6))  # noqa: DTZ001


def test_each_read_makes_a_new_exception() -> None:
    payload = write(ValueError("x"))
    assert codec().decode_record(ID, payload).result is not codec().decode_record(ID, payload).result


# -- tracebacks -------------------------------------------------------------------------------------------------------


def test_the_remote_traceback_prints_above_the_exception() -> None:
    text = (
        "Traceback (most recent call last):\n  here\nValueError: root\n\n"
        "The above exception was the direct cause of the following exception:\n\nRuntimeError: outer\n"
    )
    exc = read("RuntimeError", exc_message=["outer"], traceback=text)
    assert isinstance(exc.__cause__, RemoteTraceback)
    assert exc.__cause__.text == text
    printed = "".join(traceback.format_exception(exc))
    assert printed.index("ValueError: root") < printed.index(
        "direct cause of the following exception:\n\nRuntimeError: outer\n"
    )


@pytest.mark.parametrize("text", [None, ""])
def test_without_a_traceback_there_is_no_cause(text: str | None) -> None:
    assert read("ValueError", traceback=text).__cause__ is None


def test_a_traceback_of_any_size_is_kept_in_part() -> None:
    text = "begin" + "x" * 3_000_000 + "end"
    record = codec().decode_record(ID, write(ValueError("x"), traceback=text))
    assert record.traceback is not None
    for kept in (record.traceback, record.result.__cause__.text):
        assert len(kept) < 1_100_000
        assert kept.startswith("begin")
        assert kept.endswith("end")
        assert "characters left out" in kept


# -- writing ----------------------------------------------------------------------------------------------------------


class Opaque:
    def __repr__(self) -> str:
        return "<Opaque obj>"


class Mute:
    def __repr__(self) -> str:
        raise LookupError("no words")


class Local(Exception): ...


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("boom", 42),
        KeyError(),
        Local("x", {"k": [1, 2]}),
        ValueError("x", Opaque(), b"\xff\x00"),
        ExceptionGroup("eg", [ValueError("a"), TypeError("b")]),
        SystemExit(3),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
def test_exceptions_are_written_as_celery_writes_them(exc: BaseException) -> None:
    theirs = json.loads(CeleryCodec().write(ID, exc, "FAILURE"))
    assert json.loads(write(exc))["result"] == theirs["result"]


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_arguments_that_cannot_be_stored_become_their_repr_and_the_failure_is_written(serializer: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    exc = through(ValueError("x", lambda: 0, Mute(), threading.Lock(), "\ud800"), serializer)
    assert type(exc) is ValueError
    assert exc.args[0] == "x"
    assert "<lambda>" in exc.args[1]
    assert through(ValueError(loop), serializer)
    assert through(ValueError(*[ValueError()] * 3), serializer)
    selfish = ValueError()
    selfish.args = (selfish,)
    assert through(selfish, serializer)


def test_an_argument_that_cannot_even_be_shown_is_named_by_its_type() -> None:
    assert form_of(ValueError(Mute()))["exc_message"] == ["<Mute object, whose repr() raises LookupError>"]


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_traceback_that_no_serializer_takes_does_not_keep_a_failure_from_being_written(serializer: str) -> None:
    for text in ("file \ud800.py", "é", 5):
        record = Record(id=ID, status="FAILURE", result=KeyError("x"), traceback=text)  # type: ignore[arg-type]  # on purpose
        ours = codec(result_serializer=serializer)
        back = ours.decode_record(ID, ours.encode_record(record))
        assert type(back.result) is KeyError
        assert str(text).encode("utf-8", "backslashreplace").decode() in (
            back.traceback,
            str(back.traceback).encode("utf-8", "backslashreplace").decode(),
        )


def test_revocation_is_written_under_celerys_name() -> None:
    assert form_of(TaskRevokedError("terminated")) == {
        "exc_type": "TaskRevokedError",
        "exc_message": ["terminated"],
        "exc_module": "celery.exceptions",
    }
    record = Record(id=ID, status="REVOKED", result=TaskRevokedError("revoked"))
    for serializer in SERIALIZERS:
        meta = CeleryCodec(result_serializer=serializer).read(codec(result_serializer=serializer).encode_record(record))
        assert type(meta["result"]).__module__ == "celery.exceptions"
        assert (
            type(
                codec(result_serializer=serializer)
                .decode_record(ID, codec(result_serializer=serializer).encode_record(record))
                .result
            )
            is TaskRevokedError
        )


def test_a_described_exception_that_is_stored_again_keeps_its_name() -> None:
    exc = RemoteTaskError("Outer.Inner", "labtasks", ("nested", 1), "tb")
    assert form_of(exc) == {"exc_type": "Outer.Inner", "exc_message": ["nested", 1], "exc_module": "labtasks"}
    for serializer in SERIALIZERS:
        again = through(exc, serializer, traceback="tb")
        assert (again.args, again.traceback) == (exc.args, "tb")


def test_a_class_may_hide_its_arguments() -> None:
    class Hidden(Exception):
        args = property(lambda self: 1 / 0)

    assert form_of(Hidden("x", 1))["exc_message"] == ["x", 1]


def test_a_prepared_form_is_written_as_it_is() -> None:
    form = {"exc_type": "T", "exc_message": ["x"], "exc_module": "m"}
    assert form_of(form) == form
    assert form_of(None) is None


def test_a_failure_without_an_exception_is_written_so_that_celery_can_read_it() -> None:
    for value in ("it broke", {"detail": 1}, 5):
        meta = CeleryCodec().read(write(value))
        assert type(meta["result"]) is Exception
        assert meta["result"].args == (value,)
        assert through(value).args == (value,)


def test_with_pickle_an_exception_stays_the_object_that_it_is_if_it_can_be_copied() -> None:
    exc = through(Local("x", 1), "pickle", traceback="tb")
    assert type(exc) is Local
    assert exc.args == ("x", 1)
    assert isinstance(exc.__cause__, RemoteTraceback)

    class TwoArgs(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a}{b}")

    described = through(TwoArgs(1, 2), "pickle")
    assert (described.exc_type, described.exc_args) == (TwoArgs.__qualname__, ("12",))


def test_with_pickle_what_would_end_the_reader_is_described() -> None:
    for exc in (SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("c")):
        back = through(exc, "pickle")
        assert type(back) is RemoteTaskError
        assert back.exc_type == type(exc).__qualname__


def test_results_alone_carry_exceptions_the_same_way() -> None:
    for serializer in SERIALIZERS:
        ours = codec(result_serializer=serializer)
        payload = ours.encode_result(Record(id=ID, status="RETRY", result=ValueError("again")))
        exc = ours.decode_result(ID, "RETRY", payload, traceback="tb")
        assert type(exc) is ValueError
        assert isinstance(exc.__cause__, RemoteTraceback)
        assert ours.decode_result(ID, "RETRY", ours.encode_result(Record(id=ID, status="RETRY"))) is None
    assert "no exception was recorded" in str(codec().decode_result(ID, "FAILURE", None))
    assert codec().decode_result(ID, "SUCCESS", None) is None


def test_registration_is_public() -> None:
    assert aioresult.register_exception is exceptions.register_exception
