"""Runners whose process is killed, frozen and stopped from elsewhere, on real stores."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from aioresult import AsyncResult, Backend, TaskLost, TaskRevokedError, TaskRunner
from aioresult.testing.conformance import eventually
from aioresult.testing.fixtures import fresh_id
from tests.programs import Program

PATIENCE = 60.0
LEASE = 1.0
STORES = ["redis", "mongo", "postgres", "mariadb", "sqlite"]
SERVERS = {
    "redis": "redis_server",
    "mongo": "mongo_replica_set",
    "postgres": "postgres_server",
    "mariadb": "mariadb_server",
}


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    """Where those who wait are."""
    async with Backend(url, fallback_interval=0.2) as backend:
        yield backend


class Producer:
    """A process with a runner that runs one task."""

    def __init__(self, url: str) -> None:
        self.task_id = fresh_id()
        self._program = Program("tests.stores.producer", url, str(LEASE), self.task_id)

    async def says(self, line: str) -> None:
        assert await asyncio.wait_for(self._program.line(), PATIENCE) == line

    def may_end(self) -> None:
        self._program.type()

    def send(self, number: signal.Signals) -> None:
        self._program.process.send_signal(number)

    async def ended(self) -> int:
        return await self._program.ended()

    async def __aenter__(self) -> Self:
        await self.says("begun")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._program.__aexit__(*exc_info)


async def all_of(result: AsyncResult[Any]) -> list[Any]:
    values: list[Any] = []
    try:
        async for item in result.stream(timeout=PATIENCE):
            values.append(item.value)  # noqa: PERF401  (what comes before an error counts)
    except (TaskLost, TaskRevokedError) as exc:
        values.append(type(exc))
    return values


async def test_who_waits_for_a_producer_that_was_killed_is_told(url: str, backend: Backend) -> None:
    async with Producer(url) as process, Backend(url, fallback_interval=0.2) as other:
        reading = asyncio.create_task(all_of(backend.AsyncResult(process.task_id)))
        waiting = [
            asyncio.create_task(each.AsyncResult(process.task_id).wait(timeout=PATIENCE)) for each in (backend, other)
        ]
        process.send(signal.SIGKILL)
        records = await asyncio.gather(*waiting)
        assert await reading == ["first", TaskLost]
        assert len({str(record.result) for record in records}) == 1
        async with TaskRunner(backend) as runner:  # a key that was lost is final, like any other
            again = runner.with_options(task_id=process.task_id, once=True)(len, "abc")
        with pytest.raises(TaskLost, match=process.task_id):
            await again.get(timeout=PATIENCE)


async def test_a_producer_that_was_frozen_for_too_long_learns_that_its_task_is_lost(url: str, backend: Backend) -> None:
    async with Producer(url) as process:
        process.send(signal.SIGSTOP)
        result = backend.AsyncResult(process.task_id)
        with pytest.raises(TaskLost):
            await result.get(timeout=PATIENCE)
        process.send(signal.SIGCONT)
        await process.says("stopped")
        process.may_end()
        assert await process.ended() == 0
        assert (await backend.fetch(process.task_id)).failed


async def test_a_result_that_comes_after_the_loss_is_refused(url: str, backend: Backend) -> None:
    """The line that lets it end is there before it wakes up, so that it may end before it hears of its loss."""
    async with Producer(url) as process:
        process.send(signal.SIGSTOP)
        process.may_end()
        record = await backend.AsyncResult(process.task_id).wait(timeout=PATIENCE)
        process.send(signal.SIGCONT)
        assert await process.ended() == 0
        assert (await backend.fetch(process.task_id)).appearance() == record.appearance()


async def test_a_task_is_stopped_in_another_process_also_one_that_was_frozen_meanwhile(
    url: str, backend: Backend
) -> None:
    for frozen in (False, True):
        async with Producer(url) as process:
            if frozen:
                process.send(signal.SIGSTOP)
            reading = asyncio.create_task(all_of(backend.AsyncResult(process.task_id)))
            assert await backend.AsyncResult(process.task_id).revoke("enough")
            assert await reading == ["first", TaskRevokedError]
            process.send(signal.SIGCONT)
            await process.says("stopped")
            process.may_end()
            assert await process.ended() == 0


async def test_a_producer_that_lives_is_not_lost(url: str, backend: Backend) -> None:
    async with Producer(url) as process:
        waiting = asyncio.create_task(backend.AsyncResult(process.task_id).get(timeout=PATIENCE))
        before = backend.stats().fallback_reads

        async def longer_than_the_lease() -> bool:
            return backend.stats().fallback_reads >= before + 2 * LEASE / 0.2

        await eventually(longer_than_the_lease)
        process.may_end()
        assert await waiting == "value"


@pytest.mark.parametrize("url", SERVERS, indirect=True)
@pytest.mark.parametrize("killed", [False, True])
async def test_a_store_that_was_away_loses_no_task(url: str, killed: bool, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(SERVERS[request.node.callspec.params["url"]])
    if not getattr(server, "owned", False):
        pytest.skip("a server of one's own is neither frozen nor killed")
    async with Backend(url, fallback_interval=0.2) as backend, Producer(url) as process:
        waiting = asyncio.create_task(backend.AsyncResult(process.task_id).get(timeout=PATIENCE))
        assert (await backend.fetch(process.task_id)).status == "STARTED"  # what has answered may be away for a while
        with ExitStack() as stack:
            if killed:
                await asyncio.to_thread(server.kill)
            else:
                for each in getattr(server, "servers", [server]):
                    stack.enter_context(each.frozen())
            await asyncio.sleep(2 * LEASE)  # the length of the outage, and not a wait for something
        await asyncio.to_thread(server.start)
        process.may_end()
        assert await waiting == "value"
