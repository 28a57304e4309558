"""The blocking API: results, groups and backends without ``await``, and Celery's attributes and arguments."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import celery._state
import celery.result
import pytest

import aioresult
from aioresult import (
    AioResultError,
    DecodeError,
    InvalidTaskId,
    MissingDriver,
    Record,
    RemoteTaskError,
    ResultNotStored,
    ResultTimeout,
    SettingsError,
    TaskRevokedError,
    Unsupported,
    WouldBlockLoop,
)
from aioresult.stores.memory import MemoryStore
from aioresult.sync import AsyncResult, Backend, GroupResult, ResultSet, as_completed, gather, get_backend, wait
from aioresult.sync import configure as configure_sync
from aioresult.sync.portal import run
from aioresult.sync.tree import Result
from aioresult.testing.conformance import fresh_id
from tests.blocking import PATIENCE, eventually

NOBODY = 0.05
"""Seconds to wait for what never comes."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend("memory://", result_extended=True, idle_timeout=0.05) as backend:
        yield backend


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Backend]:
    """Return ``configure``, whose effect ends with the test."""
    monkeypatch.setattr("aioresult.default._default", None)
    monkeypatch.delenv("AIORESULT_URL", raising=False)
    return configure_sync


@contextmanager
def meanwhile(step: Callable[[], object]) -> Iterator[None]:
    """Run ``step`` in another thread, and raise what it raised."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(step)
        yield
        future.result(PATIENCE)


def once_awaited(backend: Backend, *steps: Callable[[], object], ids: int = 1) -> Callable[[], None]:
    """Return what takes ``steps`` when ``ids`` ids are waited for."""

    def take() -> None:
        eventually(lambda: backend.stats().waiting >= ids)
        for step in steps:
            step()

    return take


# --- Celery's program -------------------------------------------------------------------------------------------------

PROGRAM = """
from celery.result import AsyncResult

result = AsyncResult(sys.argv[1])
print(result.id)
print(result.status)
if result.ready():
    if result.successful():
        print(result.get())
    else:
        print(repr(result.get(propagate=False)))
