"""Operations on streams, as ``roles`` has them for results."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.roles import Reply, Role, memory, operation, signals, until_quiet
from benchmarks.values import check_items, item_of, items_of, task_ids


class Reading:
    """The readers of some streams, and the items that they have received. Each leaves when it has ``count`` items."""

    def __init__(self, streams: list[str], readers: int, count: int) -> None:
        self.streams = streams
        self.count = count
        self.got: list[list[object]] = [[] for _ in range(len(streams) * readers)]
        self.received_at: list[list[int]] = [[] for _ in self.got]
        self.running: list[asyncio.Task[None]] = []

    def stream_of(self, reader: int) -> str:
        """Return the stream that reader number ``reader`` reads."""
        return self.streams[reader % len(self.streams)]


@operation
async def keeps_streams(role: Role) -> Reply:
    """Return whether there are streams on this store."""
    return {"kept": role.contestant.keeps_streams()}


@operation
async def begin(role: Role, *, run: str, streams: int) -> Reply:
    """Prepare a producer's streams for readers."""
    for task in task_ids(run, streams):
        await role.contestant.begin(task)
    return {}


@operation
async def settle(role: Role) -> Reply:
    """Wait until a producer is idle, because some producers answer each new reader."""
    await until_quiet(role)
    return {}


@operation
async def follow(role: Role, *, run: str, streams: int, readers: int, count: int, timed: bool) -> Reply:
    """Begin to read ``streams`` streams with ``readers`` readers each; return the time and memory until idle.

    With ``timed``, the producer is told each time all readers have received the next item.
    """
    gc.collect()
    reading = role.reading = Reading(task_ids(run, streams), readers, count)
    before, began = memory(), time.monotonic()
    arrived = _signaller(role, reading) if timed else None
    for reader in range(len(reading.got)):
        task = _read_timed(role, reading, reader, arrived) if arrived else _read(role, reading, reader)
        reading.running.append(asyncio.create_task(task))
    done_at = await until_quiet(role)
    gc.collect()
    if timed:
        os.write(role.pipe, b".")
    return {"seconds": done_at - began, "memory": (memory() - before) / len(reading.got)}


def _signaller(role: Role, reading: Reading) -> Callable[[int], None]:
    """Return a function that counts the arrivals of each item, and tells the producer of the last one."""
    missing = [len(reading.got)] * reading.count

    def arrived(number: int) -> None:
        missing[number - 1] -= 1
        if not missing[number - 1] and number < reading.count:
            os.write(role.pipe, b".")

    return arrived


async def _read_timed(role: Role, reading: Reading, reader: int, arrived: Callable[[int], None]) -> None:
    got, received_at = reading.got[reader], reading.received_at[reader]
    items = role.contestant.items(reading.stream_of(reader))
    try:
        async for item in items:
            received_at.append(time.monotonic_ns())
            got.append(item)
            arrived(len(got))
            if len(got) == reading.count:
                return
    finally:
        await items.aclose()


async def _read(role: Role, reading: Reading, reader: int) -> None:
    got, count = reading.got[reader], reading.count
    items = role.contestant.items(reading.stream_of(reader))
    try:
        async for item in items:
            got.append(item)
            if len(got) == count:
                return
    finally:
        await items.aclose()


@operation
async def followed(role: Role) -> Reply:
    """Wait until every reader has received everything, and compare all of it."""
    reading: Reading = role.reading
    cpu = time.process_time()
    for task in reading.running:
        await task
    done_at = time.monotonic_ns()
    spent = time.process_time() - cpu
    checked = 0
    for reader, got in enumerate(reading.got):
        values = [role.contestant.value_of_item(item) for item in got]
        checked += check_items(reading.stream_of(reader), values, reading.count)
    role.reading = None
    return {"received_at": reading.received_at, "done_at": done_at, "cpu": spent / checked, "checked": checked}


@operation
async def say(role: Role, *, run: str, count: int, pause: tuple[float, float]) -> Reply:
    """Append one item after the other: each after all readers have received the last one, and a random ``pause``."""
    appended_at: list[int] = []
    (task,) = task_ids(run, 1)
    with signals(role) as arrived:
        for number in range(1, count + 1):
            await arrived.get()
            if pause[1]:
                await asyncio.sleep(random.uniform(*pause))
            value = item_of(task, number)
            appended_at.append(time.monotonic_ns())
            await role.contestant.append(task, value)
    return {"appended_at": appended_at}


@operation
async def pour(role: Role, *, run: str, streams: int, count: int) -> Reply:
    """Append ``count`` items to each of ``streams`` streams at once, an item at a time."""
    contestant = role.contestant
    tasks = task_ids(run, streams)
    values: list[list[Any]] = [list(items_of(task, count)) for task in tasks]

    async def one(task: str, items: list[Any]) -> None:
        for item in items:
            await contestant.append(task, item)

    gc.collect()
    began_at, cpu = time.monotonic_ns(), time.process_time()
    await asyncio.gather(*map(one, tasks, values))
    return {"began_at": began_at, "cpu": (time.process_time() - cpu) / (streams * count)}


@operation
async def fill(role: Role, *, run: str, count: int) -> Reply:
    """Append ``count`` items to one stream, and finish its task."""
    (task,) = task_ids(run, 1)
    await role.contestant.fill(task, items_of(task, count))
    return {}


@operation
async def replay(role: Role, *, run: str, count: int) -> Reply:
    """Read a finished stream from its first item to its end."""
    (task,) = task_ids(run, 1)
    gc.collect()
    cpu, began = time.process_time(), time.perf_counter()
    items = await role.contestant.replay(task, count)
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    checked = check_items(task, [role.contestant.value_of_item(item) for item in items], count)
    return {"seconds": seconds, "cpu": spent / count, "checked": checked}
