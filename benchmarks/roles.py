"""The operations of a contestant's process: one for each step of a case.

Times are of ``CLOCK_MONOTONIC``, which all processes share, in nanoseconds where they are called ``_at`` or ``_ns``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec

from benchmarks.contestants.base import Contestant
from benchmarks.values import check_all, task_ids, value_of

P = ParamSpec("P")
Reply = dict[str, Any]
Operation = Callable[..., Awaitable[Reply]]

OPERATIONS: Final[dict[str, Operation]] = {}
_PAGE: Final = resource.getpagesize()
_QUIET_WINDOW = 0.02
_QUIET_SHARE = 0.1
_QUIET_COUNT = 5
_RESTLESS = 1.0
_PATIENCE = 60.0


def operation(function: Callable[P, Awaitable[Reply]]) -> Callable[P, Awaitable[Reply]]:
    """Make ``function`` an operation, under its own name."""
    OPERATIONS[function.__name__] = function
    return function


class Role:
    """A contestant, and its state between operations."""

    def __init__(self, contestant: Contestant, pipe: int) -> None:
        self.contestant = contestant
        self.pipe = pipe
        self.tasks: list[str] = []
        self.waiting: list[asyncio.Task[object]] = []
        self.background: list[asyncio.Task[object]] = []
        self.prepared: Any = None
        self.reading: Any = None
        """The state of ``streaming``."""


@contextmanager
def signals(role: Role) -> Iterator[asyncio.Queue[None]]:
    """Give a queue that gets an entry each time the consumer reports that it waits."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[None] = asyncio.Queue()

    def heard() -> None:
        for _ in os.read(role.pipe, 4096):
            queue.put_nowait(None)

    loop.add_reader(role.pipe, heard)
    try:
        yield queue
    finally:
        loop.remove_reader(role.pipe)


# --- wake: one at a time ---


@operation
async def wake_consume(role: Role, *, run: str, count: int, background: int) -> Reply:
    """Wait for one task after the other, with ``background`` other waiters; return when each was resumed."""
    contestant = role.contestant
    tasks = task_ids(run, count)
    others = task_ids(f"{run}o", background)
    role.background = [asyncio.create_task(contestant.wait(task)) for task in others]
    if others:
        await until_quiet(role)
    values: list[object] = []
    resumed_at: list[int] = []
    for task in tasks:
        os.write(role.pipe, b".")
        value = await contestant.wait(task)
        resumed_at.append(time.monotonic_ns())
        values.append(value)
    await _cancel(role.background)
    return {"resumed_at": resumed_at, "checked": check_all(tasks, values)}


@operation
async def wake_produce(role: Role, *, run: str, count: int, pause: tuple[float, float]) -> Reply:
    """Store one value after the other, each a random ``pause`` after the consumer has begun to wait."""
    stored_at: list[int] = []
    with signals(role) as waiting:
        for task in task_ids(run, count):
            await waiting.get()
            await asyncio.sleep(random.uniform(*pause))
            value = value_of(task)
            stored_at.append(time.monotonic_ns())
            await role.contestant.store(task, value)
    return {"stored_at": stored_at}


