"""Operations on tasks of a ``TaskRunner``, as ``roles`` has them for results."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time

from benchmarks.roles import Reply, Role, memory, operation, signals, until_quiet
from benchmarks.values import task_ids


@operation
async def stop_consume(role: Role, *, run: str, count: int) -> Reply:
    """Run one task after the other that ends only when it is stopped; return when each was."""
    resumed_at: list[int] = []

    async def endless() -> None:
        os.write(role.pipe, b".")
        try:
            await asyncio.Event().wait()
        finally:
            resumed_at.append(time.monotonic_ns())

    async with role.contestant.runner() as runner:
        for task in task_ids(run, count):
            await runner.with_options(task_id=task)(endless).wait()
    return {"resumed_at": resumed_at}


@operation
async def stop_produce(role: Role, *, run: str, count: int, pause: tuple[float, float]) -> Reply:
    """Stop one task after the other, each a random ``pause`` after it has begun."""
    stored_at: list[int] = []
    with signals(role) as begun:
        for task in task_ids(run, count):
            await begun.get()
            await asyncio.sleep(random.uniform(*pause))
            stored_at.append(time.monotonic_ns())
            await role.contestant.revoke(task)
    return {"stored_at": stored_at}


@operation
async def run_many(role: Role, *, run: str, count: int) -> Reply:
    """Begin ``count`` tasks that end only when stopped; return the time and memory until the process was idle."""
    gc.collect()
    before, commands, began = memory(), role.contestant.commands(), time.monotonic()
    role.prepared = runner = role.contestant.runner()
    for task in task_ids(run, count):
        runner.with_options(task_id=task)(asyncio.Event().wait)
    done_at = await until_quiet(role)
    gc.collect()
    return {
        "seconds": done_at - began,
        "memory": (memory() - before) / count,
        "commands": role.contestant.commands() - commands,
    }


@operation
async def stop_many(role: Role, *, run: str, count: int) -> Reply:
    """Stop the tasks of ``run_many``; return how many of them were revoked."""
    runner, role.prepared = role.prepared, None
    revoked = await asyncio.gather(*[role.contestant.revoke(task) for task in task_ids(run, count)])
    async with runner:  # leaving it waits for the tasks
        pass
    return {"revoked": sum(revoked)}
