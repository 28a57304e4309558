"""A runner stops a task when another has stored how it ended, and nothing of that run replaces it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import aioresult
from aioresult import AioResultError, AsyncResult, Backend, TaskLost, TaskRevokedError, TaskRunner
from aioresult.record import Record
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually

PATIENCE = 30.0


class Work:
    """A coroutine function that runs until it is cancelled, and says how it went."""

    def __init__(self, swallow: bool = False) -> None:
        self.begun = asyncio.Event()
        self.cancelled = False
        self.calls = 0
        self._swallow = swallow

    async def __call__(self) -> str:
        self.calls += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if not self._swallow:
                raise
        return "too late"


def is_idle(runner: TaskRunner) -> Callable[[], Any]:
    async def idle() -> bool:
        return runner.running == 0

    return idle


async def status_of(backend: Backend, task_id: str) -> str:
    return (await backend.fetch(task_id)).status


# --- during -----------------------------------------------------------------------------------------------------------


@pytest.mark.all_loops
@pytest.mark.parametrize("swallow", [False, True])
async def test_a_coroutine_is_cancelled_and_what_it_returns_is_dropped(
    backend: Backend, other: Backend, swallow: bool
) -> None:
    work = Work(swallow)
    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await work.begun.wait()
        assert await other.AsyncResult(result.id).revoke("enough")
        await eventually(is_idle(runner))
        assert work.cancelled
        with pytest.raises(TaskRevokedError, match=r"^enough\b"):
            await result.get(timeout=PATIENCE)
        assert not await other.AsyncResult(result.id).revoke("again")
        assert not runner.cancel(result)


async def test_a_lost_or_duplicate_task_is_stopped_and_what_was_told_stays(
    backend: Backend, other: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    lost, duplicate = Work(), Work()
    async with TaskRunner(backend) as runner:
        results = [runner.submit(lost), runner.submit(duplicate)]
        await asyncio.gather(lost.begun.wait(), duplicate.begun.wait())
        await other.mark_as_failure(results[0].id, TaskLost("gone"))
        await other.mark_as_done(results[1].id, "first")
    assert lost.cancelled
    assert duplicate.cancelled
    with pytest.raises(TaskLost, match="gone"):
        await results[0].get(timeout=PATIENCE)
    assert await results[1].get(timeout=PATIENCE) == "first"
    assert f"task {results[1].id!r} is stopped, and what it returns is dropped" in caplog.text


async def test_generators_are_closed_and_their_streams_end(backend: Backend, other: Backend) -> None:
    closed: list[str] = []
    reached = threading.Event()

    async def asynchronous() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append("asynchronous")

    def plain() -> Iterator[int]:
        try:
            yield 1
            reached.wait(PATIENCE)
            yield 2
        finally:
            closed.append("plain")

    async def revoke_at_the_first_item(task_id: str) -> None:
        async for item in other.AsyncResult(task_id).stream(timeout=PATIENCE):
            assert item.value == 1
            assert await other.AsyncResult(task_id).revoke("enough")

    async with TaskRunner(backend) as runner:
        for task_id in (runner.submit(asynchronous).id, runner.submit(plain).id):
            with pytest.raises(TaskRevokedError, match="enough"):
                await revoke_at_the_first_item(task_id)
        await eventually(is_idle(runner))
        reached.set()

        async def both() -> bool:
            return sorted(closed) == ["asynchronous", "plain"]

        await eventually(both)


async def test_a_thread_sees_that_it_is_revoked_and_may_say_no_more(backend: Backend, other: Backend) -> None:
    begun, ended = threading.Event(), threading.Event()
    errors: list[str] = []

    def work() -> str:
        assert not aioresult.revoked()
        begun.set()
        while not aioresult.revoked():
            ended.wait(0.001)
        for say in (aioresult.emit, aioresult.progress):
            try:
                say(1)
            except TaskRevokedError as exc:
                errors.append(str(exc))
        ended.set()
        return "too late"

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await asyncio.to_thread(begun.wait, PATIENCE)
        assert await other.AsyncResult(result.id).revoke("enough")
        assert await asyncio.to_thread(ended.wait, PATIENCE)
    assert errors == ["enough", "enough"]
    with pytest.raises(TaskRevokedError, match="enough"):
        await result.get(timeout=PATIENCE)


async def test_a_thread_sees_that_it_was_cancelled_here(backend: Backend) -> None:
    begun, seen = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        while not aioresult.revoked():
            seen.wait(0.001)
        seen.set()

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await asyncio.to_thread(begun.wait, PATIENCE)
        assert runner.cancel(result)
        assert await asyncio.to_thread(seen.wait, PATIENCE)


async def test_a_coroutine_can_ask_too_and_elsewhere_nobody_can(backend: Backend) -> None:
    async def work() -> bool:
        return aioresult.revoked()

    async with TaskRunner(backend) as runner:
        assert await runner.submit(work).get(timeout=PATIENCE) is False
    with pytest.raises(AioResultError, match=r"revoked\(\) is for the task that a TaskRunner is running"):
        aioresult.revoked()


async def test_of_two_who_stop_it_one_did_and_the_task_stops_once(backend: Backend, other: Backend) -> None:
    work = Work()
    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await work.begun.wait()
        outcomes = await asyncio.gather(*(each.AsyncResult(result.id).revoke() for each in (backend, other, other)))
        assert sorted(outcomes) == [False, False, True]
    assert work.cancelled


# --- before -----------------------------------------------------------------------------------------------------------


async def test_what_waits_for_its_turn_is_stopped_before_it_begins(backend: Backend, other: Backend) -> None:
    first, second, third = Work(), Work(), Work()
    async with TaskRunner(backend, max_running=1) as runner:
        results = [runner.submit(first), runner.submit(second), runner.with_options(task_id="third")(third)]
        await first.begun.wait()
        for result in results[1:]:
            assert await other.AsyncResult(result.id).revoke()

        async def only_the_first() -> bool:
            return runner.running == 1

        await eventually(only_the_first)
        assert await other.AsyncResult(results[0].id).revoke()
    assert (first.calls, second.calls, third.calls) == (1, 0, 0)
    assert [await status_of(other, result.id) for result in results] == ["REVOKED"] * 3


async def test_a_task_that_was_revoked_before_it_was_submitted_does_not_run(backend: Backend, other: Backend) -> None:
    work = Work()
    assert await other.AsyncResult("t").revoke("not at all")
    async with TaskRunner(backend) as runner:
        result = runner.with_options(task_id="t")(work)
    assert work.calls == 0
    with pytest.raises(TaskRevokedError, match="not at all"):
        await result.get(timeout=PATIENCE)


@pytest.mark.all_loops
@pytest.mark.parametrize("max_running", [None, 1])
async def test_no_kind_of_function_runs_once_it_was_revoked_though_no_beginning_is_stored(
    url: str, other: Backend, max_running: int | None
) -> None:
    """A coroutine that waits for nothing, and a thread, would run to their ends before they are cancelled."""
    ran: list[str] = []

    def plain() -> None:
        ran.append("plain")

    async def coroutine() -> None:
        ran.append("coroutine")

    async def generator() -> AsyncIterator[int]:
        ran.append("generator")
        yield 1

    works: list[Callable[..., Any]] = [plain, coroutine, generator]
    with ThreadPoolExecutor(1) as executor:
        async with (
            Backend(url, task_track_started=False) as backend,
            TaskRunner(backend, executor=executor, max_running=max_running) as runner,
        ):
            for work in works:
                assert await other.AsyncResult(work.__name__).revoke("not at all")
                result = runner.with_options(task_id=work.__name__)(work)
                with pytest.raises(TaskRevokedError, match="not at all"):
                    await result.get(timeout=PATIENCE)
    assert ran == []


async def test_the_failure_of_an_earlier_run_does_not_stop_the_next_one(backend: Backend) -> None:
    async def work() -> int:
        return 7

    await backend.mark_as_failure("t", ValueError("earlier"))
    async with TaskRunner(backend) as runner:
        runner.with_options(task_id="t")(work)
    assert await backend.AsyncResult("t").get(timeout=PATIENCE) == 7


# --- after, and without hearing of it ---------------------------------------------------------------------------------


async def test_what_has_ended_is_not_revoked(backend: Backend, other: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(len, "abc")
    assert not await other.AsyncResult(result.id).revoke()
    assert await other.AsyncResult(result.id).get(timeout=PATIENCE) == 3


@pytest.mark.parametrize("told", ["REVOKED", "FAILURE", "SUCCESS"])
async def test_a_result_never_replaces_what_was_told_though_the_runner_has_not_heard(
    told: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, go_on, begun = FaultyStore(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        begun.set()
        await go_on.wait()
        return "too late"

    async with Backend(store) as backend, TaskRunner(backend) as runner:
        result = runner.submit(work)
        await begun.wait()

        async def listening() -> bool:
            return backend.stats().watched == 1

        await eventually(listening)
        store.deaf = True
        await backend.store_result(result.id, 1 if told == "SUCCESS" else ValueError("told"), told)
        go_on.set()
        await eventually(is_idle(runner))
        assert await status_of(backend, result.id) == told
    assert ("how it ended is stored already" in caplog.text) is (told == "FAILURE")


async def test_items_that_come_too_late_do_not_fail_a_task_that_was_revoked(backend: Backend, other: Backend) -> None:
    async def work() -> None:
        begun.set()
        while True:
            aioresult.emit(1)
            await asyncio.sleep(0)

    begun = asyncio.Event()
    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await begun.wait()
        assert await other.AsyncResult(result.id).revoke("enough")
    with pytest.raises(TaskRevokedError, match="enough"):
        await result.get(timeout=PATIENCE)


async def test_listening_that_fails_is_said_once_and_harms_no_task(caplog: pytest.LogCaptureFixture) -> None:
    store, go_on = FaultyStore(), asyncio.Event()

    async def work() -> int:
        await go_on.wait()
        return 1

    async with Backend(store) as backend, TaskRunner(backend) as runner:
        results = [runner.submit(work) for _ in range(3)]

        async def watched() -> bool:
            return backend.stats().watched == 3

        await eventually(watched)
        store.break_feeds(RuntimeError("a bug of the feed"))

        async def failed() -> bool:
            return backend.stats().waiting == 0

        await eventually(failed)
        go_on.set()
        assert [await result.get(timeout=PATIENCE) for result in results] == [1, 1, 1]
    said = [record for record in caplog.records if "cannot be stopped from elsewhere" in record.message]
    assert len(said) == 1


@pytest.mark.parametrize("given", [False, True])
async def test_a_task_that_begins_while_the_store_is_away_can_be_stopped_once_it_is_back(given: bool) -> None:
    store, work = FaultyStore(), Work()
    store.down = True
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        result = runner.with_options(task_id="given" if given else None)(work)
        await work.begun.wait()

        async def tried() -> bool:
            return any(result.id in ids for ids in store.reads)

        await eventually(tried)
        store.down = False
        assert await AsyncResult(result.id, backend).revoke("enough")
        await eventually(is_idle(runner))
    assert work.cancelled


async def test_a_task_that_ends_while_the_store_is_away_listens_no_more() -> None:
    store = FaultyStore()
    store.down = True
    async with Backend(store) as backend:
        async with TaskRunner(backend) as runner:
            result = runner.submit(len, "abc")

            async def tried() -> bool:
                return bool(store.writes)

            await eventually(tried)
            store.down = False
        assert await result.get(timeout=PATIENCE) == 3
        assert backend.stats().waiting == 0


async def test_a_runner_holds_nothing_once_its_tasks_have_ended(backend: Backend, other: Backend) -> None:
    work = Work()
    async with TaskRunner(backend) as runner:
        stopped, done = runner.submit(work), runner.submit(len, "abc")
        await done.get(timeout=PATIENCE)
        await work.begun.wait()
        await other.AsyncResult(stopped.id).revoke()
        await eventually(is_idle(runner))
        assert backend.stats().waiting == 0


async def test_a_record_that_cannot_be_read_stops_nothing(backend: Backend) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        begun.set()
        await go_on.wait()
        return 1

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        await begun.wait()
        undecodable = Record.undecodable(result.id, aioresult.DecodeError("nonsense"))
        backend._runtime.hub.deliver(result.id, undecodable)
        go_on.set()
    assert await result.get(timeout=PATIENCE) == 1


async def test_stopping_is_no_noise(backend: Backend, other: Backend, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    work = Work()
    async with TaskRunner(backend) as runner:
        result: AsyncResult[str] = runner.submit(work)
        await work.begun.wait()
        await other.AsyncResult(result.id).revoke("enough")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert f"task {result.id!r} was revoked: enough" in caplog.text
