"""``apply_async`` and ``send_task`` publish without blocking the loop, and their results are watched from the start."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest
from celery import Celery, chain, chord, group, shared_task, signature
from celery.signals import before_task_publish

from aioresult import (
    AsyncResult,
    Backend,
    GroupResult,
    RemoteTaskError,
    ResultNotStored,
    SettingsError,
    StoreUnavailable,
)
from aioresult.integrations.celery import BrokerUnavailable, apply_async, backend_from_app, send_task
from aioresult.testing.conformance import eventually
from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer
from tests.servers.process import HOST

WAIT = 20.0
IGNORED: dict[str, Callable[[Any], Any]] = {
    "a task that is declared so": lambda tasks: tasks["tests.ignoring"],
    "its signature": lambda tasks: tasks["tests.ignoring"].s(),
    "a signature that says so": lambda tasks: tasks["tests.add"].s(1, 2).set(ignore_result=True),
    "a chain of one": lambda tasks: chain(tasks["tests.ignoring"].s()),
    "a chain that ends so": lambda tasks: chain(tasks["tests.add"].s(1, 2), tasks["tests.ignoring"].si()),
    "a chord whose body is such": lambda tasks: chord([tasks["tests.add"].s(1, 2)], tasks["tests.ignoring"].si()),
    "a group": lambda tasks: group(tasks["tests.ignoring"].s() for _ in range(2)),
    "a group that says so": lambda tasks: group(tasks["tests.add"].s(1, 2)).set(ignore_result=True),
    "a chain that ends in a group": lambda tasks: chain(
        tasks["tests.add"].s(1, 2), group(tasks["tests.ignoring"].si())
    ),
}
STORED: dict[str, Callable[[Any], Any]] = {
    "a signature that says so": lambda tasks: tasks["tests.ignoring"].s().set(ignore_result=False),
    "a chain whose first task is ignored": lambda tasks: chain(
        tasks["tests.ignoring"].s(), tasks["tests.add"].si(1, 2)
    ),
    "a chain that says so of its first task": lambda tasks: chain(
        tasks["tests.add"].s(1, 1), tasks["tests.add"].si(1, 2)
    ).set(ignore_result=True),
    "a group": lambda tasks: group(tasks["tests.ignoring"].s().set(ignore_result=False), tasks["tests.add"].s(1, 2)),
}


@pytest.fixture(scope="module")
def worker(celery_redis: RedisServer) -> Iterator[Worker]:
    settings = {**broker_settings(celery_redis, "publishing-"), "result_backend_thread_safe": False}
    settings["task_inherit_parent_priority"] = True
    with Worker(**settings, backend=celery_redis.url) as worker:
        yield worker


@pytest.fixture
def app(worker: Worker) -> Iterator[Celery]:
    with application(**worker.settings) as app:
        yield app


@pytest.fixture
async def backend(app: Celery) -> AsyncIterator[Backend]:
    async with backend_from_app(app, idle_timeout=0.05) as backend:
        yield backend


async def settled(backend: Backend) -> None:
    """Wait until nothing is waited for or subscribed to any more."""

    async def nothing_left() -> bool:
        return not backend.stats().waiting and not backend.stats().watched

    await eventually(nothing_left)


class TestReturns:
    async def test_the_result_of_a_task(self, app: Celery, backend: Backend) -> None:
        result = await apply_async(app.tasks["tests.add"], (2,), {"y": 3}, backend=backend)
        assert isinstance(result, AsyncResult)
        assert await result.get(timeout=WAIT) == 5

    async def test_the_result_of_a_task_that_is_known_by_name_only(self, app: Celery, backend: Backend) -> None:
        result = await send_task(app, "tests.add", (2, 3), backend=backend)
        assert await result.get(timeout=WAIT) == 5

    async def test_a_failure_as_a_failure(self, app: Celery, backend: Backend) -> None:
        result = await apply_async(app.tasks["tests.fail_own"].s(), backend=backend)
        with pytest.raises(RemoteTaskError, match=r"tests\.integrations\.celery\.tasks\.Rejected\('no', 1\)"):
            await result.get(timeout=WAIT)

    async def test_a_chain_with_its_parents(self, app: Celery, backend: Backend) -> None:
        add = app.tasks["tests.add"]
        result = await apply_async(chain(add.s(1, 2), add.s(3), add.s(4)), backend=backend)
        assert await result.get(timeout=WAIT) == 10
        assert result.parent is not None
        assert result.parent.parent is not None
        assert await result.parent.get(timeout=WAIT) == 6
        assert await result.parent.parent.get(timeout=WAIT) == 3

    async def test_a_group_with_its_members_in_order(self, app: Celery, backend: Backend) -> None:
        add = app.tasks["tests.add"]
        result = await apply_async(group(add.s(i, i) for i in range(10)), backend=backend)
        assert isinstance(result, GroupResult)
        assert await result.get(timeout=WAIT) == [2 * i for i in range(10)]

    async def test_a_chord_with_its_header_as_the_parent(self, app: Celery, backend: Backend) -> None:
        add, total = app.tasks["tests.add"], app.tasks["tests.total"]
        result = await apply_async(chord([add.s(1, 2), add.s(3, 4)], total.s()), backend=backend)
        assert await result.get(timeout=WAIT) == 10
        assert isinstance(result.parent, GroupResult)
        assert await result.parent.get(timeout=WAIT) == [3, 7]

    async def test_the_id_that_the_caller_or_the_signature_has_chosen(self, app: Celery, backend: Backend) -> None:
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        assert (await apply_async(app.tasks["tests.nothing"], task_id=first, backend=backend)).id == first
        signature = app.tasks["tests.nothing"].s().set(task_id=second)
        assert (await apply_async(signature, backend=backend)).id == second

    async def test_a_result_in_the_application_s_own_backend(self, app: Celery) -> None:
        results = [await send_task(app, "tests.add", (i, i)) for i in range(2)]
        assert results[0].backend is results[1].backend
        assert [await result.get(timeout=WAIT) for result in results] == [0, 2]
        await cast("Backend", results[0].backend).aclose()

    async def test_nothing_where_there_is_nothing_to_publish(self, app: Celery, backend: Backend) -> None:
        result: object = await apply_async(chain(), backend=backend)
        assert result is None
        assert chain().apply_async() is None, "as Celery has it"
        assert backend.stats().waiting == 0
        empty = await apply_async(group(), backend=backend)
        assert isinstance(empty, GroupResult)
        assert await empty.get(timeout=WAIT) == []

    async def test_what_a_task_gave_that_was_run_at_once(self, app: Celery, backend: Backend) -> None:
        app.conf.task_always_eager = True
        result = await apply_async(app.tasks["tests.add"], (2, 3), backend=backend)
        assert await result.get() == 5
        failed = await apply_async(app.tasks["tests.fail"], backend=backend)
        with pytest.raises(ValueError, match="boom"):
            await failed.get()

    @pytest.mark.parametrize("form", IGNORED)
    async def test_an_ignored_result_as_one(self, app: Celery, backend: Backend, form: str) -> None:
        result = await apply_async(IGNORED[form](app.tasks), backend=backend)
        with pytest.raises(ResultNotStored):
            await result.get(timeout=WAIT)
        if not isinstance(result, GroupResult) and result.parent is None:
            assert backend.stats().waiting == 0, "it was never watched"

    @pytest.mark.parametrize("form", STORED)
    async def test_a_result_that_is_stored_against_the_rule_as_one(
        self, app: Celery, backend: Backend, form: str
    ) -> None:
        result = await apply_async(STORED[form](app.tasks), backend=backend)
        assert await result.get(timeout=WAIT) in (1, 3, [1, 3])

    async def test_an_ignored_result_as_one_where_the_call_says_so(self, app: Celery, backend: Backend) -> None:
        add, ignoring = app.tasks["tests.add"], app.tasks["tests.ignoring"]
        for result in (
            await apply_async(add.s(1, 2), ignore_result=True, backend=backend),
            await apply_async(ignoring.s().set(ignore_result=False), ignore_result=True, backend=backend),
            await send_task(app, "tests.add", (1, 2), ignore_result=True, backend=backend),
        ):
            with pytest.raises(ResultNotStored):
                await result.get(timeout=WAIT)
        stored = await apply_async(ignoring, ignore_result=False, backend=backend)
        assert await stored.get(timeout=WAIT) == 1


class TestPublishesAsIfInTheCallersThread:
    @pytest.mark.parametrize("ours", [False, True], ids=["by Celery", "from a loop"])
    async def test_from_within_a_task_that_becomes_the_parent(self, app: Celery, backend: Backend, ours: bool) -> None:
        parent = await apply_async(app.tasks["tests.spawning"], (ours,), priority=3, root_id="root", backend=backend)
        assert isinstance(parent, AsyncResult)
        parent_id, child_id = await parent.get(timeout=WAIT)
        assert await AsyncResult[Any](child_id, backend).get(timeout=WAIT) == [parent_id, "root", 3]
        assert [child.id for child in await parent.children() or ()] == [child_id]

    def test_tasks_and_signatures_of_its_current_application(self) -> None:
        @shared_task(name="shared")  # type: ignore[untyped-decorator]  # Celery has no types
        def shared() -> None: ...

        def publish() -> None:  # in a thread that is left behind with its current application
            with application(broker="memory://", backend=None) as app:
                app.set_current()
                asyncio.run(apply_async(shared))
                asyncio.run(apply_async(chain(signature("one"), signature("other"))))
                counts.append(queued(app))

        counts: list[int] = []
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()
        assert counts == [2]


class TestPublishesWithoutAPlaceForResults:
    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            ({"backend": None}, r"'tests' has no result_backend"),
            (
                {"backend": "rpc://"},
                r"'rpc://', which cannot be used here: .*, because it sends each result as a message",
            ),
            (
                {"backend": "file:///tmp"},
                r"'file://', which cannot be used here: .*, because it cannot say when a result",
            ),
        ],
    )
    async def test_and_says_so_when_a_result_is_awaited(self, place: dict[str, Any], reason: str) -> None:
        with application(broker="memory://", **place) as app:
            add = app.tasks["tests.add"]
            results = [
                await apply_async(add, (1, 2)),
                await apply_async(add.s(1, 2), ignore_result=True),
                await apply_async(group(add.s(1, 2), add.s(3, 4))),
                await apply_async(chain(add.s(1, 2), add.s(3))),
                await send_task(app, "tests.add", (1, 2)),
            ]
            for result in results:
                with pytest.raises(ResultNotStored, match=reason):
                    await result.get(timeout=WAIT)
            assert queued(app) == 6

    async def test_that_could_be_read_only_where_no_result_is_wanted(self) -> None:
        mistake = {"result_serializer": "pickle", "accept_content": ["json"], "task_serializer": "json"}
        with application(broker="memory://", backend="redis://", **mistake) as app:
            with pytest.raises(SettingsError, match="not among the accepted"):
                await apply_async(app.tasks["tests.add"], (1, 2))
            result = await apply_async(app.tasks["tests.ignoring"])
            with pytest.raises(ResultNotStored, match="not among the accepted"):
                await result.get(timeout=WAIT)
            with pytest.raises(SettingsError, match="not among the accepted"):
                await send_task(app, "tests.add", (1, 2))
            assert queued(app) == 1


def queued(app: Celery) -> int:
    """Return how many tasks are in the queue, and empty it."""
    with app.connection_for_write() as connection:
        count: int = connection.default_channel.queue_purge("celery")
    return count


class TestWatches:
    async def test_before_the_task_is_published(self, app: Celery, backend: Backend) -> None:
        hub = backend._runtime.hub
        waiting: list[int] = []

        @before_task_publish.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery has no types
        def note(**_: Any) -> None:
            waiting.append(hub.waiting)

        try:
            result = await apply_async(app.tasks["tests.add"], (1, 2), backend=backend)
        finally:
            before_task_publish.disconnect(note)
        assert waiting == [1]
        assert await result.get(timeout=WAIT) == 3

    async def test_so_that_whoever_awaits_later_asks_nobody(self, app: Celery, backend: Backend) -> None:
        result = await apply_async(app.tasks["tests.add"], (1, 2), backend=backend)
        assert isinstance(result, AsyncResult)
        await AsyncResult[int](result.id, backend).get(timeout=WAIT)
        commands = backend.stats().commands
        assert await result.get(timeout=0) == 3
        assert backend.stats().commands == commands

    async def test_every_member_of_a_group_and_every_link_of_a_chain(self, app: Celery, backend: Backend) -> None:
        sleep = app.tasks["tests.sleep"]
        many = await apply_async(group(sleep.s(0.2), sleep.s(0)), backend=backend)
        line = await apply_async(chain(sleep.s(0.1), sleep.s()), backend=backend)
        assert isinstance(many, GroupResult)
        assert backend.stats().waiting == 4
        await many.get(timeout=WAIT)
        await line.get(timeout=WAIT)
        assert line.parent is not None
        assert [leaf.final is not None for leaf in (*many.leaves(), *line.parent.leaves())] == [True] * 3

    async def test_no_longer_than_somebody_holds_the_result(self, app: Celery, backend: Backend) -> None:
        result: Any = await apply_async(app.tasks["tests.sleep"], (60,), countdown=3600, backend=backend)
        many: Any = await apply_async(
            group(app.tasks["tests.sleep"].s(60) for _ in range(3)), countdown=3600, backend=backend
        )
        assert backend.stats().waiting == 4
        del result, many
        await settled(backend)

    async def test_without_keeping_the_result_when_garbage_is_collected_elsewhere(
        self, app: Celery, backend: Backend
    ) -> None:
        results = [await apply_async(app.tasks["tests.sleep"], (60,), countdown=3600, backend=backend)]
        results.append(results)  # type: ignore[arg-type]  # a cycle
        del results
        await asyncio.to_thread(gc.collect)
        await settled(backend)

    async def test_without_celery_s_own_subscription(
        self, app: Celery, backend: Backend, celery_redis: RedisServer
    ) -> None:
        result = await apply_async(app.tasks["tests.sleep"], (60,), countdown=3600, backend=backend)
        channel = f"celery-task-meta-{result.id}"

        async def subscribed() -> bool:
            return celery_redis.call("PUBSUB", "NUMSUB", channel) != [channel, 0]

        await eventually(subscribed)
        assert celery_redis.call("PUBSUB", "NUMSUB", channel) == [channel, 1]

    async def test_also_through_a_time_without_the_store(self, worker: Worker, keyprefix: str) -> None:
        with RedisServer() as store:
            settings = {**worker.settings, "backend": store.url}
            with application(**settings) as app:
                async with backend_from_app(app) as backend:
                    store.stop()
                    result = await apply_async(app.tasks["tests.sleep"], (0,), countdown=3600, backend=backend)
                    with pytest.raises(StoreUnavailable):
                        await result.get(timeout=WAIT)
                    store.start()
                    await backend.mark_as_done(result.id, "stored later")
                    assert await result.get(timeout=WAIT) == "stored later"


class TestReports:
    async def test_a_broker_that_is_down(self, keyprefix: str, celery_redis: RedisServer) -> None:
        with RedisServer(password="secret") as broker:
            url = broker.url
        with application(broker=url, backend=celery_redis.url) as app:
            async with backend_from_app(app, idle_timeout=0.05) as backend:
                with pytest.raises(BrokerUnavailable) as caught:
                    await apply_async(app.tasks["tests.add"], (1, 2), backend=backend)
                await settled(backend)
        assert f"'tests.add': the broker at redis://{HOST}:{broker.port}/0 cannot be reached" in str(caught.value)
        assert "it was not sent" in str(caught.value)
        assert "secret" not in str(caught.value)

    async def test_a_broker_that_never_answers(self, silent_broker: str, celery_redis: RedisServer) -> None:
        with application(broker=silent_broker, backend=celery_redis.url) as app:
            async with backend_from_app(app) as backend:
                turns = 0

                async def count() -> None:
                    nonlocal turns
                    while True:
                        await asyncio.sleep(0.001)
                        turns += 1

                counting = asyncio.create_task(count())
                with pytest.raises(
                    BrokerUnavailable, match=r"did not take it within 0\.3 s; whether it is sent"
                ) as caught:
                    await send_task(app, "tests.add", (1, 2), timeout=0.3, backend=backend)
                counting.cancel()
                assert turns > 5, "the loop has gone on"
                assert "secret" not in str(caught.value)

    async def test_that_a_task_behind_others_was_not_sent(self, silent_broker: str, celery_redis: RedisServer) -> None:
        with application(broker=silent_broker, backend=celery_redis.url) as app:
            async with backend_from_app(app) as backend:
                publishing = [send_task(app, "tests.add", (1, 2), timeout=0.5, backend=backend) for _ in range(20)]
                errors = await asyncio.gather(*publishing, return_exceptions=True)
                assert all(isinstance(error, BrokerUnavailable) for error in errors)
                assert "it was not sent" in str(errors[-1])

    async def test_arguments_that_the_task_does_not_take(self, app: Celery, backend: Backend) -> None:
        with pytest.raises(TypeError):
            await apply_async(app.tasks["tests.add"], (1, 2, 3), backend=backend)
        await settled(backend)

    async def test_nothing_when_the_caller_is_cancelled(self, silent_broker: str, celery_redis: RedisServer) -> None:
        with application(broker=silent_broker, backend=celery_redis.url) as app:
            async with backend_from_app(app, idle_timeout=0.05) as backend:
                publishing = asyncio.create_task(send_task(app, "tests.add", (1, 2), backend=backend))
                await asyncio.sleep(0)
                assert backend.stats().waiting == 1
                publishing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await publishing
                await settled(backend)


async def test_publishes_in_threads_that_no_exit_waits_for(app: Celery, backend: Backend) -> None:
    await apply_async(app.tasks["tests.nothing"], backend=backend)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("aioresult publisher")]
    assert threads
    assert all(thread.daemon for thread in threads)
