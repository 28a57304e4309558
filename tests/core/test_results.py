"""One result and its backend: what users call, with good and with bad input."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

import aioresult
import aioresult.sync
from aioresult import (
    AioResultError,
    AsyncResult,
    Backend,
    BackendNotConfigured,
    DecodeError,
    EncodeError,
    InvalidTaskId,
    MissingDriver,
    RemoteTaskError,
    ResultNotStored,
    ResultTimeout,
    ResultTooLarge,
    SettingsError,
    StoreUnavailable,
    TaskRevokedError,
)
from aioresult.settings import make_settings
from aioresult.testing import FaultyStore

PATIENCE = 30.0


@dataclass
class Invoice:
    number: int
    paid: datetime


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend("memory://") as backend:
        yield backend


@pytest.fixture
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioresult.default._default", None)
    monkeypatch.delenv("AIORESULT_URL", raising=False)


async def test_get_gives_the_value_and_await_does_the_same(backend: Backend) -> None:
    await backend.mark_as_done("a", {"x": 1})
    assert await backend.AsyncResult("a").get(timeout=PATIENCE) == {"x": 1}
    assert await backend.AsyncResult("a") == {"x": 1}
    await backend.mark_as_done("none", None)
    assert await backend.AsyncResult("none") is None


async def test_a_uuid_is_an_id_for_writers_and_readers(backend: Backend) -> None:
    identity: Any = uuid.uuid4()
    assert (await backend.fetch(identity)).id == str(identity)
    assert await backend.update_state(identity, "PROGRESS", 1)
    assert await backend.store_result(identity, 2, "SUCCESS")
    assert (await backend.fetch(identity)).result == 2
    assert list(await backend.fetch_many([identity])) == [str(identity)]
    assert await backend.AsyncResult(identity).get(timeout=PATIENCE) == 2
    await backend.forget(identity)
    assert not await backend.AsyncResult(str(identity)).ready()


async def test_a_failed_task_raises_its_exception_or_returns_it(backend: Backend) -> None:
    try:
        raise ValueError("boom", 42) from KeyError("cause")
    except ValueError as exc:
        await backend.mark_as_failure("a", exc)
    result = backend.AsyncResult("a")
    with pytest.raises(ValueError, match="boom") as caught:
        await result
    assert caught.value.args == ("boom", 42)
    assert "KeyError" in str(caught.value.__cause__)
    returned = await result.get(propagate=False)
    assert isinstance(returned, ValueError)
    record = await result.wait()
    assert record.failed
    assert "KeyError" in (record.traceback or "")
    assert (await result.ready(), await result.successful(), await result.failed()) == (True, False, True)


async def test_what_a_coroutine_cannot_raise_arrives_as_a_remote_error(backend: Backend) -> None:
    await backend.mark_as_failure("a", StopIteration(1))
    with pytest.raises(RemoteTaskError, match=r"StopIteration\(1\)"):
        await backend.AsyncResult("a")


async def test_a_result_may_be_a_value(backend: Backend) -> None:
    await backend.mark_as_done(
        "a", {"next": backend.AsyncResult("b"), "all": backend.GroupResult("g", [AsyncResult("c")])}
    )
    assert await backend.AsyncResult("a") == {"next": [["b", None], None], "all": [["g", None], [[["c", None], None]]]}


async def test_raising_it_again_does_not_grow_its_traceback(backend: Backend) -> None:
    await backend.mark_as_failure("a", ValueError("boom"))
    result = backend.AsyncResult("a")
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="boom") as caught:
            await result
        depths.append(len(caught.traceback))
    assert depths[0] == depths[2]


async def test_a_revoked_task_raises_and_has_not_failed(backend: Backend) -> None:
    await backend.mark_as_revoked("a", "expired")
    result = backend.AsyncResult("a")
    with pytest.raises(TaskRevokedError, match="expired"):
        await result.get(timeout=PATIENCE)
    assert isinstance(await result.get(propagate=False), TaskRevokedError)
    assert not await result.failed()


async def test_a_retried_task_is_waited_for(backend: Backend) -> None:
    await backend.mark_as_retry("a", ValueError("again"))
    result = backend.AsyncResult("a")
    with pytest.raises(ResultTimeout):
        await result.get(timeout=0.02)
    assert await result.status() == "RETRY"
    assert isinstance((await result.fetch()).result, ValueError)
    await backend.mark_as_done("a", 1)
    assert await result.get(timeout=PATIENCE) == 1


@pytest.mark.parametrize("state", ["PENDING", "RECEIVED", "STARTED", "PROGRESS", "IGNORED", "REJECTED", "MADE_UP"])
async def test_states_that_are_not_final_are_not_taken_for_the_result(backend: Backend, state: str) -> None:
    await backend.update_state("a", state, {"step": 1})
    with pytest.raises(ResultTimeout):
        await backend.AsyncResult("a").get(timeout=0.01)
    assert (await backend.fetch("a")).result == {"step": 1}


async def test_a_forgotten_or_expired_result_ends_by_its_timeout_and_never_by_a_wrong_value(backend: Backend) -> None:
    await backend.mark_as_done("a", 1)
    result = backend.AsyncResult("a")
    await result.forget()
    with pytest.raises(ResultTimeout):
        await result.get(timeout=0.01)
    assert await backend.mark_as_done("b", 1)
    assert await backend.AsyncResult("b").get(forget=True) == 1
    assert (await backend.fetch("b")).status == "PENDING"


async def test_a_final_record_is_kept_and_the_store_is_not_asked_again() -> None:
    store = FaultyStore()
    async with Backend(store) as backend:
        await backend.mark_as_done("a", 1)
        result = backend.AsyncResult("a")
        await result
        reads = len(store.reads)
        assert (await result, await result.status(), await result.fetch()) == (1, "SUCCESS", result.final)
        assert len(store.reads) == reads


async def test_a_result_type_converts_the_value_or_says_why_not(backend: Backend) -> None:
    await backend.mark_as_done("a", {"number": 7, "paid": "2026-01-02T03:04:05Z"})
    typed = backend.AsyncResult("a", result_type=Invoice)
    assert await typed == Invoice(7, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    with pytest.raises(DecodeError, match=r"'a'.*int"):
        await backend.AsyncResult("a", result_type=int)
    await backend.mark_as_failure("b", ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        await backend.AsyncResult("b", result_type=Invoice)


async def test_children_are_results_again(backend: Backend) -> None:
    await backend.mark_as_done("a", 1, children=[[["b", None], None], [["g", None], [[["c", None], None]]]])
    children = await backend.AsyncResult("a").children()
    assert children is not None
    assert [str(child) for child in children] == ["b", "g"]
    assert await backend.AsyncResult("unknown").children() is None


def test_results_compare_hash_print_and_pickle_by_id() -> None:
    result: AsyncResult[Any] = AsyncResult("a", parent=AsyncResult("p"))
    assert result == AsyncResult("a") == "a"
    assert result != AsyncResult("b")
    assert (str(result), hash(result), result.task_id) == ("a", hash("a"), "a")
    assert "'a'" in repr(result)
    copy = pickle.loads(pickle.dumps(result))
    assert (copy, str(copy.parent)) == (result, "p")


def test_groups_are_pickled_without_their_backend(backend: Backend) -> None:
    group = backend.GroupResult("g", [backend.AsyncResult("a")], AsyncResult("p"))
    copy = pickle.loads(pickle.dumps(group))
    assert (copy, copy.results, copy.parent) == (group, group.results, "p")
    assert pickle.loads(pickle.dumps(aioresult.ResultSet(group.results))) == aioresult.ResultSet(group.results)


@pytest.mark.parametrize("bad", ["", None, 5, b"a"])
async def test_a_bad_id_is_refused_everywhere(backend: Backend, bad: Any) -> None:
    with pytest.raises(InvalidTaskId):
        AsyncResult(bad)
    for call in (backend.fetch, backend.forget, backend.mark_as_done):
        with pytest.raises(InvalidTaskId):
            await call(bad, 1) if call == backend.mark_as_done else await call(bad)  # type: ignore[call-arg]  # bound methods of different signatures


async def test_what_cannot_be_encoded_is_refused_with_the_path_to_it(backend: Backend) -> None:
    with pytest.raises(EncodeError, match=r"items.*1.*object"):
        await backend.mark_as_done("a", {"items": [1, object()]})
    with pytest.raises(EncodeError, match="exception"):
        await backend.store_result("a", "not an exception", "FAILURE")
    with pytest.raises(TypeError, match="colour"):
        await backend.store_result("a", 1, "SUCCESS", colour="red")
    assert (await backend.fetch("a")).status == "PENDING"


async def test_a_failure_is_stored_whatever_its_arguments_are(backend: Backend) -> None:
    await backend.mark_as_failure("a", ValueError("x", object()))
    with pytest.raises(ValueError, match="x") as caught:
        await backend.AsyncResult("a")
    assert "object object" in str(caught.value.args[1])


async def test_a_result_that_is_too_large_is_refused_with_its_size_and_the_limit() -> None:
    async with Backend("memory://", max_result_bytes=1000) as backend:
        with pytest.raises(ResultTooLarge, match=r"'a'.*1000"):
            await backend.mark_as_done("a", "x" * 2000)
        assert (await backend.fetch("a")).status == "PENDING"
        assert await backend.mark_as_done("a", "x")


# --- results that are switched off ---


async def test_ignored_results_are_not_stored_and_not_waited_for() -> None:
    async with Backend("memory://", task_ignore_result=True) as backend:
        assert not await backend.mark_as_done("a", 1)
        assert not await backend.mark_as_failure("a", ValueError())
        for call in (backend.AsyncResult("a").get, backend.AsyncResult("a").wait):
            with pytest.raises(ResultNotStored, match=r"'a'.*task_ignore_result"):
                await call()
        with pytest.raises(ResultNotStored):
            await aioresult.gather(backend.AsyncResult("a"))
        assert await backend.mark_as_done("b", 1, ignore_result=False)
        assert await backend.AsyncResult("b") == 1
        with pytest.raises(ResultTimeout):
            await AsyncResult("c", backend, ignored=False).get(timeout=0.01)


async def test_errors_are_stored_even_if_ignored_where_that_is_set() -> None:
    settings = {"task_ignore_result": True, "task_store_errors_even_if_ignored": True}
    async with Backend("memory://", **settings) as backend:
        assert not await backend.mark_as_done("a", 1)
        assert await backend.mark_as_failure("b", ValueError("boom"))
        with pytest.raises(ValueError, match="boom"):
            await backend.AsyncResult("b")


async def test_a_disabled_store_stores_nothing_and_says_so() -> None:
    async with Backend("disabled://") as backend:
        assert not await backend.mark_as_done("a", 1)
        for call in (backend.AsyncResult("a").get, backend.AsyncResult("a").fetch):
            with pytest.raises(ResultNotStored, match=r"'a'.*disabled"):
                await call()


# --- writing while the store is away ---


async def test_writing_to_a_store_that_is_away_fails_unless_retries_are_on() -> None:
    store = FaultyStore()
    async with Backend(store) as backend:
        store.down = True
        with pytest.raises(StoreUnavailable):
            await backend.mark_as_done("a", 1)
    patient = FaultyStore(
        make_settings(
            {
                "result_backend_always_retry": True,
                "result_backend_max_retries": 3,
                "result_backend_max_sleep_between_retries_ms": 1,
            }
        )
    )
    async with Backend(patient) as backend:
        patient.down = True
        with pytest.raises(StoreUnavailable):
            await backend.mark_as_done("a", 1)
        assert len(patient.writes) == 4
        writing = asyncio.create_task(backend.mark_as_done("a", 1))
        await asyncio.sleep(0)
        patient.down = False
        assert await writing


async def test_a_write_that_is_tried_again_leaves_alone_what_was_closed_meanwhile() -> None:
    store = FaultyStore(make_settings({"result_backend_always_retry": True}))
    async with Backend(store) as backend:
        store.down = True
        closed = backend._runtime
        writing = asyncio.create_task(backend.mark_as_done("a", 1))
        await asyncio.sleep(0)
        await backend.aclose()  # which lets what has been submitted finish
        assert store.writes
        store.down = False
        assert await writing
        assert not closed.batcher.reached
        assert backend._runtime.batcher.reached


async def test_one_bad_record_does_not_fail_the_batch_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore()
    put_many = store.put_many

    async def picky(records: Any) -> Any:
        if any(record.id == "bad" for record in records):
            raise EncodeError("the server does not like 'bad'")
        return await put_many(records)

    monkeypatch.setattr(store, "put_many", picky)
    async with Backend(store) as backend:
        outcomes = await asyncio.gather(
            *(backend.mark_as_done(task_id, 1) for task_id in ("a", "bad", "b")), return_exceptions=True
        )
        assert outcomes[0::2] == [True, True]
        assert isinstance(outcomes[1], EncodeError)


async def test_cancelling_one_writer_does_not_cancel_the_batch(backend: Backend) -> None:
    writers = [asyncio.create_task(backend.mark_as_done(task_id, 1)) for task_id in "abc"]
    await asyncio.sleep(0)
    writers[0].cancel()
    assert await asyncio.gather(*writers[1:]) == [True, True]


async def test_writes_of_one_task_keep_their_order_within_a_turn(backend: Backend) -> None:
    outcomes = await asyncio.gather(
        backend.mark_as_started("a"),
        backend.update_state("a", "PROGRESS", 1),
        backend.mark_as_done("a", "done"),
        backend.update_state("a", "PROGRESS", 2),
    )
    assert list(outcomes) == [True, True, True, False]
    assert (await backend.fetch("a")).result == "done"


# --- finding the backend ---


@pytest.mark.usefixtures("no_default")
async def test_without_any_backend_the_error_says_what_to_call() -> None:
    result: AsyncResult[Any] = AsyncResult("a")
    with pytest.raises(BackendNotConfigured, match=r"aioresult\.configure"):
        await result.get()
    with pytest.raises(BackendNotConfigured):
        Backend()


@pytest.mark.usefixtures("no_default")
async def test_a_result_made_before_configure_finds_the_backend_at_its_first_use() -> None:
    result: AsyncResult[Any] = AsyncResult("a")
    backend = aioresult.configure("memory://")
    assert aioresult.get_backend() is backend
    await backend.mark_as_done("a", 1)
    assert await result == 1
    await backend.aclose()


@pytest.mark.usefixtures("no_default")
async def test_a_backend_that_was_made_elsewhere_becomes_the_default() -> None:
    async with Backend("memory://") as backend:
        assert aioresult.configure(backend) is backend
        await backend.mark_as_done("a", 1)
        assert await AsyncResult("a") == 1
        with pytest.raises(SettingsError, match="a ready backend has settings of its own: give result_expires"):
            aioresult.configure(backend, result_expires=1)
        assert aioresult.sync.configure(aioresult.sync.Backend(backend)).mirrored is backend


@pytest.mark.usefixtures("no_default")
async def test_the_environment_names_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIORESULT_URL", "memory://environment")
    assert "environment" in aioresult.get_backend()._runtime.store.location
    await aioresult.get_backend().aclose()


async def test_a_celery_configuration_names_its_backend() -> None:
    async with Backend(result_backend="memory://celery", broker_url="amqp://") as backend:
        assert backend._runtime.store.location == "memory://celery"


@pytest.mark.parametrize("url", ["nosuch://host", "localhost:6379", "", "://", "redi://localhost"])
def test_an_unknown_url_is_refused_with_the_known_schemes(url: str) -> None:
    with pytest.raises(SettingsError, match=r"redis"):
        Backend(url)


def test_what_is_no_url_store_or_client_is_refused() -> None:
    with pytest.raises(SettingsError, match="URL"):
        Backend(object())
    with pytest.raises(SettingsError, match="result_expires"):
        Backend(FaultyStore(), result_expires=1)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("redis://localhost", "redis", "redis"),
        ("mongodb://localhost", "pymongo", "mongodb"),
        ("sqlite:///x.db", "sqlalchemy", "sqlalchemy"),
        ("postgresql://localhost/x", "sqlalchemy", "postgresql"),
        ("mysql://localhost/x", "sqlalchemy", "mysql"),
    ],
)
def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, url: str, driver: str, extra: str) -> None:
    for name in [name for name in sys.modules if name.startswith(("aioresult.stores.", f"{driver}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(MissingDriver, match=rf"aioresult-backend\[{extra}\]"):
        Backend(url)


async def test_nothing_shows_a_password() -> None:
    backend = Backend("redis://user:s3cret@127.0.0.1:1/0", connect_timeout=1)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as caught:
        await backend.AsyncResult("a").get(timeout=PATIENCE)
    shown = repr(backend) + repr(caught.value) + str(caught.value) + str(backend._runtime.store.location)
    assert "s3cret" not in shown
    await backend.aclose()


@pytest.mark.parametrize("scheme", ["memory", "disabled"])
async def test_a_password_meant_for_another_store_is_not_shown(scheme: str) -> None:
    async with Backend(f"{scheme}://user:s3cret@cache.example/0") as backend:
        await backend.ping()
        assert "s3cret" not in f"{backend!r} {backend._runtime.store.location}"


@pytest.mark.parametrize("url", ["redis:user:s3cret@h", "user:s3cret@h://0", "redis:/user:s3cret@h/?x=y://"])
def test_what_is_no_url_is_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="looks like") as caught:
        Backend(url)
    assert "s3cret" not in str(caught.value)


# --- forks ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_afresh(redis_url: str) -> None:
    backend = Backend(redis_url)

    async def parent() -> None:
        await backend.mark_as_done("parent", 1)
        waiting = asyncio.create_task(backend.AsyncResult("child").get(timeout=PATIENCE))
        await asyncio.sleep(0)
        process = os.fork()
        if process == 0:
            asyncio._set_running_loop(None)  # the child is not within the parent's loop
            asyncio.run(backend.mark_as_done("child", os.getpid()))
            os._exit(0)
        assert await waiting == process
        await asyncio.to_thread(os.waitpid, process, 0)
        assert await backend.AsyncResult("parent") == 1

    asyncio.run(parent())


@pytest.mark.parametrize("call", [AsyncResult.get, AsyncResult.fetch, AsyncResult.revoke])
def test_without_a_loop_of_asyncio_it_says_what_to_use(call: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    """Under trio, say, whose tasks are driven by another loop."""
    coroutine = call(AsyncResult("task", Backend("memory://")))
    with pytest.raises(AioResultError, match=r"no event loop of asyncio .* use aioresult\.sync"):
        coroutine.send(None)
