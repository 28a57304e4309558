"""How many batches are under way at once, and what that leaves as it was."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aioresult import AioResultError, Backend, Record, StoreUnavailable, TaskRevokedError
from aioresult.lanes import lane_of
from aioresult.partly import PartlyUnavailable
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually

PATIENCE = 10.0
"""Seconds after which something that should happen counts as not happening."""


class SlowStore(FaultyStore):
    """Takes a few turns of the loop for each batch, and keeps those with an id of ``held`` until they are released."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.lanes = lanes
        self.held: set[str] = set()
        self.released = asyncio.Event()
        self.under_way: list[set[str]] = []
        self.writing: set[str] = set()
        self.most = 0

    @asynccontextmanager
    async def _slowly(self, ids: set[str]) -> AsyncIterator[None]:
        self.under_way.append(ids)
        self.most = max(self.most, len(self.under_way))
        try:
            for _ in range(random.randint(1, 5)):
                await asyncio.sleep(0)
            if self.held & ids:
                await self.released.wait()
            yield
        finally:
            self.under_way.remove(ids)

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        async with self._slowly(set(ids)):
            return await super().get_many(ids)

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        ids = {record.id for record in records}
        assert ids.isdisjoint(self.writing)
        self.writing |= ids
        try:
            async with self._slowly(ids):
                return await super().put_many(records)
        finally:
            self.writing -= ids


