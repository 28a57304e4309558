"""Running functions in this process, with their states and results stored."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio

from aioresult import (
    AioResultError,
    AsyncResult,
    Backend,
    InvalidTaskId,
    ResultNotStored,
    StoreUnavailable,
    TaskRevokedError,
    TaskRunner,
    progress,
)
from aioresult.errors import EncodeError
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


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("not there")


class Increment:
    async def __call__(self, number: int) -> int:
        return number + 1


async def test_coroutine_functions_plain_functions_and_callables_are_run(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        results: list[AsyncResult[Any]] = [
            runner.submit(double, 2),
            runner.submit(functools.partial(double, number=3)),
            runner.submit(divmod, 7, 2),
            runner.submit(threading.get_ident),
            runner.submit(Increment(), 1),
            runner.submit(lambda: double(5)),
        ]
        values = [await result.get(timeout=PATIENCE) for result in results]
    assert values[:3] == [4, 6, [3, 1]]
    assert values[3] != threading.get_ident()
    assert values[4:] == [2, 10]


async def test_keyword_arguments_are_all_the_functions_own(backend: Backend) -> None:
    async def names(**named: int) -> list[str]:
        return list(named)

    async with TaskRunner(backend) as runner:
        for submit in (runner.submit, runner.with_options(task_id="named")):
            assert await submit(names, self=1, fn=2, func=3).get(timeout=PATIENCE) == ["self", "fn", "func"]


async def test_states_are_seen_elsewhere_in_order(backend: Backend) -> None:
    go = asyncio.Event()

    async def work() -> str:
        progress(1, 2, stage="half")
        await go.wait()
        return "done"

    seen = []
    async with TaskRunner(backend) as runner:
        async for record in runner.submit(work).updates(timeout=PATIENCE):
            seen.append((record.status, record.result))
            if record.status == "PROGRESS":
                go.set()
    assert seen[-2:] == [("PROGRESS", {"current": 1, "total": 2, "stage": "half"}), ("SUCCESS", "done")]
    assert [status for status, _ in seen[:-2]] in ([], ["STARTED"])


async def test_started_is_stored_before_the_task_ends_unless_switched_off() -> None:
    for settings, expected in (({}, "STARTED"), ({"task_track_started": False}, "PENDING")):
        async with Backend("memory://", **settings) as backend, TaskRunner(backend) as runner:
            go, begun = asyncio.Event(), asyncio.Event()

            async def work(begun: asyncio.Event = begun, go: asyncio.Event = go) -> None:
                begun.set()
                await go.wait()

            result = runner.submit(work)
            await begun.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            assert await result.status() == expected
            go.set()


async def test_progress_is_reported_from_threads_and_nowhere_else(backend: Backend) -> None:
    go = threading.Event()

    def work() -> int:
        progress(1, 3)
        go.wait(PATIENCE)
        return 3

    async with TaskRunner(backend) as runner:
        result = runner.submit(work)
        async for record in result.updates(timeout=PATIENCE):
            if record.status == "PROGRESS":
                assert record.result == {"current": 1, "total": 3}
                go.set()
        assert await result.get(timeout=PATIENCE) == 3
    with pytest.raises(AioResultError, match="TaskRunner"):
        progress(1)


async def test_progress_that_cannot_be_encoded_is_refused_where_it_is_reported(backend: Backend) -> None:
    async def work() -> str:
        with pytest.raises(EncodeError):
            progress(1, what=object())
        return "still running"

    async with TaskRunner(backend) as runner:
        assert await runner.submit(work).get(timeout=PATIENCE) == "still running"


async def test_a_failure_is_stored_with_its_traceback(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(fail)
        with pytest.raises(LookupError, match="not there"):
            await result.get(timeout=PATIENCE)
    assert "in fail" in ((await result.fetch()).traceback or "")


async def test_a_value_that_cannot_be_stored_fails_the_task(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        with pytest.raises(EncodeError, match="object"):
            await runner.submit(object).get(timeout=PATIENCE)


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_cancelled_task_is_revoked_also_before_its_first_step(backend: Backend, turns: int) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(forever)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert runner.cancel(result)
        with pytest.raises(TaskRevokedError, match="cancelled"):
            await result.get(timeout=PATIENCE)
        await asyncio.sleep(0)
        assert not runner.cancel(result.id)
        assert runner.running == 0


async def test_leaving_waits_for_what_runs_and_leaving_by_an_error_cancels_it(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.submit(double, 1)
    assert (await result.fetch()).result == 2
    leaving = TaskRunner(backend)
    left = leaving.submit(forever)
    with pytest.raises(ZeroDivisionError):
        async with leaving:
            raise ZeroDivisionError
    assert await left.status() == "REVOKED"


async def test_no_more_than_the_limit_run_at_a_time(backend: Backend) -> None:
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with TaskRunner(backend, max_running=3) as runner:
        for _ in range(20):
            runner.submit(work)
    assert most == 3


async def test_an_executor_of_ones_own_is_used_and_left_open(backend: Backend) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        async with TaskRunner(backend, executor=executor) as runner:
            name = await runner.submit(lambda: threading.current_thread().name).get(timeout=PATIENCE)
        assert name.startswith("mine")
        assert executor.submit(int).result() == 0


async def test_ids_can_be_chosen_once_at_a_time(backend: Backend) -> None:
    async with TaskRunner(backend) as runner:
        result = runner.with_options(task_id="mine")(double, 4)
        with pytest.raises(AioResultError, match="mine"):
            runner.with_options(task_id="mine")(double, 4)
        assert (result.id, await result) == ("mine", 8)
        with pytest.raises(InvalidTaskId):
            runner.with_options(task_id="")


async def test_an_ignored_task_runs_and_stores_nothing(backend: Backend, store: FaultyStore) -> None:
    ran = asyncio.Event()

    async def work() -> None:
        progress(1, 2)
        ran.set()

    async with TaskRunner(backend) as runner:
        result = runner.with_options(ignore_result=True)(work)
    assert ran.is_set()
    assert store.writes == []
    with pytest.raises(ResultNotStored):
        await result


async def test_results_are_kept_while_the_store_is_away(backend: Backend, store: FaultyStore) -> None:
    await backend.ping()
    async with TaskRunner(backend) as runner:
        store.down = True
        result = runner.submit(double, 21)

        async def tried() -> bool:
            return len(store.writes) >= 3

        await eventually(tried)
        store.down = False
    assert await result.get(timeout=PATIENCE) == 42


async def test_a_result_that_could_not_be_stored_in_time_is_reported(
    backend: Backend, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.down = True
    with pytest.raises(StoreUnavailable, match="1 results could not be stored"):
        async with TaskRunner(backend, store_timeout=0) as runner:
            result = runner.submit(double, 21)
    assert result.id in caplog.text


async def test_extended_fields_are_stored_and_arguments_that_cannot_be_are_shown_as_text() -> None:
    async with Backend("memory://", result_extended=True) as backend, TaskRunner(backend) as runner:
        record = await runner.submit(double, 4).wait(timeout=PATIENCE)
        assert (record.name, record.args, record.kwargs) == (f"{__name__}.double", [4], {})
        marker: Any = object()
        record = await runner.submit(repr, marker).wait(timeout=PATIENCE)
        assert "object object" in record.args
