"""The result backend plugin: Celery's workers and clients store and wait through aioresult, and notice no difference.

Everything here runs on each store with real workers that use the plugin; where the other side matters, it is a Celery
without the plugin.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult, GroupResult, ResultSet
from kombu.exceptions import EncodeError

from aioresult import WouldBlockLoop
from aioresult.integrations.celery import backend_from_app
from aioresult.integrations.celery.plugin import AioResultBackend
from aioresult.sync import portal
from tests.blocking import eventually
from tests.integrations.celery.comparing import by_aioresult, by_celery, in_milliseconds
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.tasks import VALUES, Rejected
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer

WAIT = 20.0
WORKERS = [
    ("redis", "prefork"),
    ("redis", "threads"),
    ("mongodb", "prefork"),
    ("sqlite", "prefork"),
    ("sqlite", "solo"),
    ("postgresql", "prefork"),
]


@pytest.fixture(scope="module", params=WORKERS, ids="-".join)
def worker(request: pytest.FixtureRequest, places: Places, celery_redis: RedisServer) -> Iterator[Worker]:
    store, pool = request.param
    settings = broker_settings(celery_redis, f"plugin-{store}-{pool}-")
    with Worker(pool=pool, concurrency=2, backend=f"aioresult+{places.url(store)}", **settings) as worker:
        yield worker


@pytest.fixture(scope="module")
def app(worker: Worker) -> Iterator[Celery]:
    """A client with the plugin."""
    with application(**worker.settings) as app:
        yield app


@pytest.fixture(scope="module")
def stock(worker: Worker) -> Iterator[Celery]:
    """A client without the plugin, on the same store."""
    settings = {**worker.settings, "backend": worker.settings["backend"].removeprefix("aioresult+")}
    with application(**settings) as app:
        yield app


def registered(app: Celery) -> int:
    """Return how many results are waited for on behalf of callbacks."""
    callbacks = app.backend._callbacks
    return len(callbacks._registered)


def settled() -> None:
    """Wait until the portal's loop has done all that it was told to do so far."""
    done = threading.Event()
    portal.call_soon(done.set)
    assert done.wait(WAIT)


