"""However a call ends, and however its runner is left: the result is stored, or its loss is told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import pytest
import pytest_asyncio

from aioresult import AioResultError, Backend, Record, RemoteTaskError, StoreUnavailable, TaskRevokedError, TaskRunner
from aioresult.settings import make_settings
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually

PATIENCE = 30.0


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest_asyncio.fixture
async def backend(store: FaultyStore) -> AsyncIterator[Backend]:
    async with Backend(store) as backend:
        yield backend


class NoException(BaseException):
    """Raised to get past ``except Exception``."""


def fail_with(exc: BaseException) -> NoReturn:
    raise exc


async def fail_in_the_loop_with(exc: BaseException) -> NoReturn:
    await asyncio.sleep(0)
    raise exc


# --- what a call raises -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit, NoException, SystemExit, KeyboardInterrupt])
async def test_a_plain_function_fails_by_whatever_it_raises_and_ends_nothing_else(
    backend: Backend, kind: type[BaseException]
) -> None:
    async with TaskRunner(backend) as runner:
        with pytest.raises(RemoteTaskError, match=kind.__name__) as caught:
            await runner.submit(fail_with, kind(3)).get(timeout=PATIENCE)
        assert caught.value.exc_args == (3,)
        assert await runner.submit(len, "on").get(timeout=PATIENCE) == 2


@pytest.mark.parametrize("kind", [GeneratorExit, NoException])
async def test_a_coroutine_fails_by_whatever_it_raises(backend: Backend, kind: type[BaseException]) -> None:
    async with TaskRunner(backend) as runner:
        with pytest.raises(RemoteTaskError, match=kind.__name__):
            await runner.submit(fail_in_the_loop_with, kind(3)).get(timeout=PATIENCE)
        with pytest.raises(RemoteTaskError, match=kind.__name__):
            await runner.submit(lambda: fail_in_the_loop_with(kind(3))).get(timeout=PATIENCE)


async def test_a_plain_function_that_is_told_of_a_cancellation_is_revoked(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        with pytest.raises(TaskRevokedError, match="cancelled"):
            await runner.submit(fail_with, asyncio.CancelledError()).get(timeout=PATIENCE)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_coroutine_that_ends_the_process_does_so_once_its_failure_is_stored(
    store: FaultyStore, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Backend(store) as backend, TaskRunner(backend) as runner:
            runner.with_options(task_id="first")(fail_in_the_loop_with, kind(3))
            runner.with_options(task_id="second")(fail_in_the_loop_with, kind(3))
            runner.with_options(task_id="third")(asyncio.Event().wait)
            await asyncio.Event().wait()

    with pytest.raises(kind) as caught:
        asyncio.run(main())
    assert caught.value.args == (3,)
    records = asyncio.run(Backend(store).fetch_many(["first", "second", "third"]))
    assert [record.status for record in records.values()] == ["FAILURE", "FAILURE", "REVOKED"]
    assert kind.__name__ in repr(records["first"].result)
    gc.collect()
    assert caplog.text == ""


# --- how a runner is left ---------------------------------------------------------------------------------------------


async def test_leaving_that_is_cancelled_while_it_waits_cancels_what_runs_and_waits_for_its_end(
    backend: Backend,
) -> None:
    runner, begun, cleaned_up = TaskRunner(backend), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.set()

    async def leave() -> None:
        async with runner:
            runner.with_options(task_id="left")(work)

    leaving = asyncio.create_task(leave())
    await begun.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert cleaned_up.is_set()
    assert runner.running == 0
    assert (await backend.fetch("left")).status == "REVOKED"


async def test_a_timeout_around_a_runner_is_seen_as_one_and_leaves_nothing_running(backend: Backend) -> None:
    results = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), TaskRunner(backend) as runner:
            results = [runner.submit(asyncio.Event().wait) for _ in range(2)]
    assert runner.running == 0
    assert [await result.status() for result in results] == ["REVOKED", "REVOKED"]


async def test_what_a_cancelled_task_submits_while_its_runner_is_left_is_cancelled_too(backend: Backend) -> None:
    runner, begun = TaskRunner(backend), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            runner.with_options(task_id="late")(asyncio.Event().wait)

    async def leave() -> None:
        async with runner:
            runner.submit(work)

    leaving = asyncio.create_task(leave())
    await begun.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await backend.fetch("late")).status == "REVOKED"


# --- what the store does with a result --------------------------------------------------------------------------------


class Refusing(FaultyStore):
    """Refuses every write."""

    def __init__(self, error: Exception) -> None:
        super().__init__(make_settings({"task_track_started": False}))
        self.error = error

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        raise self.error


class Mumbling(FaultyStore):
    """Stores what is written, but the answer to the first write of a final state is lost."""

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        written = await super().put_many(records)
        if records[0].ready and len(self.writes) < 3:
            raise StoreUnavailable("the connection was cut on purpose")
        return written


async def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("error", [AioResultError("NOPERM no permission"), ValueError("NOPERM by a bug")])
async def test_results_that_the_store_refuses_are_logged_and_raised_at_the_end(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with Backend(Refusing(error)) as backend:
        with pytest.raises(AioResultError, match="2 results could not be stored: NOPERM") as caught:
            async with TaskRunner(backend) as runner:
                results = [runner.submit(double, 1), runner.submit(double, 2)]
    assert caught.value.__cause__ is error
    assert not isinstance(caught.value, StoreUnavailable)
    assert all(result.id in caplog.text for result in results)


async def test_a_second_run_under_an_id_that_has_succeeded_says_why_its_result_is_not_there(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async with TaskRunner(backend) as runner:
        run = runner.with_options(task_id="same")
        assert await run(double, 1).get(timeout=PATIENCE) == 2
        assert caplog.text == ""
        assert await run(double, 2).get(timeout=PATIENCE) == 2
    assert "the SUCCESS of task 'same' was not stored: a final SUCCESS is never replaced" in caplog.text


async def test_a_result_whose_write_was_answered_too_late_is_neither_lost_nor_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Backend(Mumbling()) as backend, TaskRunner(backend) as runner:
        result = runner.submit(double, 2)
    assert await result == 4
    assert caplog.text == ""


async def test_results_that_are_switched_off_are_no_refusals(caplog: pytest.LogCaptureFixture) -> None:
    async with Backend("disabled://") as backend, TaskRunner(backend) as runner:
        runner.submit(double, 2)
    assert caplog.text == ""


async def test_a_loop_that_ends_before_a_result_is_stored_says_which_may_be_lost(
    backend: Backend, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with TaskRunner(backend) as runner:
        store.down = True
        result = runner.submit(double, 2)

        async def tried() -> bool:
            return bool(store.writes)

        await eventually(tried)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("aioresult record"):
                task.cancel()
    assert f"the result of task {result.id!r} may be lost" in caplog.text


def test_a_limit_holds_in_one_event_loop_after_the_other() -> None:
    running: list[int] = []

    async def work() -> int:
        running.append(1)
        await asyncio.sleep(0)
        most = len(running)
        running.pop()
        return most

    backend = Backend("memory://")
    runner = TaskRunner(backend, max_running=1)

    async def burst() -> None:
        async with asyncio.timeout(PATIENCE), backend, runner:
            assert await asyncio.gather(*(runner.submit(work) for _ in range(3))) == [1, 1, 1]

    for _ in range(2):
        asyncio.run(burst())


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_under_which_no_task_could_ever_begin_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"max_running is a positive number of tasks.*not {limit}"):
        TaskRunner(max_running=limit)
