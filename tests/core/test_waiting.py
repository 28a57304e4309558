"""Waiting: the hub, its faults, its deadlines and what it leaves behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from aioresult import AioResultError, AsyncResult, Backend, Record, ResultTimeout, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually, fresh_id

PATIENCE = 30.0


def faulty(**settings: Any) -> FaultyStore:
    return FaultyStore(make_settings({"idle_timeout": 0.05, "fallback_interval": 1000, **settings}))


@pytest.fixture
def store() -> FaultyStore:
    return faulty()


@pytest_asyncio.fixture
async def backend(store: FaultyStore) -> AsyncIterator[Backend]:
    async with Backend(store) as backend:
        yield backend


def waiter(backend: Backend, task_id: str, timeout: float | None = PATIENCE) -> asyncio.Task[Any]:
    return asyncio.create_task(backend.AsyncResult(task_id).get(timeout=timeout))


async def until_watched(backend: Backend, count: int = 1) -> None:
    async def watched() -> bool:
        return backend.stats().watched >= count

    await eventually(watched)


async def test_a_lost_feed_is_replaced_and_everything_outstanding_is_looked_at(
    backend: Backend, store: FaultyStore
) -> None:
    waiting = {task_id: waiter(backend, task_id) for task_id in (fresh_id() for _ in range(50))}
    await until_watched(backend, 50)
    store.deaf = True  # what is stored now is announced to nobody
    for task_id in waiting:
        await backend.store_result(task_id, task_id, "SUCCESS")
    assert not any(task.done() for task in waiting.values())
    store.break_feeds()
    for task_id, task in waiting.items():
        assert await task == task_id
    assert store.feeds_opened == 2
    assert backend.stats().reconnects == 1


async def test_a_feed_that_ends_quietly_is_replaced_too(backend: Backend, store: FaultyStore) -> None:
    task = waiter(backend, "a")
    await until_watched(backend)
    store.deaf = True
    await backend.store_result("a", 1, "SUCCESS")
    store.break_feeds(StopAsyncIteration())
    assert await task == 1


async def test_feeds_broken_at_random_moments_lose_nobody(backend: Backend, store: FaultyStore) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    print("seed", seed)
    results = [backend.AsyncResult(fresh_id()) for _ in range(1000)]
    waiting = [asyncio.create_task(result.get(timeout=PATIENCE)) for result in results]
    for index, result in enumerate(results):
        if rng.random() < 0.1:
            await asyncio.sleep(0)
        if rng.random() < 0.02:
            store.break_feeds()
        await backend.store_result(result.id, index, "SUCCESS")
    assert await asyncio.gather(*waiting) == list(range(1000))


async def test_an_outage_is_waited_out_by_those_who_wait_and_by_those_who_come(
    backend: Backend, store: FaultyStore
) -> None:
    before = waiter(backend, "a")
    await until_watched(backend)
    store.down = True
    store.break_feeds()
    during = waiter(backend, "b")
    opened = store.feeds_opened
    for _ in range(10):
        await asyncio.sleep(0)
    store.down = False
    await backend.store_result("a", 1, "SUCCESS")
    await backend.store_result("b", 2, "SUCCESS")
    assert (await before, await during) == (1, 2)
    assert store.feeds_opened == opened + 1


async def test_a_timeout_during_an_outage_names_the_outage(backend: Backend, store: FaultyStore) -> None:
    await backend.ping()
    await backend.fetch("a")
    store.down = True
    with pytest.raises(ResultTimeout, match=r"'a'.*down on purpose") as caught:
        await backend.AsyncResult("a").get(timeout=0.05)
    assert isinstance(caught.value.__cause__, StoreUnavailable)


async def test_a_store_that_has_never_answered_fails_at_once(backend: Backend, store: FaultyStore) -> None:
    store.down = True
    with pytest.raises(StoreUnavailable):
        await backend.AsyncResult("a").get(timeout=PATIENCE)
    with pytest.raises(StoreUnavailable):
        await backend.AsyncResult("a").get()
    assert backend.stats().waiting == 0


async def test_a_lost_notification_costs_at_most_the_fallback_interval() -> None:
    store = faulty(fallback_interval=0.05)
    async with Backend(store) as backend:
        task = waiter(backend, "a", timeout=None)
        await until_watched(backend)
        store.deaf = True
        await backend.store_result("a", 1, "SUCCESS")
        assert await asyncio.wait_for(task, PATIENCE) == 1
        assert backend.stats().fallback_reads >= 1


async def test_a_fault_of_the_feed_fails_the_waiters_with_its_cause_and_the_next_waiter_starts_afresh(
    backend: Backend, store: FaultyStore
) -> None:
    first, second = waiter(backend, "a"), waiter(backend, "b")
    await until_watched(backend, 2)
    store.break_feeds(ZeroDivisionError("a bug"))
    for task in (first, second):
        with pytest.raises(AioResultError, match="ZeroDivisionError") as caught:
            await task
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    third = waiter(backend, "a")
    await until_watched(backend)
    await backend.store_result("a", 3, "SUCCESS")
    assert await third == 3


async def test_a_fresh_waiter_of_an_id_that_is_still_watched_is_looked_after() -> None:
    """A waiter leaves, its result comes unheard, and the next waiter of the same id must not rely on the old watch."""
    store = faulty(idle_timeout=1000)
    async with Backend(store) as backend:
        first = waiter(backend, "a")
        await until_watched(backend)
        first.cancel()
        await asyncio.wait([first])
        second = waiter(backend, "a")
        for _ in range(3):
            await asyncio.sleep(0)
        await backend.store_result("a", 1, "SUCCESS")
        assert await second == 1


async def test_one_feed_serves_all_waiters_and_registering_them_is_coalesced(
    backend: Backend, store: FaultyStore
) -> None:
    tasks = [waiter(backend, str(number)) for number in range(1000)]
    await until_watched(backend, 1000)
    assert store.feeds_opened == 1
    assert len(store.reads) == 2  # the first look, and the look behind the subscription
    await asyncio.gather(*(backend.store_result(str(number), number, "SUCCESS") for number in range(1000)))
    assert len(store.writes) == 1
    assert await asyncio.gather(*tasks) == list(range(1000))


async def test_finished_results_are_read_together_and_open_no_feed(backend: Backend, store: FaultyStore) -> None:
    await asyncio.gather(*(backend.store_result(str(number), number, "SUCCESS") for number in range(1000)))
    store.reads.clear()
    assert await asyncio.gather(*(waiter(backend, str(number)) for number in range(1000))) == list(range(1000))
    assert len(store.reads) == 1
    assert store.feeds_opened == 0


async def test_nothing_is_read_or_sent_while_nothing_happens(store: FaultyStore, backend: Backend) -> None:
    task = waiter(backend, "a")
    await until_watched(backend)
    commands = backend.stats().commands
    for _ in range(200):
        await asyncio.sleep(0)
    assert backend.stats().commands == commands
    task.cancel()


async def test_the_last_waiter_leaves_nothing_behind(backend: Backend, store: FaultyStore) -> None:
    before = asyncio.all_tasks()
    tasks = [waiter(backend, str(number)) for number in range(100)]
    await until_watched(backend, 100)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert backend.stats().waiting == 0

    async def quiet() -> bool:
        return store.open_feeds == 0 and backend.stats().watched == 0 and asyncio.all_tasks() <= before

    await eventually(quiet)


async def test_timeouts_end_in_order_and_each_at_its_own_time(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    ended: list[float] = []

    async def wait(timeout: float) -> None:
        with pytest.raises(ResultTimeout, match=f"'a'.*{timeout:g} s"):
            await backend.AsyncResult("a").get(timeout=timeout)
        ended.append(timeout)
        assert loop.time() - start >= timeout

    timeouts = [0.05, 0.01, 0.03, 0.01, 0.02]
    with monkeypatch.context() as clock:
        clock.setattr(loop, "time", lambda: start)  # all begin at once, however slow the machine is
        tasks = [asyncio.create_task(wait(timeout)) for timeout in timeouts]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert ended == sorted(timeouts)
    assert backend.stats().waiting == 0


async def test_a_timeout_of_one_disturbs_nobody_else(backend: Backend) -> None:
    patient, hasty = waiter(backend, "a"), waiter(backend, "a", timeout=0.01)
    with pytest.raises(ResultTimeout):
        await hasty
    await backend.store_result("a", 1, "SUCCESS")
    assert await patient == 1


async def test_many_short_waits_do_not_pile_up_deadlines(backend: Backend) -> None:
    for number in range(500):
        task = waiter(backend, "a", timeout=1000)
        await asyncio.sleep(0)
        if number % 100 == 0:
            await backend.fetch("b")
        task.cancel()
        await asyncio.wait([task])
    hub = backend._runtime.hub
    assert (len(hub.deadlines), hub.waiting, len(hub._new)) == (0, 0, 0)


@pytest.mark.parametrize("bad", [float("nan"), "10", object()])
async def test_a_timeout_that_is_no_number_is_refused(backend: Backend, bad: Any) -> None:
    for call in (backend.AsyncResult("a").get, backend.AsyncResult("a").wait):
        with pytest.raises((TypeError, ValueError), match=r"timeout|number"):
            await call(timeout=bad)


async def test_timeout_zero_takes_a_ready_result(backend: Backend) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    assert await backend.AsyncResult("a").get(timeout=0) == 1
    assert await backend.AsyncResult("a").get(timeout=-1) == 1


async def test_waiting_inside_a_cancelled_task_ends_by_cancellation(backend: Backend) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await backend.AsyncResult("a").get(timeout=PATIENCE)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled())
    assert backend.stats().waiting == 0


async def test_closing_the_backend_ends_the_waiting_with_an_error(store: FaultyStore) -> None:
    backend = Backend(store)
    task = waiter(backend, "a", timeout=None)
    await asyncio.sleep(0)
    await backend.aclose()
    with pytest.raises(AioResultError, match="closed"):
        await task
    assert store.open_feeds == 0


async def test_who_comes_to_wait_or_to_read_when_it_was_just_closed_gets_the_error(backend: Backend) -> None:
    runtime = backend._runtime
    await backend.aclose()
    with pytest.raises(AioResultError, match="closed meanwhile"):
        await runtime.final("a", None, None)
    with pytest.raises(AioResultError, match="closed meanwhile"):
        await runtime.look("a")


async def test_waiters_who_come_while_all_tasks_are_being_cancelled_are_served(
    backend: Backend, store: FaultyStore
) -> None:
    before = asyncio.all_tasks()
    old = waiter(backend, "never")
    await until_watched(backend)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    new = waiter(backend, "a")
    await asyncio.wait([old])
    await until_watched(backend)
    await backend.store_result("a", 1, "SUCCESS")
    assert await new == 1


async def test_a_feed_is_closed_also_where_its_closing_is_cancelled_before_it_begins(store: FaultyStore) -> None:
    async with Backend(store) as backend:
        before = asyncio.all_tasks()
        old = waiter(backend, "never")
        await until_watched(backend)
        old.cancel()
        store.break_feeds()
        for _ in range(100):  # turns of the loop: the task must not have begun
            if any(task.get_name() == "aioresult closing of a feed" for task in asyncio.all_tasks()):
                break
            await asyncio.sleep(0)
        else:
            pytest.fail("the feed is not being closed")
        for task in asyncio.all_tasks() - before:
            task.cancel()

        async def closed() -> bool:
            return store.open_feeds == 0

        await eventually(closed)


async def test_a_closed_backend_opens_again_when_it_is_used_again(backend: Backend) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    await backend.aclose()
    await backend.aclose()
    assert await backend.AsyncResult("a").get(timeout=PATIENCE) == 1


def test_a_loop_that_ends_closes_what_it_opened(store: FaultyStore) -> None:
    backend = Backend(store)

    async def leave_it_waiting() -> None:
        waiter(backend, "a", timeout=None)
        await until_watched(backend)
        assert store.open_feeds == 1

    asyncio.run(leave_it_waiting())
    assert store.open_feeds == 0
    asyncio.run(leave_it_waiting())


async def test_polling_wakes_waiters_with_one_read_for_all() -> None:
    store = faulty(push=False, poll_interval=0.01)
    async with Backend(store) as backend:
        tasks = [waiter(backend, str(number)) for number in range(100)]
        await until_watched(backend, 100)
        assert store.feeds_opened == 0
        await asyncio.gather(*(backend.store_result(str(number), number, "SUCCESS") for number in range(100)))
        assert await asyncio.gather(*tasks) == list(range(100))
        assert max(len(ids) for ids in store.reads) == 100


async def test_polling_survives_an_outage() -> None:
    store = faulty(push=False, poll_interval=0.01)
    async with Backend(store) as backend:
        task = waiter(backend, "a")
        await until_watched(backend)
        store.down = True

        async def noticed() -> bool:
            return backend.stats().reconnects > 0

        await eventually(noticed)
        store.down = False
        await backend.store_result("a", 1, "SUCCESS")
        assert await task == 1


async def test_updates_keep_what_is_reported_while_nobody_reads(backend: Backend) -> None:
    result: AsyncResult[Any] = backend.AsyncResult("a")
    await backend.update_state("a", "PROGRESS", {"current": 0})
    seen = []
    async for record in result.updates(timeout=PATIENCE):
        seen.append(record.result)
        if len(seen) == 1:
            await until_watched(backend)
            for number in range(1, 6):
                await backend.update_state("a", "PROGRESS", {"current": number})
            await backend.store_result("a", "done", "SUCCESS")
    assert seen == [*({"current": number} for number in range(6)), "done"]


async def test_updates_do_not_go_back_to_what_was_read_before_the_news_came() -> None:
    class LateStore(FaultyStore):
        """Reads at once, and answers when told to."""

        def __init__(self) -> None:
            super().__init__()
            self.answering = asyncio.Event()
            self.answering.set()

        async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
            found = await super().get_many(ids)
            await self.answering.wait()
            return found

    store = LateStore()
    async with Backend(store) as backend:
        await backend.update_state("a", "PROGRESS", 1)
        updates = backend.AsyncResult("a").updates(timeout=PATIENCE)
        assert (await anext(updates)).result == 1
        await until_watched(backend)
        store.answering.clear()
        reads = len(store.reads)
        another = waiter(backend, "a")  # who causes a read

        async def being_read() -> bool:
            return len(store.reads) > reads

        await eventually(being_read)
        for number in (2, 3):
            await backend.update_state("a", "PROGRESS", number)
            assert (await anext(updates)).result == number
        store.answering.set()

        async def answered() -> bool:
            return not backend._runtime.hub.looking

        await eventually(answered)
        await backend.store_result("a", "done", "SUCCESS")
        assert [record.result async for record in updates] == ["done"]
        assert await another == "done"


async def test_leaving_updates_early_leaves_nothing_behind(backend: Backend) -> None:
    await backend.update_state("a", "PROGRESS", 1)
    updates = backend.AsyncResult("a").updates(timeout=PATIENCE)
    assert (await anext(updates)).status == "PROGRESS"
    await updates.aclose()
    assert backend.stats().waiting == 0


async def test_updates_time_out(backend: Backend) -> None:
    with pytest.raises(ResultTimeout):
        async for _ in backend.AsyncResult("a").updates(timeout=0.02):
            pass


@pytest.mark.parametrize("turns", range(12))
async def test_closing_the_backend_while_its_feed_is_being_closed_leaves_nothing_open(turns: int) -> None:
    store = faulty(idle_timeout=0)
    backend = Backend(store)
    task = waiter(backend, "a")
    await until_watched(backend)
    await backend.store_result("a", 1, "SUCCESS")
    await task
    for _ in range(turns):
        await asyncio.sleep(0)
    await backend.aclose()
    assert store.open_feeds == 0


async def test_updates_end_with_the_final_record_also_where_the_result_learned_it_elsewhere(backend: Backend) -> None:
    await backend.update_state("a", "PROGRESS", 1)
    result = backend.AsyncResult("a")
    seen = []
    async for record in result.updates(timeout=PATIENCE):
        seen.append(record.status)
        if record.status == "PROGRESS":
            await backend.mark_as_done("a", 2)
            assert await result.get(timeout=PATIENCE) == 2
    assert seen == ["PROGRESS", "SUCCESS"]


@pytest.mark.slow
async def test_surplus_subscriptions_are_dropped_together_when_no_results_arrive() -> None:
    store = faulty(idle_timeout=1000)
    async with Backend(store) as backend:
        lasting = waiter(backend, "lasting", timeout=None)
        others = [waiter(backend, str(number)) for number in range(100)]
        await until_watched(backend, 101)
        await asyncio.gather(*(backend.store_result(str(number), number, "SUCCESS") for number in range(100)))
        await asyncio.gather(*others)

        async def dropped() -> bool:
            return backend.stats().watched == 1

        await eventually(dropped)
        await backend.store_result("lasting", 1, "SUCCESS")
        assert await lasting == 1