class TestGet:
    def test_returns_the_value(self, app: Celery) -> None:
        assert app.tasks["tests.rich"].delay().get(timeout=WAIT) == VALUES["json"]

    def test_is_done_through_the_plugin(self, app: Celery) -> None:
        assert isinstance(app.backend, AioResultBackend)

    def test_raises_an_application_s_own_exception(self, app: Celery) -> None:
        with pytest.raises(Rejected, match="no") as caught:
            app.tasks["tests.fail_own"].delay().get(timeout=WAIT)
        assert "in fail_own" in str(caught.value.__cause__), "the traceback that it had in the worker"

    def test_returns_the_exception_instead_of_raising_it(self, app: Celery) -> None:
        assert isinstance(app.tasks["tests.fail"].delay().get(timeout=WAIT, propagate=False), ValueError)

    def test_raises_that_a_task_was_revoked(self, app: Celery) -> None:
        task_id = str(uuid.uuid4())
        app.control.revoke(task_id, reply=True, timeout=WAIT, limit=1)
        result = app.tasks["tests.add"].apply_async((1, 2), task_id=task_id)
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=WAIT)

    def test_ends_at_its_timeout_with_celery_s_error(self, app: Celery) -> None:
        result = app.AsyncResult(str(uuid.uuid4()))
        started = time.monotonic()
        with pytest.raises(CeleryTimeout, match=f"{result.id}.*not ready within 0.2 s"):
            result.get(timeout=0.2)
        with pytest.raises(CeleryTimeout):
            result.get(timeout=0)
        assert time.monotonic() - started < WAIT / 2, "far from any other timeout"

    def test_tells_each_state_once_to_on_message(self, app: Celery, tmp_path: Path) -> None:
        released = tmp_path / "released"
        messages: list[dict[str, Any]] = []

        def note(message: dict[str, Any]) -> None:
            messages.append(message)
            time.sleep(0.1)  # so that what else tells of this state has done so
            released.touch()

        result = app.tasks["tests.hold"].delay(600, str(released))
        eventually(lambda: result.state == "HOLDING")  # it will be both looked up and announced
        assert result.get(timeout=WAIT, on_message=note) == "held"
        assert [message["status"] for message in messages] == ["HOLDING", "SUCCESS"]
        assert messages[1]["result"] == "held"

    def test_calls_back_with_the_value(self, app: Celery) -> None:
        values: list[tuple[str, int]] = []
        result = app.tasks["tests.add"].delay(2, 3)
        assert result.get(timeout=WAIT, callback=lambda *args: values.append(args)) == 5
        assert values == [(result.id, 5)]

    def test_of_a_chain_raises_what_a_parent_failed_with(self, app: Celery) -> None:
        tasks = app.tasks
        result = chain(tasks["tests.fail_own"].si(), tasks["tests.add"].si(1, 1))()
        with pytest.raises(Rejected):
            result.get(timeout=WAIT)

    def test_of_a_waiting_task_raises_what_a_parent_fails_with(self, app: Celery) -> None:
        parent = app.AsyncResult(str(uuid.uuid4()))
        result = app.AsyncResult(str(uuid.uuid4()), parent=parent)
        failing = threading.Timer(0.1, app.backend.mark_as_failure, (parent.id, Rejected("parent")))
        failing.start()
        with pytest.raises(Rejected, match="parent"):
            result.get(timeout=WAIT)
        failing.join()
        with pytest.raises(CeleryTimeout):
            result.get(timeout=0, follow_parents=False)

    def test_in_many_threads_at_once(self, app: Celery) -> None:
        results = [app.tasks["tests.add"].delay(i, i) for i in range(20)]
        values: dict[int, int] = {}
        threads = [
            threading.Thread(target=lambda i=i: values.__setitem__(i, results[i].get(timeout=WAIT))) for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert values == {i: 2 * i for i in range(20)}

    def test_refuses_to_block_an_event_loop_and_leaves_nothing_behind(self, app: Celery) -> None:
        result = app.AsyncResult(str(uuid.uuid4()))

        async def get() -> None:
            portal.call_soon(time.sleep, 0.1)  # so that it is refused before the result is registered
            with pytest.raises(WouldBlockLoop):
                result.get(timeout=WAIT)

        asyncio.run(get())
        settled()
        assert result.id not in app.backend._callbacks._registered

    async def test_by_aioresult_and_by_a_stock_client_agree(self, app: Celery, stock: Celery) -> None:
        ids = [
            app.tasks[f"tests.{name}"].delay().id
            for name in (
                "rich",
                "nothing",
                "fail",
                "fail_own",
                "fail_nested",
                "fail_unpicklable",
                "parent",
                "retry_once",
            )
        ]
        async with backend_from_app(app) as backend:
            for task_id in ids:
                await backend.AsyncResult(task_id).wait(timeout=WAIT)
                ours = await by_aioresult(backend.AsyncResult(task_id))
                assert await asyncio.to_thread(by_celery, app.AsyncResult(task_id)) == ours
                if "mongodb" in app.conf.result_backend:
                    ours = in_milliseconds(ours)
                assert await asyncio.to_thread(by_celery, stock.AsyncResult(task_id)) == ours


class TestWorkers:
    def test_store_what_a_stock_client_waits_for(self, stock: Celery) -> None:
        tasks = stock.tasks
        assert tasks["tests.add"].delay(2, 3).get(timeout=WAIT) == 5
        with pytest.raises(Rejected):
            tasks["tests.fail_own"].delay().get(timeout=WAIT)

    def test_use_it_in_every_process_of_their_pool(self, app: Celery) -> None:
        results = [app.tasks["tests.hold"].delay(1) for _ in range(6)]
        assert [result.get(timeout=WAIT) for result in results] == ["held"] * 6

    def test_report_progress_from_inside_an_event_loop(self, app: Celery) -> None:
        states: list[str] = []
        result = app.tasks["tests.within_a_loop"].delay()
        assert result.get(timeout=WAIT, on_message=lambda meta: states.append(meta["status"])) == "done"
        assert states[-1] == "SUCCESS"

    def test_make_a_failure_of_a_value_that_cannot_be_stored(self, app: Celery) -> None:
        error = app.tasks["tests.unstorable"].delay().get(timeout=WAIT, propagate=False)
        assert type(error) is EncodeError
        assert "result: object of type object" in str(error)

    def test_leave_a_retried_task_waiting(self, app: Celery) -> None:
        result = app.tasks["tests.retry_later"].delay()
        eventually(lambda: result.state == "RETRY")
        assert isinstance(result.result, Rejected)
        result.revoke()


class TestStates:
    def test_never_go_backwards(self, app: Celery) -> None:
        task_id = str(uuid.uuid4())
        app.backend.mark_as_done(task_id, "first")
        app.backend.mark_as_started(task_id)
        app.backend.mark_as_failure(task_id, ValueError("late"))
        assert (app.AsyncResult(task_id).state, app.AsyncResult(task_id).get(timeout=0)) == ("SUCCESS", "first")

    def test_are_gone_once_they_are_forgotten(self, app: Celery) -> None:
        result = app.tasks["tests.add"].delay(1, 2)
        result.get(timeout=WAIT)
        assert result.exists()
        result.forget()
        assert not result.exists()
        assert app.AsyncResult(result.id).state == "PENDING"

    def test_that_would_end_the_process_do_not(self, app: Celery) -> None:
        task_id = str(uuid.uuid4())
        poison = {"exc_type": "SystemExit", "exc_module": "builtins", "exc_message": [3]}
        app.backend._store_result(task_id, poison, "FAILURE")
        with pytest.raises(Exception, match=r"builtins\.SystemExit\(3\)"):
            app.AsyncResult(task_id).get(timeout=0)


class TestMany:
    def test_are_joined_in_order(self, app: Celery) -> None:
        result = group(app.tasks["tests.add"].s(i, i) for i in range(20))()
        assert result.get(timeout=WAIT) == [2 * i for i in range(20)]
        assert result.join(timeout=WAIT) == [2 * i for i in range(20)]

    def test_are_joined_until_the_first_failure(self, app: Celery) -> None:
        never = app.AsyncResult(str(uuid.uuid4()))
        with pytest.raises(Rejected):
            ResultSet([never, app.tasks["tests.fail_own"].delay()], app=app).get(timeout=WAIT)

    def test_are_joined_with_their_exceptions(self, app: Celery) -> None:
        result = group(app.tasks["tests.add"].s(1, 1), app.tasks["tests.fail"].s())()
        one, other = result.get(timeout=WAIT, propagate=False)
        assert one == 2
        assert isinstance(other, ValueError)

    def test_are_iterated_as_they_come(self, app: Celery) -> None:
        sleep = app.tasks["tests.sleep"]
        slow, fast = sleep.apply_async((0.4,)), sleep.apply_async((0,))
        arrived = [task_id for task_id, _ in ResultSet([slow, fast], app=app).iter_native(timeout=WAIT)]
        if "solo" not in app.conf.broker_transport_options["global_keyprefix"]:
            assert arrived == [fast.id, slow.id]
        assert sorted(arrived) == sorted([slow.id, fast.id])

    def test_may_be_groups_within_a_group(self, app: Celery) -> None:
        add = app.tasks["tests.add"]
        inner = group(add.s(1, 1), add.s(2, 2))()
        outer = GroupResult(str(uuid.uuid4()), [inner, add.delay(3, 3)], app=app)
        assert outer.get(timeout=WAIT) == [[2, 4], 6]

    def test_have_one_timeout_together_also_where_groups_are_nested(self, app: Celery) -> None:
        never = [app.AsyncResult(str(uuid.uuid4())) for _ in range(3)]
        inner = GroupResult(str(uuid.uuid4()), never[1:], app=app)
        with pytest.raises(CeleryTimeout, match="3 of 3 results"):
            GroupResult(str(uuid.uuid4()), [never[0], inner], app=app).get(timeout=0.2)

    def test_are_saved_and_restored_by_either_side(self, app: Celery, stock: Celery) -> None:
        result = group(app.tasks["tests.add"].s(i, i) for i in range(3))()
        result.save()
        assert GroupResult.restore(result.id, app=app) == result
        theirs = GroupResult.restore(result.id, app=stock)
        assert [member.id for member in theirs] == [member.id for member in result]
        result.delete()
        assert GroupResult.restore(result.id, app=app) is None
        other = group(stock.tasks["tests.add"].s(i, i) for i in range(3))()
        other.save()
        restored = GroupResult.restore(other.id, app=app)
        assert restored.get(timeout=WAIT) == [0, 2, 4]


class TestChords:
    def test_give_their_body_the_values_of_their_header(self, app: Celery) -> None:
        add, total = app.tasks["tests.add"], app.tasks["tests.total"]
        assert chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=WAIT) == 20

    def test_may_be_started_by_a_stock_client(self, stock: Celery) -> None:
        add, total = stock.tasks["tests.add"], stock.tasks["tests.total"]
        assert chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=WAIT) == 20

    def test_fail_with_their_header(self, app: Celery) -> None:
        add, fail, total = app.tasks["tests.add"], app.tasks["tests.fail_own"], app.tasks["tests.total"]
        result = chord([add.s(1, 1), fail.s()])(total.s())
        with pytest.raises(Rejected):
            result.get(timeout=WAIT)
        with pytest.raises(ChordError, match="Rejected"):
            result.get(timeout=WAIT, follow_parents=False)

    def test_may_have_groups_in_their_header(self, app: Celery) -> None:
        add, total = app.tasks["tests.add"], app.tasks["tests.total"]
        header = [add.s(1, 1), chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s())]
        assert chord(header)(total.s()).get(timeout=WAIT) == 2 + 3 + 4

    def test_are_counted_by_redis_where_there_is_one(self, app: Celery, celery_redis: RedisServer) -> None:
        add, total = app.tasks["tests.add"], app.tasks["tests.total"]
        result = chord([add.s(1, 1), add.s(2, 2)])(total.s())
        assert result.get(timeout=WAIT) == 6
        if app.backend.supports_autoexpire:
            marker = f"celery-taskset-meta-{result.parent.id}.c"
            eventually(lambda: celery_redis.call("GET", marker) == "done")


