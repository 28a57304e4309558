"""The demo's measurement: wait for the same kind of work by push and by polling."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from aioresult.backend import Backend
from aioresult.background import owned_task, together
from aioresult.cli.demo.process import Worker
from aioresult.cli.demo.worker import expected_value
from aioresult.cli.output import summary
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.record import Record
from aioresult.result import AsyncResult

_NAME: Final = "aioresult demo"
PATIENCE: Final = 60.0
"""Seconds to wait for all tasks of one phase; they take about three."""
POLLING: Final[dict[str, Any]] = {"push": False, "poll_interval": 0.5, "poll_min_interval": 0.5}

Listener = Callable[[int, Record], None]
"""Takes a task's number and its new state."""
Woken = Callable[[float], None]
"""Takes the milliseconds of one wake-up."""


class WrongValue(AioResultError):
    """Raised when a task has stored another value than the expected one."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one phase measured.

    Attributes:
        mechanism: how results were noticed.
        wake_ups: the times from just before storing to just after waking, in milliseconds, sorted.
        commands: commands, statements or requests that this process sent to the store.
        states: how many states and reports of progress were seen on the way.
        seconds: how long the phase took.
    """

    mechanism: str
    wake_ups: list[float]
    commands: int
    states: int
    seconds: float

    def percentile(self, percent: int) -> float:
        """Return the wake-up time that ``percent`` of all wake-ups do not exceed."""
        return self.wake_ups[max(0, -(-len(self.wake_ups) * percent // 100) - 1)]


async def measure(worker: Worker, backend: Backend, count: int, listen: Listener, woken: Woken) -> Outcome:
    """Let ``worker`` run ``count`` tasks, wait for all of them, and compare every value.

    Raises:
        WorkerDied: the worker ended before its tasks.
        WrongValue: a value is not the expected one.
        ResultTimeout: the results did not arrive in time.
    """
    seed = str(uuid.uuid4())
    results: list[AsyncResult[Any]] = [backend.AsyncResult(f"aioresult-demo-{seed}-{n}") for n in range(count)]
    capabilities = await backend.capabilities()
    pushed = capabilities.push and backend.settings.push
    before, began = backend.stats().commands, time.perf_counter()
    views = [_view(n, result, listen) for n, result in enumerate(results)]
    waits = [_wait(seed, n, result, woken) for n, result in enumerate(results)]
    viewing, waiting = owned_task(together(views, _NAME), _NAME), owned_task(together(waits, _NAME), _NAME)
    try:
        await worker.order([result.id for result in results], seed, at_once=max(8, -(-count // 5)))
        wake_ups = await worker.alive_during(waiting)
        commands, seconds = backend.stats().commands - before, time.perf_counter() - began
        states = sum(await viewing)
    finally:
        viewing.cancel()
        waiting.cancel()
        await asyncio.gather(viewing, waiting, return_exceptions=True)
        await _forget(results)
    return Outcome(
        mechanism=capabilities.mechanism if pushed else f"polling every {backend.settings.poll_interval:g} s",
        wake_ups=sorted(wake_ups),
        commands=commands,
        states=states,
        seconds=seconds,
    )


async def _wait(seed: str, number: int, result: AsyncResult[Any], woken: Woken) -> float:
    record = await result.wait(timeout=PATIENCE)
    now = time.monotonic_ns()
    value = record.result
    if not (record.successful and value["number"] == number and value["value"] == expected_value(seed, number)):
        raise WrongValue(f"task {result.id!r} is {record.status}, with an unexpected value: {summary(record):.200}")
    wake_up: float = (now - value["stored_at"]) / 1e6
    woken(wake_up)
    return wake_up


async def _view(number: int, result: AsyncResult[Any], listen: Listener) -> int:
    seen = 0
    async for record in result.updates(PATIENCE):
        listen(number, record)
        seen += 1
    return seen


async def _forget(results: Sequence[AsyncResult[Any]]) -> None:
    with suppress(StoreUnavailable):  # the results expire anyway
        await asyncio.gather(*(result.forget() for result in results))
