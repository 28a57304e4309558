"""Tasks whose runner has gone: whoever waits is told within the lease and one fallback interval."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from aioresult import AioResultError, AsyncResult, Backend, Record, StoreUnavailable, TaskLost, losses, states
from aioresult.record import RUNNER, conditional, record_of
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.testing.conformance import eventually, fresh_id

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, fallback_interval=0.05) as backend:
        yield backend


async def start(backend: Backend, task_id: str, runner: str, state: str = states.STARTED, **meta: Any) -> None:
    """Store what a runner stores of a task that it runs."""
    assert await backend._put_record(Record(id=task_id, status=state, result=meta, traceback=RUNNER + runner))


async def collect(result: AsyncResult[Any], values: list[Any]) -> None:
    async for item in result.stream(timeout=30):
        values.append(item.value)  # noqa: PERF401  (what comes before an error counts)


async def wait_for_fallback_reads(backend: Backend, count: int) -> None:
    target = backend.stats().fallback_reads + count

    async def reached() -> bool:
        return backend.stats().fallback_reads >= target

    await eventually(reached)


@pytest.mark.parametrize("state", [states.STARTED, states.PROGRESS])
async def test_a_waiter_is_told_that_the_runner_of_its_task_has_gone(backend: Backend, state: str) -> None:
    task_id = fresh_id()
    await start(backend, task_id, "gone", state, hostname="host-7")
    with pytest.raises(TaskLost, match=f"task '{task_id}' is lost: its runner gone on host-7 has not renewed"):
        await backend.AsyncResult(task_id).get(timeout=30)
    record = await backend.fetch(task_id)
    assert (record.status, type(record.result), record.runner) == ("FAILURE", TaskLost, None)
    assert record.date_done is not None


async def test_everybody_who_waits_sees_the_same(url: str, backend: Backend) -> None:
    ids = [fresh_id() for _ in range(5)]
    async with Backend(url, fallback_interval=0.05) as other:
        for number, task_id in enumerate(ids):
            await start(backend, task_id, f"gone-{number % 2}")
        seen = await asyncio.gather(
            *(each.AsyncResult(task_id).wait(timeout=30) for each in (backend, other) for task_id in ids)
        )
    assert len({str(record.result) for record in seen}) == 5
    assert {record.status for record in seen} == {"FAILURE"}


async def test_streams_and_updates_end_too(backend: Backend) -> None:
    task_id = fresh_id()
    await start(backend, task_id, "gone")
    await backend.append(task_id, "one", "two")
    got: list[Any] = []
    with pytest.raises(TaskLost):
        await collect(backend.AsyncResult(task_id), got)
    assert got == ["one", "two"]
    other = fresh_id()
    await start(backend, other, "gone")
    assert [record.status async for record in backend.AsyncResult(other).updates(timeout=30)] == ["STARTED", "FAILURE"]


async def test_a_task_whose_runner_is_alive_goes_on(backend: Backend) -> None:
    task_id = fresh_id()
    await backend._runtime.store.renew_lease("alive", 60)
    await start(backend, task_id, "alive")
    waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
    await wait_for_fallback_reads(backend, 5)
    assert not waiting.done()
    await backend._runtime.store.end_lease("alive")
    with pytest.raises(TaskLost):
        await waiting


async def test_a_task_that_no_runner_runs_is_never_judged(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    async def ask(_store: MemoryStore, runners: Sequence[str]) -> Collection[str]:
        asked.append(runners)
        return runners

    monkeypatch.setattr(MemoryStore, "ended_leases", ask)
    for status, traceback in (("STARTED", None), ("RETRY", "Traceback"), ("PENDING", None)):
        task_id = fresh_id()
        await backend._put_record(Record(id=task_id, status=status, traceback=traceback))
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
        await wait_for_fallback_reads(backend, 3)
        assert not waiting.done()
        waiting.cancel()
    assert asked == []


async def test_the_lease_of_each_runner_is_asked_for_once_in_a_fallback_read(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    async def ask(_store: MemoryStore, runners: Sequence[str]) -> Collection[str]:
        asked.append(sorted(runners))
        return []

    monkeypatch.setattr(MemoryStore, "ended_leases", ask)
    ids = [fresh_id() for _ in range(30)]
    for number, task_id in enumerate(ids):
        await start(backend, task_id, f"runner-{number % 3}")
    waiting = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30)) for task_id in ids]
    await wait_for_fallback_reads(backend, 4)
    assert asked
    assert all(runners == ["runner-0", "runner-1", "runner-2"] for runners in asked)
    assert len(asked) <= backend.stats().fallback_reads
    for task in waiting:
        task.cancel()


async def test_a_result_that_is_stored_meanwhile_stands(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = fresh_id()

    async def ask_late(store: MemoryStore, runners: Sequence[str]) -> Collection[str]:
        final = record_of(task_id, "in time", states.SUCCESS)
        assert list(await store.put_many([conditional(final, RUNNER + "slow")])) == [True]
        return runners

    monkeypatch.setattr(MemoryStore, "ended_leases", ask_late)
    await start(backend, task_id, "slow")
    assert await backend.AsyncResult(task_id).get(timeout=30) == "in time"


async def test_runners_have_time_to_connect_after_an_outage() -> None:
    assert losses.grace(make_settings({"connect_timeout": 60})) > 60 + 2


@pytest.mark.parametrize("grace", [0.0, 1e6])
async def test_nothing_is_judged_right_after_an_outage(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    monkeypatch.setattr(losses, "grace", lambda _: grace)
    task_id = fresh_id()
    rounds: list[int] = []

    async def ask(_store: MemoryStore, _runners: Sequence[str]) -> Collection[str]:
        rounds.append(backend.stats().fallback_reads)
        return []

    monkeypatch.setattr(MemoryStore, "ended_leases", ask)
    await start(backend, task_id, "away")
    waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
    await wait_for_fallback_reads(backend, 2)
    hub = backend._runtime.hub
    hub.outage, hub.outage = StoreUnavailable("away"), None
    before = backend.stats().fallback_reads
    await wait_for_fallback_reads(backend, 3)
    assert before + 1 not in rounds
    assert (before + 2 in rounds) is (grace == 0)
    waiting.cancel()


async def test_leases_that_cannot_be_read_are_asked_for_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = fresh_id()
    answers = iter([AioResultError("denied"), AioResultError("denied")])

    async def ask(_store: MemoryStore, runners: Sequence[str]) -> Collection[str]:
        if (error := next(answers, None)) is not None:
            raise error
        return runners

    monkeypatch.setattr(MemoryStore, "ended_leases", ask)
    await start(backend, task_id, "gone")
    with caplog.at_level(logging.WARNING, "aioresult"), pytest.raises(TaskLost):
        await backend.AsyncResult(task_id).get(timeout=30)
    assert [message for message in caplog.messages if "whether the runners" in message] == [
        f"it could not be found out whether the runners of tasks in {backend._runtime.store.location} are alive"
    ]


async def test_a_store_that_was_silent_for_long_was_away(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that waits until its server is back raises nothing; the lease may have ended in that time."""
    task_id = fresh_id()
    monkeypatch.setattr(losses, "SILENCE", -1.0)
    monkeypatch.setattr(losses, "grace", lambda _: 0.0)
    await start(backend, task_id, "gone")
    waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
    await wait_for_fallback_reads(backend, 4)
    assert not waiting.done()
    monkeypatch.setattr(losses, "SILENCE", 10.0)
    with pytest.raises(TaskLost):
        await waiting


