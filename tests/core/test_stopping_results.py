"""Revoking a task by its result: those who wait are told, and a final state stays."""

from __future__ import annotations

import asyncio

import pytest

from aioresult import AsyncResult, Backend, GroupResult, ResultSet, TaskRevokedError, Unsupported, sync
from aioresult.testing import FaultyStore

PATIENCE = 30.0


class WithoutLeases(FaultyStore):
    keeps_leases = False


async def test_those_who_wait_get_the_reason_and_streams_end() -> None:
    async with Backend("memory://") as backend:
        result = backend.AsyncResult("t")
        waiting = [asyncio.create_task(result.get(timeout=PATIENCE)) for _ in range(2)]
        await backend.append("t", 1, 2)
        items: list[int] = []

        async def read() -> None:
            async for item in result.stream(timeout=PATIENCE):
                items.append(item.value)
                if len(items) == 2:
                    assert await backend.AsyncResult("t").revoke("enough")

        with pytest.raises(TaskRevokedError, match=r"^enough\b"):
            await read()
        assert items == [1, 2]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, TaskRevokedError)
            assert str(outcome) == "enough"


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
async def test_a_final_state_stays(state: str) -> None:
    async with Backend("memory://") as backend:
        await backend.store_result("t", 1 if state == "SUCCESS" else ValueError("first"), state)
        assert not await backend.AsyncResult("t").revoke()
        record = await backend.fetch("t")
        assert record.status == state
        seen = backend.AsyncResult("t")
        await seen.wait(timeout=PATIENCE)
        assert not await seen.revoke()


async def test_of_two_who_revoke_one_did_it() -> None:
    async with Backend("memory://shared") as one, Backend("memory://shared") as other:
        outcomes = await asyncio.gather(one.AsyncResult("t").revoke("one"), other.AsyncResult("t").revoke("other"))
        assert sorted(outcomes) == [False, True]
        with pytest.raises(TaskRevokedError, match="one" if outcomes[0] else "other"):
            await one.AsyncResult("t").get(timeout=PATIENCE)


async def test_without_a_reason_it_says_revoked() -> None:
    async with Backend("memory://") as backend:
        assert await backend.AsyncResult("t").revoke()
        with pytest.raises(TaskRevokedError, match=r"^revoked\b"):
            await backend.AsyncResult("t").get(timeout=PATIENCE)


async def test_a_store_without_leases_keeps_a_success() -> None:
    async with Backend(WithoutLeases()) as backend:
        assert await backend.AsyncResult("new").revoke()
        await backend.mark_as_done("t", 1)
        assert not await backend.AsyncResult("t").revoke()


async def test_what_a_worker_would_have_to_do_is_refused() -> None:
    result = AsyncResult("t", Backend("memory://"))
    for arguments in ({"terminate": True}, {"signal": "SIGTERM"}):
        with pytest.raises(Unsupported, match=r"task 't'.*aioresult\.integrations\.celery\.revoke"):
            await result.revoke(**arguments)
        with pytest.raises(Unsupported, match=r"aioresult\.integrations\.celery\.revoke"):
            await ResultSet([result]).revoke(**arguments)


async def test_a_group_is_revoked_in_one_batch() -> None:
    store = FaultyStore()
    async with Backend(store) as backend:
        await backend.mark_as_done("b", 1)
        store.writes.clear()
        group = GroupResult("g", [backend.AsyncResult(task_id) for task_id in "abc"])
        assert await ResultSet([group, backend.AsyncResult("d")]).revoke("enough") == 3
        assert [sorted(ids) for ids in store.writes] == [["a", "b", "c", "d"]]
        assert [record.status for record in await group.records()] == ["REVOKED", "SUCCESS", "REVOKED"]


def test_blocking_callers_revoke_too() -> None:
    with sync.Backend("memory://") as backend:
        result = sync.AsyncResult("t", backend)
        assert result.revoke(reason="enough") is True
        assert result.revoke() is False
        with pytest.raises(TaskRevokedError, match=r"^enough\b"):
            result.get(timeout=PATIENCE)
        backend.mark_as_done("done", 1)
        others = [sync.AsyncResult(task_id, backend) for task_id in ("u", "v", "done")]
        assert sync.GroupResult("g", others).revoke("as in asynchronous code") == 2
        with pytest.raises(TaskRevokedError, match=r"^as in asynchronous code\b"):
            others[0].get(timeout=PATIENCE)


async def test_a_task_that_was_seen_final_stays_so_although_its_record_is_gone() -> None:
    async with Backend("memory://") as backend:
        await backend.mark_as_done("task", 1)
        result = backend.AsyncResult("task")
        assert await result.get() == 1
        await backend.forget("task")
        assert not await result.revoke()
        assert await backend.AsyncResult("task").status() == "PENDING"
