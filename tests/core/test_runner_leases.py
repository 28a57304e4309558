"""A runner's lease: taken before the first state, renewed while there are tasks, and given back."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from aioresult import Backend, TaskLost, TaskRevokedError, TaskRunner, Unsupported, progress
from aioresult.record import Record
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually

PATIENCE = 30.0
SHORT = 0.15


class Watched(FaultyStore):
    """Writes down what is done, in order."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(make_settings(settings))
        self.done: list[str] = []
        self.runners: set[str] = set()
        self.refusing = False

    async def renew_lease(self, runner: str, seconds: float) -> None:
        if self.refusing:
            raise Unsupported("grant this account something")
        await super().renew_lease(runner, seconds)
        self.done.append("renewed")
        self.runners.add(runner)

    async def end_lease(self, runner: str) -> None:
        await super().end_lease(runner)
        self.done.append("ended")

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        written = await super().put_many(records)
        self.done += [f"{record.status}{' of a runner' if record.runner else ''}" for record in records]
        return written


class Work:
    """Reports progress when it begins, and waits until it may end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.begun.set()
        await self.go_on.wait()
        progress(1)
        return 1


async def renewals(store: Watched, more: int) -> None:
    target = store.done.count("renewed") + more

    async def reached() -> bool:
        return store.done.count("renewed") >= target

    await eventually(reached)


async def stored(store: Watched, what: str) -> None:
    async def found() -> bool:
        return what in store.done

    await eventually(found)


async def test_it_is_there_before_the_first_state_and_gone_after_the_last() -> None:
    store, works = Watched(), [Work(), Work()]
    async with Backend(store) as backend:
        async with TaskRunner(backend) as runner:
            results = [runner.submit(work) for work in works]
            await stored(store, "STARTED of a runner")
            record = await backend.fetch(results[0].id)
            assert {record.runner} == store.runners
            for work in works:
                work.go_on.set()
        assert store.done[0] == "renewed"
        assert store.done[-1] == "ended"
        assert store.done.count("renewed") == 1
        assert {status for status in store.done if status.startswith(("STARTED", "PROGRESS"))} <= {
            "STARTED of a runner",
            "PROGRESS of a runner",
        }
        for result in results:
            assert await result.get(timeout=PATIENCE) == 1
            assert (await result.fetch()).traceback is None


async def test_it_is_renewed_while_there_are_tasks_and_not_after_that() -> None:
    store, work = Watched(), Work()
    async with Backend(store) as backend:
        runner = TaskRunner(backend, lease=SHORT)
        result = runner.submit(work)
        await renewals(store, 4)
        assert not await store.ended_leases(list(store.runners))
        work.go_on.set()
        assert await result.get(timeout=PATIENCE) == 1

        async def ended() -> bool:
            return list(await store.ended_leases(list(store.runners))) == list(store.runners)

        await eventually(ended)
        assert "ended" not in store.done
        again = Work()
        again.go_on.set()
        assert await runner.submit(again).get(timeout=PATIENCE) == 1
        assert "renewed" in store.done[-4:]


async def test_many_tasks_one_after_the_other_take_it_once() -> None:
    store = Watched()
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        for _ in range(20):
            work = Work()
            work.go_on.set()
            await runner.submit(work).get(timeout=PATIENCE)
    assert store.done.count("renewed") == 1


async def test_while_the_store_is_away_it_is_tried_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store, work = Watched(), Work()
    async with Backend(store) as backend, TaskRunner(backend, lease=SHORT) as runner:
        result = runner.submit(work)
        await stored(store, "STARTED of a runner")
        store.down = True

        async def lapsed() -> bool:
            return bool(await MemoryStore.ended_leases(store, list(store.runners)))

        await eventually(lapsed)
        store.down = False
        await renewals(store, 2)
        work.go_on.set()
        assert await result.get(timeout=PATIENCE) == 1
    assert len([record for record in caplog.records if "is not renewed now" in record.message]) == 1


async def test_a_state_is_not_stored_where_the_lease_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """Who sees it would take the task for lost. The end is stored when the store is back."""
    store, work = Watched(), Work()
    store.down = True
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        result = runner.submit(work)
        await work.begun.wait()

        async def said() -> bool:
            return f"a state of task {result.id!r} was not stored" in caplog.text

        await eventually(said)
        work.go_on.set()
        store.down = False
        assert await result.get(timeout=PATIENCE) == 1


async def test_where_the_store_refuses_it_states_name_no_runner(caplog: pytest.LogCaptureFixture) -> None:
    store = Watched()
    store.refusing = True
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        for _ in range(2):
            work = Work()
            result = runner.submit(work)
            await stored(store, "STARTED")
            assert (await backend.fetch(result.id)).runner is None
            work.go_on.set()
            assert await result.get(timeout=PATIENCE) == 1
            store.done.clear()
    said = [record for record in caplog.records if "this runner has no lease" in record.message]
    assert len(said) == 1
    assert "grant this account something" in said[0].message


async def test_it_can_be_switched_off_and_must_be_a_time() -> None:
    store, work = Watched(), Work()
    work.go_on.set()
    async with Backend(store) as backend:
        async with TaskRunner(backend, lease=None) as runner:
            assert await runner.submit(work).get(timeout=PATIENCE) == 1
        assert not {"renewed", "ended"} & set(store.done)
        for wrong in (0, -1, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="lease is a positive number of seconds"):
                TaskRunner(backend, lease=wrong)


async def test_an_ignored_task_needs_none() -> None:
    store = Watched()
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        runner.with_options(ignore_result=True)(len, "abc")
    assert store.done == []
    assert store.reads == []


async def test_a_frozen_process_that_was_given_up_learns_it_and_its_result_is_refused() -> None:
    """Frozen: neither does it renew, nor does it hear anything."""
    store, work = Watched(fallback_interval=0.05), Work()
    async with Backend(store) as frozen, TaskRunner(frozen, lease=60) as runner:
        result = runner.submit(work)
        await stored(store, "STARTED of a runner")
        store.deaf = True
        await store.end_lease(next(iter(store.runners)))
        frozen._runtime.hub.own_runners.clear()  # those who wait are elsewhere
        with pytest.raises(TaskLost):
            await result.get(timeout=PATIENCE)
        work.go_on.set()
    assert (await frozen.fetch(result.id)).failed


async def test_a_runner_does_not_give_up_its_own_tasks() -> None:
    """A process that was frozen for too long, and whom nobody has given up meanwhile, goes on."""
    store, work = Watched(fallback_interval=0.05), Work()
    async with Backend(store) as backend, TaskRunner(backend, lease=60) as runner:
        result = runner.submit(work)
        await stored(store, "STARTED of a runner")
        await store.end_lease(next(iter(store.runners)))
        before = backend.stats().fallback_reads

        async def fell_back() -> bool:
            return backend.stats().fallback_reads > before + 3

        await eventually(fell_back)
        work.go_on.set()
        assert await result.get(timeout=PATIENCE) == 1


def test_a_runner_serves_one_loop_after_the_other_and_leaves_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend("memory://one-after-the-other")
    runner = TaskRunner(backend, lease=SHORT)

    async def main(wait: bool) -> None:
        work = Work()
        result = runner.submit(work)
        await work.begun.wait()
        if wait:
            work.go_on.set()
            assert await result.get(timeout=PATIENCE) == 1

    asyncio.run(main(wait=True))
    asyncio.run(main(wait=False))
    asyncio.run(main(wait=True))
    gc.collect()
    assert [record for record in caplog.records if record.levelname != "WARNING"] == []


async def test_several_runners_of_a_loop_have_leases_of_their_own() -> None:
    store, works = Watched(), [Work(), Work()]
    async with Backend(store) as backend, TaskRunner(backend) as one, TaskRunner(backend) as two:
        results = [runner.submit(work) for runner, work in zip((one, two), works, strict=True)]
        await renewals(store, 0)

        async def both() -> bool:
            return len(store.runners) == 2

        await eventually(both)
        for work in works:
            work.go_on.set()
        assert [await result.get(timeout=PATIENCE) for result in results] == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_another_runner() -> None:
    runner = TaskRunner(Backend("memory://"))
    mine = runner._lease.runner
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.write(write_end, runner._lease.runner.encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read_end, 100).decode()
    os.close(read_end)
    os.close(write_end)
    assert len(theirs) == len(mine)
    assert theirs != mine
    assert runner._lease.runner == mine


async def test_a_revoked_task_gives_the_lease_back_too() -> None:
    store, work = Watched(), Work()
    async with Backend(store) as backend:
        async with TaskRunner(backend) as runner:
            result = runner.submit(work)
            await stored(store, "STARTED of a runner")
            await backend.AsyncResult(result.id).revoke()
        assert store.done[-1] == "ended"
        with pytest.raises(TaskRevokedError):
            await result.get(timeout=PATIENCE)


async def test_a_lease_that_is_old_is_renewed_before_a_state_relies_on_it() -> None:
    """After a pause without tasks it may end before its renewal has arrived."""
    store = Watched()
    async with Backend(store) as backend, TaskRunner(backend, lease=30) as runner:
        first = Work()
        first.go_on.set()
        await runner.submit(first)
        lease = runner._lease
        lease._renewed_at -= 29  # as if so much time had passed, in which the timer went off while there was no task
        assert lease._timer is not None
        lease._timer.cancel()
        lease._due()
        del store.done[:]
        work = Work()
        result = runner.submit(work)
        await eventually(lambda: is_started(backend, result.id))
        assert store.done[:2] == ["renewed", "STARTED of a runner"]
        work.go_on.set()
        await result


async def is_started(backend: Backend, task_id: str) -> bool:
    return (await backend.fetch(task_id)).status == "STARTED"


async def test_what_a_thread_reports_while_its_task_ends_leaves_nothing_behind() -> None:
    reporting, ended, reported = threading.Event(), threading.Event(), threading.Event()

    class Slow(Watched):
        def encode(self, record: Record) -> Record:
            if record.status == "PROGRESS":  # the thread is stopped here, behind its look at whether the task has ended
                reporting.set()
                ended.wait(PATIENCE)
            return super().encode(record)

    def work() -> None:
        progress(1)
        reported.set()

    async with Backend(Slow()) as backend, TaskRunner(backend) as runner:
        result = runner.submit(work)
        await asyncio.to_thread(reporting.wait, PATIENCE)
        runner.cancel(result)
        await eventually(lambda: is_idle(runner))
        ended.set()
        await asyncio.to_thread(reported.wait, PATIENCE)
        await asyncio.sleep(0)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert [name for name in names if "states of" in name] == []
        assert backend._runtime.hub.own_runners == set()


async def is_idle(runner: TaskRunner) -> bool:
    return runner.running == 0
