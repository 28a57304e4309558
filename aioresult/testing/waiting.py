"""The part of the conformance suite that is about waiting for results."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from aioresult import Backend
from aioresult.errors import ResultTimeout
from aioresult.testing.fixtures import PATIENCE, StoreFixtures, Tasks, eventually, fresh_id

STRANGE_IDS = [
    " ", "with spaces", "line\nbreak", "tab\t", "\u4e2d\u6587", "a/b:c{d}%e'f\"g", "..",
    f"{uuid.uuid4()}".ljust(150, "x"),
]  # fmt: skip


class WaitingTests(StoreFixtures):
    """Tests of every promise about waiting for results."""

    async def test_a_result_stored_elsewhere_wakes_its_waiter(
        self, backend: Backend, other: Backend, tasks: Tasks
    ) -> None:
        task_id = fresh_id()
        waiting = tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE))

        async def watched() -> bool:
            return backend.stats().watched > 0 or waiting.done()  # with an error, which is raised below

        await eventually(watched, "the id that is waited for is watched")
        await other.store_result(task_id, None, "STARTED")
        await other.store_result(task_id, {"value": 1}, "SUCCESS")
        assert await waiting == {"value": 1}

    async def test_a_result_stored_at_any_moment_of_the_waiting_is_seen(self, other: Backend, tasks: Tasks) -> None:
        await other.ping()
        for turns in range(40):
            task_id = fresh_id()
            async with self.make_backend() as backend:  # a new one each time, which includes connecting
                waiting = tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await other.store_result(task_id, turns, "SUCCESS")
                assert await waiting == turns

    async def test_all_waiters_of_an_id_get_its_result_and_reading_does_not_consume(
        self, backend: Backend, tasks: Tasks
    ) -> None:
        task_id = fresh_id()
        waiting = [tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE)) for _ in range(5)]
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting[1].cancel()
        await backend.store_result(task_id, 1, "SUCCESS")
        assert await asyncio.gather(*waiting[2:]) == [1, 1, 1]
        assert await backend.AsyncResult(task_id).get(timeout=PATIENCE) == 1

    async def test_strange_ids_are_ids_like_any_other(self, backend: Backend, tasks: Tasks) -> None:
        longest = min(150, backend._runtime.store.max_id_length or 150)
        for strange in STRANGE_IDS:
            task_id = (strange + fresh_id()[: max(0, 150 - len(strange))])[:longest]
            waiting = tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE))
            await asyncio.sleep(0)
            assert await backend.store_result(task_id, task_id, "SUCCESS")
            assert await waiting == task_id

    async def test_waiting_ends_by_its_timeout(self, backend: Backend) -> None:
        for timeout in (0, -1, 0.02):
            with pytest.raises(ResultTimeout):
                await backend.AsyncResult(fresh_id()).get(timeout=timeout)

    async def test_updates_show_the_states_in_order_and_end_with_the_final_one(
        self, backend: Backend, other: Backend
    ) -> None:
        task_id = fresh_id()
        seen: list[str] = []
        await other.store_result(task_id, None, "STARTED")
        async for record in backend.AsyncResult(task_id).updates(timeout=PATIENCE):
            seen.append(record.status)
            if record.status == "STARTED":
                await other.store_result(task_id, {"current": 1}, "PROGRESS")
            elif record.status == "PROGRESS":
                await other.store_result(task_id, 1, "SUCCESS")
        assert seen == ["STARTED", "PROGRESS", "SUCCESS"]

    async def test_a_thousand_are_awaited_at_once(self, backend: Backend, other: Backend, tasks: Tasks) -> None:
        results = [backend.AsyncResult(fresh_id()) for _ in range(1000)]
        waiting = tasks.begin(backend.GroupResult(None, results).join(timeout=2 * PATIENCE))
        await asyncio.sleep(0)
        await asyncio.gather(*(other.store_result(r.id, i, "SUCCESS") for i, r in enumerate(results)))
        assert await waiting == list(range(1000))

    async def test_nothing_is_left_behind_when_nobody_waits(self, backend: Backend, tasks: Tasks) -> None:
        task_id = fresh_id()
        await backend.ping()
        before = asyncio.all_tasks()
        waiting = tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE))
        await asyncio.sleep(0)
        await backend.store_result(task_id, 1, "SUCCESS")
        await waiting

        async def quiet() -> bool:
            stats = backend.stats()
            return stats.waiting == stats.watched == 0 and asyncio.all_tasks() <= before

        await eventually(quiet, "nothing is watched and no task runs once the result is there")

    async def test_one_backend_serves_one_event_loop_after_the_other(self) -> None:
        backend = self.make_backend()
        task_id = fresh_id()

        async def write() -> bool:
            return await backend.store_result(task_id, 1, "SUCCESS")

        async def read() -> Any:
            waiting = [backend.AsyncResult(task_id).get(timeout=PATIENCE) for _ in range(2)]
            return await asyncio.gather(*waiting)

        assert await asyncio.to_thread(lambda: asyncio.run(write()))
        assert await asyncio.to_thread(lambda: asyncio.run(read())) == [1, 1]

    async def test_closing_in_one_event_loop_disturbs_no_other(self, backend: Backend, tasks: Tasks) -> None:
        task_id = fresh_id()
        waiting = tasks.begin(backend.AsyncResult(task_id).get(timeout=PATIENCE))
        await backend.ping()

        async def elsewhere() -> None:
            await backend.ping()
            await backend.aclose()

        await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        assert await backend.store_result(task_id, 1, "SUCCESS")
        assert await waiting == 1
