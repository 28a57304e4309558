"""Every wait ends by its deadline, whatever else is going on: parents, ignored results, slow stores, busy tasks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

import aioresult
from aioresult import Backend, DecodeError, Record, ResultNotStored, ResultTimeout, SettingsError, StoreUnavailable
from aioresult.abc import Feed
from aioresult.hub import Hub
from aioresult.polling import PollingFeed
from aioresult.settings import make_settings
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually, fresh_id
from aioresult.waiting import Inbox

PATIENCE = 30.0


class StuckStore(FaultyStore):
    """Reads do not return while ``stuck``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(make_settings({"idle_timeout": 0.05, **settings}))
        self.stuck = False
        self.asked = 0

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        self.asked += 1
        if self.stuck:
            await asyncio.Event().wait()
        return await super().get_many(ids)


class UnheardStore(FaultyStore):
    """Can be read, but not listened to."""

    async def feed(self) -> Feed:
        raise StoreUnavailable("no connection is left for listening")


@pytest.fixture
def store() -> StuckStore:
    return StuckStore()


@pytest_asyncio.fixture
async def backend(store: StuckStore) -> AsyncIterator[Backend]:
    async with Backend(store) as backend:
        yield backend


async def within_patience(waiting: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await waiting


async def test_a_result_with_a_parent_has_one_deadline_for_both(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: set[float | None] = set()

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(owner: Any, *args: Any) -> Any:
            deadlines.add(args[-1])
            return function(owner, *args)

        return noted

    monkeypatch.setattr(Inbox, "next", noting(Inbox.next))
    monkeypatch.setattr(Hub, "add", noting(Hub.add))
    child = aioresult.AsyncResult(fresh_id(), backend, parent=backend.AsyncResult(fresh_id()))
    with pytest.raises(ResultTimeout, match=rf"{child.id}.*0.05 s"):
        await within_patience(child.get(timeout=0.05))
    assert len(deadlines) == 1


@pytest.mark.parametrize("ignored", [True, False])
async def test_a_store_that_does_not_answer_holds_nobody_beyond_the_timeout(
    backend: Backend, store: StuckStore, ignored: bool
) -> None:
    await backend.ping()
    store.stuck = True
    parent = backend.AsyncResult(fresh_id())
    child: aioresult.AsyncResult[Any] = aioresult.AsyncResult(fresh_id(), backend, parent=parent, ignored=ignored)
    for waiting in (child.get(timeout=0.05), child.wait(timeout=0.05), aioresult.as_completed([child], timeout=0.05)):
        with pytest.raises(ResultTimeout):
            await within_patience(waiting if asyncio.iscoroutine(waiting) else anext(waiting))
    assert await aioresult.wait([child], timeout=0.05) == (set(), {child})


async def test_an_infinite_timeout_is_none_and_leaves_nothing_behind(backend: Backend) -> None:
    result = backend.AsyncResult(fresh_id())
    waiting = asyncio.create_task(result.get(timeout=math.inf))
    updates = asyncio.create_task(anext(result.updates(timeout=math.inf)))

    async def watched() -> bool:
        return backend.stats().watched == 1

    await eventually(watched)
    await backend.store_result(result.id, 1, "SUCCESS")
    assert await waiting == 1
    assert (await updates).result == 1
    assert backend.stats().waiting == 0


async def states_until_timeout(result: aioresult.AsyncResult[Any], timeout: float, pause: float = 0) -> list[Any]:
    """Return what the task reported until ``updates`` gave up."""
    seen: list[Any] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for record in result.updates(timeout=timeout):
                seen.append(record.result)
                await asyncio.sleep(pause)
    except ResultTimeout:
        return seen
    raise AssertionError(f"it ended without a timeout, after {len(seen)} states")


async def test_updates_look_once_at_a_timeout_of_zero(backend: Backend) -> None:
    await backend.store_result("done", 1, "SUCCESS")
    assert [record.result async for record in backend.AsyncResult("done").updates(timeout=0)] == [1]
    await backend.update_state("busy", "PROGRESS", 5)
    assert await states_until_timeout(backend.AsyncResult("busy"), 0) == [5]


async def test_updates_end_in_time_though_the_task_reports_faster_than_they_are_read(backend: Backend) -> None:
    async def report() -> None:
        for step in range(10**6):
            await backend.update_state("busy", "PROGRESS", step)
            await asyncio.sleep(0.001)

    reporting = asyncio.create_task(report())
    assert await states_until_timeout(backend.AsyncResult("busy"), 0.1, pause=0.01)
    reporting.cancel()


async def test_of_the_unread_updates_the_final_one_counts_even_when_time_is_up(backend: Backend) -> None:
    await backend.update_state("task", "PROGRESS", 1)
    updates = backend.AsyncResult("task").updates(timeout=0.2)
    assert (await anext(updates)).result == 1
    await backend.update_state("task", "PROGRESS", 2)
    await backend.store_result("task", 3, "SUCCESS")
    time.sleep(0.25)  # noqa: ASYNC251  (the deadline passes while the rest is unread)
    assert [record.result async for record in updates] == [3]


# --- the fallback read, and what it does not depend on ---


async def test_a_store_that_can_be_read_but_not_listened_to_is_read_all_the_same() -> None:
    async with Backend(UnheardStore(make_settings({"fallback_interval": 0.05, "idle_timeout": 0.05}))) as backend:
        result = backend.AsyncResult(fresh_id())
        waiting = asyncio.create_task(result.get(timeout=PATIENCE))

        async def lost() -> bool:
            return backend.stats().reconnects > 0

        await eventually(lost)
        await backend.store_result(result.id, 1, "SUCCESS")
        assert await waiting == 1
        assert backend.stats().fallback_reads > 0


async def test_reading_nothing_does_not_count_as_an_answer(store: StuckStore) -> None:
    store.down = True
    async with Backend(store) as backend:
        assert await backend.fetch_many([]) == {}
        with pytest.raises(StoreUnavailable):
            await within_patience(backend.AsyncResult("a").get())


async def test_without_an_idle_timeout_waiting_takes_no_time_of_the_processor() -> None:
    async with Backend("memory://", idle_timeout=0) as backend:
        turns = 0
        loop = asyncio.get_running_loop()
        run_once = loop._run_once  # type: ignore[attr-defined]

        def counted() -> None:
            nonlocal turns
            turns += 1
            run_once()

        loop._run_once = counted  # type: ignore[attr-defined]
        with pytest.raises(ResultTimeout):
            await backend.AsyncResult("a").get(timeout=0.3)
        assert turns < 100


# --- polling ---


@pytest.mark.slow
async def test_polling_slows_down_while_nothing_changes_whatever_is_stored(store: StuckStore) -> None:
    async with Backend(store) as backend:
        await backend.mark_as_started("a")
        feed = PollingFeed(store.get_many, interval=0.4, min_interval=0.01)
        await feed.watch(["a"])
        events = aiter(feed)
        started = await within_patience(anext(events))
        asked = store.asked
        announced = asyncio.ensure_future(anext(events))

        async def slow() -> bool:
            return feed.pause == 0.4

        await eventually(slow)
        assert store.asked - asked < 15, "it slows down"
        assert not announced.done(), "nothing has changed"
        await backend.store_result("a", 1, "SUCCESS")
        final = await within_patience(announced)
        assert [record and record.status for _, record in (started, final)] == ["STARTED", "SUCCESS"]
        await feed.aclose()


async def test_polling_beside_another_feed_owes_nothing_and_looks_soon_at_what_is_new(store: StuckStore) -> None:
    async with Backend(store) as backend:
        feed = PollingFeed(store.get_many, interval=3600, min_interval=0.01)
        feed.also_read(["a"])
        events = aiter(feed)
        first = asyncio.ensure_future(anext(events))

        async def looked() -> bool:
            return store.asked >= 2

        async def asleep() -> bool:
            return feed._timer is not None and (feed._timer.when() or 0) > asyncio.get_running_loop().time() + 1000

        await eventually(looked)
        assert not first.done(), "somebody else says that nothing is stored"
        feed.pause = 3600
        await eventually(asleep)
        feed.also_read(["b"])
        await backend.store_result("b", 1, "SUCCESS")
        assert (await within_patience(first))[0] == "b"
        await feed.aclose()


async def test_polling_takes_no_more_than_its_share_of_the_time() -> None:
    loop = asyncio.get_running_loop()
    spans: list[tuple[float, float]] = []

    async def read(_: Sequence[str]) -> Mapping[str, Record]:
        began = loop.time()
        await asyncio.sleep(0.02)
        spans.append((began, loop.time()))
        return {}

    feed = PollingFeed(read, interval=0.01, min_interval=0.01, share=0.2)
    feed.also_read(["a"])
    reading = asyncio.ensure_future(anext(aiter(feed)))

    async def read_some() -> bool:
        feed.also_read(["a"])
        return len(spans) >= 5

    await eventually(read_some)
    for (began, ended), (again, _) in pairwise(spans):
        assert again - ended >= 3.9 * (ended - began)
    reading.cancel()
    await asyncio.wait([reading])


async def test_polling_owes_its_event_to_whoever_comes_during_a_read_whatever_that_read_brings() -> None:
    asked: list[set[str]] = []

    async def read(ids: Sequence[str]) -> Mapping[str, Record]:
        asked.append(set(ids))
        if len(asked) == 1:
            await feed.watch(["a", "b"])
        return {task_id: Record(id=task_id, status="SUCCESS") for task_id in ("a", "b")}  # as batches of several do

    feed = PollingFeed(read, interval=3600, min_interval=3600)
    await feed.watch(["a"])
    events = aiter(feed)
    heard = [(await within_patience(anext(events)))[0] for _ in range(3)]
    assert (heard[0], sorted(heard[1:])) == ("a", ["a", "b"])
    assert asked == [{"a"}, {"a", "b"}]
    quiet = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0)
    assert not quiet.done()
    await feed.aclose()
    assert await within_patience(quiet) is None
    assert len(asked) == 2


def test_polling_without_a_pause_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"poll_min_interval.*> 0"):
        Backend("memory://", poll_min_interval=0)