class HoldingStore(FaultyStore):
    """Keeps every call that does not go through a batch until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.called = asyncio.Event()
        self.go_on = asyncio.Event()
        self.under_way = 0
        self.closed_while_called: bool | None = None

    async def _hold(self, *_: Any) -> Any:
        self.under_way += 1
        self.called.set()
        await self.go_on.wait()
        self.under_way -= 1

    ping = capabilities = purge = put_group = get_group = delete_group = _hold  # type: ignore[assignment]  # all alike

    async def aclose(self) -> None:
        self.closed_while_called = self.under_way > 0
        await super().aclose()


async def until_under_way(store: SlowStore, batches: int) -> None:
    async def under_way() -> bool:
        return len(store.under_way) == batches

    await eventually(under_way)


def ids_of_both_lanes() -> tuple[list[str], list[str]]:
    """Return some ids of each of two lanes."""
    ids = [f"id-{number}" for number in range(100)]
    return [task_id for task_id in ids if lane_of(task_id, 2) == 0], [
        task_id for task_id in ids if lane_of(task_id, 2) == 1
    ]


@pytest.mark.parametrize("lanes", [1, 2])
async def test_states_of_one_task_are_stored_in_their_order_over_any_number_of_lanes(lanes: int) -> None:
    store = SlowStore(lanes)
    async with Backend(store) as backend:
        writes = [backend.store_result(str(n), step, "PROGRESS") for step in range(5) for n in range(100)]
        assert all(await asyncio.gather(*writes))
        found = await backend.fetch_many(map(str, range(100)))
    assert [record.result for record in found.values()] == [4] * 100
    assert store.most == lanes


@pytest.mark.parametrize("lanes", [1, 2])
async def test_writing_and_forgetting_one_task_are_done_in_the_order_of_the_calls(lanes: int) -> None:
    store = SlowStore(lanes)
    ids = [str(number) for number in range(50)]
    async with Backend(store) as backend:
        calls = [
            call
            for task_id in ids
            for call in (backend.mark_as_done(task_id, 1), backend.forget(task_id), backend.mark_as_done(task_id, 2))
        ]
        assert all(await asyncio.gather(*calls))
        assert {task_id: record.result for task_id, record in (await backend.fetch_many(ids)).items()} == dict.fromkeys(
            ids, 2
        )
        calls = [call for n in ids for call in (backend.update_state(n, "PROGRESS"), backend.forget(n))]
        await asyncio.gather(*calls)
        assert await backend.fetch_many(ids) == {}


async def test_a_record_that_cannot_be_stored_hurts_no_deletion_of_the_same_batch() -> None:
    class Refusing(SlowStore):
        async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
            raise ValueError("no such record")

    store = Refusing(1)
    async with Backend(store) as backend:
        refused, forgotten = await asyncio.gather(
            backend.mark_as_done("a", 1), backend.forget("b"), return_exceptions=True
        )
    assert (str(refused), forgotten) == ("no such record", True)


@pytest.mark.parametrize("call", ["ping", "capabilities", "purge", "save_group", "restore_group", "delete_group"])
async def test_closing_waits_for_calls_that_do_not_go_through_a_batch(call: str) -> None:
    store = HoldingStore()
    backend = Backend(store)
    arguments: dict[str, list[object]] = {
        "save_group": [backend.GroupResult("g")],
        "restore_group": ["g"],
        "delete_group": ["g"],
    }
    argument = arguments.get(call, [])
    calling = asyncio.create_task(getattr(backend, call)(*argument))
    await store.called.wait()
    closing = asyncio.create_task(backend.aclose())
    for _ in range(10):
        await asyncio.sleep(0)
    assert (closing.done(), store.closed_while_called) == (False, None)
    store.go_on.set()
    await asyncio.gather(closing, calling)
    assert store.closed_while_called is False


async def test_a_batch_that_takes_long_does_not_keep_the_other_lane_from_writing() -> None:
    store = SlowStore(2)
    held, free = ids_of_both_lanes()
    store.held = {held[0]}
    async with Backend(store) as backend:
        stuck = [asyncio.create_task(backend.mark_as_done(task_id, 1)) for task_id in held]
        assert all(await asyncio.gather(*(backend.mark_as_done(task_id, 2) for task_id in free)))
        assert not any(task.done() for task in stuck)
        store.released.set()
        assert all(await asyncio.gather(*stuck))


async def test_a_batch_that_takes_long_does_not_keep_the_other_lane_from_reading() -> None:
    store = SlowStore(2)
    held, free = ids_of_both_lanes()
    async with Backend(store) as backend:
        await asyncio.gather(*(backend.mark_as_done(task_id, task_id) for task_id in held + free))
        store.held = {held[0]}
        stuck = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE)) for task_id in held]
        got = await asyncio.gather(*(backend.AsyncResult(task_id).get(timeout=PATIENCE) for task_id in free))
        assert got == free
        assert not any(task.done() for task in stuck)
        store.released.set()
        assert await asyncio.gather(*stuck) == held


async def test_closing_waits_for_what_is_being_written_on_every_lane() -> None:
    store = SlowStore(2)
    first, second = ids_of_both_lanes()
    store.held = {first[0], second[0]}
    backend = Backend(store)
    writes = [asyncio.create_task(backend.mark_as_done(task_id, 1)) for task_id in first + second]

    await until_under_way(store, 2)
    closing = asyncio.create_task(backend.aclose())
    await asyncio.sleep(0)
    store.released.set()
    await closing
    assert [task.done() and task.result() for task in writes] == [True] * 100


async def test_a_look_that_nobody_wants_any_more_reads_nothing_and_waits_for_no_other_lane() -> None:
    store = SlowStore(2)
    held, free = ids_of_both_lanes()
    store.held = {held[0]}
    async with Backend(store) as backend:
        await asyncio.gather(*(backend.mark_as_done(task_id, task_id) for task_id in free))
        stuck = asyncio.create_task(backend.fetch(held[0]))
        hub = backend._runtime.hub
        hub.leave([free[0]], hub.add(free[0], None))
        await asyncio.sleep(0)
        assert await backend.AsyncResult(free[1]).get(timeout=PATIENCE) == free[1]
        assert await backend.fetch_many([]) == {}
        assert not stuck.done()
        assert all(free[0] not in ids for ids in store.reads)
        store.released.set()
        await stuck


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_closing_ends_what_is_being_read_on_every_lane(turns: int) -> None:
    store = SlowStore(2)
    first, second = ids_of_both_lanes()
    store.held = {first[0], second[0]}
    backend = Backend(store)
    reads = [asyncio.create_task(backend.AsyncResult(ids[0]).get(timeout=0)) for ids in (first, second)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await backend.aclose()
    store.released.set()
    for ended in await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), PATIENCE):
        assert isinstance(ended, AioResultError)


@pytest.mark.parametrize("turns", range(5))
async def test_tasks_that_are_cancelled_before_they_begin_do_not_stop_those_after_them(turns: int) -> None:
    async with Backend(SlowStore(2)) as backend:
        await backend.ping()
        before = asyncio.all_tasks()
        calls: list[asyncio.Task[object]] = [
            asyncio.create_task(backend.store_result("a", 1, "PROGRESS")),
            asyncio.create_task(backend.fetch("a")),
            asyncio.create_task(backend.forget("a")),
            asyncio.create_task(backend.AsyncResult("a").get()),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.wait(calls)
        async with asyncio.timeout(PATIENCE):
            waiting = asyncio.create_task(backend.AsyncResult("a").get())
            await asyncio.sleep(0)
            await backend.forget("a")
            assert await backend.store_result("a", 2, "SUCCESS")
            assert (await backend.fetch("a")).result == 2
            assert await waiting == 2


@pytest.mark.parametrize("lanes", [1, 2])
async def test_who_goes_on_when_our_tasks_are_cancelled_gets_what_was_under_way(lanes: int) -> None:
    store = SlowStore(lanes)
    store.held = {"a", "b", "c"}
    async with Backend(store) as backend:
        before = asyncio.all_tasks()
        writing = asyncio.create_task(backend.mark_as_done("a", 1))
        reading = asyncio.create_task(backend.fetch("b"))
        await until_under_way(store, 2)
        waiting = asyncio.create_task(backend.AsyncResult("c").get())  # whose look may have to wait for that read
        queueing = asyncio.create_task(backend.mark_as_started("a"))
        for _ in range(10):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - before - {writing, reading, waiting, queueing}:
            task.cancel()
        store.released.set()
        async with asyncio.timeout(PATIENCE):
            assert (await writing, await queueing) == (True, False)
            assert (await reading).status == "PENDING"
            await backend.mark_as_done("c", 3)
            assert await waiting == 3


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("call", ["fetch", "forget", "mark_as_started"])
def test_a_loop_that_ends_while_a_call_begins_does_end(call: str, turns: int) -> None:
    async def main() -> asyncio.Task[object]:
        backend = Backend(SlowStore(2))
        await backend.ping()
        begun: asyncio.Task[object] = asyncio.create_task(getattr(backend, call)("a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        return begun

    assert asyncio.run(main()).done()


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("lanes", [1, 2])
def test_clean_up_at_the_end_of_a_loop_reads_waits_and_writes(lanes: int, turns: int) -> None:
    """asyncio cancels all tasks at once, ours among them; theirs may go on for as long as their clean-up takes."""
    got: list[object] = []

    async def clean_up(backend: Backend, number: int) -> None:
        try:
            await backend.AsyncResult(f"never {number}").get()
        finally:
            assert await backend.mark_as_revoked(f"given up {number}")
            got.append(await backend.AsyncResult(f"given up {number}").get(propagate=False))
            got.append(await backend.AsyncResult("ready").get())
            got.append((await backend.fetch("ready")).result)

    async def main() -> None:
        backend = Backend(SlowStore(lanes))
        await backend.mark_as_done("ready", 1)
        begun = [asyncio.create_task(clean_up(backend, number)) for number in range(8)]
        for _ in range(turns):
            await asyncio.sleep(0)
        del begun

    asyncio.run(main())
    assert len(got) == 24
    assert all(value == 1 or isinstance(value, TaskRevokedError) for value in got)


# --- stores of which a part is away ---


class HalfStore(FaultyStore):
    """Consists of two servers: the second, which holds ids that begin with ``b``, cannot be reached."""

    def _tell_apart(self, outcomes: Mapping[str, Any]) -> None:
        known = {task_id: outcome for task_id, outcome in outcomes.items() if not task_id.startswith("b")}
        if len(known) < len(outcomes):
            away = StoreUnavailable("the second server is away")
            raise PartlyUnavailable(away, known) if known else away

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        records = await super().get_many(ids)
        self._tell_apart({task_id: records.get(task_id) for task_id in ids})
        return records

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        held = [record for record in records if not record.id.startswith("b")]
        written = dict(zip((record.id for record in held), await super().put_many(held), strict=True))
        self._tell_apart({record.id: written.get(record.id) for record in records})
        return list(written.values())

    async def delete_many(self, ids: Sequence[str]) -> None:
        await super().delete_many([task_id for task_id in ids if not task_id.startswith("b")])
        self._tell_apart(dict.fromkeys(ids))


async def test_callers_whose_part_of_a_store_has_answered_are_served() -> None:
    async with Backend(HalfStore()) as backend:
        ids = ["a1", "b1", "a2", "b2", "a3"]

        async def outcomes(call: Any) -> list[Any]:
            found = await asyncio.gather(*map(call, ids), return_exceptions=True)
            assert [isinstance(each, StoreUnavailable) for each in found] == [each.startswith("b") for each in ids]
            return [each for each in found if not isinstance(each, Exception)]

        assert await outcomes(lambda task_id: backend.store_result(task_id, task_id, "SUCCESS")) == [True] * 3
        assert await outcomes(lambda task_id: backend.store_result(task_id, 1, "STARTED")) == [False] * 3
        await backend.AsyncResult("a3").forget()
        records = await outcomes(lambda task_id: backend.AsyncResult(task_id).fetch())
        assert [record.status for record in records] == ["SUCCESS", "SUCCESS", "PENDING"]
        with pytest.raises(StoreUnavailable, match="second server"):
            await backend.fetch_many(["a1", "b1"])
        assert list(await backend.fetch_many(["a1", "a2"])) == ["a1", "a2"]
        await outcomes(lambda task_id: backend.AsyncResult(task_id).forget())
        assert await backend.fetch_many(["a1", "a2"]) == {}


async def test_a_waiter_gets_what_its_part_of_a_store_holds_while_others_wait_for_the_rest() -> None:
    async with Backend(HalfStore()) as backend:
        await backend.store_result("a1", 1, "SUCCESS")
        waiting = [asyncio.create_task(backend.AsyncResult(each).get(timeout=PATIENCE)) for each in ("b1", "a1", "b2")]
        assert await waiting[1] == 1
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def test_the_error_of_a_part_can_be_pickled() -> None:
    error = PartlyUnavailable(StoreUnavailable("the second server is away"), {"a": True})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.outcomes, str(copy.cause)) == (str(error), {"a": True}, str(error))
