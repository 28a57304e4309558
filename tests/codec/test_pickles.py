"""Pickles that Celery up to 5.6 made of SQL results: plain data comes out, and nothing else ever runs."""

from __future__ import annotations

import os
import pickle
import random
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, _state
from celery.exceptions import MaxRetriesExceededError
from celery.utils.serialization import UnpickleableExceptionWrapper
from hypothesis import given, settings
from hypothesis import strategies as st

from aioresult import RemoteTaskError, TaskRevokedError
from aioresult.codec.pickles import dumps_group, dumps_plain, loads_plain
from aioresult.errors import DecodeError, EncodeError
from aioresult.record import Record
from tests.codec.celery_codec import CeleryCodec, codec
from tests.versions import since_celery

ID = "aaaaaaaa-0000-4000-8000-000000000001"
PASSWORD = "s3cret-passw0rd"

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=[])),
    st.binary(),
    st.binary().map(bytearray),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=2), "X"), ZoneInfo("Asia/Tokyo")])),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.dates() | st.uuids()
plain = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
        st.sets(keys),
        st.frozensets(keys),
        st.lists(inner).map(deque),
        st.dictionaries(keys, inner).map(OrderedDict),
    ),
    max_leaves=30,
)


@pytest.mark.slow
@settings(deadline=None)
@given(plain, st.sampled_from([2, 3, 4, 5]), st.sampled_from([pickle.dumps, pickle._dumps]))  # type: ignore[attr-defined]  # Python's own
def test_plain_data_of_every_protocol_is_read_as_pickle_reads_it(value: Any, protocol: int, dumps: Any) -> None:
    payload = dumps(value, protocol=protocol)
    assert repr(loads_plain(payload)) == repr(pickle.loads(payload))


@pytest.mark.parametrize(
    "value",
    [
        uuid1(),
        (UUID(int=5),) * 3,
        Counter("aab"),
        deque([1, 2], 5),
        range(1, 9, 2),
        2**3000,
        ["x" * 70_000, b"y" * 70_000],
        {str(number): number for number in range(2000)},
        datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Vienna")),
        time(1, 2, tzinfo=UTC),
    ],
    ids=lambda value: type(value).__name__,
)
def test_further_plain_types_are_read(value: Any) -> None:
    for protocol in (2, 3, 4, 5):
        back = loads_plain(pickle.dumps(value, protocol))
        assert back == value
        assert type(back) is type(value)


def test_a_default_dict_keeps_its_content_and_objects_that_are_shared_stay_so() -> None:
    assert loads_plain(pickle.dumps(defaultdict(list, a=[1]))) == {"a": [1]}
    loop: list[Any] = [UUID(int=1)]
    loop.append(loop)
    back = loads_plain(pickle.dumps(loop))
    assert back[1] is back
    assert back[0] == UUID(int=1)


class Evil:
    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