"""


def test_a_program_written_for_celery_runs_after_changing_its_import(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/results.db"
    with Backend(url) as backend:
        backend.mark_as_done("done", {"total": 3})
        backend.mark_as_failure("failed", ValueError("boom", 42))
    program = "import sys\n" + PROGRAM.replace("from celery.result", "from aioresult.sync")
    outputs = {}
    for task_id in ("done", "failed", "unknown"):
        command = [sys.executable, "-W", "error", "-c", program, task_id]
        finished = subprocess.run(
            command,
            env={"AIORESULT_URL": url, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=True,
        )
        assert finished.stderr == ""
        outputs[task_id] = finished.stdout.splitlines()
    assert outputs["done"] == ["done", "SUCCESS", "{'total': 3}"]
    assert outputs["failed"] == ["failed", "FAILURE", "ValueError('boom', 42)"]
    assert outputs["unknown"] == ["unknown", "PENDING"]


# --- one result -------------------------------------------------------------------------------------------------------


def test_a_waiting_get_is_woken_by_the_store(backend: Backend) -> None:
    with meanwhile(once_awaited(backend, lambda: backend.mark_as_done("t", [1, 2]))):
        assert AsyncResult("t", backend).get(timeout=PATIENCE) == [1, 2]


def test_get_raises_what_the_task_raised_or_returns_it(backend: Backend) -> None:
    backend.mark_as_failure("t", KeyError("missing"))
    with pytest.raises(KeyError, match="missing"):
        AsyncResult("t", backend).get()
    error = AsyncResult("t", backend).get(propagate=False)
    assert isinstance(error, KeyError)
    assert error.args == ("missing",)


def test_get_gives_up_after_its_timeout_and_zero_looks_once(backend: Backend) -> None:
    result = AsyncResult("t", backend)
    with pytest.raises(ResultTimeout):
        result.get(timeout=NOBODY)
    with pytest.raises(result.TimeoutError):
        result.get(timeout=0)
    backend.mark_as_done("t", 1)
    assert result.get(timeout=0) == 1


def test_get_knows_revoked_and_ignored_tasks(backend: Backend) -> None:
    backend.mark_as_revoked("t", "terminated")
    with pytest.raises(TaskRevokedError, match="terminated"):
        AsyncResult("t", backend).get()
    ignored = AsyncResult("i", backend)
    ignored.ignored = True
    assert ignored.mirrored._is_ignored
    with pytest.raises(ResultNotStored):
        ignored.get()


def test_get_converts_to_the_result_type(backend: Backend) -> None:
    backend.mark_as_done("t", "2024-02-29T12:00:00+00:00")
    assert AsyncResult("t", backend, result_type=datetime).get() == datetime(2024, 2, 29, 12, tzinfo=UTC)


def test_the_attributes_are_those_of_the_record(backend: Backend) -> None:
    parent = backend.AsyncResult("parent")
    child = [["child", None], None]
    meta: dict[str, Any] = {
        "name": "proj.add",
        "args": [1],
        "kwargs": {"y": 2},
        "worker": "w1@host",
        "retries": 3,
        "queue": "celery",
    }
    backend.store_result("t", 7, "SUCCESS", "tb", children=[child], **meta)
    result = AsyncResult("t", backend, parent=parent)
    assert (result.id, result.task_id, result.status, result.state) == ("t", "t", "SUCCESS", "SUCCESS")
    assert (result.result, result.info, result.traceback) == (7, 7, "tb")
    assert {name: getattr(result, name) for name in meta} == meta
    assert result.children == [AsyncResult("child")]
    assert result.date_done is not None
    assert result.date_done.tzinfo is UTC
    assert result.parent is parent
    assert result.backend == backend
    assert (result.ready(), result.successful(), result.failed(), result.exists()) == (True, True, False, True)
    assert result.final == result.fetch() == backend.fetch("t")
    assert (str(result), result == "t", hash(result)) == ("t", True, hash("t"))


def test_the_attributes_of_an_unknown_task_are_empty_and_ask_again_each_time(backend: Backend) -> None:
    result = AsyncResult("t", backend)
    assert (result.status, result.result, result.children, result.date_done) == ("PENDING", None, None, None)
    assert not result.exists()
    backend.update_state("t", "PROGRESS", {"current": 1})
    assert (result.status, result.info, result.ready(), result.exists()) == ("PROGRESS", {"current": 1}, False, True)
    backend.mark_as_failure("t", ValueError("x"))
    assert (result.status, result.failed(), result.successful()) == ("FAILURE", True, False)
    assert isinstance(result.result, ValueError)


def test_a_final_result_asks_the_store_no_more(backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    result = AsyncResult("t", backend)
    assert result.ready()
    before = backend.stats().commands
    assert (result.status, result.result, result.get(), result.wait().result) == ("SUCCESS", 1, 1, 1)
    assert backend.stats().commands == before


def test_wait_returns_the_record_also_of_a_failed_task(backend: Backend) -> None:
    backend.mark_as_failure("t", ValueError("x"))
    record = AsyncResult("t", backend).wait(timeout=1)
    assert (record.status, type(record.result)) == ("FAILURE", ValueError)


def test_forget_deletes_the_result(backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    result = AsyncResult("t", backend)
    assert result.get(forget=True) == 1
    assert not result.exists()
    backend.mark_as_done("t", 2)
    assert result.forget()
    assert result.status == "PENDING"


def test_maybe_throw_never_waits(backend: Backend) -> None:
    result = AsyncResult("t", backend)
    assert result.maybe_throw() is None
    backend.mark_as_failure("t", ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        result.maybe_throw()
    calls: list[tuple[str, Any]] = []
    error = result.maybe_reraise(propagate=False, callback=lambda *call: calls.append(call))
    assert isinstance(error, ValueError)
    assert calls == [("t", error)]


def test_an_unreadable_record_is_an_error_of_its_own(backend: Backend) -> None:
    with Backend("memory://unreadable") as json, Backend("memory://unreadable", result_serializer="msgpack") as msgpack:
        msgpack.mark_as_done("t", 1)
        with pytest.raises(DecodeError):
            json.AsyncResult("t").get(timeout=1)
        with pytest.raises(DecodeError):
            _ = json.AsyncResult("t").status


def test_results_survive_copying_and_pickling(default: Callable[..., Backend]) -> None:
    with default("memory://") as backend:
        backend.mark_as_done("t", 1)
        result = AsyncResult("t", parent=AsyncResult("p"))
        for again in (pickle.loads(pickle.dumps(result)), copy.copy(result)):
            assert (again, again.parent, again.get()) == (result, result.parent, 1)
        group = GroupResult("g", [result], result.parent, backend=backend)
        for copied in (pickle.loads(pickle.dumps(group)), copy.copy(group)):
            assert (copied, copied.get()) == (group, [1])


def test_what_needs_a_broker_says_so(backend: Backend) -> None:
    result, group = AsyncResult("t", backend), backend.GroupResult()
    with pytest.raises(Unsupported, match=r"task 't': .*aioresult\.integrations\.celery\.revoke"):
        result.revoke(terminate=True)
    with pytest.raises(Unsupported, match=r"0 tasks: .*aioresult\.integrations\.celery\.revoke"):
        group.revoke(signal="SIGINT")
    with pytest.raises(Unsupported, match="make the result with app=app"):
        result.revoke(wait=True)
    with pytest.raises(Unsupported, match="callback="):
        result.then(print)
    with pytest.raises(Unsupported, match="callback="):
        group.then(print)
    with pytest.raises(Unsupported, match="make the result with app=app"):
        result.revoke_by_stamped_headers({"customer": "7"})


# --- Celery's constructors --------------------------------------------------------------------------------------------


def test_an_id_may_be_given_under_celerys_name(backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    assert AsyncResult(id="t", backend=backend).get() == 1
    assert AsyncResult(task_id="t", backend=backend).get() == 1
    assert AsyncResult("t", backend, "proj.add", None, AsyncResult("p", backend)).parent == "p"
    group = GroupResult(id="g", results=None, backend=backend)
    group.save()
    assert GroupResult.restore(id="g", backend=backend) == group == GroupResult("g", None)
    assert list(ResultSet(None)) == []


def test_an_id_is_given_once_and_not_left_out(backend: Backend) -> None:
    for twice in (
        lambda: AsyncResult("t", id="u"),
        lambda: GroupResult("t", id="u"),
        lambda: GroupResult.restore("t", id="u"),
    ):
        with pytest.raises(TypeError, match="given twice: 't' and id='u'"):
            twice()
    for missing in (AsyncResult, lambda: AsyncResult(None), lambda: GroupResult.restore(None, backend)):
        with pytest.raises(InvalidTaskId, match="not NoneType"):
            missing()


# --- Celery's arguments -----------------------------------------------------------------------------------------------


def test_callback_gets_the_value_and_a_failure_only_where_it_is_returned(backend: Backend) -> None:
    backend.mark_as_done("good", 1)
    backend.mark_as_failure("bad", ValueError("x"))
    calls: list[tuple[str, Any]] = []
    assert AsyncResult("good", backend).get(1, True, 0.5, True, True, lambda *call: calls.append(call)) == 1
    assert calls == [("good", 1)]
    with pytest.raises(ValueError, match="x"):
        AsyncResult("bad", backend).get(callback=lambda *call: calls.append(call))
    assert len(calls) == 1
    error = AsyncResult("bad", backend).get(propagate=False, callback=lambda *call: calls.append(call))
    assert calls[1:] == [("bad", error)]


def test_on_message_gets_celerys_meta_of_each_state_in_the_waiting_thread(backend: Backend) -> None:
    metas: list[dict[str, Any]] = []
    threads = set()
    seen = threading.Semaphore(0)

    def on_message(meta: dict[str, Any]) -> None:
        metas.append(meta)
        threads.add(threading.current_thread())
        seen.release()

    def work() -> None:
        eventually(lambda: backend.stats().watched == 1)
        for current in (1, 2):
            backend.update_state("t", "PROGRESS", {"current": current})
            assert seen.acquire(timeout=PATIENCE)
        backend.mark_as_failure("t", ValueError("x"))

    with meanwhile(work), pytest.raises(ValueError, match="x"):
        AsyncResult("t", backend).get(timeout=PATIENCE, on_message=on_message)
    assert [meta["status"] for meta in metas] == ["PROGRESS", "PROGRESS", "FAILURE"]
    assert [meta["result"] for meta in metas[:2]] == [{"current": 1}, {"current": 2}]
    assert isinstance(metas[2]["result"], ValueError)
    assert {meta["task_id"] for meta in metas} == {"t"}
    assert datetime.fromisoformat(metas[2]["date_done"]).tzinfo is not None
    assert threads == {threading.current_thread()}


def test_on_message_is_bound_by_the_timeout(backend: Backend) -> None:
    metas: list[dict[str, Any]] = []
    with pytest.raises(ResultTimeout):
        AsyncResult("t", backend).get(timeout=NOBODY, on_message=metas.append)
    backend.update_state("t", "PROGRESS", 1)
    with pytest.raises(ResultTimeout):
        AsyncResult("t", backend).get(timeout=0, on_message=metas.append)
    assert [meta["status"] for meta in metas] == ["PROGRESS"]
    eventually(lambda: backend.stats().waiting == 0)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [0, 0.5])
@pytest.mark.parametrize("observers", [{}, {"on_interval": lambda: None}, {"on_message": lambda _: None}])
def test_a_timeout_names_what_was_asked_for(backend: Backend, timeout: float, observers: dict[str, Any]) -> None:
    backend.update_state("p", "PROGRESS", 1)
    child = backend.AsyncResult("c", parent=backend.AsyncResult("p"))
    with pytest.raises(ResultTimeout, match=rf"^task 'c' was not ready within {timeout:g} s"):
        child.get(timeout=timeout, **observers)
    backend.mark_as_done("there", 1)
    results = ResultSet([backend.AsyncResult("there"), child, backend.AsyncResult("never")])
    with pytest.raises(ResultTimeout, match=rf"^2 of 3 results were not ready within {timeout:g} s"):
        results.join(timeout=timeout, **observers)
    arrived = results.iter_native(timeout=timeout, **observers)
    assert next(arrived)[0] == "there"
    with pytest.raises(ResultTimeout, match=r"^2 of 3 results"):
        next(arrived)
    eventually(lambda: backend.stats().waiting == 0)


@pytest.mark.parametrize("timeout", [0, PATIENCE])
def test_an_ancestor_that_is_not_stored_or_unreadable_is_no_obstacle(timeout: float) -> None:
    with Backend("memory://odd") as backend, Backend("memory://odd", result_serializer="msgpack") as other:
        other.mark_as_done("unreadable", 1)
        backend.mark_as_done("t", 2)
        ignored = AsyncResult("ignored", backend, ignored=True)
        family = backend.GroupResult("g", [ignored, backend.AsyncResult("unreadable")])
        for observers in ({}, {"on_interval": lambda: None}, {"on_message": lambda _: None}):
            assert AsyncResult("t", backend, parent=family).get(timeout=timeout, **observers) == 2


def test_on_interval_is_called_until_the_result_is_there(backend: Backend) -> None:
    calls = itertools.count()

    def on_interval() -> None:
        if next(calls) == 3:
            backend.mark_as_done("t", "after three intervals")

    value = AsyncResult("t", backend).get(timeout=PATIENCE, interval=0.01, on_interval=on_interval)
    assert value == "after three intervals"
    assert next(calls) >= 4
    at_once: list[int] = []
    assert AsyncResult("t", backend).get(interval=PATIENCE, on_interval=lambda: at_once.append(1)) == value
    assert at_once == [1]


@pytest.mark.parametrize("name", ["callback", "on_message", "on_interval"])
def test_what_a_callback_raises_ends_the_wait(backend: Backend, name: str) -> None:
    backend.update_state("t", "PROGRESS", 1)
    if name == "callback":
        backend.mark_as_done("t", 1)

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        AsyncResult("t", backend).get(timeout=PATIENCE, **{name: fail})  # type: ignore[arg-type]  # one of three callables
    eventually(lambda: backend.stats().waiting == 0)


@pytest.mark.parametrize("observed", [False, True])
def test_the_failure_of_an_ancestor_is_raised_as_soon_as_it_is_known(backend: Backend, observed: bool) -> None:
    grandparent = backend.GroupResult("g", [backend.AsyncResult("a"), backend.AsyncResult("b")])
    parent = backend.AsyncResult("p", parent=grandparent)
    result = backend.AsyncResult("t", parent=parent)
    metas: list[dict[str, Any]] = []
    fail = once_awaited(backend, lambda: backend.mark_as_failure("b", ValueError("header")), ids=4)
    with meanwhile(fail), pytest.raises(ValueError, match="header"):
        result.get(timeout=PATIENCE, on_message=metas.append if observed else None)
    assert metas == []  # they are told of the task itself
    with pytest.raises(ResultTimeout):
        result.get(timeout=NOBODY, follow_parents=False)
    assert result.as_list() == ["t", "p", "g"]
    assert result.as_tuple() == result.mirrored.as_tuple()


def test_waiting_within_a_celery_task_is_refused_as_celery_does(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.mark_as_done("t", 1)
    result, results = backend.AsyncResult("t"), ResultSet([backend.AsyncResult("t")])
    monkeypatch.setattr(celery._state, "_task_join_will_block", True)
    with pytest.raises(RuntimeError, match="disable_sync_subtasks=False"):
        result.get()
    with pytest.raises(RuntimeError, match="disable_sync_subtasks=False"):
        results.join()
    assert result.get(disable_sync_subtasks=False) == 1
    with celery.result.allow_join_result():
        assert (result.get(), results.join()) == (1, [1])
    assert results.join_native(disable_sync_subtasks=False) == [1]


# --- updates and trees ------------------------------------------------------------------------------------------------


def test_updates_is_a_plain_generator_that_ends_with_the_final_state(backend: Backend) -> None:
    backend.update_state("t", "PROGRESS", 1)
    states = []
    for record in AsyncResult("t", backend).updates(timeout=PATIENCE):
        states.append((record.status, record.result))
        if record.result == 1:
            backend.update_state("t", "PROGRESS", 2)
        elif record.result == 2:
            backend.mark_as_done("t", 3)
    assert states == [("PROGRESS", 1), ("PROGRESS", 2), ("SUCCESS", 3)]


def test_updates_times_out(backend: Backend) -> None:
    with pytest.raises(ResultTimeout):
        list(AsyncResult("t", backend).updates(timeout=NOBODY))


def test_leaving_updates_half_way_leaves_no_waiter(backend: Backend) -> None:
    backend.update_state("t", "PROGRESS", 1)
    for _ in AsyncResult("t", backend).updates():
        break
    eventually(lambda: backend.stats().waiting == 0)


def family(backend: Backend) -> AsyncResult[Any]:
    """Return a stored task with two children, of which the second is a group of two grandchildren."""
    for grandchild in ("c", "d"):
        backend.mark_as_done(grandchild, grandchild.upper(), children=[])
    backend.mark_as_done("b", "B", children=[])
    group = [["g", None], [[["c", None], None], [["d", None], None]]]
    backend.store_result("a", "A", "SUCCESS", children=[[["b", None], None], group])
    return backend.AsyncResult("a")


def test_collect_follows_the_tasks_that_a_task_started(backend: Backend) -> None:
    root = family(backend)
    collected = [(node.id, value) for node, value in root.collect()]
    assert collected == [("a", "A"), ("b", "B"), ("g", ["C", "D"]), ("c", "C"), ("d", "D")]
    assert [(above and above.id, node.id) for above, node in root.iterdeps()] == [
        (None, "a"), ("a", "b"), ("a", "g"), ("g", "c"), ("g", "d"),
    ]  # fmt: skip
    assert root.get_leaf() == "D"


def test_an_unfinished_task_ends_the_tree_unless_it_may_be_passed_over(backend: Backend) -> None:
    root = family(backend)
    backend.forget("c")
    nodes = root.iterdeps()
    assert [next(nodes)[1].id for _ in range(3)] == ["a", "b", "g"]
    with pytest.raises(ResultTimeout, match="'g' is not final"):
        next(nodes)
    assert [node.id for _, node in root.iterdeps(intermediate=True)] == ["a", "b", "g"]


def test_a_graph_needs_celery_and_says_what_does_not(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery.utils.graph", None)
    with pytest.raises(MissingDriver, match=r"iterdeps\(intermediate=True\)"):
        _ = family(backend).graph


# --- many -------------------------------------------------------------------------------------------------------------


def stored(backend: Backend, count: int) -> list[AsyncResult[Any]]:
    for number in range(count):
        backend.mark_as_done(str(number), number)
    return [backend.AsyncResult(str(number)) for number in range(count)]


def nested(backend: Backend) -> tuple[list[AsyncResult[Any]], GroupResult]:
    """Return five stored results, and a group of the first, a group of the next three, and the last."""
    results = stored(backend, 5)
    inner = backend.GroupResult("inner", results[1:4])
    members: list[Result] = [results[0], inner, results[4]]
    return results, backend.GroupResult("outer", members)


def test_join_gives_the_values_in_order_and_nested_groups_as_lists(backend: Backend) -> None:
    _, group = nested(backend)
    assert group.join() == group.get(1) == group.join_native() == [0, [1, 2, 3], 4]
    assert gather(*group) == [0, [1, 2, 3], 4]


def test_join_with_a_callback_passes_each_member_once_it_is_final(backend: Backend) -> None:
    results, group = nested(backend)
    empty = backend.GroupResult("empty")
    group.add(empty)
    for result in results[:4]:
        result.forget()
    calls: list[tuple[str, Any]] = []

    def finish() -> None:
        eventually(lambda: ("4", 4) in calls)
        for number in (3, 1, 0, 2):
            backend.mark_as_done(str(number), number)

    with meanwhile(finish):
        assert group.get(PATIENCE, callback=lambda *call: calls.append(call)) == []
    assert calls[:2] == [("empty", []), ("4", 4)]
    assert sorted(calls[2:], key=str) == [("0", 0), ("inner", [1, 2, 3])]


@pytest.mark.parametrize("observed", [False, True])
def test_join_raises_the_first_failure_that_is_known(backend: Backend, observed: bool) -> None:
    _, group = nested(backend)
    group.results[1].forget()
    backend.mark_as_failure("2", ValueError("two"))
    with pytest.raises(ValueError, match="two"):  # although "1" and "3" never come
        group.join(timeout=PATIENCE, on_message=(lambda _: None) if observed else None)
    with pytest.raises(ValueError, match="two"):
        group[1].get(timeout=PATIENCE)


def test_join_puts_failures_among_the_values_on_request(backend: Backend) -> None:
    _, group = nested(backend)
    backend.forget("2")
    backend.mark_as_failure("2", ValueError("two"))
    first, inner, last = group.join(propagate=False)
    assert (first, inner[0], inner[2], last) == (0, 1, 3, 4)
    assert isinstance(inner[1], ValueError)
    calls: dict[str, Any] = {}
    group.join(propagate=False, callback=calls.__setitem__)
    assert (calls["0"], type(calls["inner"][1])) == (0, ValueError)
    with pytest.raises(ValueError, match="two"):
        group.join(callback=calls.__setitem__)


def test_one_unreadable_member_hurts_itself_only() -> None:
    with Backend("memory://mixed") as json, Backend("memory://mixed", result_serializer="msgpack") as msgpack:
        json.mark_as_done("good", 1)
        msgpack.mark_as_done("bad", 2)
        results = ResultSet([json.AsyncResult("good"), json.AsyncResult("bad")])
        metas: list[dict[str, Any]] = []
        calls: dict[str, Any] = {}
        good, bad = results.join(1, propagate=False, on_message=metas.append)
        results.join(1, propagate=False, callback=calls.__setitem__)
    assert (good, type(bad)) == (1, DecodeError)
    assert (calls["good"], type(calls["bad"])) == (1, DecodeError)
    assert [meta["task_id"] for meta in metas] == ["good"]


def test_on_message_of_a_set_hears_of_every_member(backend: Backend) -> None:
    _, group = nested(backend)
    metas: list[dict[str, Any]] = []
    assert group.join(on_message=metas.append, disable_sync_subtasks=False) == [0, [1, 2, 3], 4]
    assert {(meta["task_id"], meta["result"]) for meta in metas} == {(str(number), number) for number in range(5)}


def test_iter_native_gives_metas_and_the_members_of_groups(backend: Backend) -> None:
    _, group = nested(backend)
    found = dict(group.iter_native())
    inner = group[1]
    assert isinstance(inner, GroupResult)
    assert found.pop("inner") == inner.results
    assert {task_id: meta["result"] for task_id, meta in found.items() if isinstance(meta, dict)} == {"0": 0, "4": 4}
    with pytest.raises(ResultTimeout):
        list(ResultSet([backend.AsyncResult("never")]).iter_native(timeout=NOBODY))


def test_a_set_is_asked_as_one(backend: Backend) -> None:
    results = ResultSet(stored(backend, 3))
    assert (results.ready(), results.successful(), results.failed(), results.waiting()) == (True, True, False, False)
    assert results.completed_count() == 3
    results.add(backend.AsyncResult("later"))
    assert (results.ready(), results.waiting(), results.completed_count()) == (False, True, 3)
    assert [record.status for record in results.records()] == ["SUCCESS"] * 3 + ["PENDING"]
    calls: list[tuple[str, Any]] = []
    results.maybe_throw(callback=lambda *call: calls.append(call))
    assert calls == [("0", 0), ("1", 1), ("2", 2), ("later", None)]
    backend.mark_as_failure("later", ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        results.maybe_throw()
    results.maybe_reraise(propagate=False)
    results.forget()
    assert backend.fetch_many(["0", "1", "2", "later"]) == {}


def test_a_set_holds_each_result_once(backend: Backend) -> None:
    one, two, three = (backend.AsyncResult(name) for name in ("one", "two", "three"))
    results = ResultSet([one, two, one])
    results.update([two, three])
    assert list(results) == [one, two, three]
    assert (len(results), results[1], two in results, "three" in results) == (3, two, True, True)
    results.remove("two")
    results.discard("two")
    with pytest.raises(KeyError):
        results.remove("two")
    assert results == ResultSet([one, three])
    assert results.leaves() == [one, three]
    assert results.backend == backend
    results.clear()
    assert list(results) == []


def test_a_group_is_saved_restored_and_deleted(backend: Backend) -> None:
    _, group = nested(backend)
    group.parent = backend.AsyncResult("before")
    group.save()
    again = GroupResult.restore("outer", backend=backend)
    assert again == group == "outer"
    assert again is not None
    assert (again.join(), again.parent, again.as_list()) == ([0, [1, 2, 3], 4], group.parent, ["outer", "before"])
    assert backend.restore_group("outer") == group
    again.delete()
    assert GroupResult.restore("outer", backend) is None
    backend.save_group(group)
    backend.delete_group("outer")
    assert backend.restore_group("outer") is None
    assert group.join() == [0, [1, 2, 3], 4]
    assert (bool(backend.GroupResult()), str(group), group.children) == (True, "outer", group.results)


def test_as_completed_yields_the_callers_own_results_as_they_come(backend: Backend) -> None:
    first, second = backend.AsyncResult("first"), backend.AsyncResult("second")
    arrived = as_completed([second, backend.GroupResult(None, [first])], timeout=PATIENCE)
    with meanwhile(once_awaited(backend, lambda: backend.mark_as_done("first", 1), ids=2)):
        assert next(arrived) is first
    backend.mark_as_done("second", 2)
    assert list(arrived) == [second]
    with pytest.raises(ResultTimeout, match="1 of 2"):
        list(ResultSet([first, backend.AsyncResult("never")]).as_completed(timeout=0.5))


def test_wait_tells_the_final_from_the_pending(backend: Backend) -> None:
    done, never = stored(backend, 1)[0], backend.AsyncResult("never")
    assert wait([done, never], timeout=0.5) == ({done}, {never})
    assert wait([done, never], return_when="FIRST_COMPLETED") == ({done}, {never})


def test_gather_returns_exceptions_on_request(backend: Backend) -> None:
    backend.mark_as_failure("bad", ValueError("x"))
    bad = backend.AsyncResult("bad")
    with pytest.raises(ValueError, match="x"):
        gather(bad, backend.AsyncResult("never"))
    assert [type(value) for value in gather(bad, return_exceptions=True)] == [ValueError]


# --- backends ---------------------------------------------------------------------------------------------------------


def test_a_backend_writes_and_manages_without_await() -> None:
    with Backend("memory://", result_expires=0.001) as expiring:
        expiring.mark_as_done("t", 1)
        eventually(lambda: expiring.fetch("t").status == "PENDING")
        assert expiring.purge() == 1
    with Backend("memory://", result_expires=60) as backend:
        assert backend.mark_as_started("t", pid=7)
        assert backend.fetch("t").result == {"pid": 7}
        assert backend.mark_as_retry("t", ValueError("again"))
        assert backend.mark_as_revoked("t")
        assert not backend.update_state("t", "PROGRESS", 1)
        assert backend.mark_as_failure("t", RuntimeError("no"))
        assert backend.mark_as_done("t", 1)
        assert not backend.mark_as_failure("t", RuntimeError("late"))
        assert run(backend.mirrored._put_record, Record(id="r", status="SUCCESS", result=2))
        assert {i: record.result for i, record in backend.fetch_many(["t", "r", "x"]).items()} == {"t": 1, "r": 2}
        assert backend.forget("t")
        backend.ping()
        assert backend.capabilities().push
        assert backend.stats().waiting == 0
        assert backend.settings.result_expires == 60
        assert "memory://" in repr(backend)


def test_a_closed_backend_ends_whoever_waits_and_opens_again_when_used() -> None:
    backend = Backend("memory://")
    with meanwhile(once_awaited(backend, backend.close)), pytest.raises(AioResultError, match="closed meanwhile"):
        backend.AsyncResult("t").get(timeout=PATIENCE)
    backend.mark_as_done("t", 1)
    assert backend.AsyncResult("t").get() == 1
    backend.close()


async def test_one_configured_backend_serves_blocking_and_asynchronous_code(default: Callable[..., Backend]) -> None:
    asynchronous = aioresult.configure("memory://")
    assert Backend(asynchronous) == get_backend() == AsyncResult("t").backend

    def in_a_thread() -> int:
        value: int = AsyncResult[int]("t").get(timeout=PATIENCE)
        get_backend().mark_as_done("back", value + 1)
        return value

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(in_a_thread)
        await asynchronous.mark_as_done("t", 1)
        assert await aioresult.AsyncResult("back").get(timeout=PATIENCE) == 2
        assert future.result() == 1
        pool.submit(get_backend().close).result()
    await asynchronous.aclose()


def test_configure_configures_both_sides(default: Callable[..., Backend]) -> None:
    backend = default("memory://", result_expires=5)
    assert backend == Backend(aioresult.get_backend())
    assert aioresult.get_backend().settings.result_expires == 5
    with pytest.raises(SettingsError, match="result_expires"):
        Backend(aioresult.get_backend(), result_expires=6)


def test_a_store_is_taken_as_it_is() -> None:
    store = MemoryStore("memory://", Backend("memory://").settings)
    with Backend(store) as backend:
        backend.mark_as_done("t", 1)
        assert backend.AsyncResult("t").get() == 1


# --- where a loop runs ------------------------------------------------------------------------------------------------


async def test_blocking_where_a_loop_runs_is_refused_and_says_what_to_do() -> None:
    backend = Backend("memory://")
    result = backend.AsyncResult("t")
    refused: list[Callable[[], object]] = [
        result.get,
        result.ready,
        result.forget,
        lambda: result.status,
        lambda: result.get(on_message=print),
        lambda: list(result.updates()),
        lambda: gather(result),
        lambda: list(as_completed([result])),
        lambda: backend.mark_as_done("t", 1),
        backend.stats,
        backend.close,
        backend.GroupResult().save,
    ]
    for call in refused:
        with pytest.raises(WouldBlockLoop, match="await the same name from aioresult"):
            call()


def test_a_remote_error_keeps_its_type_and_traceback(backend: Backend) -> None:
    class Custom(Exception):
        pass

    backend.mark_as_failure(fresh := fresh_id(), Custom("x"), "the remote traceback")
    with pytest.raises(RemoteTaskError) as caught:
        AsyncResult(fresh, backend).get()
    assert caught.value.exc_type.endswith("Custom")
    assert caught.value.exc_args == ("x",)
    assert AsyncResult(fresh, backend).traceback == "the remote traceback"