async def _cancel(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    tasks.clear()


# --- crowd: many at a time ---


@operation
async def register(role: Role, *, run: str, count: int, start: int = 0, timeout: float | None = None) -> Reply:
    """Begin to wait for ``count`` tasks; return how long it took until the process was idle, and their memory."""
    tasks = role.tasks = task_ids(run, count, start)
    gc.collect()
    before, cpu, commands = memory(), time.process_time(), role.contestant.commands()
    began = time.monotonic()
    wait = role.contestant.wait
    role.waiting = [asyncio.create_task(wait(task, timeout)) for task in tasks]
    done_at = await until_quiet(role)
    spent = time.process_time() - cpu
    gc.collect()
    return {
        "seconds": done_at - began,
        "memory": (memory() - before) / count,
        "cpu": spent / count,
        "commands": role.contestant.commands() - commands,
    }


@operation
async def collect(role: Role) -> Reply:
    """Wait until every waiter has its value, and compare all of them."""
    tasks, waiting = role.tasks, role.waiting
    cpu = time.process_time()
    for task in waiting:
        await task
    done_at = time.monotonic_ns()
    spent = time.process_time() - cpu
    checked = check_all(tasks, [task.result() for task in waiting])
    waiting.clear()
    return {"done_at": done_at, "cpu": spent / checked, "checked": checked}


@operation
async def abandon(role: Role) -> Reply:
    """Cancel all waiters; return how long it took until the process was idle."""
    began = time.monotonic()
    await _cancel(role.waiting)
    return {"seconds": await until_quiet(role) - began}


@operation
async def prepare(role: Role, *, run: str, count: int, start: int = 0) -> Reply:
    """Prepare everything possible for ``produce``."""
    role.prepared = role.contestant.prepare(task_ids(run, count, start))
    return {}


@operation
async def produce(role: Role) -> Reply:
    """Store everything that was prepared, as fast as possible."""
    began_at, cpu = time.monotonic_ns(), time.process_time()
    await role.contestant.store_all(role.prepared)
    ended_at, spent = time.monotonic_ns(), time.process_time() - cpu
    role.prepared = None
    return {"began_at": began_at, "ended_at": ended_at, "cpu": spent}


@operation
async def usage(role: Role) -> Reply:
    """Return the CPU seconds and the commands of this process so far."""
    return {"cpu": time.process_time(), "commands": role.contestant.commands()}


# --- ready and store: throughput ---


@operation
async def read(role: Role, *, run: str, count: int, concurrency: int) -> Reply:
    """Read the values of finished tasks, ``concurrency`` at a time."""
    contestant, tasks = role.contestant, task_ids(run, count)
    values: list[object] = [None] * count

    async def some(numbers: range) -> None:
        for number in numbers:
            values[number] = await contestant.read(tasks[number])

    reply = await _timed(role, [some(range(first, count, concurrency)) for first in range(concurrency)])
    return reply | {"checked": check_all(tasks, [contestant.decoded(value) for value in values])}


@operation
async def write(role: Role, *, run: str, count: int, concurrency: int) -> Reply:
    """Store the values of tasks, ``concurrency`` at a time."""
    contestant, tasks = role.contestant, task_ids(run, count)
    values = [value_of(task) for task in tasks]

    async def some(numbers: range) -> None:
        for number in numbers:
            await contestant.store(tasks[number], values[number])

    return await _timed(role, [some(range(first, count, concurrency)) for first in range(concurrency)])


async def _timed(role: Role, work: list[Any]) -> Reply:
    gc.collect()
    commands, cpu, began = role.contestant.commands(), time.process_time(), time.perf_counter()
    await asyncio.gather(*work)
    seconds = time.perf_counter() - began
    spent = time.process_time() - cpu
    return {"seconds": seconds, "cpu": spent, "commands": role.contestant.commands() - commands}


# --- group ---


@operation
async def join(role: Role, *, run: str, count: int) -> Reply:
    """Wait for all of ``count`` tasks together, after telling the producer that this has begun."""
    tasks = task_ids(run, count)
    waiting = asyncio.create_task(role.contestant.join(tasks))
    await until_quiet(role)
    os.write(role.pipe, b".")
    cpu = time.process_time()
    values = await waiting
    done_at = time.monotonic_ns()
    spent = time.process_time() - cpu
    return {"done_at": done_at, "cpu": spent, "checked": check_all(tasks, values)}


@operation
async def produce_on_signal(role: Role) -> Reply:
    """Store what was prepared, once the consumer has reported that it waits."""
    with signals(role) as waiting:
        await waiting.get()
    return await produce(role)


# --- sync: the blocking mirror, in threads of its own ---


@operation
async def wake_blocking(role: Role, *, run: str, count: int) -> Reply:
    """Do the same as ``wake_consume`` with the blocking mirror, in a thread without an event loop."""
    get = role.contestant.blocking()
    tasks = task_ids(run, count)
    values: list[object] = []
    resumed_at: list[int] = []

    def consume() -> None:
        for task in tasks:
            os.write(role.pipe, b".")
            value = get(task)
            resumed_at.append(time.monotonic_ns())
            values.append(value)

    await asyncio.to_thread(consume)
    return {"resumed_at": resumed_at, "checked": check_all(tasks, values)}


@operation
async def read_one_by_one(role: Role, *, run: str, count: int) -> Reply:
    """Read finished tasks one after the other; return how long each took, in nanoseconds."""
    tasks = task_ids(run, count)
    values: list[object] = []
    spent: list[int] = []
    for task in tasks:
        began = time.perf_counter_ns()
        value = await role.contestant.read(task)
        spent.append(time.perf_counter_ns() - began)
        values.append(role.contestant.decoded(value))
    return {"spent": spent, "checked": check_all(tasks, values)}


@operation
async def read_blocking(role: Role, *, run: str, count: int, threads: int) -> Reply:
    """Do the same as ``read_one_by_one`` with the blocking mirror, in ``threads`` threads that share the work."""
    get = role.contestant.blocking()
    tasks = task_ids(run, count)
    values: list[object] = [None] * count
    spent = [0] * count

    def some(first: int) -> None:
        for number in range(first, count, threads):
            began = time.perf_counter_ns()
            values[number] = get(tasks[number])
            spent[number] = time.perf_counter_ns() - began

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        await asyncio.gather(*[asyncio.get_running_loop().run_in_executor(pool, some, n) for n in range(threads)])
        seconds = time.perf_counter() - began
    return {"spent": spent, "seconds": seconds, "checked": check_all(tasks, values)}


# --- measuring this process ---


def memory() -> int:
    """Return the memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def until_quiet(role: Role) -> float:
    """Return the time when this process became idle, after watching it for a moment.

    A contestant that polls never becomes idle, so only a short time is waited for it.
    """
    began = quiet_since = time.monotonic()
    limit = began + (_RESTLESS if role.contestant.restless else _PATIENCE)
    cpu, quiet = time.process_time(), 0
    while quiet < _QUIET_COUNT:
        await asyncio.sleep(_QUIET_WINDOW)
        now, spent = time.monotonic(), time.process_time()
        if spent - cpu <= _QUIET_SHARE * _QUIET_WINDOW:
            quiet += 1
        elif now > limit:
            break
        else:
            quiet_since, quiet = now, 0
        cpu = spent
    return quiet_since