# --- parents ---


async def test_a_parent_that_stores_no_result_does_not_keep_its_child_from_being_got(backend: Backend) -> None:
    await backend.store_result("child", 1, "SUCCESS")
    parent: aioresult.AsyncResult[Any] = aioresult.AsyncResult("parent", backend, ignored=True)
    child: aioresult.AsyncResult[Any] = aioresult.AsyncResult("child", backend, parent=parent)
    assert await child.get(timeout=PATIENCE) == 1
    late: aioresult.AsyncResult[Any] = aioresult.AsyncResult("late", backend, parent=parent)
    waiting = asyncio.create_task(late.get(timeout=PATIENCE))
    await asyncio.sleep(0)
    await backend.store_result("late", 2, "SUCCESS")
    assert await waiting == 2
    nobody: aioresult.AsyncResult[Any] = aioresult.AsyncResult("nobody", backend, parent=parent, ignored=True)
    with pytest.raises(ResultNotStored, match="nobody"):
        await nobody.get(timeout=PATIENCE)


async def test_a_parent_that_cannot_be_read_does_not_keep_its_child_from_being_got(
    backend: Backend, store: StuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_many = store.get_many

    async def poisoned(ids: Sequence[str]) -> Mapping[str, Record]:
        unreadable = Record.undecodable("parent", DecodeError("broken on purpose"))
        return {**await get_many(ids), **({"parent": unreadable} if "parent" in ids else {})}

    monkeypatch.setattr(store, "get_many", poisoned)
    await backend.store_result("child", 1, "SUCCESS")
    await backend.mark_as_failure("failed", ValueError("its own"))
    parent = backend.AsyncResult("parent")
    assert await aioresult.AsyncResult("child", backend, parent=parent).get(timeout=PATIENCE) == 1
    with pytest.raises(ValueError, match="its own"):
        await aioresult.AsyncResult("failed", backend, parent=parent).get(timeout=PATIENCE)


# --- one result twice, and one that is forgotten ---


async def test_two_results_of_one_task_are_both_completed_though_one_knows_it_already(backend: Backend) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    known, other = backend.AsyncResult("a"), backend.AsyncResult("a")
    await known.get()
    completed = [result async for result in aioresult.as_completed([known, other, known], timeout=PATIENCE)]
    assert [id(result) for result in completed] == [id(known), id(other)]


async def test_what_cannot_be_converted_is_not_forgotten(backend: Backend) -> None:
    await backend.store_result("a", "text", "SUCCESS")
    with pytest.raises(DecodeError):
        await backend.AsyncResult("a", result_type=int).get(forget=True)
    assert await backend.AsyncResult("a").get(forget=True) == "text"
    assert (await backend.fetch("a")).status == "PENDING"