class Setter:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return UUID, ("1" * 32,), self.state


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("touch {marker}",), "posix.system"),
        (os.mkdir, ("{marker}",), "posix.mkdir"),
        (eval, ("open('{marker}', 'w')",), "builtins.eval"),
        (exec, ("open('{marker}', 'w')",), "builtins.exec"),
        (__import__, ("wave",), "builtins.__import__"),
        (open, ("{marker}", "w"), "open"),
        (getattr, (os, "system"), None),
        (print, ("x",), "builtins.print"),
        (type, ("X", (), {}), "builtins.type"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_nothing_is_called_and_the_error_names_what_was_wanted(
    function: Any, args: tuple[Any, ...], named: str | None, tmp_path: Any
) -> None:
    marker = tmp_path / "was-here"
    args = tuple(arg.format(marker=marker) if isinstance(arg, str) else "os" if arg is os else arg for arg in args)
    evil = pickle.dumps(Evil(function, *args))
    for payload in (evil, pickle.dumps({"a": [Evil(function, *args)]})):
        with pytest.raises(DecodeError) as caught:
            codec().decode_result(ID, "SUCCESS", payload, legacy_pickle=True)
        if named is not None:
            assert named in str(caught.value)
            assert "result_serializer='pickle' and accept_content=['pickle']" in str(caught.value)
    try:
        exc = codec().decode_result(ID, "FAILURE", evil, legacy_pickle=True)
    except DecodeError:
        pass
    else:
        assert type(exc) is RemoteTaskError
    assert not marker.exists()


def test_a_pickle_cannot_change_the_classes_that_it_may_use() -> None:
    before = dict(vars(UUID))
    for state in ({"hex": 7}, (None, {"int": 7}), (None, {"__class__": 5})):
        with pytest.raises(ValueError, match=r"an object of uuid\.UUID"):
            loads_plain(pickle.dumps(Setter(state)))
    set_on_class = b"\x80\x04cuuid\nUUID\nN}X\x03\x00\x00\x00hexK\x01s\x86b."
    with pytest.raises(ValueError, match="sets the state"):
        loads_plain(set_on_class)
    assert dict(vars(UUID)) == before


@pytest.mark.slow
def test_bombs_go_off_harmlessly() -> None:
    laughs = b"\x80\x04}" + b")\x94" + b"".join(b"h%c\x86\x94" % n for n in range(60)) + b"Ns."
    deep_key = b"\x80\x04}N" + b"\x85" * 200_000 + b"Ns."
    for key in (laughs, deep_key):
        with pytest.raises(ValueError, match="dict key of too many parts"):
            loads_plain(key)
    assert loads_plain(b"\x80\x04Nr\xff\xff\xff\xff.") is None  # a memo of four thousand million places
    for claim in (
        b"\x8d" + b"\xff" * 8,
        b"\x8e" + b"\xff" * 7 + b"\x00",
        b"B\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
    ):
        with pytest.raises(ValueError, match="truncated"):
            loads_plain(b"\x80\x04" + claim + b".")
    nested: Any = loads_plain(b"\x80\x04N" + b"\x85" * 200_000 + b".")
    while nested:
        (nested,) = nested
    huge = b"cbuiltins\nrange\n\x8a\x06" + b"\xff" * 5 + b"\x7f\x85R\x85R."
    for filled in (b"builtins\nset\n", b"builtins\nfrozenset\n", b"collections\ndeque\n"):
        with pytest.raises(ValueError, match="fills a container"):
            loads_plain(b"\x80\x04c" + filled + huge)
    for size in (b"builtins\nbytes\n(J\xff\xff\xff\x7ftR", b"builtins\nbytearray\n(J\xff\xff\xff\x7ftR"):
        with pytest.raises(ValueError, match=r"pickle is broken|arguments that plain data"):
            loads_plain(b"\x80\x04c" + size + b".")


@pytest.mark.slow
def test_damaged_pickles_are_errors_and_nothing_else() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    whole = pickle.dumps([ValueError("x"), datetime.now(UTC), UUID(int=3), {"a": {1, 2}}, Decimal(1), deque([1])], 4)
    for _ in range(5000):
        damaged = bytearray(whole[: dice.randrange(3, len(whole) + 1)])
        for _ in range(dice.randrange(5)):
            damaged[dice.randrange(2, len(damaged))] = dice.randrange(256)
        try:
            loads_plain(bytes(damaged))
        except ValueError:
            continue


# -- failures ---------------------------------------------------------------------------------------------------------


class Custom(Exception): ...


def test_exceptions_by_class_reference_are_rebuilt_if_allowed_and_described_otherwise() -> None:
    def read(exc: BaseException) -> Any:
        return codec().decode_result(ID, "FAILURE", pickle.dumps(exc, 4), traceback="tb", legacy_pickle=True)

    assert repr(read(ValueError("boom", 42))) == "ValueError('boom', 42)"
    assert type(read(OSError(2, "no"))) is FileNotFoundError
    described = read(Custom("custom", {"k": [1, 2]}))
    assert (described.exc_type, described.exc_module) == ("Custom", Custom.__module__)
    assert (described.exc_args, described.traceback) == (("custom", {"k": [1, 2]}), "tb")
    assert read(MaxRetriesExceededError("no more")).exc_module == "celery.exceptions"
    group = read(ExceptionGroup("g", [ValueError("a"), Custom(1)]))
    assert type(group) is ExceptionGroup
    assert repr(group.exceptions) == f"(ValueError('a'), {RemoteTaskError('Custom', Custom.__module__, (1,))!r})"
    assert repr(read(ExceptionGroup("g", [ValueError("a")]))) == "ExceptionGroup('g', [ValueError('a')])"
    for ending in (SystemExit(3), KeyboardInterrupt()):
        assert type(read(ending)) is RemoteTaskError


def test_what_an_exception_holds_of_other_classes_is_named_instead() -> None:
    exc = codec().decode_result(
        ID, "FAILURE", pickle.dumps(ValueError("x", Custom("y"), [os.system])), legacy_pickle=True
    )
    assert exc.args == ("x", f"<{Custom.__module__}.Custom>", "<posix.system>")


def test_notes_and_attributes_of_an_exception_survive_but_nothing_private() -> None:
    exc = ValueError("x")
    exc.add_note("look here")
    vars(exc).update(code=5, __class__=3)
    back = loads_plain(pickle.dumps(exc))
    assert vars(back) == {"__notes__": ["look here"], "code": 5}


def test_celerys_wrapper_and_revocation_are_understood_in_pickles_too() -> None:
    wrapper = UnpickleableExceptionWrapper("labtasks", "TwoArg", ("7: det",), "TwoArg('7: det')")
    for ours, keyword in ((codec(), True), (codec(result_serializer="pickle"), False)):
        exc = ours.decode_result(ID, "FAILURE", pickle.dumps(wrapper), legacy_pickle=keyword)
        assert (exc.exc_module, exc.exc_type, exc.exc_args) == ("labtasks", "TwoArg", ("7: det",))
        from celery.exceptions import TaskRevokedError as Revoked

        assert (
            type(ours.decode_result(ID, "REVOKED", pickle.dumps(Revoked("x")), legacy_pickle=keyword))
            is TaskRevokedError
        )


def test_the_dictionary_that_celery_pickled_under_json_is_read() -> None:
    form = {"exc_type": "ValueError", "exc_message": ("boom", 42), "exc_module": "builtins"}
    exc = codec().decode_result(ID, "FAILURE", pickle.dumps(form, 5), legacy_pickle=True)
    assert repr(exc) == "ValueError('boom', 42)"


# -- Celery's results and groups --------------------------------------------------------------------------------------


def group_pickle(**conf: Any) -> bytes:
    """Return a group as Celery up to 5.6 stored it in SQL: pickled with its backend and the password of that."""
    celery = CeleryCodec(**conf)
    app = celery.app
    app.conf.result_backend = f"db+sqlite:////tmp/{PASSWORD}.sqlite"
    from celery.backends.database import DatabaseBackend

    backend = DatabaseBackend(app=app, dburi=f"postgresql://user:{PASSWORD}@127.0.0.1:1/db", url="")
    members = [app.AsyncResult("m1", backend=backend), app.AsyncResult("m2", backend=backend)]
    members[0].parent = app.AsyncResult("p", backend=backend)
    inner = app.GroupResult("inner", [app.AsyncResult("m3", backend=backend)])
    return pickle.dumps(app.GroupResult("g", [*members, inner]), 5)


TREE = [
    ["g", None],
    [[["m1", [["p", None], None]], None], [["m2", None], None], [["inner", None], [[["m3", None], None]]]],
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@since_celery("5.5", "a step that creates tables, which is left out here")
def test_a_pickled_group_comes_out_as_ids_without_a_backend_or_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery.backends.database import DatabaseBackend

    monkeypatch.setattr(DatabaseBackend, "_create_tables", lambda self: None)
    payload = group_pickle()
    assert PASSWORD.encode() in payload
    monkeypatch.setattr(DatabaseBackend, "__init__", lambda *args, **kwargs: pytest.fail("a backend was made"))
    for ours in (codec(), codec(result_serializer="pickle")):
        tree = ours.decode_value(payload, "group 'g'", legacy_pickle=True)
        assert tree == TREE
        assert ours.as_tree(tree, "g") == TREE
        with pytest.raises(DecodeError) as caught:
            ours.decode_value(payload[:-5], "group 'g'", legacy_pickle=True)
        assert PASSWORD not in str(caught.value)


def test_a_group_is_written_so_that_celery_up_to_5_6_rebuilds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("sql", backend="cache+memory://", set_as_current=False)
    monkeypatch.setattr(_state._tls, "current_app", app)
    group = pickle.loads(codec().encode_group_pickle(TREE))
    assert group == app.GroupResult("g", group.results)
    assert [result.id for result in group.results] == ["m1", "m2", "inner"]
    assert group.results[0].parent.id == "p"
    assert group.results[2].results[0].id == "m3"
    assert codec().decode_value(dumps_group(TREE), "g", legacy_pickle=True) == TREE


@pytest.mark.parametrize(
    "tree", [5, [], [["g", None]], ["g", [5]], [["g", None], [[[7, None], None]]], [[None, None], []]]
)
def test_what_is_no_group_is_not_written_as_one(tree: Any) -> None:
    with pytest.raises(EncodeError, match=r"\[\[id, parent\], members\]"):
        codec().encode_group_pickle(tree)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_results_are_written_as_plain_pickles_that_everybody_reads() -> None:
    value = {"a": [1, (2.5, None)], "d": Decimal("1.1"), "t": datetime.now(UTC), "u": UUID(int=1), "s": {1}}
    for serializer in ("json", "pickle"):
        ours = codec(result_serializer=serializer)
        payload = ours.encode_result(Record(id=ID, status="SUCCESS", result=value), legacy_pickle=True)
        assert payload[:2] == b"\x80\x04"
        assert pickle.loads(payload) == value
        assert ours.decode_result(ID, "SUCCESS", payload, legacy_pickle=True) == value


def test_failures_are_written_in_celerys_form_whose_arguments_are_plain_data() -> None:
    record = Record(id=ID, status="FAILURE", result=ValueError("boom", Custom("x"), 42))
    for serializer in ("json", "pickle"):
        payload = codec(result_serializer=serializer).encode_result(record, legacy_pickle=True)
        assert pickle.loads(payload) == {
            "exc_type": "ValueError",
            "exc_message": ("boom", "Custom('x')", 42),
            "exc_module": "builtins",
        }


@pytest.mark.parametrize(
    "value",
    [Custom("x"), Counter("a"), os.system, object(), date, [{"k": {Custom}}]],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(EncodeError, match=r"task .*: result\['x'\].*is not plain data"):
        codec().encode_result(Record(id=ID, status="SUCCESS", result={"x": value}), legacy_pickle=True)
    with pytest.raises(TypeError, match="is not plain data"):
        dumps_plain({(1, (value,)): 1} if value.__hash__ else value)


# -- trusted pickles --------------------------------------------------------------------------------------------------


def test_accepted_pickles_are_read_in_full() -> None:
    ours = codec(result_serializer="pickle")
    back = ours.decode_result(ID, "SUCCESS", pickle.dumps({"c": Custom("x"), "z": Counter("a")}))
    assert type(back["c"]) is Custom
    assert type(back["z"]) is Counter


def test_an_exception_whose_class_is_not_here_is_described_even_in_a_whole_record() -> None:
    ours = codec(result_serializer="pickle")
    missing = b"\x80\x04cno_such_module\nOdd\nX\x01\x00\x00\x00x\x85R."
    exc = ours.decode_result(ID, "FAILURE", missing, traceback="tb")
    assert (exc.exc_module, exc.exc_type, exc.exc_args) == ("no_such_module", "Odd", ("x",))
    whole = (
        pickle.dumps({"status": "FAILURE", "traceback": "tb"}, 2)[:-1]
        + b"X\x06\x00\x00\x00result"
        + missing[2:-1]
        + b"s."
    )
    record = ours.decode_record(ID, whole)
    assert record.error is None
    assert (record.result.exc_type, record.result.traceback) == ("Odd", "tb")
    with pytest.raises(DecodeError, match=r"cannot be imported in this process.*no_such_module"):
        ours.decode_result(ID, "SUCCESS", missing)
    assert ours.decode_record(ID, whole.replace(b"FAILURE", b"SUCCESS")).error is not None


def test_pickles_that_raise_while_they_are_read_are_errors() -> None:
    for payload in (pickle.dumps(Evil(int, "x")), b"", b"\x80", b"\x80\x04", b"garbage"):
        with pytest.raises(DecodeError, match=f"the result of task '{ID}' cannot be read"):
            codec(result_serializer="pickle").decode_result(ID, "SUCCESS", payload)