class TestThen:
    def test_calls_back_when_the_result_is_stored_and_nobody_waits(self, app: Celery) -> None:
        called = threading.Event()
        values: list[int] = []

        def note(result: AsyncResult) -> None:
            values.append(result.result)
            called.set()

        app.tasks["tests.add"].delay(2, 3).then(note)
        assert called.wait(WAIT)
        assert values == [5]
        eventually(lambda: registered(app) == 0)

    def test_calls_back_for_a_group_as_a_whole(self, app: Celery) -> None:
        called = threading.Event()
        result = group(app.tasks["tests.add"].s(i, i) for i in range(3))()
        result.then(lambda _: called.set())
        assert called.wait(WAIT)
        assert result.successful()

    def test_calls_back_once_though_somebody_waits_too(self, app: Celery) -> None:
        calls: list[object] = []

        def note(result: AsyncResult) -> None:
            calls.append(result)
            time.sleep(0.2)  # long enough for the other one to call, too

        result = app.tasks["tests.hold"].delay(2)
        result.then(note)
        result.get(timeout=WAIT)
        eventually(lambda: registered(app) == 0 and len(calls) > 0)
        assert calls == [result]

    def test_outlives_a_callback_that_fails(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        def fail(_: AsyncResult) -> None:
            raise RuntimeError("in the callback")

        called = threading.Event()
        result = app.AsyncResult(str(uuid.uuid4()))
        result.then(fail)  # before there is a result: then() would call it itself, and raise
        app.backend.mark_as_done(result.id, 1)
        eventually(lambda: result.on_ready.ready)
        app.tasks["tests.add"].delay(1, 1).then(lambda _: called.set())
        assert called.wait(WAIT)
        eventually(lambda: "in the callback" in caplog.text)

    def test_calls_back_though_the_caller_was_stopped_while_asking_for_it(self, app: Celery) -> None:
        called = threading.Event()
        result = app.AsyncResult(str(uuid.uuid4()))
        app.backend.add_pending_result(result)  # what ``then`` does first
        portal.call_soon(app.backend._callbacks._weaken)
        settled()
        result.on_ready.then(lambda _: called.set())  # and second
        task_id = result.id
        del result
        app.backend.mark_as_done(task_id, 1)
        assert called.wait(WAIT)

    def test_leaves_nothing_behind_after_waits_in_vain(self, app: Celery) -> None:
        results = [app.AsyncResult(str(uuid.uuid4())) for _ in range(3)]
        for result, timeout in zip(results, (0, 0.05, 0.1), strict=True):
            with pytest.raises(CeleryTimeout):
                result.get(timeout=timeout)
        eventually(lambda: registered(app) == 0)
        assert results, "though they are still held"

    def test_leaves_nothing_behind_of_what_is_dropped_or_forgotten_at_once(self, app: Celery) -> None:
        portal.call_soon(time.sleep, 0.2)  # so that both happen before the loop gets to register anything
        forgotten = app.AsyncResult(str(uuid.uuid4()))
        forgotten.then(print)
        dropped = app.AsyncResult(str(uuid.uuid4()))
        dropped.then(print, weak=True)
        del dropped
        forgotten.forget()
        eventually(lambda: registered(app) == 0)

    def test_does_not_keep_a_group_that_nobody_holds(self, app: Celery) -> None:
        members = [app.AsyncResult(str(uuid.uuid4())) for _ in range(3)]
        together = GroupResult(str(uuid.uuid4()), members, app=app)
        together.then(print)
        eventually(lambda: registered(app) == 3)
        del members, together
        eventually(lambda: registered(app) == 0)


def test_the_failure_of_a_parent_explains_that_of_its_child(celery_redis: RedisServer) -> None:
    """Whichever is known first: here, nobody announces that of the parent."""
    with application(broker="memory://", backend=f"aioresult+{celery_redis.url}") as app:
        parent = app.AsyncResult(str(uuid.uuid4()))
        child = app.AsyncResult(str(uuid.uuid4()), parent=parent)

        def fail_both() -> None:
            error = {"exc_type": "Rejected", "exc_module": "tests.integrations.celery.tasks", "exc_message": ["parent"]}
            meta = {"status": "FAILURE", "result": error, "task_id": parent.id}
            celery_redis.call("SET", f"celery-task-meta-{parent.id}", json.dumps(meta))
            app.backend.mark_as_failure(child.id, ValueError("child"))

        failing = threading.Timer(0.1, fail_both)
        failing.start()
        with pytest.raises(Rejected, match="parent"):
            child.get(timeout=WAIT)
        failing.join()


def test_a_uuid_is_an_id() -> None:
    with application(broker="memory://", backend="aioresult+memory://uuids") as app:
        tasks = [uuid.uuid4() for _ in range(3)]
        child = app.AsyncResult(tasks[0], parent=app.AsyncResult(tasks[1]))
        called = threading.Event()
        app.AsyncResult(tasks[2]).then(lambda _: called.set())
        for task_id in tasks:
            app.backend.store_result(task_id, 5, "SUCCESS")
        assert child.get(timeout=WAIT) == 5
        assert ResultSet([app.AsyncResult(task_id) for task_id in tasks], app=app).join_native(timeout=WAIT) == [5] * 3
        assert called.wait(WAIT)


class TestSecrets:
    def test_are_not_in_what_is_shown_or_pickled(self) -> None:
        url = "redis://user:secret@cache.example/0?password=secret"
        with application(broker="memory://", backend=f"aioresult+{url}") as app:
            assert app.backend.as_uri() == "aioresult+redis://cache.example:6379/0"
            assert app.backend.as_uri(include_password=True) == f"aioresult+{url}"
            assert b"secret" not in pickle.dumps(app.AsyncResult("task"))

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://:se@cret@h/0", "redis://h:6379/0"),
            ("rediss://h/0?ssl_password=secret", "rediss://h:6379/0"),
            ("redis+sentinel://h:1/m/0?sentinel_password=secret", "redis+sentinel://m/0 (sentinels h:1)"),
            ("sentinel://:secret@h:1;:secret@i:2/0", "sentinel://m/0 (sentinels h:1,i:2)"),
            ("mongodb://u:secret@h/d?tls=true&tlsCertificateKeyFilePassword=secret", "mongodb://h/d"),
            ("db+postgresql://h/d?password=secret", "db+postgresql://h/d"),
            ("db+sqlite:////tmp/results.db", "db+sqlite:////tmp/results.db"),
            ("memory://", "memory://"),
        ],
    )
    def test_are_not_in_a_uri_whichever_part_of_it_they_are(self, url: str, shown: str) -> None:
        options = {"master_name": "m"} if url.startswith("sentinel") else {}
        settings: dict[str, Any] = {"result_backend_transport_options": options}
        with application(broker="memory://", backend=f"aioresult+{url}", **settings) as app:
            assert app.backend.as_uri() == f"aioresult+{shown}"

    @pytest.mark.parametrize("password", ["12/secret", "12;secret", "12 secret", "12?secret", "12#secret"])
    def test_are_not_shown_where_they_are_not_percent_encoded(self, password: str) -> None:
        """SQLAlchemy takes such URLs, and Celery's workers print where they store."""
        with application(broker="memory://", backend=f"aioresult+postgresql://user:{password}@db.example/shop") as app:
            assert "secret" not in app.backend.as_uri()