@pytest.mark.slow
async def test_silence_that_is_longer_than_the_fallback_interval_was_an_outage(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fallback read that begins meanwhile waits for the same answer."""
    monkeypatch.setattr(losses, "SILENCE", 0.2)
    monkeypatch.setattr(losses, "grace", lambda _: 1e6)
    get_many = MemoryStore.get_many
    back = asyncio.Event()
    back.set()
    asked: list[Sequence[str]] = []

    async def silent_get_many(store: MemoryStore, ids: Sequence[str]) -> Mapping[str, Record]:
        await back.wait()
        return await get_many(store, ids)

    async def ask(_store: MemoryStore, runners: Sequence[str]) -> Collection[str]:
        asked.append(runners)
        return runners if silent else []

    silent = False
    monkeypatch.setattr(MemoryStore, "get_many", silent_get_many)
    monkeypatch.setattr(MemoryStore, "ended_leases", ask)
    task_id = fresh_id()
    await start(backend, task_id, "away")
    waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
    await wait_for_fallback_reads(backend, 2)
    assert asked
    silent = True
    back.clear()
    began = asyncio.get_running_loop().time()
    await wait_for_fallback_reads(backend, 8)

    async def was_long() -> bool:
        return asyncio.get_running_loop().time() - began > 3 * losses.SILENCE

    await eventually(was_long)
    back.set()
    await wait_for_fallback_reads(backend, 4)
    assert not waiting.done()
    waiting.cancel()
