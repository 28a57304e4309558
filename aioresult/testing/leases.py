"""The part of the conformance suite about conditional records and leases, which a ``TaskRunner`` needs."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
import pytest_asyncio

from aioresult import Backend, Record, TaskRevokedError, states
from aioresult.errors import Unsupported
from aioresult.record import ABSENT, RUNNER, UNFINISHED, conditional, record_of
from aioresult.testing.fixtures import StoreFixtures, Tasks, eventually, fresh_id


def _mine(task_id: str, runner: str, state: str = states.STARTED) -> Record:
    return Record(id=task_id, status=state, result={"step": 1}, traceback=RUNNER + runner)


class LeaseTests(StoreFixtures):
    """Tests of every promise of ``Conditional`` records and leases. Skipped for a store that keeps none."""

    @pytest_asyncio.fixture
    async def leasing(self, backend: Backend) -> Backend:
        """Give the backend, if its store keeps leases."""
        if not backend._runtime.store.keeps_leases:
            pytest.skip(f"{backend._runtime.store.location} keeps no leases")
        return backend

    async def _put(self, backend: Backend, record: Record, over: str) -> bool:
        return await backend._put_record(conditional(record, over))

    async def test_where_nothing_is_stored_only_the_first_of_many_is_written(self, leasing: Backend) -> None:
        task_id = fresh_id()
        runners = [uuid.uuid4().hex for _ in range(8)]
        store = leasing._runtime.store
        written = await asyncio.gather(
            *(store.put_many([store.encode(conditional(_mine(task_id, runner), ABSENT))]) for runner in runners)
        )
        assert sorted(outcome for (outcome,) in written) == [False] * 7 + [True]
        winner = [outcome for (outcome,) in written].index(True)
        assert (await leasing.fetch(task_id)).runner == runners[winner]
        for state in ("SUCCESS", "STARTED"):
            await leasing.store_result(task_id, 1, state)
            assert not await self._put(leasing, _mine(task_id, "another"), ABSENT)
        await leasing.forget(task_id)
        assert await self._put(leasing, _mine(task_id, "another"), ABSENT)

    async def test_a_stored_pending_counts_as_nothing(self, leasing: Backend) -> None:
        task_id = fresh_id()
        await leasing.store_result(task_id, None, "PENDING")
        assert await self._put(leasing, _mine(task_id, "one"), ABSENT)

    async def test_a_final_state_is_not_replaced_where_it_must_not_be(self, leasing: Backend) -> None:
        for first, value in (("FAILURE", ValueError("x")), ("REVOKED", TaskRevokedError("x")), ("SUCCESS", 1)):
            task_id = fresh_id()
            await leasing.store_result(task_id, value, first)
            for state, result in (("SUCCESS", 2), ("FAILURE", KeyError("y")), ("REVOKED", TaskRevokedError("y"))):
                assert not await self._put(leasing, record_of(task_id, result, state), UNFINISHED)
            assert (await leasing.fetch(task_id)).status == first
        for before in (None, "PENDING", "STARTED", "RETRY", "CUSTOM"):
            task_id = fresh_id()
            if before is not None:
                await leasing.store_result(task_id, None, before)
            assert await self._put(leasing, record_of(task_id, 2, "SUCCESS"), UNFINISHED)
            assert (await leasing.fetch(task_id)).result == 2

    async def test_only_what_a_runner_runs_is_replaced_in_its_name(self, leasing: Backend) -> None:
        task_id, runner = fresh_id(), uuid.uuid4().hex
        lost = record_of(task_id, ValueError("lost"), "FAILURE")
        assert not await self._put(leasing, lost, RUNNER + runner)
        await leasing.store_result(task_id, None, "STARTED")
        assert not await self._put(leasing, lost, RUNNER + runner)
        for state in ("STARTED", "PROGRESS"):
            await leasing._put_record(_mine(task_id, runner, state))
            assert not await self._put(leasing, lost, RUNNER + "another")
            assert (await leasing.fetch(task_id)).runner == runner
        assert await self._put(leasing, lost, RUNNER + runner)
        record = await leasing.fetch(task_id)
        assert (record.status, record.runner) == ("FAILURE", None)
        assert not await self._put(leasing, record_of(task_id, 1, "SUCCESS"), RUNNER + runner)

    async def test_a_conditional_record_that_was_written_may_be_repeated(self, leasing: Backend) -> None:
        store = leasing._runtime.store
        for over in (ABSENT, UNFINISHED):
            record = store.encode(conditional(record_of(fresh_id(), 1, "SUCCESS"), over))
            assert list(await store.put_many([record])) == [True]
            assert list(await store.put_many([record])) == [True]

    async def test_waiters_are_woken_by_conditional_records(self, leasing: Backend, tasks: Tasks) -> None:
        task_id = fresh_id()
        waiting: asyncio.Task[Any] = tasks.begin(leasing.AsyncResult(task_id).wait(timeout=30))
        assert await self._put(leasing, record_of(task_id, 3, "SUCCESS"), UNFINISHED)
        assert (await waiting).result == 3

    async def test_many_conditional_records_at_once(self, leasing: Backend) -> None:
        ids = [fresh_id() for _ in range(60)]
        for task_id in ids[::3]:
            await leasing.store_result(task_id, 0, "SUCCESS")
        overs = [(ABSENT, UNFINISHED)[number % 2] for number in range(60)]
        store = leasing._runtime.store
        records = [store.encode(conditional(_mine(i, "r"), over)) for i, over in zip(ids, overs, strict=True)]
        assert list(await store.put_many(records)) == [number % 3 != 0 for number in range(60)]

    async def test_a_lease_ends_by_the_clock_of_the_store(self, leasing: Backend) -> None:
        store = leasing._runtime.store
        short, long, unknown = (uuid.uuid4().hex for _ in range(3))
        await store.renew_lease(short, 0.05)
        await store.renew_lease(long, 60)
        assert list(await store.ended_leases([unknown, long])) == [unknown]
        await eventually(lambda: self._has_ended(leasing, short), "a lease of 0.05 s has ended")
        await store.renew_lease(short, 60)
        assert list(await store.ended_leases([short, long])) == []
        await store.end_lease(long)
        await store.end_lease(long)
        assert list(await store.ended_leases([short, long])) == [long]
        assert list(await store.ended_leases([])) == []
        await store.end_lease(short)

    async def _has_ended(self, backend: Backend, runner: str) -> bool:
        return runner in await backend._runtime.store.ended_leases([runner])

    async def test_a_store_without_leases_says_so(self, backend: Backend) -> None:
        store = backend._runtime.store
        if store.keeps_leases:
            return
        with pytest.raises(Unsupported, match="keeps no leases"):
            await store.renew_lease("runner", 1)
