"""Stopping, starting once and losing producers, in any order: nobody waits for ever, what was told stays, no work is
done twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioresult import Backend, Record, TaskRunner, states
from aioresult.abc import Feed
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryFeed, MemoryStore
from aioresult.stream import News

PATIENCE = 60.0
KEYS = ("one", "two")
LONG = 1e6
"""Seconds that never pass here: leases end, and fallback reads are made, when a step says so."""


class FrozenFeed(MemoryFeed):
    """Keeps what arrives while its process is frozen."""

    def __init__(self, store: Process) -> None:
        super().__init__(store, store._space)
        self._process = store
        self.held: list[tuple[str, bytes | News]] = []
        store.feeds.append(self)

    def _receive(self, task_id: str, written: bytes | News) -> None:
        if self._process.awake.is_set():
            super()._receive(task_id, written)
        else:
            self.held.append((task_id, written))

    def thaw(self) -> None:
        while self.held:
            super()._receive(*self.held.pop(0))


class Process(MemoryStore):
    """A store as one process sees it: while that is frozen, its calls and the notifications for it wait."""

    def __init__(self, other: Process | None = None) -> None:
        super().__init__("memory://", make_settings({"fallback_interval": LONG, "idle_timeout": LONG}))
        if other is not None:
            self._space = other._space
        self.feeds: list[FrozenFeed] = []
        self.awake = asyncio.Event()
        self.awake.set()

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        await self.awake.wait()
        return await super().get_many(ids)

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        await self.awake.wait()
        return await super().put_many(records)

    async def renew_lease(self, runner: str, seconds: float) -> None:
        await self.awake.wait()
        await super().renew_lease(runner, seconds)

    async def end_lease(self, runner: str) -> None:
        await self.awake.wait()
        await super().end_lease(runner)

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        await self.awake.wait()
        return await super().ended_leases(runners)

    async def feed(self) -> Feed:
        return FrozenFeed(self)

    def thaw(self) -> None:
        self.awake.set()
        for feed in self.feeds:
            feed.thaw()


class Waiter:
    """Somebody who waits in a third process, and never changes their mind about what they were told."""

    def __init__(self, backend: Backend, key: str) -> None:
        self.key = key
        self.task = asyncio.create_task(backend.AsyncResult(key).wait(timeout=PATIENCE))


class World:
    """Two processes with a runner each, a third one whose waiters also stop tasks, and how often each work was done."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.home = Process()
        self.backend = Backend(self.home)
        self.processes = [Process(self.home), Process(self.home)]
        self.backends = [Backend(process) for process in self.processes]
        self.runners = [TaskRunner(backend, lease=LONG, max_running=2) for backend in self.backends]
        self.done: Counter[str] = Counter()
        self.begun = asyncio.Event()
        self.may_end = {key: asyncio.Event() for key in KEYS}
        self.waiters: list[Waiter] = []
        self.revoked: dict[str, int] = Counter()

    async def work(self, key: str) -> str:
        self.done[key] += 1
        self.begun.set()
        await self.may_end[key].wait()
        return f"done {key}"

    async def do(self, step: str) -> None:
        await getattr(self, f"_{step.replace(' ', '_')}")()
        for _ in range(self.chance.choice((0, 1, 3, 10))):
            await asyncio.sleep(0)

    async def _start(self) -> None:
        key = self.chance.choice(KEYS)
        self.chance.choice(self.runners).with_options(task_id=key, once=True)(self.work, key)

    async def _come(self) -> None:
        self.waiters.append(Waiter(self.backend, self.chance.choice(KEYS)))

    async def _finish(self) -> None:
        self.may_end[self.chance.choice(KEYS)].set()

    async def _revoke(self) -> None:
        key = self.chance.choice(KEYS)
        self.revoked[key] += await self.backend.AsyncResult(key).revoke(str(self.chance.random()))

    async def _cancel(self) -> None:
        self.chance.choice(self.runners).cancel(self.chance.choice(KEYS))

    async def _freeze(self) -> None:
        self.chance.choice(self.processes).awake.clear()

    async def _revoke_too_late(self) -> None:
        """Revoke what ends at this moment: its process is frozen before the end is stored."""
        key = self.chance.choice(KEYS)
        for process in self.processes:
            process.awake.clear()
        self.may_end[key].set()
        for _ in range(10):
            await asyncio.sleep(0)
        self.revoked[key] += await self.backend.AsyncResult(key).revoke("too late")

    async def _thaw(self) -> None:
        self.chance.choice(self.processes).thaw()

    async def _lease_ends(self) -> None:
        self.home._space.leases.pop(self.chance.choice(self.runners)._lease.runner, None)

    async def _fall_back(self) -> None:
        for backend in (self.backend, *self.backends):
            backend._runtime.hub.read_all()

    async def end(self) -> None:
        """Let everything come to its end, and revoke what nobody has begun."""
        for event in self.may_end.values():
            event.set()
        for process in self.processes:
            process.thaw()
        for runner in self.runners:
            await runner.__aexit__(None, None, None)
        assert not any(runner.running for runner in self.runners)
        for key in KEYS:
            await self.backend.AsyncResult(key).revoke()


STEPS = [
    "start", "start", "come", "finish", "revoke", "revoke too late", "cancel", "freeze", "thaw", "lease ends",
    "fall back",
]  # fmt: skip


async def play(steps: list[str], seed: int) -> None:
    world = World(random.Random(seed))
    async with world.backend, world.backends[0], world.backends[1]:
        for step in steps:
            await world.do(step)
        await world.end()
        told = [(waiter.key, await waiter.task) for waiter in world.waiters]
        stored = await world.backend.fetch_many(KEYS)
    assert all(world.done[key] <= 1 for key in KEYS), "work was done twice under one key"
    assert all(world.revoked[key] <= 1 for key in KEYS), "two have revoked one task"
    for key, record in [*told, *stored.items()]:
        assert record.ready
        assert record.appearance() == stored[key].appearance(), "what was told was replaced"
        if record.status == states.SUCCESS:
            assert (record.result, world.done[key]) == (f"done {key}", 1)
        if world.revoked[key]:
            assert record.status == states.REVOKED
    assert stored.keys() == set(KEYS)


@pytest.mark.slow
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_all_are_told_the_same_and_nothing_is_done_twice(steps: list[str], seed: int) -> None:
    asyncio.run(play(steps, seed))


def test_a_lease_that_ends_while_the_result_is_being_stored() -> None:
    """The result comes too late, since those who wait have been told that the task is lost."""

    async def run() -> Any:
        world = World(random.Random(0))
        async with world.backend, world.backends[0], world.backends[1]:
            runner, process = world.runners[0], world.processes[0]
            runner.with_options(task_id="one", once=True)(world.work, "one")
            await world.begun.wait()
            waiting = asyncio.create_task(world.backend.AsyncResult("one").wait(timeout=PATIENCE))
            process.awake.clear()
            world.may_end["one"].set()
            for _ in range(10):
                await asyncio.sleep(0)
            world.home._space.leases.clear()
            while not waiting.done():
                world.backend._runtime.hub.read_all()
                await asyncio.sleep(0)
            await world.end()
            return waiting.result(), await world.backend.fetch("one")

    told, stored = asyncio.run(run())
    assert told.status == states.FAILURE
    assert "is lost" in str(told.result)
    assert stored.appearance() == told.appearance()
