"""``once=True``: under one key the work is done once, whoever asks for it and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aioresult import (
    EXCEPTION_STATES,
    Backend,
    SettingsError,
    StoreUnavailable,
    TaskRevokedError,
    TaskRunner,
    Unsupported,
)
from aioresult.record import Record
from aioresult.settings import make_settings
from aioresult.testing import FaultyStore
from aioresult.testing.conformance import eventually

PATIENCE = 30.0


class Counted:
    """Work that counts how often it is done, and waits until it may end."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        self.begun.set()
        await self.go_on.wait()
        return self.calls


async def test_of_many_runners_one_does_the_work_and_all_get_its_value(backend: Backend, other: Backend) -> None:
    work = Counted()
    async with TaskRunner(backend) as one, TaskRunner(other) as two:
        results = [runner.with_options(task_id="key", once=True)(work) for runner in (one, two, one, two)]
        await work.begun.wait()
        late = one.with_options(task_id="key", once=True)(work)
        work.go_on.set()
        assert [await result.get(timeout=PATIENCE) for result in [*results, late]] == [1] * 5
    async with TaskRunner(other) as three:
        again = three.with_options(task_id="key", once=True)(work)
    assert await again.get(timeout=PATIENCE) == 1
    assert work.calls == 1


@pytest.mark.parametrize("state", ["STARTED", "FAILURE", "REVOKED", "CUSTOM"])
async def test_whatever_is_stored_keeps_it_from_starting(backend: Backend, other: Backend, state: str) -> None:
    work = Counted()
    await other.store_result("key", TaskRevokedError("earlier") if state in EXCEPTION_STATES else None, state)
    before = await other.fetch("key")
    async with TaskRunner(backend) as runner:
        runner.with_options(task_id="key", once=True)(work)
    assert work.calls == 0
    assert (await other.fetch("key")).appearance() == before.appearance()


async def test_started_names_the_runner_though_states_are_switched_off() -> None:
    work = Counted()
    async with Backend("memory://", task_track_started=False) as backend, TaskRunner(backend) as runner:
        runner.with_options(task_id="key", once=True)(work)
        await work.begun.wait()
        record = await backend.fetch("key")
        assert record.status == "STARTED"
        assert record.runner is not None
        assert not await backend._runtime.store.ended_leases([record.runner])
        work.go_on.set()


async def test_a_key_that_is_forgotten_is_done_again(backend: Backend) -> None:
    work = Counted()
    work.go_on.set()
    async with TaskRunner(backend) as runner:
        start = runner.with_options(task_id="key", once=True)
        assert await start(work).get(timeout=PATIENCE) == 1
        await backend.forget("key")

        async def idle() -> bool:
            return runner.running == 0

        await eventually(idle)
        assert await start(work).get(timeout=PATIENCE) == 2


class Mumbling(FaultyStore):
    """Stores what is written, but the answers to the first writes are lost."""

    lost = 2

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        written = await super().put_many(records)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable("the answer was lost on purpose")
        return written


async def test_a_claim_whose_answer_was_lost_is_recognised() -> None:
    work = Counted()
    work.go_on.set()
    async with Backend(Mumbling()) as backend, TaskRunner(backend) as runner:
        assert await runner.with_options(task_id="key", once=True)(work).get(timeout=PATIENCE) == 1


async def test_what_an_earlier_run_of_the_same_runner_has_left_is_no_claim() -> None:
    """Its end could not be stored: that it was done is known, though not how it ended."""
    store, work = FaultyStore(), Counted()
    async with Backend(store) as backend:
        runner = TaskRunner(backend, store_timeout=0.01)
        start = runner.with_options(task_id="key", once=True)
        start(work)
        await work.begun.wait()
        store.down = True
        work.go_on.set()

        async def idle() -> bool:
            return runner.running == 0

        await eventually(idle)
        store.down = False
        start(work)
        await eventually(idle)
        assert work.calls == 1
        with pytest.raises(StoreUnavailable):
            await runner.__aexit__(None, None, None)


async def test_while_the_store_is_away_nothing_starts_and_the_loss_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, work = FaultyStore(), Counted()
    store.down = True
    async with Backend(store) as backend:
        with pytest.raises(StoreUnavailable, match="1 results could not be stored"):
            async with TaskRunner(backend, store_timeout=0.05) as runner:
                runner.with_options(task_id="key", once=True)(work)
    assert work.calls == 0
    assert "the result of task 'key' could not be stored, and is lost" in caplog.text


async def test_it_starts_once_the_store_is_back() -> None:
    store, work = FaultyStore(), Counted()
    work.go_on.set()
    store.down = True
    async with Backend(store) as backend, TaskRunner(backend) as runner:
        result = runner.with_options(task_id="key", once=True)(work)
        store.down = False
        assert await result.get(timeout=PATIENCE) == 1


@pytest.mark.parametrize("turns", range(6))
async def test_one_that_is_cancelled_before_it_has_begun_ends_only_what_is_its_own(
    backend: Backend, other: Backend, turns: int
) -> None:
    mine, theirs = Counted(), Counted()
    async with TaskRunner(backend) as runner, TaskRunner(other) as elsewhere:
        elsewhere.with_options(task_id="theirs", once=True)(theirs)
        await theirs.begun.wait()
        results = [runner.with_options(task_id=key, once=True)(mine) for key in ("mine", "theirs")]
        for _ in range(turns):
            await asyncio.sleep(0)
        for result in results:
            runner.cancel(result)
        with pytest.raises(TaskRevokedError, match="cancelled"):
            await results[0].get(timeout=PATIENCE)
        theirs.go_on.set()
        assert await results[1].get(timeout=PATIENCE) == 1


async def test_it_is_refused_where_it_cannot_be_kept() -> None:
    class WithoutLeases(FaultyStore):
        keeps_leases = False

    def refused(backend: Backend, error: type[Exception], match: str, lease: float | None = 30.0, **given: Any) -> None:
        with pytest.raises(error, match=match):
            TaskRunner(backend, lease=lease).with_options(once=True, **given)(Counted())

    async with Backend("memory://") as backend, Backend(WithoutLeases()) as plain:
        refused(backend, TypeError, "needs a task_id")
        refused(backend, SettingsError, "task 'key': .*ignore", task_id="key", ignore_result=True)
        refused(backend, SettingsError, r"task 'key': .*lease=None", lease=None, task_id="key")
        refused(plain, Unsupported, "task 'key': .*keeps leases", task_id="key")
    async with Backend(FaultyStore(make_settings({"task_ignore_result": True}))) as backend:
        refused(backend, SettingsError, "task_ignore_result", task_id="key")


async def test_a_store_that_refuses_the_lease_fails_the_task(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(FaultyStore):
        async def renew_lease(self, runner: str, seconds: float) -> None:
            raise Unsupported("grant this account something")

    work = Counted()
    async with Backend(Refusing()) as backend, TaskRunner(backend) as runner:
        with pytest.raises(Unsupported, match="task 'key': once=True needs a lease"):
            await runner.with_options(task_id="key", once=True)(work).get(timeout=PATIENCE)
    assert work.calls == 0
    assert "grant this account something" in caplog.text
